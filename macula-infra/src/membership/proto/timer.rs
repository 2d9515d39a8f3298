//! What the machine waits for.

use macula_core::identity::NodeId;

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next probe.
    Tick,
    /// The answer to a probe.
    Probe(u64),
    /// The answer to a ping for another.
    Relay(u64),
    /// A suspect's time is over.
    Suspicion(NodeId),
    /// News goes out.
    Push,
    /// The next comparison of views.
    Sync,
    /// The next ping of one of the departed.
    Reconnect,
    /// The next attempt to join.
    Join,
    /// The refutation of what was claimed of this node.
    Refute,
    /// The next farewell.
    Leave,
}

impl Timer {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Tick => "probe",
            Self::Probe(_) => "answer",
            Self::Relay(_) => "relayed answer",
            Self::Suspicion(_) => "suspicion",
            Self::Push => "push",
            Self::Sync => "sync",
            Self::Reconnect => "reconnect",
            Self::Join => "join",
            Self::Refute => "refute",
            Self::Leave => "leave",
        }
    }
}
