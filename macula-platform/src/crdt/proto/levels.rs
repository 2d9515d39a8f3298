//! Writes and reads that wait for other members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::replica::ReplicaId;

use super::epoch::Epoch;
use super::message::{Message, Slot};
use super::roster::count;
use super::snapshot::{has_just, slot, states};
use super::{Config, Output, Replica, Timer};
use crate::crdt::codec::{DecodeError, Decoder, Digest, Encoder};
use crate::crdt::context::Context;
use crate::crdt::limits::Refused;

/// How many members a write is to reach, or a read to ask, before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// This node alone, which is always one of them.
    #[default]
    Local,
    /// So many, this one among them.
    N(usize),
    /// More than half of those that hold the bucket. Nodes in reach that have not said yet whether they
    /// hold it count as if they did, until they were asked six times: a node that has just started does
    /// not take itself for all.
    Majority,
    /// All of those that hold the bucket, whether they are in touch or not, and of those that may.
    All,
}

impl Level {
    /// How many of so many members that is.
    #[must_use]
    pub const fn wanted(self, members: usize) -> usize {
        match self {
            Self::Local => 1,
            Self::N(wanted) => wanted,
            Self::Majority => members / 2 + 1,
            Self::All => members,
        }
    }
}

/// Of how many epochs a token knows apart what was seen.
const EPOCHS_MAX: usize = 4;

/// What a replica had seen at some moment. Whoever has it can [wait](super::Event::Cover) for another
/// replica to have seen as much.
///
/// What was seen in one epoch may be collected in the next, so each has its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token(BTreeMap<Epoch, Context>);

impl Token {
    pub(in crate::crdt) fn of(epoch: Epoch, context: Context) -> Self {
        Self(BTreeMap::from([(epoch, context)]))
    }

    /// Adds what another one has.
    pub fn join(&mut self, other: &Self) {
        for (epoch, context) in &other.0 {
            self.0.entry(*epoch).or_default().join(context);
        }
        while self.0.len() > EPOCHS_MAX {
            // Of epochs that are long gone less is asked for.
            let second = self.0.keys().nth(1).copied().and_then(|second| self.0.remove(&second));
            let Some((mut oldest, second)) = self.0.first_entry().zip(second) else { break };
            oldest.get_mut().join(&second);
        }
    }

    pub(in crate::crdt) fn encode(&self, out: &mut Encoder) {
        out.number(count(self.0.len()));
        for (epoch, context) in &self.0 {
            epoch.encode(out);
            out.context(context);
        }
    }

    pub(in crate::crdt) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut token = Self::default();
        for _ in 0..from.number()? {
            token.join(&Self::of(Epoch::decode(from)?, from.context()?));
        }
        Ok(token)
    }
}

/// What came of a write, a read or a wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// How many members have it or were asked, this one among them.
    pub reached: usize,
    /// How many there are, with those that may be some: see [`Level::Majority`].
    pub members: usize,
    /// What the write did.
    pub token: Token,
}

/// Why nothing came of a write, a read or a wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// It was refused. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too few members were reached in time. What was written stays written, and goes on to the others.
    #[error("{reached} of {members} members were reached in time, and {wanted} were wanted")]
    NotReached {
        /// How many, this one among them.
        reached: usize,
        /// How many there were to be.
        wanted: usize,
        /// How many there are, with those that may be some.
        members: usize,
    },
    /// What was to be seen was not seen in time. It may be later.
    #[error("what was asked for was not seen here in time")]
    NotCovered,
    /// Too many wait. What was written stays written; nobody was asked.
    #[error("{waits_max} writes and reads wait, and no more may")]
    Busy {
        /// How many may wait.
        waits_max: usize,
    },
    /// The bucket is being let go of here. Nothing changed.
    #[error("this node is letting go of the bucket")]
    Leaving,
    /// The bucket has something in it, or had. It is held as it was.
    #[error("the bucket is in use")]
    Used,
}

#[derive(Debug)]
enum Goal {
    Write {
        number: u64,
        token: Token,
    },
    /// A write that changed nothing: members are to have all that was written before.
    Nothing(Token),
    Read {
        key: Arc<str>,
        answered: BTreeSet<u64>,
        again: Instant,
    },
    Cover(Token),
}

