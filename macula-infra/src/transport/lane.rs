//! Lanes: long-lived streams of frames, one in each direction and for each kind of traffic.
//!
//! A lane is a unidirectional QUIC stream of its sender, opened at first use. Its first byte says
//! which lane it is; then frames follow. Streams do not wait for one another, so a slow lane holds
//! up no other. A body that is too long for a frame has a stream of its own, whose first byte is
//! [`BULK`], whose first frame tells about the body, and which ends with the body. Each side sends
//! [`BULKS_MAX`] of them at one time, reads each that comes at once, and lets the peer send more
//! ahead on a connection than on all of its streams: so a long body never holds up a lane.
//!
//! A [`Sender`] takes frames into a bounded buffer. While the lane is idle the caller itself hands
//! the buffer to the QUIC stack, in the same moment. Under load, when the lane has been written to
//! a moment ago, the buffer is left to a task that is behind in the run queue, and what comes
//! meanwhile goes with it. So there is no delay to choose, and frames that are ready together are
//! written together.

mod bulk;
mod reader;
mod sender;

pub use bulk::{Body, BulkError, BulkReader, BulkSender, Bulks};
pub(super) use reader::incoming;
pub use reader::{Incoming, ReadError, Reader};
pub use sender::{SendError, Sender, Writing};

/// The kinds of traffic that do not wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The connection itself.
    Control,
    /// Calls and their answers.
    Rpc,
    /// Published messages that go before others.
    PubsubHigh,
    /// Published messages.
    PubsubNormal,
    /// Published messages that others go before.
    PubsubLow,
    /// What is carried for others.
    Relay,
}

/// The first byte of a stream that carries one long body.
pub const BULK: u8 = 0x40;

/// How many long bodies a side sends at one time on one connection.
pub const BULKS_MAX: usize = 8;

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Control,
        Self::Rpc,
        Self::PubsubHigh,
        Self::PubsubNormal,
        Self::PubsubLow,
        Self::Relay,
    ];

    /// The first byte of its stream.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Rpc => 1,
            Self::PubsubHigh => 2,
            Self::PubsubNormal => 3,
            Self::PubsubLow => 4,
            Self::Relay => 5,
        }
    }

    /// The lane of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }
}
