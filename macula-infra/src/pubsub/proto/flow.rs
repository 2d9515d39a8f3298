//! One flow of a session at its publisher's end: what waits, what is under way, and how each ends.
//!
//! Each entry has a place, and the places of a flow are consecutive. The subscriber's node takes
//! them in their order and says up to which it has received them, and up to which it has handed them
//! on. What it has not received is sent again from there on (go-back-N), and what it has seen before
//! it passes over. So an entry is handed on at most once for as long as both ends know the session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use macula_core::topic::Topic;

use super::super::message::{Missed, Outcome, Priority, Qos};
use super::TopicId;
use super::word::{
    Batch, Carried, Entry, Failure, FlowId, FlowReport, Missing, Route, SubId, Window,
};

/// How many bytes a batch has, more or less.
const BATCH_LEN: usize = 24 * 1024;

/// A message of more bytes goes alone: it does not fit into a frame.
const LONG_LEN: usize = 32 * 1024;

/// What an entry costs beside its payload, in bytes.
const ENTRY_LEN: usize = 64;

/// Of how many topics a subscriber is told at one time that messages are missing. Beyond that it is
/// told of the topics that come first in their order.
const MISSING_MAX: usize = 1_024;

/// A message, as its publisher's node keeps it. All sessions share it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) topic_id: TopicId,
    pub(crate) topic: Topic,
    pub(crate) payload: Bytes,
    pub(crate) sequence: u64,
    pub(crate) qos: Qos,
    pub(crate) priority: Priority,
    /// When its time is over.
    pub(crate) until: Option<Instant>,
    pub(crate) at: Instant,
}

impl Stored {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    pub(crate) fn flow(&self) -> FlowId {
        FlowId::of(self.priority, self.qos)
    }
}

/// A copy of a message for one node.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) stored: Arc<Stored>,
    pub(crate) route: Route,
    /// It was sent to an earlier life of the other end, which may have handed it on.
    pub(crate) may_be_there: bool,
    /// How often it was for another member of its group before, who had gone.
    pub(crate) moved: u8,
}

impl Copy {
    pub(crate) const fn new(stored: Arc<Stored>, route: Route) -> Self {
        Self { stored, route, may_be_there: false, moved: 0 }
    }

    /// Whether it is for one member of a queue group, which has to get it.
    pub(crate) fn is_for_any_member(&self) -> bool {
        self.stored.qos == Qos::AtLeastOnce && !self.route.groups.is_empty()
    }

    /// How many bytes it counts for.
    pub(crate) fn len(&self) -> usize {
        let groups: usize = self.route.groups.iter().map(|group| group.len()).sum();
        self.stored.payload.len() + self.stored.topic.as_str().len() + groups + ENTRY_LEN
    }
}

/// What waits for a place, or has one.
#[derive(Debug, Clone)]
enum Item {
    Copy(Copy),
    /// A copy whose time was over before it had certainly arrived.
    Late(Copy),
    Missing(Missing),
    Cut(SubId),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Copy(copy) => copy.len(),
            Self::Late(Copy { stored, .. }) => stored.topic.as_str().len() + ENTRY_LEN,
            Self::Missing(missing) => missing.topic.as_str().len() + ENTRY_LEN,
            Self::Cut(_) => ENTRY_LEN,
        }
    }

    fn entry(&self) -> Entry {
        match self {
            Self::Copy(Copy { stored, route, .. }) => Entry::Message(Carried {
                topic: stored.topic.clone(),
                sequence: stored.sequence,
                payload: stored.payload.clone(),
                route: route.clone(),
                is_allowed: true,
            }),
            Self::Late(Copy { stored, .. }) => {
                Entry::Void(Missing::one(&stored.topic, stored.sequence, Missed::Expired))
            }
            Self::Missing(missing) => Entry::Missing(missing.clone()),
            Self::Cut(sub) => Entry::Cut(*sub),
        }
    }
}