#[derive(Debug)]
struct Wait {
    goal: Goal,
    level: Level,
    until: Instant,
}

/// All that wait, by their tickets.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: BTreeMap<u64, Wait>,
    /// Whether something has changed that they may wait for.
    pub(super) stale: bool,
}

impl Waits {
    pub(super) fn cancel(&mut self, ticket: u64) {
        self.all.remove(&ticket);
    }
}

impl Replica {
    pub(super) fn wait_for_write(
        &mut self,
        now: Instant,
        ticket: u64,
        made: Result<(u64, Token), Refused>,
        (level, within): (Level, Duration),
    ) {
        match made {
            // Whoever changed nothing waits for what was changed before.
            Ok((0, token)) => self.wait(now, ticket, Goal::Nothing(token), (level, within)),
            Ok((number, token)) => {
                self.wait(now, ticket, Goal::Write { number, token }, (level, within));
            }
            Err(refused) => self.end(ticket, Err(refused.into())),
        }
    }

    pub(super) fn wait_for_read(
        &mut self,
        now: Instant,
        ticket: u64,
        key: Arc<str>,
        (level, within): (Level, Duration),
    ) {
        let goal = Goal::Read { key, answered: BTreeSet::new(), again: now };
        self.wait(now, ticket, goal, (level, within));
    }

    pub(super) fn wait_for_cover(
        &mut self,
        now: Instant,
        ticket: u64,
        token: Token,
        within: Duration,
    ) {
        self.wait(now, ticket, Goal::Cover(token), (Level::Local, within));
    }

    fn wait(&mut self, now: Instant, ticket: u64, goal: Goal, (level, within): (Level, Duration)) {
        let waits_max = self.config.waits_max;
        let wait = Wait { goal, level, until: now + within };
        let members = self.members_at(level);
        if let Some(result) = self.outcome(&wait, members, now) {
            self.end(ticket, result);
        } else if self.waits.all.len() >= waits_max {
            self.end(ticket, Err(Failed::Busy { waits_max }));
        } else {
            self.waits.all.insert(ticket, wait);
            self.waits.stale = true;
        }
    }

    pub(super) fn end(&mut self, ticket: u64, result: Result<Done, Failed>) {
        self.emit(Output::Done { ticket, result });
    }

    /// Of how many members a level is one: of all, and of those that may be some.
    pub(super) fn members_at(&self, level: Level) -> usize {
        let may_be = if level == Level::Local { 0 } else { self.unsaid() };
        self.group.roster.holders().count() + may_be
    }

    /// What has come of a wait, if anything has.
    fn outcome(&self, wait: &Wait, members: usize, now: Instant) -> Option<Result<Done, Failed>> {
        let holds = |node: &u64| self.group.roster.holds(*node);
        let is_late = now >= wait.until;
        let (reached, token) = match &wait.goal {
            Goal::Write { number, token } => {
                let has = self.links.iter().filter(|(_, link)| link.acked.has(*number));
                (1 + has.filter(|(node, _)| holds(node)).count(), token.clone())
            }
            Goal::Nothing(token) => (self.have_all(wait.level).0, token.clone()),
            Goal::Read { answered, .. } => {
                (1 + answered.iter().filter(|node| holds(node)).count(), Token::default())
            }
            Goal::Cover(token) => {
                let done = Done { reached: 1, members, token: Token::default() };
                let covered = self.has_covered(token).then_some(Ok(done));
                return covered.or_else(|| is_late.then_some(Err(Failed::NotCovered)));
            }
        };
        let wanted = wait.level.wanted(members);
        if reached >= wanted {
            return Some(Ok(Done { reached, members, token }));
        }
        is_late.then_some(Err(Failed::NotReached { reached, wanted, members }))
    }

    /// Whether all has been seen here. What was collected since was seen by all.
    fn has_covered(&self, token: &Token) -> bool {
        token.0.iter().all(|(epoch, context)| self.has_covered_of(*epoch, context))
    }

