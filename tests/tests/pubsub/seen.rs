//! What the log is told.

use std::hash::{Hash, Hasher};

use macula_infra::pubsub::Report;

/// A message; no other has its number, which says which life of which node has published it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Op(pub(crate) u64);

impl Op {
    pub(crate) const fn new((node, life): (u64, u64), kind: u64, count: u64) -> Self {
        Self((node << 48) | (life << 32) | (kind << 28) | count)
    }

    /// Which life of which node has published it.
    pub(crate) fn by(self) -> (usize, u64) {
        (usize::try_from(self.0 >> 48).unwrap(), (self.0 >> 32) & 0xffff)
    }
}

/// What publishing a message has given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// It is on its way to so many.
    Accepted(usize),
    /// Nobody subscribes, or there is no room.
    Not,
    /// It went wrong.
    Failed(String),
}

/// What all has become of what a life of a node has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) all: Report,
    /// Of that, what was promised to arrive.
    pub(crate) promised: Report,
}

impl Hash for Told {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

/// What the log is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    /// A message is to be published; the number is its topic's.
    Asked { op: Op, topic: usize },
    /// It is, or it is not.
    Ended { op: Op, end: End },
    /// A subscriber has got one.
    Got { op: Op, topic: usize, sequence: u64, priority: u8 },
    /// A subscriber was told that it gets so many not.
    Missed { count: u64 },
    /// All that a node has published has ended.
    Settled(Told),
    /// It has not, and should have long ago.
    Stuck(Report),
    /// Another node is reached over a relay.
    Relayed { to: usize },
}
