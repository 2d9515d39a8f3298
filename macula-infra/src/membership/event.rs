//! What the membership tells its node.

use macula_core::identity::NodeId;

/// How a member has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parting {
    /// It answers nobody, or has begun a new life without saying farewell.
    Crashed,
    /// It has said farewell.
    Left,
}

/// Something happened to a member.
///
/// For one node, [`Joined`](Self::Joined) or [`Returned`](Self::Returned) alternate with
/// [`Gone`](Self::Gone); the others come only in between. That holds also when the membership is
/// restarted: its next life goes on with the members that there were. A new life that follows on one which was
/// not seen to end makes two events: gone, and returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A node that was not remembered is a member.
    Joined {
        /// Who.
        node: NodeId,
        /// In which life.
        life: u64,
    },
    /// Its addresses or its role are others.
    Updated {
        /// Whose.
        node: NodeId,
        /// In which life.
        life: u64,
    },
    /// It may be gone.
    Suspected {
        /// Who.
        node: NodeId,
        /// In which life.
        life: u64,
    },
    /// It was suspected, and has refuted that.
    Cleared {
        /// Who.
        node: NodeId,
        /// In which life.
        life: u64,
    },
    /// It is no member any more.
    Gone {
        /// Who.
        node: NodeId,
        /// Which life has ended.
        life: u64,
        /// How.
        how: Parting,
    },
    /// A node that was gone is a member again.
    Returned {
        /// Who.
        node: NodeId,
        /// In which life; the old one if it was not gone really.
        life: u64,
    },
}

impl Event {
    /// Whom it is about.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        match self {
            Self::Joined { node, .. }
            | Self::Updated { node, .. }
            | Self::Suspected { node, .. }
            | Self::Cleared { node, .. }
            | Self::Gone { node, .. }
            | Self::Returned { node, .. } => *node,
        }
    }
}
