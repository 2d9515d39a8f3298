//! One node's part in one bucket, as a machine.
//!
//! | room | what is done there |
//! |---|---|
//! | `links` | members greet each other, push their changes, and acknowledge those of others |
//! | `comparing`, `serving` | two members find out what they differ in, and exchange that |
//! | `stability` | one member finds out what all have seen, and collects what nobody needs |
//! | `returning` | what becomes of those that were away meanwhile |
//! | `levels` | writes and reads that wait for other members |
//! | `leaving` | what a member does that lets go of the bucket |
//! | `journal` | what has to be on disk before anybody is told |
//!
//! All messages may be lost, doubled and reordered. None is longer than a frame; what is goes in parts.
//! For one input there are at most as many outputs as there are members, and as many frames as a message
//! has.

mod buffer;
mod comparing;
mod epoch;
mod fragments;
mod journal;
mod leaving;
mod levels;
mod links;
mod message;
mod returning;
mod roster;
mod serving;
mod sketch;
mod snapshot;
mod stability;
#[cfg(test)]
pub(super) mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::machine::Machine;
use macula_core::replica::ReplicaId;

use super::bucket::{Bucket, KeyDelta};
use super::config::{self, Config};
use super::context::Context;
use super::contract::Delta;
use super::limits::Refused;
use super::stamps::Stamps;
use super::state::State;
use buffer::{Buffer, Numbers};
use comparing::Comparing;
use epoch::Lineages;
use journal::{Group, Journal};
use leaving::Leaving;
use levels::Waits;
use links::Link;
use message::{Header, Message};
use serving::Serving;
use stability::{Heard, Stability};

pub(in crate::crdt) use epoch::Epoch;
pub use journal::{Batch, Checkpoint};
pub use levels::{Done, Failed, Level, Token};
pub use words::{Change, Event, Input, Output, Parts, Saved, StartError, Stats};

/// How many outputs wait for the disk at most. Messages beyond it count as lost.
const HELD_MAX: usize = 16_384;

/// A bug that is planted to see that it is found.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::crdt) enum Bug {
    /// What is not needed any more is collected before all members have said that they have seen it.
    EarlyCollection,
    /// What the other side had seen is believed to be seen before all that differs was joined.
    EarlyClaim,
    /// A replica that has forgotten its dots goes on as if it was another.
    ReusedDots,
    /// Whoever has compared its state once never looks again for what it has missed.
    NeverLooks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Greet,
    Push(u64),
    Sync,
    Step,
    Serve,
    Survey,
    Tidy,
    Wait,
    Leave,
}

impl Timer {
    const fn reason(self) -> &'static str {
        match self {
            Self::Greet => "members that are silent are greeted",
            Self::Push(_) => "a change was not acknowledged",
            Self::Sync => "a comparison of states is due",
            Self::Step => "a step of a comparison has no answer",
            Self::Serve => "comparisons of others may have been given up",
            Self::Survey => "it is asked what all have seen",
            Self::Tidy => "keys are looked through for what nobody needs",
            Self::Wait => "a write or read has waited for long enough",
            Self::Leave => "nobody has heard yet that this one lets go of the bucket",
        }
    }
}

/// One node's part in one bucket.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    node: u64,
    life: u64,
    bucket: Bucket,
    group: Group,
    buffer: Buffer,
    links: BTreeMap<u64, Link>,
    near: BTreeSet<u64>,
    comparing: Option<Comparing>,
    serving: BTreeMap<(u64, u64), Serving>,
    /// Changes of others that wait for the end of a comparison.
    deferred: VecDeque<(u64, Vec<Arc<KeyDelta>>, Numbers)>,
    /// When the next comparison is due though nobody is behind.
    sync_at: Option<Instant>,
    syncs: u64,
    stability: Stability,
    waits: Waits,
    leaving: Option<Leaving>,
    journal: Journal,
    timers: Deadlines<Timer>,
    held: VecDeque<(u64, Output)>,
    out: VecDeque<Output>,
    entropy: Entropy,
    /// The calendar's time at some moment.
    calendar: Option<(Instant, Duration)>,
    listens: bool,
    stats: Stats,
    #[cfg(test)]
    bug: Option<Bug>,
}

