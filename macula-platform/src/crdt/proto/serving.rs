//! A comparison of states, on the side of the one that answers.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::Instant;

use super::comparing::{IDS_MAX, IDS_MIN};
use super::message::{Message, Slot};
use super::roster::count;
use super::sketch::Sketch;
use super::snapshot::Snapshot;
use super::{Config, Replica, Timer};
use crate::crdt::context::Context;
use crate::crdt::state::State;

/// One that has fewer keys than this part of what there is asks for all of them.
const FEW: u64 = 4;

/// How many symbols there are at most, as a multiple of the keys, beside some.
const SYMBOLS_MAX: (u64, u64) = (4, 4_096);

/// A comparison that another one has begun.
#[derive(Debug)]
pub(super) struct Serving {
    heard: Instant,
    /// What was seen here when it began, and the number of the last own change.
    context: Context,
    number: u64,
    keys: u64,
    pages: bool,
    /// What the other one had seen before it began to look.
    theirs: Context,
    shown: Option<(Snapshot, Sketch)>,
    /// The ids that the other one did not have.
    wanted: BTreeSet<u64>,
    offer: Option<Offer>,
}

/// What the other one has offered, as far as it is not here yet.
#[derive(Debug)]
struct Offer {
    left: VecDeque<u64>,
    /// How many of them are asked for at one time.
    batch: usize,
    good: bool,
}

impl Replica {
    pub(super) fn serve(&mut self, now: Instant, from: u64, message: Message) {
        match message {
            Message::Open { session, keys, summary, whole } => {
                self.opened(now, (from, session), keys, (summary, whole));
            }
            Message::More { session, from: start, to, context } => {
                self.show(now, (from, session), start..to, context);
            }
            Message::Want { session, ids } => self.wanted(now, (from, session), &ids),
            Message::Page { session, after } => self.page(now, (from, session), after),
            Message::Offer { session, common, ids } => {
                self.offered(now, (from, session), common, ids);
            }
            Message::Slots { session, first, slots } => {
                self.given(now, (from, session), first, &slots);
            }
            // The rest belongs to a comparison that was given up.
            _ => {}
        }
    }

    fn opened(
        &mut self,
        now: Instant,
        (from, session): (u64, u64),
        keys: u64,
        (summary, whole): (u64, bool),
    ) {
        if !whole && summary == self.summary() {
            let number = self.buffer.seal();
            self.has_all_to(now, from, number);
            if let Some(link) = self.links.get_mut(&from) {
                link.behind = false;
                link.is_rested();
            }
            return self.send(from, &Message::Equal { session });
        }
        let is_new = !self.serving.contains_key(&(from, session));
        if is_new {
            // One compares with this replica once at a time.
            self.serving.retain(|(node, _), _| *node != from);
            let ours = count(self.bucket.len());
            let pages = keys.saturating_mul(FEW) < ours;
            let is_busy = !pages && (self.is_serving() || !self.yields(now, from));
            if is_busy || self.serving.len() >= self.config.sessions_max {
                return self.send(from, &Message::Close { session, refused: false });
            }
            let number = self.buffer.seal();
            let serving = Serving {
                heard: now,
                context: self.bucket.context().clone(),
                number,
                keys: ours,
                pages,
                theirs: Context::default(),
                shown: None,
                wanted: BTreeSet::new(),
                offer: None,
            };
            self.serving.insert((from, session), serving);
        }
        if let Some(serving) = self.hear(now, (from, session)) {
            let (keys, pages, context) = (serving.keys, serving.pages, serving.context.clone());
            self.send(from, &Message::Begin { session, context, keys, pages });
        }
    }

    /// Whether another one is comparing with this one, and has not come to the end.
    pub(super) fn is_serving(&self) -> bool {
        self.served().is_some()
    }

