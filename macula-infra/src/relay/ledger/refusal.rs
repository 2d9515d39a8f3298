//! What a relay says no to, and why. Whoever asked is told in these words.

use serde::{Deserialize, Serialize};

/// Why a node has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The node that was asked does not relay.
    #[error("it does not relay")]
    Off,
    /// The connection on which it was asked is itself relayed.
    #[error("the connection to it is relayed itself")]
    Relayed,
    /// All its places are taken.
    #[error("all its places are taken")]
    Full,
    /// All its places for this realm are taken.
    #[error("all its places for this realm are taken")]
    RealmFull,
}

/// Why a datagram was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotCarried {
    /// The node that it is for has no place there, or is of another realm.
    #[error("the node has no place there")]
    Absent,
    /// There are as many circuits as may be: in all, of one of both nodes, or of their realm.
    #[error("as many circuits as may be are open")]
    Circuits,
    /// The two nodes have sent to each other for as long as they may. After a pause they may again.
    #[error("the time of the circuit is over")]
    Time,
    /// The sender has had its share of bytes.
    #[error("the sender has had its share")]
    Quota,
    /// The sender's realm has.
    #[error("the realm has had its share")]
    RealmQuota,
}

impl NotCarried {
    /// A word for it: the label of counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Circuits => "circuits",
            Self::Time => "time",
            Self::Quota => "quota",
            Self::RealmQuota => "realm_quota",
        }
    }

    /// Whether the next datagram may be carried, so that it is of no use to go another way.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Quota | Self::RealmQuota)
    }
}
