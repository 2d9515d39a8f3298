//! Changes of who the members are, and of who leads.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::{ChangeMembers, EmptyNode};
use serde::{Deserialize, Serialize};

use super::elector;
use super::machine::Replicated;
use super::member::{APPEND_ENTRIES, Member, ProposeError, deaf, declined};
use super::timer;
use super::types::{LogId, MemberId, Vote};
use super::wire::{Answer, Ask};

/// How long a member may take to say that it stands, and how soon it is asked again if it has not.
const STAND_WITHIN: Duration = Duration::from_millis(50);

/// How many entries the next leader may lack when this one stops to propose: as many as are on their way to one
/// that keeps up with a busy leader.
const BEHIND_MAX: u64 = 2 * APPEND_ENTRIES;

/// How often it is looked how far the next leader is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long one that stands has at least for being elected, before it is to stand again in another term.
const ELECTED_WITHIN: Duration = Duration::from_millis(300);

/// How long the next leader has at least, from when this one makes way.
const LEADS_WITHIN: Duration = Duration::from_secs(1);

/// Who is in a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Members {
    /// Who votes.
    pub voters: BTreeSet<MemberId>,
    /// Who listens.
    pub learners: BTreeSet<MemberId>,
    /// Whether a change of the voters is not complete: `voters` are those after it.
    pub is_changing: bool,
}

/// Has a leader say that it is there again.
struct Quiet<'a, R: Replicated>(&'a Member<R>);

impl<R: Replicated> Drop for Quiet<'_, R> {
    fn drop(&mut self) {
        self.0.driving.tell(elector::Input::Quiet(false));
        *self.0.leaving_to.lock() = None;
    }
}

impl<R: Replicated> Member<R> {
    /// Who is in the group, as far as this member knows.
    #[must_use]
    pub fn members(&self) -> Members {
        let metrics = self.raft.server_metrics();
        let known = std::sync::Arc::clone(&metrics.borrow().membership_config);
        let membership = known.membership();
        let groups = membership.get_joint_config();
        Members {
            voters: groups.last().cloned().unwrap_or_default(),
            learners: membership.learner_ids().collect(),
            is_changing: groups.len() > 1,
        }
    }

    /// Whether this member votes or listens in a group, as far as it knows.
    #[must_use]
    pub fn is_in_group(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let known = std::sync::Arc::clone(&metrics.borrow().membership_config);
        known.nodes().any(|(member, _)| *member == self.own)
    }