    fn has_covered_of(&self, epoch: Epoch, context: &Context) -> bool {
        let seen = self.bucket.context();
        let has_missed = epoch < self.group.epoch;
        let has_missed_one = epoch == self.group.collection.before;
        let mut missing = context.minus(seen);
        let departed = &self.group.collection.departed;
        // Of collections before the last it is not known any more whom they were about.
        let is_collected = |replica: &ReplicaId| match (has_missed, has_missed_one) {
            (false, _) => false,
            (true, true) => departed.iter().any(|(gone, _)| gone == replica),
            (true, false) => seen.last(*replica) == 0,
        };
        let gone: Vec<ReplicaId> = missing.replicas().filter(is_collected).collect();
        gone.into_iter().for_each(|replica| missing.forget(replica));
        missing.is_empty()
    }

    /// Ends what has come to its end, and asks again those that have not answered.
    pub(super) fn check_waits(&mut self, now: Instant) {
        if !std::mem::take(&mut self.waits.stale) {
            return;
        }
        self.leave_on(now);
        if self.waits.all.is_empty() {
            return self.timers.clear(Timer::Wait);
        }
        let all = std::mem::take(&mut self.waits.all);
        // Those of level `Local` have ended at once, or wait for no members.
        let members = self.members_at(Level::All);
        for (ticket, mut wait) in all {
            match self.outcome(&wait, members, now) {
                Some(result) => self.end(ticket, result),
                None => {
                    self.ask_again(now, ticket, &mut wait.goal);
                    self.waits.all.insert(ticket, wait);
                }
            }
        }
        let next = self.waits.all.values().map(|wait| match &wait.goal {
            Goal::Read { again, .. } => wait.until.min(*again),
            Goal::Write { .. } | Goal::Nothing(_) | Goal::Cover(_) => wait.until,
        });
        match next.min() {
            Some(at) => self.timers.set(Timer::Wait, at),
            None => self.timers.clear(Timer::Wait),
        }
    }

    fn ask_again(&mut self, now: Instant, ticket: u64, goal: &mut Goal) {
        let Goal::Read { key, answered, again } = goal else { return };
        if now < *again {
            return;
        }
        *again = now + Config::ms(self.config.step_ms);
        let digests: Vec<Digest> = slot(&self.bucket, key).map(|entry| entry.digest()).collect();
        let active = self.links.iter().filter(|(_, link)| link.active).map(|(node, _)| *node);
        let silent = active.filter(|node| !answered.contains(node)).collect::<Vec<_>>();
        for node in silent {
            let (key, digests) = (Arc::clone(key), digests.clone());
            self.send(node, &Message::Ask { read: ticket, key, digests });
        }
    }

    pub(super) fn asked(&mut self, from: u64, read: u64, key: &Arc<str>, digests: &[Digest]) {
        if self.is_out() {
            return;
        }
        let own = slot(&self.bucket, key).map(|entry| entry.digest());
        let other = (!own.eq(digests.iter().copied())).then(|| {
            let slot = (Arc::clone(key), states(&self.bucket, key));
            (slot, self.bucket.context().clone())
        });
        self.send(from, &Message::Answer { read, other });
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: u64,
        read: u64,
        other: Option<(Slot, Context)>,
    ) {
        let Some(Goal::Read { key, .. }) = self.waits.all.get(&read).map(|wait| &wait.goal) else {
            return;
        };
        if let Some((found, context)) = other {
            // It is asked again once the comparison is over that goes on.
            let is_early = *key != found.0 || self.is_early(found.1.iter());
            if is_early || self.join_slot(now, &found, &context).is_err() {
                return;
            }
            // What it lacks it has by the next comparison.
            let differs = !has_just(&self.bucket, &found.0, &found.1);
            if let Some(link) = self.links.get_mut(&from).filter(|_| differs) {
                link.behind = true;
            }
        }
        if let Some(Wait { goal: Goal::Read { answered, .. }, .. }) = self.waits.all.get_mut(&read)
        {
            answered.insert(from);
            self.waits.stale = true;
        }
    }
}
