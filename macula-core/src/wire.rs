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
//! # Examples
//!
//! A frame is written, sent in two pieces, and read:
//!
//! ```
//! use bytes::BytesMut;
//! use macula_core::wire::{Decoder, Flags, Kind, Limits, encode_frame, from_body};
//!
//! let limits = Limits::default();
//! let mut out = BytesMut::new();
//! encode_frame(&mut out, Kind(0x10), Flags::default(), 7, "hello", &limits)?;
//!
//! let mut decoder = Decoder::new(limits);
//! decoder.push(out.split_to(9).freeze());
//! assert!(decoder.next_frame()?.is_none());
//! decoder.push(out.freeze());
//! let frame = decoder.next_frame()?.expect("it has come in whole");
//! assert_eq!((frame.kind, frame.id), (Kind(0x10), 7));
//! assert_eq!(from_body::<&str>(&frame.body, &limits)?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A body that claims more than it has is refused before anything is allocated for it:
//!
//! ```
//! use macula_core::wire::{BodyError, Limits, from_body};
//!
//! let four_gigabytes = [0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2];
//! let refused = from_body::<serde::de::IgnoredAny>(&four_gigabytes, &Limits::default());
//! assert_eq!(refused.unwrap_err(), BodyError::Truncated { offset: 5, missing: 0xffff_fffd });
//! ```
//!
//! [MessagePack]: https://github.com/msgpack/msgpack/blob/master/spec.md

mod body;
mod decode;
mod error;
mod frame;
mod scan;

pub use body::{encode_frame, encode_raw, from_body, to_body, to_body_within};
pub use decode::Decoder;
pub use error::{BodyError, DecodeError, EncodeError};
pub use frame::{Flags, Frame, HEADER_LEN, Header, Kind, VERSION};
pub use scan::scan;

/// The most elements that [`Limits::for_body`] allows, however long a body may be: 16,777,216. A
/// byte on the wire can become many in memory, and this bounds how many times.
pub const COUNT_CAP: usize = 1 << 24;

/// The caps on what is read and written. A writer is held to them as a reader is, so that it is the
/// one who hears of a value that nobody would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest body, in bytes: 0 to 4,294,967,295. A header is not counted.
    pub frame_len_max: usize,
    /// How many arrays and maps may be nested in one another: 0 to 64. More counts as 64.
    pub depth_max: usize,
    /// How many elements all arrays and maps of a body may have together; an entry of a map counts
    /// as two.
    pub count_max: usize,
}

impl Default for Limits {
    /// 64 KiB, 32 levels, 65,536 elements.
    fn default() -> Self {
        Self::for_body(65_536)
    }
}

impl Limits {
    /// The caps for bodies of at most `len_max` bytes: 32 levels, and as many elements as have room,
    /// since each has one byte at least, but no more than [`COUNT_CAP`].
    #[must_use]
    pub const fn for_body(len_max: usize) -> Self {
        let count_max = if len_max < COUNT_CAP { len_max } else { COUNT_CAP };
        Self { frame_len_max: len_max, depth_max: 32, count_max }
    }
}

#[cfg(test)]
mod tests;
