//! A comparison of states, on the side of the one that began it.
//!
//! ```text
//! begins                          answers
//! Open (hash of the context) ->
//!                              <- Equal, and it is done; or Begin (context)
//! More                       ->
//!                              <- Symbols, until all ids are known that only one of both has
//! Want (ids)                 ->
//!                              <- Slots, which are joined
//! Offer (ids, context)       ->    of what the other one lacks
//!                              <- Want
//! Slots                      ->
//!                              <- Done
//! ```
//!
//! An id stands for a key with all that is under it. What the one has and the other does not is joined
//! by both, and nothing else is looked at; then each has seen all that the other one had seen when it
//! began, and may say so. If the one that begins has next to nothing, it asks for all, page by page.
//!
//! Every step is asked for until it is answered, so nothing is kept for one that has gone away. A comparison is
//! with one life of the other one: it ends when that begins another, which has not what was said before.
//!
//! What one is going to say that it has seen counts as seen from when it begins to look: a change that
//! comes in late, and that the other one had seen, may have been removed there, and nothing would tell.
//! Such a change [waits](Replica::is_early) until the comparison is over. For the same reason a replica
//! takes part in one comparison at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::links::Link;
use super::message::{Message, Slot};
use super::roster::count;
use super::sketch::{Peeler, Symbol};
use super::snapshot::{Snapshot, has_just, slot, states};
use super::{Config, Replica, Timer};
use crate::crdt::context::Context;

/// How many ids are asked for at one time, at least and at most: twice as many as were answered last.
pub(super) const IDS_MIN: usize = 32;
pub(super) const IDS_MAX: usize = 1024;

/// How many symbols are asked for at first, and at one time at most.
const SYMBOLS: (u64, u64) = (32, 32_768);

/// Of how many comparisons that nothing gave cause for one is made though both have seen the same.
const WHOLE_EVERY: u64 = 8;

/// Within how much time it is tried again if another one could not be compared with, in milliseconds.
const AGAIN_MS: u64 = 150;

/// Where it is.
#[derive(Debug)]
enum Step {
    Open,
    Page(Option<Arc<str>>),
    Peel { to: u64 },
    Fetch,
    Offer,
}

/// A comparison that this replica has begun.
#[derive(Debug)]
pub(super) struct Comparing {
    peer: u64,
    session: u64,
    step: Step,
    tries: u32,
    whole: bool,
    /// The number of the last own change when it began.
    number: u64,
    /// What the other one had seen when it began, and what was seen here when the snapshot was made.
    theirs: Context,
    ours: Context,
    snapshot: Snapshot,
    peeler: Peeler,
    wants: VecDeque<u64>,
    /// How many of them are asked for at one time.
    batch: usize,
    only_ours: BTreeMap<Arc<str>, u64>,
    /// The sum of what both had.
    common: u64,
    offers: BTreeMap<u64, Arc<str>>,
}

/// How many dots there are.
fn dots(context: &Context) -> u64 {
    context.spans().fold(0, |sum: u64, (first, last)| {
        sum.saturating_add(last.saturating_sub(first.counter).saturating_add(1))
    })
}

impl Replica {
    /// Begins a comparison, with one that is behind, or with any if it is time.
    pub(super) fn sync(&mut self, now: Instant) {
        if self.comparing.is_some() {
            return;
        }
        #[cfg(test)]
        if self.bug == Some(super::Bug::NeverLooks) && self.stats().compared > 0 {
            return;
        }
        if self.is_serving() {
            return self.sync_soon(now, AGAIN_MS);
        }
        let due = *self.sync_at.get_or_insert(now) <= now;
        let active = self.links.iter().filter(|(_, link)| link.active);
        let behind = active.clone().filter(|(_, link)| link.is_due(now)).map(|(node, _)| *node);
        let mut from: Vec<u64> = behind.collect();
        let is_behind = !from.is_empty();
        if !is_behind && due {
            from = active.map(|(node, _)| *node).collect();
        }
        let lot = self.entropy.below(count(from.len()));
        let peer = usize::try_from(lot).ok().and_then(|lot| from.get(lot).copied());
        if due {
            let half = self.config.sync_ms / 2;
            let wait = half + self.entropy.below(self.config.sync_ms.max(1)) + 1;
            self.sync_at = Some(now + Config::ms(wait));
        }
        let Some(peer) = peer else {
            return self.plan_sync();
        };
        self.syncs += u64::from(!is_behind);
        let whole = !is_behind && self.syncs.is_multiple_of(WHOLE_EVERY);
        self.comparing = Some(Comparing {
            peer,
            session: self.entropy.next_u64(),
            step: Step::Open,
            tries: 0,
            whole,
            number: self.buffer.seal(),
            theirs: Context::default(),
            ours: Context::default(),
            snapshot: Snapshot::default(),
            peeler: Peeler::default(),
            wants: VecDeque::new(),
            batch: IDS_MIN,
            only_ours: BTreeMap::new(),
            common: 0,
            offers: BTreeMap::new(),
        });
        self.ask_step(now);
    }

