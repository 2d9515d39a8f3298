//! What can be wrong with bytes.

use super::VERSION;

/// Why bytes are no state, no context, or not what else was to be read. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They are of another version.
    #[error("an encoding of version {found}, and only version {VERSION} is known")]
    Version {
        /// The version that they say.
        found: u8,
    },
    /// They end in the middle of something.
    #[error("the bytes end at {offset}, where more must follow")]
    Truncated {
        /// Where, in bytes from the start.
        offset: usize,
    },
    /// Something follows what was to be read.
    #[error("{len} bytes follow at {offset}, where nothing may")]
    Trailing {
        /// Where, in bytes from the start.
        offset: usize,
        /// How many there are.
        len: usize,
    },
    /// Something is there that no writer writes so.
    #[error("what is at {offset} is not written as it must be: {what}")]
    Form {
        /// Where, in bytes from the start.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Something is longer than is taken.
    #[error("{what} at {offset} has {len} bytes, and at most {len_max} are taken")]
    TooLong {
        /// Where, in bytes from the start.
        offset: usize,
        /// What it is.
        what: &'static str,
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        len_max: usize,
    },
    /// Maps are nested deeper in one another than is taken.
    #[error("maps are nested deeper than {depth_max} levels at {offset}")]
    TooDeep {
        /// Where, in bytes from the start.
        offset: usize,
        /// How many levels there may be.
        depth_max: usize,
    },
}