impl Replica {
    /// A replica that has what is on disk, or nothing. One that keeps nothing on disk writes as its
    /// life; another one as it did before.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, kinds, node, life, seed, saved } = parts;
        config.check()?;
        let stamps = Stamps::new(Config::ms(config.skew_ms_max));
        let mut journal = Journal::new(saved.is_some());
        let saved = saved.unwrap_or_default();
        let group = saved.group.as_deref().map(Group::decode).transpose()?;
        let mut group = group.unwrap_or_else(|| Group { incarnation: life, ..Group::default() });
        let replica = ReplicaId { node, incarnation: group.incarnation };
        let bucket = Bucket::new(replica, config.limits).map_err(config::Invalid::Limit)?;
        let mut bucket = bucket.with_kinds(kinds).with_stamps(stamps);
        let context = saved.context.as_deref();
        journal::restore(&mut journal, &mut bucket, &saved.rows, context, &saved.records)?;
        bucket.write_as(replica, 0, u64::MAX);
        group.roster.sit(node, group.incarnation);
        journal.group();
        Ok(Self {
            config,
            node,
            life,
            bucket,
            group,
            buffer: Buffer::default(),
            links: BTreeMap::new(),
            near: BTreeSet::new(),
            comparing: None,
            serving: BTreeMap::new(),
            deferred: VecDeque::new(),
            sync_at: None,
            syncs: 0,
            stability: Stability::default(),
            waits: Waits::default(),
            leaving: None,
            journal,
            timers: Deadlines::new(),
            held: VecDeque::new(),
            out: VecDeque::new(),
            entropy: Entropy::from_seed(seed),
            calendar: None,
            listens: false,
            stats: Stats::default(),
            #[cfg(test)]
            bug: None,
        })
    }

    /// The frame by which a node says that it does not hold a bucket.
    #[must_use]
    pub fn stranger() -> Bytes {
        let message =
            Message::Stranger.encode(Header { epoch: Epoch::default(), life: 0, lineage: 0 });
        fragments::split(&message, usize::MAX).into_iter().next().unwrap_or_default()
    }

    /// What it has.
    #[must_use]
    pub const fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// How it is replicated.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The nodes that hold the bucket, as far as this one knows, itself among them.
    #[must_use]
    pub fn members(&self) -> Vec<u64> {
        self.group.roster.holders().collect()
    }

    /// Whether [`Output::Changed`] is wanted from now on.
    pub const fn listen(&mut self, listens: bool) {
        self.listens = listens;
    }

    /// How full it is, and what it did.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (bucket, stamps) = (&self.bucket, self.bucket.stamps());
        let members = self.group.roster.holders();
        let in_touch = self.links.values().filter(|link| link.active).count();
        Stats {
            epoch: self.group.epoch.number(),
            keys: bucket.len(),
            weight: bucket.weight(),
            spans: bucket.context().spans_len(),
            buffered: self.buffer.len(),
            members: members.count(),
            in_touch,
            skewed: stamps.refused(),
            set_back: stamps.set_back(),
            ..self.stats
        }
    }

    /// What has been seen here, for others to [wait](Event::Cover) for.
    #[must_use]
    pub fn token(&self) -> Token {
        Token::of(self.group.epoch, self.bucket.context().clone())
    }

    /// Makes a change at once. Gives its number, by which its level can be waited for, and what was
    /// seen and done; number 0 if there was nothing to change.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing changed.
    pub fn write(
        &mut self,
        now: Instant,
        wall: Duration,
        key: &str,
        change: Change,
    ) -> Result<(u64, Token), Refused> {
        self.calendar = Some((now, wall));
        let changes = (change.0)(&mut self.bucket, key, wall)?;
        let mut seen = Context::default();
        let mut number = 0;
        for change in changes {
            seen.join(&change.delta.context);
            number = self.changed_here(Arc::new(change));
        }
        self.push_all(now);
        self.settle();
        Ok((number, Token::of(self.group.epoch, seen)))
    }

    fn changed_here(&mut self, change: Arc<KeyDelta>) -> u64 {
        if self.group.lineages.name().is_none() {
            let lineage = self.entropy.next_u64();
            self.group.lineages.are(lineage);
            self.journal.group();
        }
        self.stats.written += 1;
        self.changed(change, true)
    }

    /// What nobody needs was taken out of a key. It is no user of this node who did so.
    fn tidied(&mut self, change: Arc<KeyDelta>) {
        self.stats.tidied += 1;
        self.changed(change, false);
    }

    /// Gives the number of a change that has come from here.
    fn changed(&mut self, change: Arc<KeyDelta>, is_local: bool) -> u64 {
        self.journal.change(&change);
        if self.listens {
            self.out.push_back(Output::Changed { change: Arc::clone(&change), is_local });
        }
        self.buffer.push(change)
    }

    /// Takes note of a change that was joined.
    fn changed_there(&mut self, change: Arc<KeyDelta>) {
        self.stats.joined += 1;
        self.journal.change(&change);
        if self.listens {
            self.out.push_back(Output::Changed { change, is_local: false });
        }
    }

    /// Joins what another replica has under a key, where it had seen `context`. What it does not have
    /// there is bottom.
    fn join_slot(
        &mut self,
        now: Instant,
        (key, states): &(Arc<str>, Vec<State>),
        context: &Context,
    ) -> Result<(), Refused> {
        let absent = |own: &State| states.iter().all(|state| state.kind() != own.kind());
        let own = snapshot::slot(&self.bucket, key).map(|entry| entry.state());
        let bottoms: Vec<State> = own.filter(|own| absent(own)).map(State::bottom).collect();
        for theirs in states.iter().chain(&bottoms) {
            let before = self.dots_of(key, theirs);
            let wall = self.wall(now);
            let joined = self.bucket.join_state(key, theirs, context, wall);
            if joined.inspect_err(|_refused| self.stats.refused += 1)? {
                let mut dots = before.minus(&self.dots_of(key, theirs));
                dots.join(&theirs.dots());
                let delta = Delta { state: theirs.clone(), context: dots };
                self.changed_there(Arc::new(KeyDelta { key: Arc::clone(key), delta }));
                self.waits.stale = true;
            }
        }
        Ok(())
    }

    /// The live dots of a key, of the kind that a state has.
    fn dots_of(&self, key: &str, like: &State) -> Context {
        let kind = like.kind();
        let mut own = snapshot::slot(&self.bucket, key).map(|entry| entry.state());
        own.find(|own| own.kind() == kind).map(State::dots).unwrap_or_default()
    }

    /// Believes to have seen all that another one had.
    fn claim(&mut self, context: &Context) {
        if !self.bucket.context().includes(context) {
            self.bucket.claim(context);
            self.journal.claim(context);
            self.waits.stale = true;
        }
    }

    fn wall(&self, now: Instant) -> Duration {
        self.calendar.map_or(Duration::ZERO, |(at, wall)| {
            wall.saturating_add(now.saturating_duration_since(at))
        })
    }

    /// Sends a message once all is on disk that was done before.
    fn send(&mut self, to: u64, message: &Message) {
        let lineage = self.group.lineages.name().unwrap_or(0);
        let header = Header { epoch: self.group.epoch, life: self.life, lineage };
        let message = message.encode(header);
        for frame in fragments::split(&message, self.config.frame_len_max) {
            self.emit(Output::Send { to, frame });
        }
    }

    fn emit(&mut self, output: Output) {
        let barrier = self.journal.barrier();
        if barrier <= self.journal.done() && self.held.is_empty() {
            self.out.push_back(output);
        } else if self.held.len() < HELD_MAX || matches!(output, Output::Done { .. }) {
            self.held.push_back((barrier, output));
        } else {
            self.stats.dropped += 1;
        }
    }

    /// Has written what is to be on disk, and tells what may be told.
    fn settle(&mut self) {
        if let Some(batch) = self.journal.next(&self.bucket, &self.group) {
            self.out.push_back(Output::Persist(batch));
        }
        let done = self.journal.done();
        while let Some((_, output)) = self.held.pop_front_if(|(barrier, _)| *barrier <= done) {
            self.out.push_back(output);
        }
    }

    fn frame(&mut self, now: Instant, from: u64, frame: &Bytes) {
        if from == self.node {
            return;
        }
        let bounds = (self.config.frame_len_max, self.config.message_len_max);
        let link = self.links.entry(from).or_default();
        let message = match link.fragments.take(frame, bounds) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(fragments::Malformed) => {
                self.stats.malformed += 1;
                return;
            }
        };
        match Message::decode(self.bucket.kinds(), &message) {
            Ok((header, message)) => self.message(now, from, header, message),
            Err(_) => self.stats.malformed += 1,
        }
    }

    fn message(&mut self, now: Instant, from: u64, header: Header, message: Message) {
        match message {
            Message::Hello { asks, version, incarnation, hashes, lineages } => {
                let seat = message::seat(version, incarnation);
                return self.greeted(now, from, header, (&seat, asks, hashes, &lineages));
            }
            Message::Stranger => return self.is_stranger(now, from),
            // Who was given up is told so by those alone who know what it had told.
            Message::Roster(_) if header.epoch != self.group.epoch => return,
            Message::Roster(roster) => return self.join_roster(now, from, &roster),
            Message::Collect { collection, lineages } => {
                return self.told_collection(now, from, &collection, &lineages);
            }
            Message::Resync { collection, known, lineages } => {
                return self.told_resync(now, collection, known.as_ref(), &lineages);
            }
            _ => {}
        }
        let is_known = self.group.roster.holds(from)
            && self.links.get(&from).is_some_and(|link| link.life == Some(header.life));
        if !is_known || header.epoch > self.group.epoch {
            // It says who it is, or what was missed here.
            return self.greet(now, from, true);
        }
        if header.epoch < self.group.epoch {
            if header.epoch != self.group.collection.before {
                return self.greet(now, from, true);
            }
            return self.tell_epoch(from, header.epoch, &Lineages::default());
        }
        if header.lineage != 0 && self.group.lineages.are(header.lineage) {
            self.journal.group();
        }
        match message {
            Message::Push { changes, numbers } => self.pushed(now, from, changes, numbers),
            Message::Ack { life, numbers, refused } if life == self.life => {
                self.acknowledged(now, from, &numbers, &refused);
            }
            Message::Ack { .. } => {}
            Message::Survey { round, roster, departed } => {
                self.surveyed(now, from, (round, roster), &departed);
            }
            Message::Report { round, roster, context, live } => {
                self.reported(now, from, (round, roster), Heard { context, live });
            }
            Message::Ask { read, key, digests } => self.asked(from, read, &key, &digests),
            Message::Answer { read, other } => self.answered(now, from, read, other),
            other => self.compare(now, from, other),
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Frame { from, frame } => self.frame(now, from, &frame),
            Event::Near(near) => self.set_near(now, near),
            Event::Written(ticket) => self.journal.written(ticket),
            Event::Write { ticket, .. } if self.is_leaving() => {
                self.end(ticket, Err(Failed::Leaving));
            }
            Event::Write { ticket, key, change, level, within } => {
                let made = self.write(now, self.wall(now), &key, change);
                self.wait_for_write(now, ticket, made, (level, within));
            }
            Event::Read { ticket, key, level, within } => {
                self.wait_for_read(now, ticket, key, (level, within));
            }
            Event::Cover { ticket, token, within } => {
                self.wait_for_cover(now, ticket, token, within);
            }
            Event::Leave { ticket, level, within } => self.leave(now, ticket, (level, within)),
            Event::LeaveUnused { ticket } => self.leave_unused(now, ticket),
            Event::Cancel(ticket) => {
                self.waits.cancel(ticket);
                self.leave_no_more(now, ticket);
            }
            Event::Declined(node) => self.declined(node),
            Event::Retire(node) => self.retire(now, node),
        }
    }

    #[cfg(test)]
    fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Machine for Replica {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, Input { wall, event }: Input) {
        self.calendar = Some((now, wall));
        self.event(now, event);
        self.check_waits(now);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        let mut any = false;
        while let Some(timer) = self.timers.due(now) {
            any = true;
            match timer {
                Timer::Greet => self.greet_silent(now),
                Timer::Push(node) => self.push_again(now, node),
                Timer::Sync => self.sync(now),
                Timer::Step => self.step_again(now),
                Timer::Serve => self.drop_sessions(now),
                Timer::Survey => self.survey(now),
                Timer::Tidy => self.tidy(now),
                Timer::Wait => self.waits.stale = true,
                Timer::Leave => self.leave_again(now),
            }
        }
        if any {
            self.check_waits(now);
            self.settle();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, timer)| (at, timer.reason()))
    }
}