    /// Plans the next comparison: one that nothing gives cause for, or with one that rests.
    fn plan_sync(&mut self) {
        let rested = self.links.values().filter_map(Link::rested).min();
        let due = self.sync_at.filter(|_| self.links.values().any(|link| link.active));
        match due.into_iter().chain(rested).min() {
            Some(at) => self.timers.set(Timer::Sync, at),
            None => self.timers.clear(Timer::Sync),
        }
    }

    /// Asks for what the step is about.
    fn ask_step(&mut self, now: Instant) {
        let summary = self.summary();
        let Some(comparing) = &self.comparing else { return };
        let session = comparing.session;
        let message = match &comparing.step {
            Step::Open => {
                let keys = count(self.bucket.len());
                Message::Open { session, keys, summary, whole: comparing.whole }
            }
            Step::Page(after) => Message::Page { session, after: after.clone() },
            Step::Peel { to } => {
                let from = count(comparing.peeler.len());
                let context = (from == 0).then(|| comparing.ours.clone());
                Message::More { session, from, to: *to, context }
            }
            Step::Fetch => {
                let ids = comparing.wants.iter().take(comparing.batch).copied().collect();
                Message::Want { session, ids }
            }
            Step::Offer => Message::Offer {
                session,
                common: comparing.common,
                ids: comparing.offers.keys().copied().collect(),
            },
        };
        let peer = comparing.peer;
        self.send(peer, &message);
        self.timers.set(Timer::Step, now + Config::ms(self.config.step_ms));
    }

    /// A step has no answer.
    pub(super) fn step_again(&mut self, now: Instant) {
        let tries_max = self.config.step_tries_max;
        let Some(comparing) = &mut self.comparing else { return };
        comparing.tries += 1;
        if comparing.tries <= tries_max {
            return self.ask_step(now);
        }
        let peer = comparing.peer;
        self.finish(now, false);
        self.falls_silent(now, peer);
    }

    /// Goes on to another step.
    fn go_on(&mut self, now: Instant, step: Step) {
        if let Some(comparing) = &mut self.comparing {
            comparing.step = step;
            comparing.tries = 0;
            self.ask_step(now);
        }
    }

    fn finish(&mut self, now: Instant, good: bool) {
        let Some(comparing) = self.comparing.take() else { return };
        self.timers.clear(Timer::Step);
        if good {
            self.stats.compared += 1;
        } else {
            self.stats.given_up += 1;
        }
        if let Some(link) = self.links.get_mut(&comparing.peer) {
            link.behind = !good;
            if good {
                link.is_rested();
            }
        }
        if self.links.values().any(|link| link.is_due(now)) {
            self.sync_soon(now, AGAIN_MS);
        } else {
            self.plan_sync();
        }
        self.take_deferred(now);
    }

    /// There is no room for what one of both has: it is tried less and less often.
    pub(super) fn refused(&mut self, now: Instant) {
        let rest_max = Config::ms(self.config.sync_ms);
        let peer = self.comparing.as_ref().map(|comparing| comparing.peer);
        if let Some(link) = peer.and_then(|peer| self.links.get_mut(&peer)) {
            link.refuses(now, rest_max);
        }
        self.finish(now, false);
    }

    /// Gives up an own comparison that has only been asked for, if somebody else asks for one who is
    /// less. Says whether none is left.
    pub(super) fn yields(&mut self, now: Instant, to: u64) -> bool {
        let Some(own) = &self.comparing else { return true };
        let yields = matches!(own.step, Step::Open) && to < self.node;
        if yields {
            self.comparing = None;
            self.timers.clear(Timer::Step);
            self.sync_soon(now, AGAIN_MS);
        }
        yields
    }

    /// What will be said to be seen once the comparison is over that this one has begun.
    pub(super) fn claims(&self) -> Option<&Context> {
        self.comparing.as_ref().map(|comparing| &comparing.theirs)
    }

    /// Ends all comparisons: what is compared is not the same any more.
    pub(super) fn end_comparing(&mut self, now: Instant) {
        self.serving.clear();
        self.finish(now, false);
    }

