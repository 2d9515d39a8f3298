//! Changes of the group, one at a time, at the leader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::port::CallError;

use super::service::{Service, declined, node_of};
use super::state::State;
use super::ways::NO_MEMBER;
use super::wire::{self, Ask, Change, Declined, Node, Reply};
use crate::raft::Member;
use crate::raft::types::MemberId;

/// How long a change may take: a new member has to get all that there is.
pub(super) const CHANGE_WITHIN: Duration = Duration::from_secs(120);

/// How long a snapshot may take.
pub(super) const SNAPSHOT_WITHIN: Duration = Duration::from_secs(60);

/// How long another voter may take to lead.
const TRANSFER_WITHIN: Duration = Duration::from_secs(5);

/// How long a node may take to say which member it is.
const WHO_WITHIN: Duration = Duration::from_secs(5);

type Of = Arc<Member<State>>;

impl Service {
    /// Makes a change, and waits for it. Whoever goes away meanwhile does not leave it half done.
    pub(super) async fn change(&self, member: &Of, change: Change) -> Result<Reply, Declined> {
        let Ok(alone) = Arc::clone(&self.0.changing).try_lock_owned() else {
            return Err(Declined::Changing);
        };
        if member.leader() != Some(member.id()) {
            return Err(Declined::NotLeader(member.leader().map(node_of)));
        }
        let (service, member) = (self.clone(), Arc::clone(member));
        let changed = tokio::spawn(async move {
            let _alone = alone;
            tokio::time::timeout(CHANGE_WITHIN, service.make(&member, change)).await
        });
        match changed.await {
            Ok(Ok(made)) => made.map(|()| Reply::Changed),
            Ok(Err(_elapsed)) => {
                Err(Declined::NoChange("it takes too long; it can be asked for again".to_owned()))
            }
            Err(ended) => Err(Declined::NoChange(ended.to_string())),
        }
    }

    async fn make(&self, member: &Of, change: Change) -> Result<(), Declined> {
        finish(member).await?;
        match change {
            Change::AddLearner(node) => self.take_in(member, node, None).await.map(drop),
            Change::AddVoter(node) => {
                let id = self.take_in(member, node, None).await?;
                let mut voters = member.members().voters;
                if voters.insert(id) {
                    member.set_voters(voters).await.map_err(declined)?;
                }
                Ok(())
            }
            Change::Remove(node) => remove(member, node).await,
            Change::Replace { old, new } => self.replace(member, old, new).await,
            Change::Transfer(node) => {
                let voters = member.members().voters;
                let to = voters.iter().find(|voter| node_of(**voter) == node);
                let to = to.ok_or_else(|| Declined::NoChange("it does not vote".to_owned()))?;
                member.transfer(*to, TRANSFER_WITHIN).await.map_err(declined)
            }
        }
    }

    /// Has a node's member listen, unless it is in the group already. One of the node's earlier lives
    /// that votes has to be replaced instead.
    async fn take_in(
        &self,
        member: &Of,
        node: Node,
        replaced: Option<Node>,
    ) -> Result<MemberId, Declined> {
        let (id, group) = self.who(member, node).await?;
        if let (Some(theirs), Some(own)) = (group, member.group())
            && theirs != own
        {
            let why = format!(
                "the node is in another group, founded by {theirs}, and what it has there would be lost: \
                 remove its files first if that may be"
            );
            return Err(Declined::NoChange(why));
        }
        let members = member.members();
        if members.voters.contains(&id) {
            return Ok(id);
        }
        let is_earlier = |other: &&MemberId| node_of(**other) == node && **other != id;
        if let Some(voter) = members.voters.iter().find(is_earlier)
            && replaced != Some(node)
        {
            let why = format!("the node votes as {voter}, whose log is gone: replace it by itself");
            return Err(Declined::NoChange(why));
        }
        for earlier in members.learners.iter().filter(is_earlier) {
            member.remove_learner(*earlier).await.map_err(declined)?;
        }
        member.add_learner(id).await.map_err(declined)?;
        Ok(id)
    }

    async fn replace(&self, member: &Of, old: Node, new: Node) -> Result<(), Declined> {
        let id = self.take_in(member, new, Some(old)).await?;
        let mut voters = member.members().voters;
        let leaves = |voter: &MemberId| node_of(*voter) == old && *voter != id;
        let leaving: BTreeSet<MemberId> = voters.iter().copied().filter(leaves).collect();
        if leaving.is_empty() && !voters.contains(&id) {
            return Err(Declined::NoChange("the one to be replaced does not vote".to_owned()));
        }
        if leaving.contains(&member.id()) {
            return Err(hand_over(member).await?);
        }
        voters.retain(|voter| !leaving.contains(voter));
        voters.insert(id);
        member.set_voters(voters).await.map_err(declined)
    }

    /// Which member a node is now, and in which group.
    async fn who(
        &self,
        member: &Of,
        Node(bytes): Node,
    ) -> Result<(MemberId, Option<MemberId>), Declined> {
        let node = NodeId::from_bytes(bytes);
        let node = node.map_err(|error| Declined::NoChange(error.to_string()))?;
        if member.id().node() == Ok(node) {
            return Ok((member.id(), member.group()));
        }
        let silent = |why: String| Declined::NoChange(format!("{} is silent: {why}", node.short()));
        let question = wire::write(&Ask::Status).map_err(silent)?;
        let answer = self.0.call.call(node, question, WHO_WITHIN).await;
        let answer = answer.map_err(|error| match error {
            CallError::NotServed(_) => Declined::NoChange(format!("{}: {NO_MEMBER}", node.short())),
            other => silent(other.to_string()),
        })?;
        match wire::read(&answer).map_err(silent)? {
            Reply::Status(status) if status.member.node() == Ok(node) => {
                Ok((status.member, status.group))
            }
            other => Err(silent(format!("it has answered {other:?}"))),
        }
    }
}

/// Completes a change that an earlier leader has begun.
///
/// # Errors
///
/// [`Declined`].
pub(super) async fn finish(member: &Of) -> Result<(), Declined> {
    let members = member.members();
    if members.is_changing {
        member.set_voters(members.voters).await.map_err(declined)?;
    }
    Ok(())
}

async fn remove(member: &Of, node: Node) -> Result<(), Declined> {
    let mut members = member.members();
    let is_node = |other: &MemberId| node_of(*other) == node;
    for learner in members.learners.iter().filter(|learner| is_node(learner)) {
        member.remove_learner(*learner).await.map_err(declined)?;
    }
    if !members.voters.iter().any(is_node) {
        return Ok(());
    }
    if is_node(&member.id()) {
        return Err(hand_over(member).await?);
    }
    members.voters.retain(|voter| !is_node(voter));
    if members.voters.is_empty() {
        return Err(Declined::NoChange("it is the last that votes".to_owned()));
    }
    member.set_voters(members.voters).await.map_err(declined)
}

/// Has another voter lead, which makes the change then. Gives what the client is told.
async fn hand_over(member: &Of) -> Result<Declined, Declined> {
    let Some(heir) = member.heir() else {
        return Err(Declined::NoChange("it is the last that votes".to_owned()));
    };
    member.transfer(heir, TRANSFER_WITHIN).await.map_err(declined)?;
    Ok(Declined::NotLeader(Some(node_of(heir))))
}
