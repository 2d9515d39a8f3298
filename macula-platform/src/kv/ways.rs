//! How a client finds a voter that answers: the leader, or any.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::port::{Call, CallError, Directory, DirectoryError};
use parking_lot::Mutex;

use super::error::Error;
use super::groups;
use super::service::Service;
use super::wire::{self, Ask, Declined, Node, Reply};
use crate::raft::timer;
use crate::raft::types::MemberId;

/// The name under which voters announce themselves.
pub const NAME: &str = "macula/consensus";

/// How many voters are looked for.
pub(super) const VOTERS_MAX: usize = 16;

/// How long it is waited before somebody is asked again: first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How long a leader is silent before others are asked who leads, and how long each may take to say.
const PATIENCE: Duration = Duration::from_millis(200);

/// How soon the next one is asked.
const NEXT: Duration = Duration::from_millis(50);

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Its node.
    pub node: NodeId,
    /// How the services of other nodes are asked.
    pub call: Arc<dyn Call>,
    /// How all nodes, this one too, are asked to change the group.
    pub change: Arc<dyn Call>,
    /// Where voters are found.
    pub directory: Arc<dyn Directory>,
    /// The service of this very node, if it has one. It is asked without the network.
    pub local: Option<Service>,
    /// What its waits and its sessions are drawn from. No two clients have the same.
    pub seed: u64,
}

/// Who is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The leader.
    Leader,
    /// Any voter, this very node before others.
    Any,
    /// That one.
    Node(NodeId),
}

/// The ways to voters.
#[derive(Debug)]
pub(super) struct Ways {
    parts: Parts,
    attempt: Duration,
    known: Mutex<Known>,
    /// Has its turn to look who leads.
    looking: tokio::sync::Mutex<()>,
    entropy: Mutex<Entropy>,
}

/// Whom a client knows.
#[derive(Debug, Default)]
struct Known {
    leader: Option<NodeId>,
    /// The group that it has used, by the member that has founded it. It turns to no other.
    group: Option<MemberId>,
    /// The group of the voters that were found last.
    found: Option<MemberId>,
    voters: Vec<NodeId>,
    /// Which of them is asked next.
    next: usize,
}

/// An answer, and whether an earlier try may have been done as well.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) was_tried: bool,
}

/// What came of one try.
enum Tried {
    Answered(Reply),
    /// Another one, or the same one later.
    Again {
        why: String,
        /// Who may answer.
        hint: Option<NodeId>,
        may_be_done: bool,
        wait: Option<Duration>,
    },
    Failed(Error),
}

impl Ways {
    pub(super) fn new(parts: Parts, attempt: Duration) -> Self {
        let entropy = Mutex::new(Entropy::from_seed(parts.seed));
        let looking = tokio::sync::Mutex::new(());
        Self { parts, attempt, known: Mutex::default(), looking, entropy }
    }

    pub(super) const fn node(&self) -> NodeId {
        self.parts.node
    }

    pub(super) fn draw(&self) -> u64 {
        self.entropy.lock().next_u64()
    }

