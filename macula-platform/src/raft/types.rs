//! What openraft is told about the group: who its members are, and what they agree upon.

use std::fmt::{Debug, Display};

use bytes::Bytes;
use macula_core::identity::{InvalidNodeId, NodeId};
use openraft::EmptyNode;
use serde::{Deserialize, Serialize};

use super::snapshots::Image;

openraft::declare_raft_types!(
    /// The types of the group.
    pub Types:
        D = Command,
        R = Reply,
        NodeId = MemberId,
        Node = EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Image,
);

/// The position of an entry: under which leader it was written, and its index.
pub type LogId = openraft::LogId<MemberId>;
/// Whom a member has voted for, and in which term.
pub type Vote = openraft::Vote<MemberId>;
/// An entry of the log.
pub type Entry = openraft::Entry<Types>;
/// Who votes and who listens, and since which entry.
pub type Membership = openraft::StoredMembership<MemberId, EmptyNode>;
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::SnapshotMeta<MemberId, EmptyNode>;
/// What openraft is told of a store that fails.
pub type StorageError = openraft::StorageError<MemberId>;

/// A member of the group: a node, and the life of its log.
///
/// A vote, and an entry that was acknowledged, are promises of a log. A node whose log is gone
/// cannot keep them, so it comes back as another member (Ongaro and Ousterhout, *In Search of an
/// Understandable Consensus Algorithm*, 2014, assumes that no member forgets).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MemberId {
    #[serde(with = "serde_bytes")]
    node: [u8; 32],
    life: u64,
}

impl MemberId {
    /// The member that a node is for as long as it has the log of this life.
    #[must_use]
    pub const fn new(node: NodeId, life: u64) -> Self {
        Self { node: *node.as_bytes(), life }
    }

    /// The node.
    ///
    /// # Errors
    ///
    /// [`InvalidNodeId`] if a peer has named a member whose node is none.
    pub fn node(&self) -> Result<NodeId, InvalidNodeId> {
        NodeId::from_bytes(self.node)
    }

    /// The node's 32 bytes.
    pub(crate) const fn node_bytes(&self) -> &[u8; 32] {
        &self.node
    }

    /// Which of the node's logs it is.
    #[must_use]
    pub const fn life(&self) -> u64 {
        self.life
    }
}

impl Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.node() {
            Ok(node) => write!(f, "{}/{:x}", node.short(), self.life),
            Err(_none) => write!(f, "?/{:x}", self.life),
        }
    }
}

impl Debug for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

/// openraft's own tests number members.
#[cfg(test)]
impl From<u64> for MemberId {
    fn from(number: u64) -> Self {
        Self { node: [0; 32], life: number }
    }
}

/// What an entry says: bytes that the state machine understands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub Bytes);

/// What the state machine has answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply(pub Bytes);

impl Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({} bytes)", self.0.len())
    }
}