    fn served(&self) -> Option<&Serving> {
        let is_over = |offer: &Offer| offer.left.is_empty() || !offer.good;
        let goes_on = |one: &&Serving| !one.pages && !one.offer.as_ref().is_some_and(is_over);
        self.serving.values().find(goes_on)
    }

    /// Whether a change has to wait: it is new here, and the one that this one is being compared with
    /// had seen it, so that it may be gone there.
    pub(super) fn is_early<'a>(&self, states: impl Iterator<Item = &'a State>) -> bool {
        let served = self.served().map(|serving| &serving.theirs);
        let claims = served.into_iter().chain(self.claims()).filter(|claims| !claims.is_empty());
        let claims: Vec<&Context> = claims.collect();
        let mut is_early = false;
        if !claims.is_empty() {
            let seen = self.bucket.context();
            states.for_each(|state| {
                state.visit(&mut |dot| {
                    let is_claimed = claims.iter().any(|claims| claims.contains(dot));
                    is_early |= is_claimed && !seen.contains(dot);
                });
            });
        }
        is_early
    }

    /// A comparison goes on. One that is not there is given up on the other side, too.
    fn hear(&mut self, now: Instant, at: (u64, u64)) -> Option<&mut Serving> {
        if !self.serving.contains_key(&at) {
            self.send(at.0, &Message::Close { session: at.1, refused: false });
            return None;
        }
        if self.timers.get(Timer::Serve).is_none() {
            self.timers.set(Timer::Serve, now + self.patience());
        }
        let serving = self.serving.get_mut(&at)?;
        serving.heard = now;
        Some(serving)
    }

    /// For how long a comparison is kept that does not go on.
    fn patience(&self) -> std::time::Duration {
        Config::ms(self.config.step_ms) * (self.config.step_tries_max + 1)
    }

    fn give_up(&mut self, now: Instant, (from, session): (u64, u64), refused: bool) {
        self.serving.remove(&(from, session));
        self.send(from, &Message::Close { session, refused });
        self.take_deferred(now);
    }

    pub(super) fn drop_sessions(&mut self, now: Instant) {
        let patience = self.patience();
        self.serving.retain(|_, serving| serving.heard + patience > now);
        if let Some(first) = self.serving.values().map(|serving| serving.heard).min() {
            self.timers.set(Timer::Serve, first + patience);
        }
        self.take_deferred(now);
    }

    fn show(
        &mut self,
        now: Instant,
        (from, session): (u64, u64),
        range: Range<u64>,
        theirs: Option<Context>,
    ) {
        let Some(serving) = self.hear(now, (from, session)) else { return };
        let is_begun = serving.shown.is_some() || theirs.is_some();
        if serving.offer.is_some() || !is_begun {
            return;
        }
        if let Some(theirs) = theirs {
            serving.theirs = theirs;
        }
        let Some(serving) = self.serving.get_mut(&(from, session)) else { return };
        let bucket = &self.bucket;
        let (_, sketch) = serving.shown.get_or_insert_with(|| {
            serving.keys = count(bucket.len());
            let snapshot = Snapshot::of(bucket, session);
            let sketch = snapshot.sketch();
            (snapshot, sketch)
        });
        let symbols_max = serving.keys.saturating_mul(SYMBOLS_MAX.0) + SYMBOLS_MAX.1;
        let keys = serving.keys;
        let bounds = (usize::try_from(range.start), usize::try_from(range.end));
        let (Ok(start), Ok(end)) = bounds else { return };
        if start >= end || range.end > symbols_max.saturating_add(SYMBOLS_MAX.1) {
            return self.give_up(now, (from, session), false);
        }
        let symbols = sketch.symbols(start..end).to_vec();
        self.send(from, &Message::Symbols { session, from: range.start, keys, symbols });
    }

    fn wanted(&mut self, now: Instant, (from, session): (u64, u64), ids: &[u64]) {
        let Some(serving) = self.hear(now, (from, session)) else { return };
        if serving.offer.is_some() {
            // It was answered, and comes once more.
            return;
        }
        let snapshot = serving.shown.as_ref().map(|(snapshot, _)| snapshot);
        let found = |id: &u64| Some(Arc::clone(snapshot?.find(*id)?.0));
        let keys: Option<Vec<Arc<str>>> = ids.iter().map(found).collect();
        let (Some(keys), Some(&first)) = (keys, ids.first()) else {
            return self.give_up(now, (from, session), false);
        };
        serving.wanted.extend(ids);
        let slots = self.slots_of(keys.into_iter());
        self.send(from, &Message::Slots { session, first, slots });
    }

    fn page(&mut self, now: Instant, (from, session): (u64, u64), after: Option<Arc<str>>) {
        if self.hear(now, (from, session)).is_none() {
            return;
        }
        let (slots, last) = self.page_after(after.as_deref());
        self.send(from, &Message::Paged { session, after, slots, last });
    }

    /// What comes after a key, and whether it is the last.
    fn page_after(&self, after: Option<&str>) -> (Vec<Slot>, bool) {
        let bound = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = self.bucket.entries(bound).map(|(key, _)| key).peekable();
        let distinct = std::iter::from_fn(|| {
            let key = keys.next()?;
            while keys.next_if_eq(&key).is_some() {}
            Some(Arc::clone(key))
        });
        let slots = self.slots_of(distinct);
        let end = slots.last().map(|(key, _)| Bound::Excluded(&**key));
        let last = end.is_none_or(|end| self.bucket.entries(end).next().is_none());
        (slots, last)
    }

    /// The other one has joined all that it lacked, and says what is lacking here.
    fn offered(&mut self, now: Instant, (from, session): (u64, u64), common: u64, ids: Vec<u64>) {
        let Some(serving) = self.hear(now, (from, session)) else { return };
        if serving.offer.is_none() {
            let Some((snapshot, _)) = serving.shown.take() else { return };
            let wanted = serving.wanted.iter().filter_map(|id| snapshot.find(*id));
            let both = wanted.fold(snapshot.sum(), |sum, (_, rest)| sum.wrapping_sub(rest));
            let good = both == common;
            serving.offer = Some(Offer { left: ids.into(), batch: IDS_MIN, good });
            let number = serving.number;
            if good {
                self.has_all_to(now, from, number);
            }
        }
        self.take_offer(now, (from, session));
    }

    /// Asks for what was offered, and says so if nothing is left.
    fn take_offer(&mut self, now: Instant, (from, session): (u64, u64)) {
        let Some(serving) = self.serving.get(&(from, session)) else { return };
        let Some(offer) = serving.offer.as_ref() else { return };
        if offer.good && !offer.left.is_empty() {
            let ids = offer.left.iter().take(offer.batch).copied().collect();
            return self.send(from, &Message::Want { session, ids });
        }
        let (good, context) = (offer.good, serving.theirs.clone());
        if good {
            self.claim(&context);
            self.waits.stale = true;
            if let Some(link) = self.links.get_mut(&from) {
                link.behind = false;
                link.is_rested();
            }
        }
        self.send(from, &Message::Done { session, good });
        self.take_deferred(now);
    }

    fn given(&mut self, now: Instant, (from, session): (u64, u64), first: u64, slots: &[Slot]) {
        let Some(serving) = self.hear(now, (from, session)) else { return };
        let Some(offer) = serving.offer.as_mut().filter(|offer| offer.left.front() == Some(&first))
        else {
            return;
        };
        let len = slots.len().min(offer.left.len());
        offer.left.drain(..len);
        offer.batch = (2 * len).clamp(IDS_MIN, IDS_MAX);
        let context = serving.theirs.clone();
        for found in slots.iter().take(len) {
            self.stats.fetched += 1;
            if self.join_slot(now, found, &context).is_err() {
                return self.give_up(now, (from, session), true);
            }
        }
        self.take_offer(now, (from, session));
    }
}