    /// Asks until there is an answer, or the time is up. `longer` is how much longer than usual one
    /// voter may take.
    ///
    /// # Errors
    ///
    /// [`Error::NotDone`] if it is certain that no voter took it, [`Error::Unknown`] if it is not, and
    /// what a voter says that cannot be done.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        goal: Goal,
        until: Instant,
        longer: Duration,
    ) -> Result<Answered, Error> {
        let (mut was_tried, mut tries) = (false, 0_u32);
        let mut last = "there was no time to ask".to_owned();
        let question = wire::write(ask).map_err(Error::Encode)?;
        loop {
            let left = until.saturating_duration_since(timer::now());
            if left.is_zero() {
                if goal == Goal::Leader
                    && let Some(why) = self.no_majority().await
                {
                    last = why;
                }
                return Err(if was_tried { Error::Unknown(last) } else { Error::NotDone(last) });
            }
            let within = left.min(self.attempt + longer);
            let target = match self.target(goal, within).await {
                Ok(target) => target,
                Err(why) => {
                    last = why;
                    self.back_off(&mut tries, None, left).await;
                    continue;
                }
            };
            // On the heap: what calls this is nested deeply, and has a limit.
            let attempt = Box::pin(self.attempt(target, ask, question.clone(), within));
            let tried = if goal == Goal::Leader {
                self.unless_another_leads(target, attempt).await
            } else {
                attempt.await
            };
            match tried {
                Tried::Answered(reply) => {
                    if goal == Goal::Leader {
                        let mut known = self.known.lock();
                        known.leader = Some(target);
                        known.group = known.group.or(known.found);
                    }
                    return Ok(Answered { reply, was_tried });
                }
                // It is the change that this client has asked for itself, perhaps.
                Tried::Failed(Error::Changing) if was_tried => {
                    self.back_off(&mut tries, Some(BACK_OFF.1), left).await;
                }
                // It did not do it; one that was asked before may have.
                Tried::Failed(Error::Forbidden(why)) if was_tried => {
                    return Err(Error::Unknown(why));
                }
                Tried::Failed(error) => return Err(error),
                Tried::Again { why, hint, may_be_done, wait } => {
                    last = format!("{}: {why}", target.short());
                    was_tried |= may_be_done;
                    let is_news = self.learn(target, hint, wait.is_some());
                    if !is_news || tries > 3 {
                        self.back_off(&mut tries, wait, left).await;
                    } else {
                        tries += 1;
                    }
                }
            }
        }
    }

    /// Who is asked next.
    ///
    /// # Errors
    ///
    /// In words, if nobody can be.
    async fn target(&self, goal: Goal, within: Duration) -> Result<NodeId, String> {
        if let Goal::Node(node) = goal {
            return Ok(node);
        }
        // Whoever is in touch on this very node is as good as any, and nearer.
        if goal == Goal::Any && self.parts.local.as_ref().is_some_and(Service::is_in_touch) {
            return Ok(self.parts.node);
        }
        {
            let known = self.known.lock();
            if let (Goal::Leader, Some(leader)) = (goal, known.leader) {
                return Ok(leader);
            }
            if let Some(voter) = known.voters.get(known.next) {
                return Ok(*voter);
            }
        }
        // All were asked, or none is known.
        let mut voters = match tokio::time::timeout(within, self.find()).await {
            Ok(Ok(voters)) => voters?,
            // Those that were known may be there again.
            Ok(Err(_)) | Err(_) => self.known.lock().voters.clone(),
        };
        voters.retain(|voter| *voter != self.parts.node);
        let from = usize::try_from(self.draw() % voters.len().max(1) as u64).unwrap_or(0);
        voters.rotate_left(from);
        if self.parts.local.is_some() {
            voters.insert(0, self.parts.node);
        }
        let mut known = self.known.lock();
        known.voters.clone_from(&voters);
        known.next = 0;
        known.voters.first().copied().ok_or_else(|| "no voter is known".to_owned())
    }

    /// The voters of the group that was used before, or of the only one that there is.
    ///
    /// # Errors
    ///
    /// If the directory does not answer; and in words if there are only others.
    async fn find(&self) -> Result<Result<Vec<NodeId>, String>, DirectoryError> {
        let found = self.parts.directory.find(NAME, VOTERS_MAX).await?;
        let own = self.parts.local.as_ref().and_then(Service::group);
        let mut known = self.known.lock();
        let own = groups::of_one(found, own.or(known.group));
        Ok(own.map(|(voters, group)| {
            known.found = group;
            voters.into_iter().map(|voter| voter.node).collect()
        }))
    }

    /// What follows from a try that has failed. Whether there is somebody else to ask at once.
    fn learn(&self, target: NodeId, hint: Option<NodeId>, is_busy: bool) -> bool {
        let mut known = self.known.lock();
        if is_busy {
            return false;
        }
        if known.leader == Some(target) {
            known.leader = None;
        }
        if known.voters.get(known.next) == Some(&target) {
            known.next += 1;
        }
        let hint = hint.filter(|hint| *hint != target);
        if hint.is_some() {
            known.leader = hint;
        }
        hint.is_some() || known.next < known.voters.len()
    }

    async fn back_off(&self, tries: &mut u32, wait: Option<Duration>, left: Duration) {
        let (first, max) = BACK_OFF;
        let wait = (first * 2_u32.pow((*tries).min(10))).min(max).max(wait.unwrap_or_default());
        *tries += 1;
        // Half of it is drawn, so that clients do not come together.
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let drawn = self.entropy.lock().below(micros / 2 + 1);
        let wait = Duration::from_micros(micros - micros / 2 + drawn);
        tokio::time::sleep(wait.min(left)).await;
    }

    /// Waits for an answer of a leader; but one that is silent is given up when somebody says that
    /// another one leads.
    async fn unless_another_leads(
        &self,
        target: NodeId,
        attempt: impl Future<Output = Tried>,
    ) -> Tried {
        tokio::select! {
            biased;
            tried = attempt => tried,
            other = self.other_leader(target) => Tried::Again {
                why: "another one leads".to_owned(),
                hint: Some(other),
                may_be_done: true,
                wait: None,
            },
        }
    }

    /// Waits until somebody says that another one leads. One voter after the other is asked, by one of all
    /// who wait.
    async fn other_leader(&self, than: NodeId) -> NodeId {
        tokio::time::sleep(PATIENCE).await;
        let _turn = self.looking.lock().await;
        let mut next = 0;
        loop {
            let (others, leader): (Vec<NodeId>, Option<NodeId>) = {
                let known = self.known.lock();
                let others = known.voters.iter().filter(|voter| **voter != than);
                (others.copied().collect(), known.leader.filter(|leader| *leader != than))
            };
            if let Some(leader) = leader {
                return leader;
            }
            let Some(voter) = others.get(next % others.len().max(1)).copied() else {
                // Nobody was looked for yet, or there is nobody else.
                if let Ok(Ok(found)) = self.find().await {
                    self.known.lock().voters = found;
                }
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            next += 1;
            let status = self.status_of(voter, PATIENCE).await;
            let leader =
                status.filter(|status| status.is_in_touch).and_then(|status| status.leader);
            if let Some(Ok(leader)) = leader.map(|leader| leader.node())
                && leader != than
            {
                self.known.lock().leader = Some(leader);
                return leader;
            }
            tokio::time::sleep(NEXT).await;
        }
    }

    /// Why nothing is done, in words, if it is that too few of the voters answer.
    async fn no_majority(&self) -> Option<String> {
        let answered = self.answering().await;
        let voters = &furthest(&answered)?.members.voters;
        let there = answered.iter().filter(|status| voters.contains(&status.member)).count();
        no_majority(there, voters.len())
    }

    /// What each of the voters says of itself that were heard of, and answer.
    pub(super) async fn answering(&self) -> Vec<wire::Status> {
        let known = self.known.lock().voters.clone();
        let asked = known.iter().map(|voter| self.status_of(*voter, PATIENCE));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// How it stands with this node's own member, if it has one.
    pub(super) fn own_status(&self) -> Option<wire::Status> {
        self.parts.local.as_ref()?.status()
    }

    /// How it stands with the member of a node; none if it does not say in time.
    pub(super) async fn status_of(&self, node: NodeId, within: Duration) -> Option<wire::Status> {
        if let Some(local) = self.parts.local.as_ref().filter(|_| node == self.parts.node) {
            return local.status();
        }
        let question = wire::write(&Ask::Status).ok()?;
        let answer = self.parts.call.call(node, question, within).await.ok()?;
        match wire::read(&answer) {
            Ok(Reply::Status(status)) => Some(*status),
            _ => None,
        }
    }

    async fn attempt(&self, to: NodeId, ask: &Ask, question: Bytes, within: Duration) -> Tried {
        let (node, local) = (self.parts.node, self.parts.local.as_ref());
        // Who may change the group is asked about wherever it leads, on this very node as well.
        let way = if ask.is_of_operators() { &self.parts.change } else { &self.parts.call };
        if let Some(local) = local.filter(|_| to == node && !ask.is_of_operators()) {
            return match tokio::time::timeout(within, local.answer(node, ask.clone())).await {
                Ok(reply) => judged(reply),
                Err(_elapsed) => again("it takes too long", true),
            };
        }
        match way.call(to, question, within).await {
            Ok(answer) => match wire::read(&answer) {
                Ok(reply) => judged(reply),
                Err(why) => again(&why, true),
            },
            Err(CallError::NoAnswer(why)) => again(&why, true),
            Err(CallError::Forbidden(why)) => Tried::Failed(Error::Forbidden(why)),
            Err(CallError::Unreachable(why) | CallError::Refused(why)) => again(&why, false),
            Err(CallError::NotServed(_)) => again(NO_MEMBER, false),
            Err(other) => again(&other.to_string(), true),
        }
    }
}

/// A node that is asked for its member has none.
pub(super) const NO_MEMBER: &str = "it has no member yet: one comes of `role = \"voter\"` under `[consensus]` in \
    its configuration";

fn again(why: &str, may_be_done: bool) -> Tried {
    Tried::Again { why: why.to_owned(), hint: None, may_be_done, wait: None }
}

/// What an answer means.
fn judged(reply: Reply) -> Tried {
    let Reply::Declined(declined) = reply else { return Tried::Answered(reply) };
    let node = |Node(bytes): Node| NodeId::from_bytes(bytes).ok();
    let again = |why, hint, may_be_done, wait| Tried::Again { why, hint, may_be_done, wait };
    match declined {
        Declined::NotLeader(leader) => {
            again("it does not lead".to_owned(), leader.and_then(node), false, None)
        }
        Declined::Unknown { why, leader } => again(why, leader.and_then(node), true, None),
        Declined::Busy(why) => again(why, None, false, Some(BACK_OFF.0)),
        Declined::TooOften { again_in_ms } => {
            let wait = Duration::from_millis(again_in_ms);
            again("it is asked too often".to_owned(), None, false, Some(wait))
        }
        Declined::Away(why) => again(why, None, false, None),
        Declined::Refused(refusal) => Tried::Failed(Error::Refused(refusal)),
        Declined::Changing => Tried::Failed(Error::Changing),
        Declined::NoChange(why) => Tried::Failed(Error::NoChange(why)),
    }
}

/// Of those who answer, one that has most: it knows best who votes.
pub(super) fn furthest(answered: &[wire::Status]) -> Option<&wire::Status> {
    answered.iter().max_by_key(|status| (status.term, status.applied))
}

/// What is to be said if so many of all voters answer, unless they are enough.
pub(super) fn no_majority(there: usize, all: usize) -> Option<String> {
    let needed = all / 2 + 1;
    let why =
        || format!("there is no majority: {there} of {all} voters answer, and {needed} are needed");
    (there < needed).then(why)
}
