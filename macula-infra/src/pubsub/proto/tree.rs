//! Broadcast to a large audience, so that what a publisher sends does not grow with it.
//!
//! `PlumTree` (Leitão, Pereira and Rodrigues, SRDS 2007) over the neighbours of a [`view`](super::view): a message
//! goes to *eager* neighbours at once, and to *lazy* ones only its number. A neighbour from which a
//! message comes that is there already becomes lazy, so what is left of the eager links is a tree.
//! Whoever hears of a number and gets no message asks the one that named it, and the link between
//! them becomes part of the tree.
//!
//! On top of that, so that nothing that is promised is missed: each publisher's messages are numbered
//! without gaps, neighbours compare every second what they have, and what is missing is asked for,
//! from neighbours at first and from the publisher in the end. Messages are handed on in the order of
//! their numbers. Each node tells the publisher now and then up to which it has them. Whoever was
//! promised a message asks for it until somebody has it or its publisher says that nobody does, at
//! ever longer intervals; anybody else asks for a while.
//!
//! That there is a message is believed of its publisher, or if it comes. What only others name is asked
//! for, and forgotten if nobody has it.
//!
//! A message may have an end. From then on it says nothing, and only keeps its place. Nodes have no
//! common clock: each says how much is left when it passes a message on, so what time it takes on its
//! way is added.

mod kept;
mod known;
mod said;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine;

pub(crate) use said::SAID_MAX;
pub use said::{Digest, Failed, Origin, Said};

use super::view::{Change, View};
pub(crate) use kept::KEPT_LEN_MAX;
use kept::Kept;
use known::Known;

/// How often neighbours compare what they have.
const PULSE_EVERY: Duration = Duration::from_secs(1);

/// How long numbers wait to be told together.
const TELL_AFTER: Duration = Duration::from_millis(50);

/// How long a message may take after its number.
const GRAFT_AFTER: Duration = Duration::from_millis(300);

/// How often neighbours are asked for a message, before its publisher is.
const GRAFTS_MAX: u32 = 4;

/// The longest time between two questions for a message that is promised, in doublings of the first.
const GRAFT_DOUBLINGS_MAX: u32 = 3;

/// How far ahead of what is handed on a message may be.
const AHEAD_MAX: u64 = 2_048;

/// How often a message is asked for at most that is not promised.
const ASKED_MAX: u32 = 32;

/// Of how many publishers messages are kept.
const ORIGINS_MAX: usize = 64;

/// How many messages of one publisher are asked for at one time.
const MISSING_MAX: usize = 256;

/// How often a publisher is told up to where a node has its messages.
const ACKS_MAX: u32 = 5;

/// After how many messages a publisher is told at once, and not only at the next pulse.
const ACK_AT: u64 = 128;

/// How many numbers are told in one message.
const HAVE_MAX: usize = 1_024;

