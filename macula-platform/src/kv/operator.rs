//! What those do who look after the group itself.

use macula_core::identity::NodeId;

use super::changing::CHANGE_WITHIN;
use super::client::{Kv, ZERO, strange};
use super::error::Error;
use super::ways::Goal;
use super::wire::{Ask, Change, Node, Reply, Status};
use crate::raft::timer;

/// Looks after the group: who is in it, and who leads. One change is made at a time; one that has not
/// been answered can be asked for again, and then goes on from where it was.
#[derive(Debug, Clone)]
pub struct Operator(Kv);

const fn bytes(node: NodeId) -> Node {
    Node(*node.as_bytes())
}

impl Operator {
    pub(super) const fn new(kv: Kv) -> Self {
        Self(kv)
    }

    /// How it stands with the member of a node; or, if none is given, with the leader as it sees itself.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn status(&self, node: Option<NodeId>) -> Result<Status, Error> {
        let mut status = self.status_of(node.map_or(Goal::Any, Goal::Node)).await?;
        let leader = status.leader.filter(|leader| *leader != status.member && node.is_none());
        if let Some(Ok(leader)) = leader.map(|leader| leader.node()) {
            status = self.status_of(Goal::Node(leader)).await?;
        }
        Ok(status)
    }

    async fn status_of(&self, goal: Goal) -> Result<Status, Error> {
        let answered = self.0.0.ways.ask(&Ask::Status, goal, self.0.until(), ZERO).await?;
        match answered.reply {
            Reply::Status(status) => Ok(*status),
            other => Err(strange(&other)),
        }
    }

    /// Has a node's member listen: it gets all, and does not vote.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn add_learner(&self, node: NodeId) -> Result<(), Error> {
        self.change(Change::AddLearner(bytes(node))).await
    }

    /// Has a node's member vote, once it has nearly all that there is.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn add_voter(&self, node: NodeId) -> Result<(), Error> {
        self.change(Change::AddVoter(bytes(node))).await
    }

    /// Takes a node out of the group, whether it votes or listens. If it leads, another one does first.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        self.change(Change::Remove(bytes(node))).await
    }

    /// Has one node vote instead of another; or one whose log is gone instead of what it was before.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn replace(&self, old: NodeId, new: NodeId) -> Result<(), Error> {
        self.change(Change::Replace { old: bytes(old), new: bytes(new) }).await
    }

    /// Has a node lead.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn transfer(&self, node: NodeId) -> Result<(), Error> {
        self.change(Change::Transfer(bytes(node))).await
    }

    /// Has the member of a node make a snapshot; this node's own, if none is given.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn snapshot(&self, node: Option<NodeId>) -> Result<(), Error> {
        let node = node.unwrap_or_else(|| self.0.0.ways.node());
        let answered =
            self.0.0.ways.ask(&Ask::Snapshot, Goal::Node(node), self.0.until(), ZERO).await?;
        changed(answered.reply)
    }

    async fn change(&self, change: Change) -> Result<(), Error> {
        let until = timer::now() + CHANGE_WITHIN + CHANGE_WITHIN;
        let answered =
            self.0.0.ways.ask(&Ask::Change(change), Goal::Leader, until, CHANGE_WITHIN).await?;
        changed(answered.reply)
    }
}

fn changed(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Changed => Ok(()),
        other => Err(strange(&other)),
    }
}