    /// Takes members in that listen, and waits until they have nearly all.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn add_learner(&self, member: MemberId) -> Result<(), ProposeError> {
        self.is_to_change()?;
        let added = self.raft.add_learner(member, EmptyNode {}, true).await;
        added.map(drop).map_err(declined)
    }

    /// Lets a member go that listens.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn remove_learner(&self, member: MemberId) -> Result<(), ProposeError> {
        self.is_to_change()?;
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([member]));
        self.raft.change_membership(change, false).await.map(drop).map_err(declined)
    }

    /// Has these members vote, and nobody else. The caller makes one change after the other, and does
    /// not go away before the end: a change that was left is half done until the next one.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn set_voters(
        &self,
        voters: impl IntoIterator<Item = MemberId>,
    ) -> Result<(), ProposeError> {
        self.is_to_change()?;
        let voters: BTreeSet<MemberId> = voters.into_iter().collect();
        self.raft.change_membership(voters, false).await.map(drop).map_err(declined)
    }

    /// A leader that is let go leads on for a moment, in which openraft does not expect it to change anything.
    fn is_to_change(&self) -> Result<(), ProposeError> {
        let leader = self.leader();
        if leader == Some(self.own) && !self.is_in_group() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        Ok(())
    }

    /// Has another voter lead, once it answers and has nearly all that there is. Then nothing is proposed or
    /// read while it gets the rest, and until it leads: each takes two leases at most, or a second. As the
    /// other one need not wait for the lease, this member has none any more for as long as it leads on if
    /// that fails.
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`] if this member does not lead, or somebody else leads at the end,
    /// [`ProposeError::Membership`] if the other one does not vote, does not answer or is far behind for as
    /// long as `within`, or has not come to lead in time.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the other one may come to lead all the same.
    pub async fn transfer(&self, to: MemberId, within: Duration) -> Result<(), ProposeError> {
        let (vote, leader) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.vote, metrics.current_leader)
        };
        if leader != Some(self.own) {
            return Err(ProposeError::NotLeader { leader });
        }
        if to == self.own {
            return Ok(());
        }
        if !self.members().voters.contains(&to) {
            return Err(ProposeError::Membership(format!("{to} does not vote")));
        }
        self.is_fit(to, vote, within).await?;
        self.acks.lock().give_up(vote);
        *self.leaving_to.lock() = Some(to);
        let _quiet = Quiet(self);
        self.make_way(to, vote).await
    }

    /// Waits until a voter has answered from now on, and is not far behind.
    async fn is_fit(&self, to: MemberId, vote: Vote, within: Duration) -> Result<(), ProposeError> {
        let ended = |_| ProposeError::Failed("it has ended".to_owned());
        let (began, until) = (self.now(), timer::now() + within);
        loop {
            if self.vote() != vote {
                return Err(ProposeError::NotLeader { leader: self.leader() });
            }
            let answers = self.acks.lock().asked_of(vote, to).is_some_and(|asked| asked >= began);
            let behind = self.lacks(to);
            if answers && behind <= BEHIND_MAX {
                return Ok(());
            }
            if timer::now() >= until {
                let why = match answers {
                    true => format!("{to} is {behind} entries behind"),
                    false => format!("{to} does not answer"),
                };
                return Err(ProposeError::Membership(why));
            }
            self.raft.trigger().heartbeat().await.map_err(ended)?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until another voter has all. Then it says nothing until that one leads, which is asked to stand: the
    /// others are to vote for it before they have waited for so long that they stand themselves.
    async fn make_way(&self, to: MemberId, vote: Vote) -> Result<(), ProposeError> {
        let within = LEADS_WITHIN.max(self.lease * 2);
        let (mut until, mut is_quiet) = (timer::now() + within, false);
        let mut metrics = self.raft.server_metrics();
        // Before that, openraft votes for nobody.
        let deaf = deaf(self.lease);
        let mut stands_at = until;
        while timer::now() < until {
            let (vote_now, leader) = {
                let metrics = metrics.borrow_and_update();
                (metrics.vote, metrics.current_leader)
            };
            match leader {
                Some(leader) if leader == to => return Ok(()),
                Some(leader) if leader != self.own || vote_now != vote => {
                    return Err(ProposeError::NotLeader { leader: Some(leader) });
                }
                Some(_) if !is_quiet && self.lacks(to) == 0 => {
                    is_quiet = true;
                    self.driving.tell(elector::Input::Quiet(true));
                    (stands_at, until) = (timer::now() + deaf, timer::now() + within);
                }
                // One that stood in vain stands again: a question may have been lost.
                _ if timer::now() >= stands_at => {
                    let stands = self.network.to(to).ask(Ask::Stand(vote), STAND_WITHIN).await;
                    let is_standing = matches!(stands, Ok(Answer::Stands(true)));
                    let next = if is_standing { ELECTED_WITHIN.max(deaf) } else { STAND_WITHIN };
                    stands_at = timer::now() + next;
                }
                _ => {}
            }
            let next = stands_at.min(timer::now() + LOOK_EVERY);
            if let Ok(Err(_ended)) = tokio::time::timeout_at(next.into(), metrics.changed()).await {
                return Err(ProposeError::Failed("it has ended".to_owned()));
            }
        }
        Err(ProposeError::Membership(format!("{to} has not come to lead in time")))
    }

    /// How many entries a member lacks of those that this one, its leader, has.
    fn lacks(&self, member: MemberId) -> u64 {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow();
        let theirs = metrics.replication.as_ref().and_then(|all| all.get(&member).copied());
        let count = |log: Option<LogId>| log.map_or(0, |log| log.index + 1);
        count(metrics.last_log).saturating_sub(count(theirs.flatten()))
    }

    /// The voter that has most of what this one, the leader, has, of those that answer if any do; none if there
    /// is no other.
    #[must_use]
    pub fn heir(&self) -> Option<MemberId> {
        let (voters, vote, now) = (self.members().voters, self.vote(), self.now());
        let answers = |member: MemberId| {
            let asked = self.acks.lock().asked_of(vote, member);
            asked.is_some_and(|asked| now < asked + self.lease)
        };
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow();
        let others = metrics.replication.iter().flatten();
        let others = others.filter(|(member, _)| **member != self.own && voters.contains(member));
        others.max_by_key(|(member, log)| (answers(**member), **log)).map(|(member, _)| *member)
    }
}
