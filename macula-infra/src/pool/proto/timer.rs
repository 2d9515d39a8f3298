//! What the policy waits for.

use macula_core::identity::NodeId;

use super::ConnId;

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next address of a dial.
    Race(NodeId),
    /// The end of the wait for room for a dial.
    Room(NodeId),
    /// The end of the time that a dial has.
    Dial(NodeId),
    /// The next dial of a peer that is protected.
    Redial(NodeId),
    /// The end of the wait for room for a connection that a peer dialled.
    Newcomer(ConnId),
    /// Nobody has used a connection.
    Idle(ConnId),
    /// A connection is old.
    Expire(ConnId),
    /// A connection has not become quiet.
    Drain(ConnId),
    /// The next attempt to reach a peer directly.
    Upgrade(NodeId),
}

impl Timer {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Race(_) => "race",
            Self::Room(_) | Self::Newcomer(_) => "room",
            Self::Dial(_) => "dial",
            Self::Redial(_) => "redial",
            Self::Idle(_) => "idle",
            Self::Expire(_) => "lifetime",
            Self::Drain(_) => "drain",
            Self::Upgrade(_) => "upgrade",
        }
    }
}