    /// A node has begun another life: what it has is not what its earlier life has said.
    pub(super) fn compares_no_more(&mut self, now: Instant, node: u64) {
        self.serving.retain(|(from, _), _| *from != node);
        self.deferred.retain(|(from, _, _)| *from != node);
        if self.comparing.as_ref().is_some_and(|comparing| comparing.peer == node) {
            self.finish(now, false);
        } else {
            self.take_deferred(now);
        }
    }

    /// Takes a message that belongs to a comparison.
    pub(super) fn compare(&mut self, now: Instant, from: u64, message: Message) {
        let is_own = |session| {
            self.comparing.as_ref().is_some_and(|own| own.peer == from && own.session == session)
        };
        match message {
            Message::Equal { session } if is_own(session) => self.is_equal(now),
            Message::Close { session, refused: true } if is_own(session) => self.refused(now),
            Message::Close { session, .. } if is_own(session) => self.finish(now, false),
            Message::Begin { session, context, keys, pages } if is_own(session) => {
                self.begun(now, context, (keys, pages));
            }
            Message::Symbols { session, from, symbols, .. } if is_own(session) => {
                self.peel(now, from, &symbols);
            }
            Message::Slots { session, first, slots } if is_own(session) => {
                self.fetched(now, first, &slots);
            }
            Message::Paged { session, after, slots, last } if is_own(session) => {
                self.paged(now, after, (&slots, last));
            }
            Message::Want { session, ids } if is_own(session) => self.give(now, session, &ids),
            Message::Done { session, good } if is_own(session) => self.done(now, good),
            other => self.serve(now, from, other),
        }
    }

    fn is_equal(&mut self, now: Instant) {
        let Some(comparing) = self.comparing.as_ref().filter(|c| matches!(c.step, Step::Open))
        else {
            return;
        };
        let (peer, number) = (comparing.peer, comparing.number);
        self.has_all_to(now, peer, number);
        self.finish(now, true);
    }

    fn begun(&mut self, now: Instant, theirs: Context, (keys, pages): (u64, bool)) {
        let Some(comparing) = self.comparing.as_mut().filter(|c| matches!(c.step, Step::Open))
        else {
            return;
        };
        comparing.theirs = theirs;
        #[cfg(test)]
        if self.bug == Some(super::Bug::EarlyClaim) {
            self.bucket.claim(&comparing.theirs);
        }
        if pages {
            return self.go_on(now, Step::Page(None));
        }
        comparing.number = self.buffer.seal();
        comparing.ours = self.bucket.context().clone();
        comparing.snapshot = Snapshot::of(&self.bucket, comparing.session);
        comparing.peeler = Peeler::new(comparing.snapshot.sketch());
        let (ours, theirs) = (&comparing.ours, &comparing.theirs);
        let differing = dots(&ours.minus(theirs)).saturating_add(dots(&theirs.minus(ours)));
        let keys = keys.saturating_add(count(self.bucket.len()));
        let to = differing.min(keys).saturating_mul(11) / 8;
        self.go_on(now, Step::Peel { to: to.clamp(SYMBOLS.0, SYMBOLS.1) });
    }

    fn peel(&mut self, now: Instant, from: u64, symbols: &[Symbol]) {
        let Some(comparing) = self.comparing.as_mut() else { return };
        let is_next = matches!(comparing.step, Step::Peel { .. })
            && from == count(comparing.peeler.len())
            && !symbols.is_empty();
        if !is_next {
            return;
        }
        comparing.peeler.take(symbols);
        let len = count(comparing.peeler.len());
        if !comparing.peeler.is_done() {
            let to = len + (len / 8).clamp(SYMBOLS.0, SYMBOLS.1);
            return self.go_on(now, Step::Peel { to });
        }
        let (theirs, ours) = comparing.peeler.found();
        comparing.peeler = Peeler::default();
        comparing.common = comparing.snapshot.sum();
        for id in ours {
            let Some((key, rest)) = comparing.snapshot.find(id) else {
                return self.finish(now, false);
            };
            comparing.only_ours.insert(Arc::clone(key), id);
            comparing.common = comparing.common.wrapping_sub(rest);
        }
        comparing.wants = theirs.into();
        self.fetch(now);
    }

    /// Asks for what only the other one has, and when all of it is there offers what it lacks.
    fn fetch(&mut self, now: Instant) {
        let Some(comparing) = self.comparing.as_mut() else { return };
        if !comparing.wants.is_empty() {
            return self.go_on(now, Step::Fetch);
        }
        let theirs = comparing.theirs.clone();
        for (key, id) in std::mem::take(&mut comparing.only_ours) {
            if self.join_slot(now, &(Arc::clone(&key), Vec::new()), &theirs).is_err() {
                return self.refused(now);
            }
            let is_left = slot(&self.bucket, &key).next().is_some();
            if let Some(comparing) = self.comparing.as_mut().filter(|_| is_left) {
                comparing.offers.insert(id, key);
            }
        }
        self.go_on(now, Step::Offer);
    }

