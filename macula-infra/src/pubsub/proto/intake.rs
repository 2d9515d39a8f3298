//! One flow of a session at its subscriber's end: what has come and is not handed on yet.

use std::collections::{BTreeMap, VecDeque};

use super::super::message::PAYLOAD_LEN_MAX;
use super::word::{BATCH_ENTRIES_MAX, Batch, Entry, Failure, FlowId, FlowReport, Window};

/// The receiving end of a flow.
#[derive(Debug)]
pub(crate) struct Intake {
    id: FlowId,
    received: u64,
    done: u64,
    /// What has the places from `done` to `received`.
    buffer: VecDeque<Entry>,
    /// How many bytes it has.
    buffer_len: usize,
    /// What was not delivered, as far as the publisher may not know it.
    failures: BTreeMap<u64, Failure>,
    /// From where on the publisher was last asked to send again.
    asked_again: Option<u64>,
    /// How many entries were handed on since the last report.
    unreported: usize,
    is_changed: bool,
}

/// How many bytes of an entry count for the credit.
fn len_of(entry: &Entry) -> usize {
    match entry {
        Entry::Message(carried) => carried.payload.len(),
        _ => 0,
    }
}

/// What a batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It goes on where the last one ended, or all of it was there before.
    Well,
    /// Something before it is missing.
    Hole,
    /// There is more of it than its publisher has credit for.
    Overrun,
}

impl Intake {
    pub(crate) const fn new(id: FlowId) -> Self {
        Self {
            id,
            received: 0,
            done: 0,
            buffer: VecDeque::new(),
            buffer_len: 0,
            failures: BTreeMap::new(),
            asked_again: None,
            unreported: 0,
            is_changed: false,
        }
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// How many entries were handed on since the last report.
    pub(crate) const fn unreported(&self) -> usize {
        self.unreported
    }

    /// Takes those entries of a batch that were not there before.
    pub(crate) fn take(&mut self, batch: Batch, window: Window) -> Taken {
        if !self.failures.is_empty() {
            self.failures = self.failures.split_off(&batch.known.min(self.done));
        }
        if batch.first > self.received {
            if self.asked_again != Some(self.received) {
                self.asked_again = Some(self.received);
                self.is_changed = true;
            }
            return Taken::Hole;
        }
        let known = usize::try_from(self.received - batch.first).unwrap_or(usize::MAX);
        let room = usize::try_from(window.messages).unwrap_or(usize::MAX) + BATCH_ENTRIES_MAX;
        let fresh = batch.entries.len().saturating_sub(known);
        // The last message under way may go beyond the credit.
        let room_len = usize::try_from(window.bytes).unwrap_or(usize::MAX) + PAYLOAD_LEN_MAX;
        let fresh_len: usize = batch.entries.iter().skip(known).map(len_of).sum();
        if self.buffer.len() + fresh > room || self.buffer_len + fresh_len > room_len {
            return Taken::Overrun;
        }
        self.buffer_len += fresh_len;
        self.asked_again = None;
        // Whoever sends again does so because it does not know how far this end is.
        self.is_changed = true;
        self.received += u64::try_from(fresh).unwrap_or(0);
        self.buffer.extend(batch.entries.into_iter().skip(known));
        Taken::Well
    }

    /// How many entries wait to be handed on.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the entry that is handed on next. It is to be passed, or put back.
    pub(crate) fn next(&mut self) -> Option<Entry> {
        let next = self.buffer.pop_front()?;
        self.buffer_len -= len_of(&next);
        Some(next)
    }

    /// It has to wait.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.buffer_len += len_of(&entry);
        self.buffer.push_front(entry);
    }

    /// It is handed on, or not.
    pub(crate) fn pass(&mut self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.failures.insert(self.done, failure);
        }
        self.done += 1;
        self.unreported += 1;
        self.is_changed = true;
    }

    /// What the publisher is to be told, if anything has changed since it was.
    pub(crate) fn report(&mut self) -> Option<FlowReport> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        self.unreported = 0;
        Some(FlowReport {
            flow: self.id,
            received: self.received,
            done: self.done,
            failures: self.failures.iter().map(|(place, failure)| (*place, *failure)).collect(),
            again: self.asked_again.is_some(),
        })
    }

    /// Whatever was reported may be lost.
    pub(crate) const fn report_again(&mut self) {
        self.is_changed = true;
        self.asked_again = None;
    }
}
