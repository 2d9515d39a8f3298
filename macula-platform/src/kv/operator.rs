//! What those do who look after the group itself.

use macula_core::identity::NodeId;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::changing::{CHANGE_WITHIN, SNAPSHOT_WITHIN};
use super::client::{Kv, ZERO, strange};
use super::error::Error;
use super::ways::{Goal, furthest, no_majority};
use super::wire::{Ask, Change, Node, Reply, Status};
use crate::raft::types::MemberId;
use crate::raft::{Members, timer};

/// How many members are asked who leads before the last one's word is taken for it.
const HOPS_MAX: usize = 4;

/// How long a member may take to say how it stands before it is taken for one that does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked whether somebody leads.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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

    /// How it stands with the member of a node; or, if none is given, with the leader as it sees itself. If no
    /// leader answers it is this node's own member, or another one that does.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn status(&self, node: Option<NodeId>) -> Result<Status, Error> {
        if let Some(node) = node {
            return self.status_of(Goal::Node(node)).await;
        }
        let ways = &self.0.inner.ways;
        let own = ways.own_status().filter(|own| !own.members.voters.is_empty());
        let known = match own {
            Some(own) => Some(own),
            None => furthest(&ways.answering().await).cloned(),
        };
        let mut status = match known {
            Some(status) => status,
            // Nobody was heard of yet.
            None => self.status_of(Goal::Any).await?,
        };
        // Whoever has led a moment ago names the next one; one that does not answer is not waited for.
        for _hop in 0..HOPS_MAX {
            let leader = status.leader.filter(|leader| *leader != status.member);
            let Some(Ok(leader)) = leader.map(|leader| leader.node()) else { break };
            let Some(next) = ways.status_of(leader, ANSWER_WITHIN).await else { break };
            status = next;
        }
        Ok(status)
    }

    /// What each member of a group says of itself, all asked at once from this node; none of those that
    /// do not answer within a second.
    pub async fn survey(&self, members: &Members) -> BTreeMap<MemberId, Option<Status>> {
        let all = members.voters.union(&members.learners).copied();
        let asked = all.map(|member| async move {
            let Ok(node) = member.node() else { return (member, None) };
            let status = self.0.inner.ways.status_of(node, ANSWER_WITHIN).await;
            // Another life of the node is another member.
            (member, status.filter(|status| status.member == member))
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn status_of(&self, goal: Goal) -> Result<Status, Error> {
        let answered = self.0.inner.ways.ask(&Ask::Status, goal, self.0.until(), ZERO).await?;
        match answered.reply {
            Reply::Status(status) => Ok(*status),
            other => Err(strange(&other)),
        }
    }

    /// Has a node's member listen: it gets all, and does not vote.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::NoChange`] if it votes.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), Error> {
        if stands(&self.changeable().await?, node).votes {
            return Err(no_change(node, "votes, and has all that a learner has: remove it first"));
        }
        self.change(Change::AddLearner(bytes(node))).await
    }

    /// Has a node's member vote, once it has nearly all that there is.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn add_voter(&self, node: NodeId) -> Result<(), Error> {
        self.changeable().await?;
        self.change(Change::AddVoter(bytes(node))).await
    }

    /// Takes a node out of the group, whether it votes or listens. If it leads, another one does first.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::NoChange`] if it is not in the group.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        let members = self.changeable().await?;
        let Stands { votes, listens } = stands(&members, node);
        if !votes && !listens && !members.is_changing {
            return Err(no_change(node, "is not in the group"));
        }
        self.change(Change::Remove(bytes(node))).await
    }

    /// Has one node vote instead of another; or one whose log is gone instead of what it was before.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::NoChange`] if the one does not vote, or the other does already.
    pub async fn replace(&self, old: NodeId, new: NodeId) -> Result<(), Error> {
        let members = self.changeable().await?;
        if !stands(&members, old).votes && !members.is_changing {
            return Err(no_change(old, "does not vote, and cannot be replaced"));
        }
        if new != old && !members.is_changing && stands(&members, new).votes {
            let why = "votes already, and takes nobody's place: to remove the other is enough";
            return Err(no_change(new, why));
        }
        self.change(Change::Replace { old: bytes(old), new: bytes(new) }).await
    }

    /// Has a node lead.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn transfer(&self, node: NodeId) -> Result<(), Error> {
        self.changeable().await?;
        self.change(Change::Transfer(bytes(node))).await
    }

    /// Has the member of a node make a snapshot of all that it has now, and waits for it; this node's own, if
    /// none is given.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn snapshot(&self, node: Option<NodeId>) -> Result<(), Error> {
        let node = node.unwrap_or_else(|| self.0.inner.ways.node());
        // One that is not there, or has no member, is not waited for as long as a snapshot is.
        self.status(Some(node)).await?;
        let until = timer::now() + SNAPSHOT_WITHIN + SNAPSHOT_WITHIN;
        let goal = Goal::Node(node);
        let answered = self.0.inner.ways.ask(&Ask::Snapshot, goal, until, SNAPSHOT_WITHIN).await?;
        changed(answered.reply)
    }

    /// The members of the group, if enough voters answer for a change: without them it would be carried out
    /// whenever they do again.
    async fn changeable(&self) -> Result<Members, Error> {
        let status = self.status(None).await?;
        if status.is_in_touch && status.leader == Some(status.member) {
            return Ok(status.members);
        }
        let said = self.survey(&status.members).await;
        let voters = &status.members.voters;
        let there = said.iter().filter(|(who, said)| said.is_some() && voters.contains(who));
        match no_majority(there.count(), voters.len()) {
            Some(why) => Err(Error::NoChange(why)),
            None => Ok(status.members),
        }
    }

    async fn change(&self, change: Change) -> Result<(), Error> {
        let until = timer::now() + CHANGE_WITHIN + CHANGE_WITHIN;
        let answered =
            self.0.inner.ways.ask(&Ask::Change(change), Goal::Leader, until, CHANGE_WITHIN).await?;
        changed(answered.reply)?;
        self.settle().await;
        Ok(())
    }

    /// Waits for a moment until it is known here who leads: it may be another one than before.
    async fn settle(&self) {
        let settled = async {
            while let Ok(Status { leader: None, .. }) = self.status(None).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // The change is made, whether that is known or not.
        drop(tokio::time::timeout(ANSWER_WITHIN, settled).await);
    }
}

/// How a node stands in a group.
#[derive(Debug, Clone, Copy)]
struct Stands {
    votes: bool,
    listens: bool,
}

/// How a node stands in the group. What is asked for that is so already, or can never be, is most often meant
/// for another node: it is said, and nothing is changed. If a change was begun and is not complete, whoever asks
/// for it again has it go on.
fn stands(members: &Members, node: NodeId) -> Stands {
    let is_node = |member: &MemberId| member.node() == Ok(node);
    Stands {
        votes: members.voters.iter().any(is_node),
        listens: members.learners.iter().any(is_node),
    }
}

fn no_change(node: NodeId, why: &str) -> Error {
    Error::NoChange(format!("{} {why}", node.short()))
}

fn changed(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Changed => Ok(()),
        other => Err(strange(&other)),
    }
}
