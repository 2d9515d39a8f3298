//! What clients ask of a voter, and what it answers.

use bytes::Bytes;
use macula_core::identity::{InvalidNodeId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Item, LeaseId, Once, Refusal, Revision};
use super::state::{Events, Page};
use crate::raft::types::MemberId;

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All that was acknowledged before it was asked for is seen. It costs a question to most of the
    /// voters, which all reads share that come at one time.
    #[default]
    Linearizable,
    /// The same, without a question, for as long as the leader's lease lasts; else it asks. It relies on
    /// clocks that do not differ by more than a tenth over the time of a lease
    /// ([`DRIFT`](crate::raft::DRIFT)).
    Lease,
    /// What some voter has: all of it was so at one time, and that may be long ago.
    Stale,
}

/// A question to a voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Apply a command. The answer is an [`Answer`](super::command::Answer) in bytes.
    Apply(Once),
    Get {
        key: Bytes,
        level: Level,
    },
    Range {
        from: Bytes,
        to: Option<Bytes>,
        max: u64,
        level: Level,
    },
    /// What happens after a revision; wait for it if nothing has.
    Events {
        prefix: Bytes,
        after: Revision,
        max: u64,
        wait_ms: u64,
    },
    /// A lease's holder is there.
    KeepAlive(LeaseId),
    /// How it stands with the member. This member answers, whoever leads.
    Status,
    /// Change who the members are, or who leads.
    Change(Change),
    /// Make a snapshot. This member does, whoever leads.
    Snapshot,
}

impl Ask {
    /// Whether it is for those who look after the group, and asked for under a name of its own.
    pub(super) const fn is_of_operators(&self) -> bool {
        matches!(self, Self::Change(_) | Self::Snapshot)
    }
}

/// A change of the group. Nodes are named by their 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    AddLearner(Node),
    AddVoter(Node),
    Remove(Node),
    Replace { old: Node, new: Node },
    Transfer(Node),
}

/// A node, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Node(#[serde(with = "serde_bytes")] pub(super) [u8; 32]);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Applied(Bytes),
    Got { item: Option<Item>, revision: Revision },
    Page(Page),
    Events(Events),
    Kept { ttl_ms: u64 },
    Status(Box<Status>),
    Changed,
    Declined(Declined),
}

/// How it stands with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The member.
    pub member: MemberId,
    /// The group that it is in, by the member that has founded it; none if it is in none yet.
    #[serde(default)]
    pub group: Option<MemberId>,
    /// Nodes that vote in another group of the realm, as far as this member knows: there should be none.
    #[serde(default)]
    pub strangers: Vec<Stranger>,
    /// Who leads, as far as it knows.
    pub leader: Option<MemberId>,
    /// In which term.
    pub term: u64,
    /// Who is in the group, as far as it knows.
    pub members: crate::raft::Members,
    /// Up to which entry its state has all.
    pub applied: u64,
    /// The last change in its state.
    pub revision: Revision,
    /// Up to which entry its last snapshot goes.
    pub snapshot: Option<u64>,
    /// Whether it hears a leader, or leads and is acknowledged.
    pub is_in_touch: bool,
}

/// A node that votes in another group than is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    #[serde(with = "serde_bytes")]
    node: [u8; 32],
    /// Its group, by the member that has founded it.
    pub group: MemberId,
}

impl Stranger {
    pub(super) const fn new(node: NodeId, group: MemberId) -> Self {
        Self { node: *node.as_bytes(), group }
    }

    /// The node.
    ///
    /// # Errors
    ///
    /// [`InvalidNodeId`] if a peer has named one that is none.
    pub fn node(&self) -> Result<NodeId, InvalidNodeId> {
        NodeId::from_bytes(self.node)
    }
}

/// Why a voter has not done what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Declined {
    /// It does not lead, and has done nothing.
    NotLeader(Option<Node>),
    /// It has too much to do, and has done nothing.
    Busy(String),
    /// The node asks too often, and nothing was done.
    TooOften { again_in_ms: u64 },
    /// It cannot be done.
    Refused(Refusal),
    /// There is a change of the group, and one at a time is made.
    Changing,
    /// The change cannot be made, or not completely.
    NoChange(String),
    /// It may be done, or not. Whoever leads may know.
    Unknown { why: String, leader: Option<Node> },
    /// It has no member that runs, and has done nothing.
    Away(String),
}

pub(super) fn write<T: Serialize>(said: &T) -> Result<Bytes, String> {
    rmp_serde::to_vec_named(said).map(Bytes::from).map_err(|error| error.to_string())
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}
