//! What can be wrong with bytes.

use super::frame::VERSION;

/// Why something was not encoded. The buffer is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The body is longer than is allowed.
    #[error("a body of {len} bytes, at most {max} are allowed; nothing was written")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// The value is nested deeper than is taken.
    #[error("the value is nested deeper than {max} levels; nothing was written")]
    TooDeep {
        /// How many levels there may be.
        max: usize,
    },
    /// The value has more elements than are taken.
    #[error("the value has more than {max} elements; nothing was written")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The value has no form in MessagePack.
    #[error("the value cannot be encoded: {0}; nothing was written")]
    Body(String),
}

/// Why a stream of bytes is no stream of frames. Nothing more can be read from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame is of another version.
    #[error("a frame of version {found}, and only version {VERSION} is known")]
    Version {
        /// The version it says.
        found: u8,
    },
    /// The frame is longer than is taken.
    #[error("a frame with a body of {len} bytes, at most {max} are taken")]
    TooLong {
        /// How long its header says that its body is, in bytes.
        len: usize,
        /// How long a body may be, in bytes.
        max: usize,
    },
    /// The stream ended in the middle of a frame.
    #[error("the stream ended {missing} bytes before its last frame did")]
    Truncated {
        /// How many bytes are missing at least: to the end of the header if that is not whole, or
        /// else to the end of the frame.
        missing: usize,
    },
}

/// Why a body is refused. Nothing was made of it. Offsets are in bytes from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than is taken.
    #[error("a body of {len} bytes, at most {max} are taken")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// It is nested deeper than is taken.
    #[error("byte {offset}: nested deeper than {max} levels")]
    TooDeep {
        /// Where the array or map begins that is too deep.
        offset: usize,
        /// How many levels there may be.
        max: usize,
    },
    /// It has more elements than are taken.
    #[error("byte {offset}: more than {max} elements")]
    TooMany {
        /// Where the array or map begins that has too many.
        offset: usize,
        /// How many there may be.
        max: usize,
    },
    /// It claims more bytes than there are.
    #[error("byte {offset}: {missing} bytes are missing")]
    Truncated {
        /// Where the bytes should be that are missing in part or in whole.
        offset: usize,
        /// How many are missing at least.
        missing: usize,
    },
    /// Something stands behind it.
    #[error("byte {offset}: {len} bytes too many")]
    Trailing {
        /// Where the value ends.
        offset: usize,
        /// How many bytes follow.
        len: usize,
    },
    /// The byte that MessagePack never uses.
    #[error("byte {offset}: 0xc1 has no meaning in MessagePack")]
    Reserved {
        /// Where the byte is.
        offset: usize,
    },
    /// It is MessagePack, but not of the form that was expected. The reason may quote the body; it
    /// has at most 256 characters, and no control characters.
    #[error("{0}")]
    Invalid(String),
}