/// How many messages one question asks for.
pub const GRAFT_LEN_MAX: usize = 64;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// This node becomes one of the audience, of which these are some.
    Join(Vec<NodeId>),
    /// It gets the messages of a publisher from this number on, and says itself when it has done with
    /// them. If it does so already, what it has not got by then of those before is not owed to it any
    /// more.
    Begin {
        /// Whose.
        origin: Origin,
        /// The first.
        from: u64,
        /// Whether they are promised to arrive.
        is_promised: bool,
    },
    /// It has done with the messages that it began with, up to this one.
    Done {
        /// Whose.
        origin: Origin,
        /// The last.
        upto: u64,
        /// How many of all since the first went to nobody.
        failed: Failed,
    },
    /// It publishes something.
    Publish {
        /// What.
        payload: Bytes,
        /// Until when it is good for something.
        until: Option<Instant>,
        /// What shows others that it is the publisher's. A tree passes it on as it is.
        seal: Bytes,
    },
    /// Another node says something. Whether messages are their publisher's is known before.
    Said {
        /// Which.
        from: NodeId,
        /// What.
        said: Said,
    },
    /// A node is gone.
    Gone(NodeId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Output {
    /// Say something to a node.
    Send {
        /// To which.
        to: NodeId,
        /// What.
        said: Said,
    },
    /// A message for this node: those of one publisher come in their order, each once.
    Deliver {
        /// Whose.
        origin: Origin,
        /// Its number.
        sequence: u64,
        /// What it says. It may be over, and say nothing.
        payload: Bytes,
        /// Until when it is good for something.
        until: Option<Instant>,
    },
    /// Messages that nobody has any more.
    Gap {
        /// Whose.
        origin: Origin,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A node has all that this one has published, up to this number.
    Acked {
        /// Which node.
        by: NodeId,
        /// The first that was for it, as it was told.
        from: u64,
        /// The number.
        upto: u64,
        /// How many of all since the first it has passed over.
        failed: Failed,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Pulse,
    Tell,
    Graft(Origin, u64),
}

/// The machine: a node's part of the audience of one topic prefix.
#[derive(Debug)]
pub struct Tree {
    me: Origin,
    view: View,
    eager: BTreeSet<NodeId>,
    known: BTreeMap<Origin, Known>,
    /// The numbers that lazy neighbours are to be told.
    untold: Vec<(Origin, u64)>,
    published: u64,
    /// How many messages it has sent to others, its own or not.
    sent_payloads: u64,
    entropy: Entropy,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
    #[cfg(test)]
    pub(super) never_asks: bool,
}

impl Tree {
    /// The part of a node, in one of its lives.
    #[must_use]
    pub fn new(node: NodeId, life: u64, mut entropy: Entropy) -> Self {
        Self {
            me: Origin { node, life },
            view: View::new(node, entropy.fork()),
            eager: BTreeSet::new(),
            known: BTreeMap::new(),
            untold: Vec::new(),
            published: 0,
            sent_payloads: 0,
            entropy,
            timers: Deadlines::default(),
            out: VecDeque::new(),
            #[cfg(test)]
            never_asks: false,
        }
    }

    /// The neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = NodeId> {
        self.view.active()
    }

    /// How many messages it has sent to others, its own or not.
    #[must_use]
    pub const fn sent_payloads(&self) -> u64 {
        self.sent_payloads
    }

    /// Up to which number it has all messages of a publisher.
    #[must_use]
    pub fn has_upto(&self, origin: Origin) -> u64 {
        self.known.get(&origin).map_or(0, |known| known.have)
    }

    fn send(&mut self, to: NodeId, said: Said) {
        self.sent_payloads += u64::from(matches!(said, Said::Gossip { .. }));
        self.out.push_back(Output::Send { to, said });
    }

    fn known(&mut self, origin: Origin) -> Option<&mut Known> {
        if self.known.len() >= ORIGINS_MAX && !self.known.contains_key(&origin) {
            return None;
        }
        Some(self.known.entry(origin).or_default())
    }

    /// Whether it has had a message.
    pub(crate) fn has(&self, origin: Origin, sequence: u64) -> bool {
        self.known.get(&origin).is_some_and(|known| known.has(sequence))
    }

    /// How many bytes the messages have that it keeps.
    #[must_use]
    pub fn kept_len(&self) -> usize {
        self.known.values().map(|known| known.store.len()).sum()
    }

    /// Lets go of what it keeps for others of a publisher, up to this number.
    pub(crate) fn forget(&mut self, origin: Origin, upto: u64) {
        if let Some(known) = self.known.get_mut(&origin) {
            known.store.forget(upto.min(known.have));
        }
    }

    /// One that it has published itself, if it keeps that: what it says, and until when it is good.
    pub(crate) fn published(&self, sequence: u64) -> Option<(Bytes, Option<Instant>)> {
        let kept = self.known.get(&self.me)?.store.get(sequence)?;
        Some((kept.payload.clone(), kept.until))
    }

    fn publish(&mut self, now: Instant, kept: Kept) {
        self.published += 1;
        let (origin, sequence) = (self.me, self.published);
        let Some(known) = self.known(origin) else { return };
        (known.have, known.seen) = (sequence, sequence);
        known.store.keep(sequence, kept.clone(), sequence);
        self.pass_on(now, None, (origin, sequence), &kept);
    }

    /// Sends a message to eager neighbours, and its number soon to the others.
    fn pass_on(
        &mut self,
        now: Instant,
        from: Option<NodeId>,
        (origin, sequence): (Origin, u64),
        kept: &Kept,
    ) {
        let eager: Vec<NodeId> =
            self.eager.iter().filter(|node| Some(**node) != from).copied().collect();
        for to in eager {
            self.send(to, kept.said(now, origin, sequence));
        }
        self.untold.push((origin, sequence));
        if self.timers.get(Timer::Tell).is_none() {
            self.timers.set(Timer::Tell, now + TELL_AFTER);
        }
    }

    fn tell(&mut self) {
        let messages = std::mem::take(&mut self.untold);
        let lazy: Vec<NodeId> =
            self.view.active().filter(|node| !self.eager.contains(node)).collect();
        for to in lazy {
            for messages in messages.chunks(HAVE_MAX) {
                self.send(to, Said::Have { messages: messages.to_vec() });
            }
        }
    }

    fn gossip(&mut self, now: Instant, from: NodeId, of: (Origin, u64), kept: Kept) {
        let (origin, sequence) = of;
        let Some(known) = self.known(origin) else { return };
        if known.has(sequence) {
            if self.eager.remove(&from) {
                self.send(from, Said::Prune);
            }
            return;
        }
        known.seen = known.seen.max(sequence);
        known.proven = known.proven.max(sequence);
        let is_far = sequence > known.have + AHEAD_MAX;
        if is_far || !known.store.has_room(&kept, known.have, sequence == known.have + 1) {
            // What is before it comes first; this is asked for again then.
            return self.miss_between(now, from, origin);
        }
        known.store.keep(sequence, kept.clone(), known.have);
        known.missing.remove(&sequence);
        self.timers.clear(Timer::Graft(origin, sequence));
        if self.view.is_active(from) {
            self.eager.insert(from);
        }
        self.deliver(origin);
        self.pass_on(now, Some(from), of, &kept);
        self.miss_between(now, from, origin);
    }

    /// Hands on what comes next.
    fn deliver(&mut self, origin: Origin) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        while let Some(kept) = known.store.get(known.have + 1) {
            known.have += 1;
            let (sequence, Kept { payload, until, .. }) = (known.have, kept.clone());
            self.out.push_back(Output::Deliver { origin, sequence, payload, until });
        }
        known.store.forget_old(known.have);
    }

    /// Misses all that is between what is there and what is known to be.
    fn miss_between(&mut self, now: Instant, from: NodeId, origin: Origin) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        let wanted = known.have + 1..=known.seen;
        let absent = wanted.filter(|sequence| !known.store.has(*sequence));
        let absent: Vec<u64> = absent.take(MISSING_MAX).collect();
        for sequence in absent {
            if known.missing.len() < MISSING_MAX && !known.missing.contains_key(&sequence) {
                known.missing.insert(sequence, (from, 0));
                self.timers.set(Timer::Graft(origin, sequence), now + GRAFT_AFTER);
            }
        }
    }

    /// A message has not come: somebody is asked for it, and for what else is due of its publisher.
    fn graft(&mut self, now: Instant, origin: Origin, sequence: u64) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        let Some((named, asked)) = known.missing.get_mut(&sequence) else { return };
        *asked += 1;
        let (named, asked, is_promised) = (*named, *asked, known.is_promised);
        if asked > ASKED_MAX && sequence > known.proven {
            return self.doubt(origin);
        }
        if asked > ASKED_MAX && !is_promised {
            return self.skip(now, origin, sequence + 1);
        }
        let mut messages = vec![sequence];
        for (other, (by, times)) in &mut known.missing {
            let timer = Timer::Graft(origin, *other);
            let is_due = self.timers.get(timer).is_some_and(|at| at <= now);
            let is_alike = *by == named || asked > GRAFTS_MAX;
            if is_due && is_alike && *times < asked && messages.len() < GRAFT_LEN_MAX {
                *times += 1;
                messages.push(*other);
            }
        }
        let again = now + ask_again_after(asked, is_promised);
        for sequence in &messages {
            self.timers.set(Timer::Graft(origin, *sequence), again);
        }
        // In the end its publisher is asked; it may be out of reach where a neighbour is not.
        let is_anybody = asked <= GRAFTS_MAX || (is_promised && asked.is_multiple_of(2));
        let to = match asked {
            0 | 1 if self.view.is_active(named) => named,
            _ if is_anybody => self.some_neighbour().unwrap_or(origin.node),
            _ => origin.node,
        };
        if self.view.is_active(to) {
            self.eager.insert(to);
        }
        self.send(to, Said::Graft { origin, messages });
    }

    fn some_neighbour(&mut self) -> Option<NodeId> {
        let all: Vec<NodeId> = self.view.active().collect();
        let len = u64::try_from(all.len()).unwrap_or(u64::MAX);
        usize::try_from(self.entropy.below(len)).ok().and_then(|place| all.get(place)).copied()
    }

    fn grafted(&mut self, now: Instant, from: NodeId, origin: Origin, messages: &[u64]) {
        if self.view.is_active(from) {
            self.eager.insert(from);
        }
        let Some(known) = self.known.get(&origin) else { return };
        let oldest = known.oldest();
        let said = |sequence: &u64| Some(known.store.get(*sequence)?.said(now, origin, *sequence));
        let found: Vec<Said> = messages.iter().take(GRAFT_LEN_MAX).filter_map(said).collect();
        let is_lost = messages.iter().any(|sequence| *sequence < oldest);
        for said in found {
            self.send(from, said);
        }
        if is_lost && origin == self.me {
            self.send(from, Said::Floor { origin, oldest });
        }
    }

    /// Only others say that there is more than what the publisher is known to have published, and nobody
    /// has it. Whoever says so again is asked again.
    fn doubt(&mut self, origin: Origin) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        known.seen = known.proven.max(known.have);
        for sequence in known.missing.split_off(&(known.seen + 1)).into_keys() {
            self.timers.clear(Timer::Graft(origin, sequence));
        }
    }

    /// What is before this number and not there is lost.
    fn skip(&mut self, now: Instant, origin: Origin, oldest: u64) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        let (first, is_begun) = (known.have + 1, known.is_begun);
        if oldest <= first {
            return;
        }
        let between = known.store.take_before(oldest);
        let missing = known.missing.split_off(&oldest);
        for sequence in std::mem::replace(&mut known.missing, missing).into_keys() {
            self.timers.clear(Timer::Graft(origin, sequence));
        }
        known.have = oldest - 1;
        known.proven = known.proven.max(known.have);
        let mut next = first;
        for (sequence, kept) in between.range(first..) {
            if *sequence > next && (next > 1 || is_begun) {
                self.out.push_back(Output::Gap { origin, from: next, to: sequence - 1 });
            }
            let (sequence, Kept { payload, until, .. }) = (*sequence, kept.clone());
            self.out.push_back(Output::Deliver { origin, sequence, payload, until });
            next = sequence + 1;
        }
        // Whoever has just come has missed nothing.
        if next < oldest && (next > 1 || is_begun) {
            self.out.push_back(Output::Gap { origin, from: next, to: oldest - 1 });
        }
        self.deliver(origin);
        self.miss_between(now, origin.node, origin);
    }

    fn pulse(&mut self, now: Instant) {
        self.timers.set(Timer::Pulse, now + PULSE_EVERY);
        self.view.pulse(now);
        self.known.values_mut().for_each(|known| known.store.empty_over(now));
        let digest = |(origin, known): (&Origin, &Known)| Digest {
            origin: *origin,
            oldest: known.oldest(),
            have: known.have,
            seen: known.seen,
        };
        let digests: Vec<Digest> = self.known.iter().map(digest).collect();
        let neighbours: Vec<NodeId> = self.view.active().collect();
        for to in neighbours {
            self.send(to, Said::Pulse { digests: digests.clone() });
        }
        let me = self.me;
        let mut acks = Vec::new();
        for (origin, known) in self.known.iter_mut().filter(|(origin, _)| **origin != me) {
            if known.upto() > known.acked {
                (known.acked, known.acks) = (known.upto(), ACKS_MAX);
            }
            // It may be lost on its way, and nobody confirms it.
            if known.acks > 0 {
                known.acks -= 1;
                acks.push(known.ack(*origin));
            }
        }
        for (to, ack) in acks {
            self.send(to, ack);
        }
    }

    fn begin(&mut self, origin: Origin, from: u64, is_promised: bool) {
        let Some(known) = self.known(origin) else { return };
        if !known.is_begun {
            let before = from.saturating_sub(1);
            (known.is_begun, known.is_promised) = (true, is_promised);
            (known.have, known.seen) = (known.have.max(before), known.seen.max(before));
            (known.done, known.acked) = (before, before);
            known.proven = known.proven.max(before);
        }
        if from > known.from {
            (known.from, known.failed) = (from, Failed::default());
        }
        // It is there, which its publisher does not know yet.
        known.acks = ACKS_MAX;
    }

    fn done(&mut self, origin: Origin, upto: u64, failed: Failed) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        (known.done, known.failed) = (known.done.max(upto), failed);
        if known.done >= known.acked + ACK_AT {
            (known.acked, known.acks) = (known.done, ACKS_MAX);
            let (to, ack) = known.ack(origin);
            self.send(to, ack);
        }
    }

    fn compare(&mut self, now: Instant, from: NodeId, digests: Vec<Digest>) {
        self.view.pulse_of(now, from);
        for Digest { origin, have, .. } in digests {
            self.there_is(now, from, origin, have);
        }
    }

    /// A node has a message, and so this one misses it if it does not.
    fn there_is(&mut self, now: Instant, from: NodeId, origin: Origin, sequence: u64) {
        #[cfg(test)]
        if self.never_asks {
            return;
        }
        if origin == self.me {
            return;
        }
        let Some(known) = self.known(origin) else { return };
        if from == origin.node {
            known.proven = known.proven.max(sequence);
        }
        if !known.has(sequence) {
            known.seen = known.seen.max(sequence);
            self.miss_between(now, from, origin);
        }
    }

    fn hear(&mut self, now: Instant, from: NodeId, said: Said) {
        self.view.heard(now, from);
        match said {
            Said::View(said) => self.view.hear(now, from, said),
            Said::Pulse { digests } => self.compare(now, from, digests),
            Said::Gossip { origin, sequence, left_ms, payload, seal } => {
                let until = left_ms.and_then(|left| now.checked_add(Duration::from_millis(left)));
                let kept = Kept { payload, until, seal, is_emptied: left_ms == Some(0) };
                self.gossip(now, from, (origin, sequence), kept);
            }
            Said::Have { messages } => {
                for (origin, sequence) in messages {
                    self.there_is(now, from, origin, sequence);
                }
            }
            Said::Prune => drop(self.eager.remove(&from)),
            Said::Graft { origin, messages } => self.grafted(now, from, origin, &messages),
            Said::Floor { origin, oldest } => {
                if from == origin.node {
                    self.skip(now, origin, oldest);
                }
            }
            Said::Ack { origin, from: first, upto, failed } => {
                if origin == self.me && upto <= self.published {
                    self.out.push_back(Output::Acked { by: from, from: first, upto, failed });
                }
            }
        }
    }

    /// Carries over what the view says, and who is a neighbour.
    fn settle(&mut self) {
        while let Some(change) = self.view.changes.pop_front() {
            match change {
                Change::Up(node) => drop(self.eager.insert(node)),
                Change::Down(node) => drop(self.eager.remove(&node)),
            }
        }
        while let Some((to, said)) = self.view.out.pop_front() {
            self.out.push_back(Output::Send { to, said: Said::View(said) });
        }
    }
}