/// The sending end of a flow.
#[derive(Debug)]
pub(crate) struct Flow {
    id: FlowId,
    waiting: VecDeque<Item>,
    waiting_len: usize,
    /// Those that have a place and are not handed on; the first has the place `done`.
    flying: VecDeque<Item>,
    flying_len: usize,
    done: u64,
    /// The place that is sent next.
    cursor: u64,
    /// The first place that was never sent.
    sent: u64,
    received: u64,
    /// A long message has this place. Nothing is sent after it before it has arrived, because it
    /// may be overtaken.
    long: Option<u64>,
    missing: BTreeMap<Topic, Missing>,
}

impl Flow {
    pub(crate) const fn new(id: FlowId) -> Self {
        Self {
            id,
            waiting: VecDeque::new(),
            waiting_len: 0,
            flying: VecDeque::new(),
            flying_len: 0,
            done: 0,
            cursor: 0,
            sent: 0,
            received: 0,
            long: None,
            missing: BTreeMap::new(),
        }
    }

    /// How many messages wait, and how many bytes they have.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_len)
    }

    /// How many entries have not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.waiting.len() + self.flying.len()
    }

    /// Whether something was sent that has not arrived, as far as is known.
    pub(crate) const fn is_unsure(&self) -> bool {
        self.cursor > self.received
    }

    /// Puts a copy at the end.
    pub(crate) fn push(&mut self, copy: Copy) {
        self.wait(Item::Copy(copy));
    }

    /// Marks where what is published now begins for a subscription.
    pub(crate) fn cut(&mut self, sub: SubId) {
        self.wait(Item::Cut(sub));
    }

    /// Whether the last one that was put in has filled one more batch, more or less.
    pub(crate) fn has_one_more_batch(&self) -> bool {
        let last = self.waiting.back().map_or(0, Item::len);
        self.waiting_len / BATCH_LEN != self.waiting_len.saturating_sub(last) / BATCH_LEN
    }

    fn wait(&mut self, item: Item) {
        self.waiting_len += item.len();
        self.waiting.push_back(item);
    }

    /// The subscriber does not get a message, and is to be told so.
    pub(crate) fn miss(&mut self, stored: &Stored, why: Missed) {
        self.lack(Missing::one(&stored.topic, stored.sequence, why));
    }

    /// The subscriber is to be told of these.
    fn lack(&mut self, missing: Missing) {
        match self.missing.get_mut(&missing.topic) {
            Some(before) => before.and(&missing),
            None => drop(self.missing.insert(missing.topic.clone(), missing)),
        }
        if self.missing.len() > MISSING_MAX {
            self.missing.pop_last();
        }
    }

    /// The next entries that may be sent, if there are any. What is over by then ends here.
    pub(crate) fn batch(
        &mut self,
        now: Instant,
        (window, entries_max): (Window, usize),
        ended: &mut Vec<(Copy, Outcome)>,
    ) -> Option<Batch> {
        if self.long.is_some_and(|long| long >= self.received && self.cursor > long) {
            return None;
        }
        self.long = None;
        let (first, mut len) = (self.cursor, 0);
        let mut entries = Vec::new();
        while entries.len() < entries_max && len < BATCH_LEN {
            if !self.is_flying(self.cursor) && !self.take_off(now, window, ended) {
                break;
            }
            let at = usize::try_from(self.cursor - self.done).unwrap_or(usize::MAX);
            let Some(item) = self.flying.get_mut(at) else { break };
            let before = item.len();
            if let Item::Copy(copy) = item
                && copy.stored.is_over(now)
            {
                *item = Item::Late(copy.clone());
            }
            self.flying_len -= before - item.len();
            if item.len() > LONG_LEN {
                if entries.is_empty() {
                    self.long = Some(self.cursor);
                    entries.push(item.entry());
                    self.cursor += 1;
                }
                break;
            }
            len += item.len();
            entries.push(item.entry());
            self.cursor += 1;
        }
        self.sent = self.sent.max(self.cursor);
        let known = self.done;
        (!entries.is_empty()).then_some(Batch { flow: self.id, first, known, entries })
    }

    fn is_flying(&self, place: u64) -> bool {
        let len = u64::try_from(self.flying.len()).unwrap_or(u64::MAX);
        place < self.done.saturating_add(len)
    }

    /// Gives a place to the next one that waits, if the credit is enough.
    fn take_off(&mut self, now: Instant, window: Window, ended: &mut Vec<(Copy, Outcome)>) -> bool {
        let max = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        if self.flying.len() >= max(window.messages) || self.flying_len >= max(window.bytes) {
            return false;
        }
        loop {
            // First what is missing: it comes before what was published later.
            if let Some((_, missing)) = self.missing.pop_first() {
                self.fly(Item::Missing(missing));
                return true;
            }
            let Some(item) = self.waiting.pop_front() else { return false };
            self.waiting_len -= item.len();
            match item {
                Item::Copy(copy) if copy.stored.is_over(now) => {
                    self.miss(&copy.stored, Missed::Expired);
                    ended.push((copy, Outcome::Expired));
                }
                item => {
                    self.fly(item);
                    return true;
                }
            }
        }
    }

    fn fly(&mut self, item: Item) {
        self.flying_len += item.len();
        self.flying.push_back(item);
    }

    /// What is before `place` has arrived, and what is from it on is sent again.
    pub(crate) fn rewind(&mut self, place: u64) {
        let place = place.max(self.done).max(self.received);
        if place < self.cursor {
            self.cursor = place;
            self.long = None;
        }
    }

    /// The subscriber's node says how far it is. Says whether that can be.
    pub(crate) fn report(&mut self, report: &FlowReport, ended: &mut Vec<(Copy, Outcome)>) -> bool {
        let sent = self.done + u64::try_from(self.flying.len()).unwrap_or(u64::MAX);
        if report.received > sent || report.done > report.received {
            return false;
        }
        self.received = self.received.max(report.received);
        self.cursor = self.cursor.max(self.received);
        let failures: BTreeMap<u64, Failure> = report.failures.iter().copied().collect();
        while self.done < report.done {
            let Some(item) = self.flying.pop_front() else { return false };
            self.flying_len -= item.len();
            let failed = failures.get(&self.done).map(|failure| failure.outcome());
            if let Item::Copy(copy) | Item::Late(copy) = item {
                ended.push((copy, failed.unwrap_or(Outcome::Delivered)));
            }
            self.done += 1;
        }
        if report.again {
            self.rewind(report.received);
        }
        true
    }

    /// What was under way and what waited, when nobody is there any more to take it. Of what does not
    /// come the subscriber is still to be told, though it may have heard of a part of that.
    pub(crate) fn abandon(&mut self) -> (Vec<Copy>, Vec<Copy>) {
        let gone = std::mem::replace(self, Self::new(self.id));
        // What has a place but was never sent has not been under way.
        let mut flying = gone.flying;
        let sent = usize::try_from(gone.sent.saturating_sub(gone.done)).unwrap_or(usize::MAX);
        let unsent = flying.split_off(sent.min(flying.len()));
        let flying = self.copies(flying);
        let rest = self.copies(unsent.into_iter().chain(gone.waiting));
        gone.missing.into_values().for_each(|missing| self.lack(missing));
        (flying, rest)
    }

    fn copies(&mut self, items: impl IntoIterator<Item = Item>) -> Vec<Copy> {
        let mut copies = Vec::new();
        for item in items {
            match item {
                Item::Copy(copy) | Item::Late(copy) => copies.push(copy),
                Item::Missing(missing) => self.lack(missing),
                Item::Cut(_) => {}
            }
        }
        copies
    }

    /// Whoever was to be told of what does not come is not there any more.
    pub(crate) fn forget_missing(&mut self) {
        self.missing.clear();
    }
}
