//! What the parts of a broadcast say to each other.

use bytes::Bytes;
use macula_core::identity::NodeId;
use serde::{Deserialize, Serialize};

use super::super::view;
use super::HAVE_MAX;

/// A life of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Its node.
    pub node: NodeId,
    /// Which life of it.
    pub life: u64,
}

/// How much of a publisher's messages a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// Whose.
    pub origin: Origin,
    /// The first that it keeps.
    pub oldest: u64,
    /// It has all up to this one.
    pub have: u64,
    /// The last of which it knows.
    pub seen: u64,
}

/// What nodes of an audience say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Something about their views.
    View(view::Said),
    /// The sender is there, holds the other for its neighbour, and has so much.
    Pulse {
        /// How much of each publisher's messages.
        digests: Vec<Digest>,
    },
    /// A message.
    Gossip {
        /// Whose.
        origin: Origin,
        /// Its number.
        sequence: u64,
        /// How long it is still good for, in milliseconds. One of which nothing is left says nothing
        /// any more: it only has its place.
        left_ms: Option<u64>,
        /// What it says; or, if nothing is left of it, the hash of that.
        payload: Bytes,
        /// What shows that it is its publisher's.
        seal: Bytes,
    },
    /// The sender has messages.
    Have {
        /// Which.
        messages: Vec<(Origin, u64)>,
    },
    /// Send me no messages, only their numbers.
    Prune,
    /// Send me these messages, and from now on all.
    Graft {
        /// Whose.
        origin: Origin,
        /// Their numbers.
        messages: Vec<u64>,
    },
    /// The publisher has no messages before this one any more.
    Floor {
        /// Whose.
        origin: Origin,
        /// The first that it has.
        oldest: u64,
    },
    /// The sender has done with all messages of the publisher up to this one.
    Ack {
        /// Whose.
        origin: Origin,
        /// The first message that was for the sender, as it was told: what it says of those before
        /// is of another time.
        from: u64,
        /// The number.
        upto: u64,
        /// How many of all since the first its subscribers have not got.
        failed: Failed,
    },
}

/// How many messages the subscribers of a part have not got, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Failed {
    /// One of them had no room.
    pub slow: u64,
    /// Nobody wanted them any more.
    pub unsubscribed: u64,
    /// Their publisher may not publish them there.
    pub forbidden: u64,
    /// Their time was over.
    pub expired: u64,
    /// Nobody who has them was within reach.
    pub unreached: u64,
}

impl Failed {
    /// None.
    pub const NONE: Self =
        Self { slow: 0, unsubscribed: 0, forbidden: 0, expired: 0, unreached: 0 };
}

/// How many entries a list in one of those has at most.
pub(crate) const SAID_MAX: usize = HAVE_MAX;

impl Said {
    /// What of it is about the messages of one publisher; none if nothing is.
    pub(crate) fn only(mut self, of: Origin) -> Option<Self> {
        match &mut self {
            Self::View(_) | Self::Prune => {}
            Self::Pulse { digests } => digests.retain(|digest| digest.origin == of),
            Self::Have { messages } => messages.retain(|(origin, _)| *origin == of),
            Self::Gossip { origin, .. }
            | Self::Graft { origin, .. }
            | Self::Floor { origin, .. }
            | Self::Ack { origin, .. } => return (*origin == of).then_some(self),
        }
        Some(self)
    }

    /// How many entries the list in it has.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::View(view::Said::Shuffle { known, .. } | view::Said::ShuffleReply { known }) => {
                known.len()
            }
            Self::Pulse { digests } => digests.len(),
            Self::Have { messages } => messages.len(),
            Self::Graft { messages, .. } => messages.len(),
            Self::View(_)
            | Self::Gossip { .. }
            | Self::Prune
            | Self::Floor { .. }
            | Self::Ack { .. } => 0,
        }
    }
}