/// How long it is waited after so many questions for a message.
fn ask_again_after(asked: u32, is_promised: bool) -> Duration {
    let doublings = asked.saturating_sub(GRAFTS_MAX) / GRAFTS_MAX;
    let doublings = if is_promised { doublings.min(GRAFT_DOUBLINGS_MAX) } else { 0 };
    GRAFT_AFTER * 2 * (1 << doublings)
}

impl Machine for Tree {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Join(contacts) => {
                self.view.join(contacts);
                // Not all at the same moment.
                let micros = u64::try_from(PULSE_EVERY.as_micros()).unwrap_or(u64::MAX);
                let first = Duration::from_micros(self.entropy.below(micros));
                self.timers.set(Timer::Pulse, now + first);
            }
            Input::Begin { origin, from, is_promised } => self.begin(origin, from, is_promised),
            Input::Done { origin, upto, failed } => self.done(origin, upto, failed),
            Input::Publish { payload, until, seal } => {
                self.publish(now, Kept { payload, until, seal, is_emptied: false });
            }
            Input::Said { from, said } => self.hear(now, from, said),
            Input::Gone(node) => self.view.let_go(node),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Pulse => self.pulse(now),
                Timer::Tell => self.tell(),
                Timer::Graft(origin, sequence) => self.graft(now, origin, sequence),
            }
        }
        self.settle();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let reason = |timer| match timer {
            Timer::Pulse => "pulse",
            Timer::Tell => "tell",
            Timer::Graft(..) => "graft",
        };
        self.timers.next().map(|(at, timer)| (at, reason(timer)))
    }
}

#[cfg(test)]
mod tests;
