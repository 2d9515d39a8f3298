//! The messages of one publisher that a part of a broadcast keeps: those that it has handed on, for
//! its neighbours, and those that came before their turn.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use macula_core::identity::digest;

use super::said::{Origin, Said};

/// How many messages are kept for neighbours.
pub(super) const KEPT_MAX: usize = 1_024;

/// How many bytes those have that are kept: 4 MiB. Those that are not handed on yet are among them; of
/// these the next one may go beyond it.
pub(crate) const KEPT_LEN_MAX: usize = 4 << 20;

/// What a message costs beside its payload, in bytes.
pub(super) const MESSAGE_LEN: usize = 64;

/// A message.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) payload: Bytes,
    pub(super) until: Option<Instant>,
    /// What shows that it is its publisher's.
    pub(super) seal: Bytes,
    /// It is over, and the hash of what it said is in its place.
    pub(super) is_emptied: bool,
}

impl Kept {
    fn len(&self) -> usize {
        self.payload.len() + self.seal.len() + MESSAGE_LEN
    }

    /// What it says or, if it is over, the hash of that.
    fn says(&self, is_over: bool) -> Bytes {
        if is_over && !self.is_emptied {
            Bytes::copy_from_slice(&digest(&self.payload))
        } else {
            self.payload.clone()
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// It as others are told of it now.
    pub(super) fn said(&self, now: Instant, origin: Origin, sequence: u64) -> Said {
        let left = self.until.map(|until| until.saturating_duration_since(now));
        // A part of a millisecond is one: what has something left does not say nothing.
        let left_ms =
            left.map(|left| u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX));
        let (payload, seal) = (self.says(left_ms == Some(0)), self.seal.clone());
        Said::Gossip { origin, sequence, left_ms, payload, seal }
    }
}

/// The messages by their numbers.
#[derive(Debug, Default)]
pub(super) struct Store {
    kept: BTreeMap<u64, Kept>,
    len: usize,
}

impl Store {
    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn has(&self, sequence: u64) -> bool {
        self.kept.contains_key(&sequence)
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Kept> {
        self.kept.get(&sequence)
    }

    /// The number of the first.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.first_key_value().map(|(sequence, _)| *sequence)
    }

    /// Whether there is room for one more; those up to `have`, which are handed on, give way to it.
    /// There always is for the next one.
    pub(super) fn has_room(&mut self, one: &Kept, have: u64, is_next: bool) -> bool {
        self.forget_while(have, |this| this.len + one.len() > KEPT_LEN_MAX);
        is_next || self.len + one.len() <= KEPT_LEN_MAX
    }

    pub(super) fn keep(&mut self, sequence: u64, kept: Kept, have: u64) {
        self.len += kept.len();
        if let Some(before) = self.kept.insert(sequence, kept) {
            self.len -= before.len();
        }
        self.forget_old(have);
    }

    /// Lets go of the oldest, but not of what is not handed on yet.
    pub(super) fn forget_old(&mut self, have: u64) {
        self.forget_while(have, |this| this.kept.len() > KEPT_MAX || this.len > KEPT_LEN_MAX);
    }

    /// Lets go of all up to a number.
    pub(super) fn forget(&mut self, upto: u64) {
        self.forget_while(upto, |_| true);
    }

    fn forget_while(&mut self, upto: u64, is_much: impl Fn(&Self) -> bool) {
        while is_much(self)
            && let Some(first) = self.kept.first_entry()
            && *first.key() <= upto
        {
            self.len -= first.remove().len();
        }
    }

    /// Takes out all that is before a number.
    pub(super) fn take_before(&mut self, sequence: u64) -> BTreeMap<u64, Kept> {
        let kept = self.kept.split_off(&sequence);
        let before = std::mem::replace(&mut self.kept, kept);
        self.len -= before.values().map(Kept::len).sum::<usize>();
        before
    }

    /// What is over says nothing any more.
    pub(super) fn empty_over(&mut self, now: Instant) {
        let over = |kept: &&mut Kept| kept.is_over(now) && !kept.is_emptied;
        for kept in self.kept.values_mut().filter(over) {
            self.len -= kept.len();
            (kept.payload, kept.is_emptied) = (kept.says(true), true);
            self.len += kept.len();
        }
    }
}
