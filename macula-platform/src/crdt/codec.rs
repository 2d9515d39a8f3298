//! States and contexts as bytes: one form for each, the same on every node.
//!
//! | part | bytes |
//! |---|---|
//! | version | 1: [`VERSION`] |
//! | replicas | how many, then each: 8 for the node (big-endian), a number for the incarnation |
//! | body | what was written, in which a replica is its place among those above |
//!
//! Numbers are LEB128 in their shortest form, but for those of [`put_ordered`], of which counts are made. A text, an element and a value is its length in bytes
//! and its bytes. Replicas stand in the order in which the body names them first. A dot is its
//! replica and its counter.
//!
//! The name of a kind is its place among those that were named before, and if that is one more than
//! there are, a text that follows.
//!
//! A state is a tree of *nodes*, whatever its type is, so that a node that does not know the type can
//! read it, join it, keep it and pass it on all the same. A node begins with the number `8 * n + tag`:
//!
//! | tag | node | what follows, `n` times in strictly ascending order |
//! |---|---|---|
//! | 0 | dots | a dot |
//! | 1 | dots with payloads | a dot, a payload as its length and its bytes |
//! | 2 | map | a key as its length and its bytes, a node that is not bottom |
//! | 3 | part of a map | the same, and a node may be bottom |
//! | 4 | range of a map | its first key, 0 or 1 and the key at which it ends, and then as in a map |
//!
//! Bottom, of whatever type, is the number 0; otherwise `n` is 1 at least, but for a range. A context is the number of
//! its replicas, then each replica with the number of its spans, and each span as the gap before it
//! less one, and its length less one.
//!
//! What is not in this form is refused, so two states are equal if and only if their bytes are. A
//! reader allocates in proportion to the bytes that it has read, never by a number in them.

mod decoder;
mod encoder;
mod error;
mod reader;

pub use decoder::Decoder;
pub use encoder::{Encoder, Mark, put_number, put_ordered};
pub use error::DecodeError;
pub use reader::Reader;

/// The version of the encoding.
pub const VERSION: u8 = 1;

/// The first 16 bytes of a BLAKE3 hash.
pub type Digest = [u8; 16];

/// What a node is, in the three lowest bits of its first number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Dots,
    Payloads,
    Map,
    Part,
    Range,
}

impl Tag {
    const fn bits(self) -> u64 {
        match self {
            Self::Dots => 0,
            Self::Payloads => 1,
            Self::Map => 2,
            Self::Part => 3,
            Self::Range => 4,
        }
    }

    const fn of(number: u64) -> Option<Self> {
        match number & 7 {
            0 => Some(Self::Dots),
            1 => Some(Self::Payloads),
            2 => Some(Self::Map),
            3 => Some(Self::Part),
            4 => Some(Self::Range),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
