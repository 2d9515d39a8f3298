//! A frame and its header.

use bytes::Bytes;

/// The version of the frame's form.
pub const VERSION: u8 = 1;

/// The length of a header, in bytes.
pub const HEADER_LEN: usize = 16;

/// What a frame is for. Each service has sixteen kinds: the upper half of the byte is the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// What is special about a frame; each kind has flags of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// Whether all of these are set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// With these set too.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// The first bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version of the form.
    pub version: u8,
    /// What the frame is for.
    pub kind: Kind,
    /// What is special about it.
    pub flags: Flags,
    /// The correlation id: an answer has that of its question.
    pub id: u64,
    /// The length of its body, in bytes.
    pub body_len: u32,
}

impl Header {
    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let [l0, l1, l2, l3] = self.body_len.to_be_bytes();
        let [f0, f1] = self.flags.0.to_be_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.to_be_bytes();
        [l0, l1, l2, l3, self.version, self.kind.0, f0, f1, i0, i1, i2, i3, i4, i5, i6, i7]
    }

    /// Reads a header. Any bytes are one; its version and length are judged by the decoder.
    #[must_use]
    pub const fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [l0, l1, l2, l3, version, kind, f0, f1, i0, i1, i2, i3, i4, i5, i6, i7] = *bytes;
        Self {
            version,
            kind: Kind(kind),
            flags: Flags(u16::from_be_bytes([f0, f1])),
            id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            body_len: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// What is special about it.
    pub flags: Flags,
    /// The correlation id: an answer has that of its question.
    pub id: u64,
    /// Its body.
    pub body: Bytes,
}