    fn fetched(&mut self, now: Instant, first: u64, slots: &[Slot]) {
        let Some(comparing) = self.comparing.as_mut() else { return };
        if !matches!(comparing.step, Step::Fetch) || comparing.wants.front() != Some(&first) {
            return;
        }
        let len = slots.len().min(comparing.wants.len());
        comparing.batch = (2 * len).clamp(IDS_MIN, IDS_MAX);
        let ids: Vec<u64> = comparing.wants.drain(..len).collect();
        let theirs = comparing.theirs.clone();
        for (id, found) in ids.into_iter().zip(slots) {
            self.stats.fetched += 1;
            if self.join_slot(now, found, &theirs).is_err() {
                return self.refused(now);
            }
            let is_same = has_just(&self.bucket, &found.0, &found.1);
            let Some(comparing) = self.comparing.as_mut() else { return };
            comparing.only_ours.remove(&found.0);
            if !is_same {
                comparing.offers.insert(id, Arc::clone(&found.0));
            }
        }
        self.fetch(now);
    }

    /// Gives the other one what it was offered.
    fn give(&mut self, now: Instant, session: u64, ids: &[u64]) {
        let Some(comparing) = self.comparing.as_mut() else { return };
        comparing.tries = 0;
        let peer = comparing.peer;
        let keys = ids.iter().map(|id| comparing.offers.get(id).cloned());
        let keys: Option<Vec<Arc<str>>> = keys.collect();
        if let (Some(keys), Some(&first)) = (keys, ids.first()) {
            let slots = self.slots_of(keys.into_iter());
            self.send(peer, &Message::Slots { session, first, slots });
            self.timers.set(Timer::Step, now + Config::ms(self.config.step_ms));
        }
    }

    fn done(&mut self, now: Instant, good: bool) {
        let Some(comparing) = self.comparing.as_mut().filter(|c| matches!(c.step, Step::Offer))
        else {
            return;
        };
        let (peer, number) = (comparing.peer, comparing.number);
        if good {
            let theirs = std::mem::take(&mut comparing.theirs);
            self.claim(&theirs);
            self.has_all_to(now, peer, number);
        }
        self.finish(now, good);
    }

    fn paged(&mut self, now: Instant, after: Option<Arc<str>>, (slots, last): (&[Slot], bool)) {
        let Some(comparing) = self.comparing.as_ref() else { return };
        let is_next = matches!(&comparing.step, Step::Page(asked) if *asked == after);
        if !is_next || (slots.is_empty() && !last) {
            return;
        }
        let theirs = comparing.theirs.clone();
        let end = slots.last().map(|(key, _)| Arc::clone(key)).filter(|_| !last);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let own = self.bucket.entries(from).map(|(key, _)| Arc::clone(key));
        let own = own.take_while(|key| end.as_ref().is_none_or(|end| key <= end));
        let absent: Vec<Slot> = own
            .filter(|key| slots.binary_search_by(|(other, _)| other.cmp(key)).is_err())
            .map(|key| (key, Vec::new()))
            .collect();
        for found in slots.iter().chain(&absent) {
            self.stats.fetched += 1;
            if self.join_slot(now, found, &theirs).is_err() {
                return self.refused(now);
            }
        }
        if end.is_some() {
            return self.go_on(now, Step::Page(end));
        }
        self.claim(&theirs);
        let peer = self.comparing.as_ref().map(|comparing| comparing.peer);
        self.finish(now, true);
        // What the other one lacks it has not got in this way.
        if let Some(link) = peer.and_then(|peer| self.links.get_mut(&peer)) {
            link.behind = true;
            self.sync_soon(now, AGAIN_MS);
        }
    }

    /// What is under some keys, as many as go into one answer: the first in any case.
    pub(super) fn slots_of(&self, keys: impl Iterator<Item = Arc<str>>) -> Vec<Slot> {
        let len_max = self.answer_len_max();
        let (mut slots, mut len) = (Vec::new(), 0);
        for key in keys {
            let weight =
                slot(&self.bucket, &key).map(|entry| entry.state().weight()).sum::<usize>();
            len += key.len() + weight;
            if !slots.is_empty() && len > len_max {
                break;
            }
            let found = states(&self.bucket, &key);
            slots.push((key, found));
        }
        slots
    }

    /// About how long an answer is at most that can be shorter.
    pub(super) const fn answer_len_max(&self) -> usize {
        let frames = 4 * self.config.frame_len_max;
        let half = self.config.message_len_max / 2;
        if frames < half { frames } else { half }
    }
}
