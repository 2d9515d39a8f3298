//! Frames and bodies: what travels between nodes, as bytes.
//!
//! A frame is a header of [`HEADER_LEN`] bytes and a body in [MessagePack] with named fields. The
//! header, in big-endian order:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | length of the body |
//! | 4 | version, [`VERSION`] |
//! | 5 | kind |
//! | 6..8 | flags |
//! | 8..16 | correlation id |
//!
//! What comes from a peer is capped by [`Limits`] before anything is allocated for it: a [`Decoder`]
//! checks lengths, and [`scan`] walks a body and checks its depth, its count of elements and the
//! lengths that it claims, before serde sees it. Trailing bytes are refused; fields that a reader
//! does not know are passed over, and those that a writer did not know have their defaults, so old
//! and new nodes understand each other.
//!
//! [MessagePack]: https://github.com/msgpack/msgpack/blob/master/spec.md

mod body;
mod decode;
mod error;
mod frame;
mod scan;

pub use body::{encode_frame, encode_raw, from_body, to_body};
pub use decode::Decoder;
pub use error::{BodyError, DecodeError, EncodeError};
pub use frame::{Flags, Frame, HEADER_LEN, Header, Kind, VERSION};
pub use scan::scan;

/// The caps on what is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a frame, in bytes.
    pub frame_len_max: usize,
    /// How deep arrays and maps may be nested.
    pub depth_max: usize,
    /// How many elements all arrays and maps of a body may have together.
    pub count_max: usize,
}

impl Default for Limits {
    /// 64 KiB, 32 levels, 65,536 elements.
    fn default() -> Self {
        Self { frame_len_max: 65_536, depth_max: 32, count_max: 65_536 }
    }
}

#[cfg(test)]
mod tests;
