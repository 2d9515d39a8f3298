//! Moments on two clocks, and deadlines in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;

/// One moment on both clocks: what travels is dated by the calendar, which may jump, and what is
/// kept here ends by the monotonic clock, which does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub now: Instant,
    /// On the calendar: since the Unix epoch.
    pub since_epoch: Duration,
}

impl Moment {
    /// A calendar moment on the monotonic clock; none if it is not in the future.
    #[must_use]
    pub fn deadline(&self, at: Duration) -> Option<Instant> {
        let left = at.saturating_sub(self.since_epoch);
        if left.is_zero() { None } else { self.now.checked_add(left) }
    }
}

/// The deadlines of a machine, the nearest first. Each timer has one at most.
#[derive(Debug)]
pub(super) struct Deadlines<T> {
    at: BTreeMap<T, Instant>,
    order: BTreeSet<(Instant, T)>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deadlines<T> {
    pub(super) const fn new() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<T: Ord + Copy> Deadlines<T> {
    pub(super) fn set(&mut self, timer: T, at: Instant) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: T) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(super) fn get(&self, timer: T) -> Option<Instant> {
        self.at.get(&timer).copied()
    }

    /// Takes out one timer whose deadline has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<T> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<(Instant, T)> {
        self.order.first().copied()
    }
}

/// A wait that is longer or shorter by at most `part` of it (0.0 to 1.0), by chance.
pub(super) fn jittered(wait: Duration, part: f64, entropy: &mut Entropy) -> Duration {
    let factor = 1.0 + part.clamp(0.0, 1.0) * (2.0 * entropy.unit() - 1.0);
    wait.mul_f64(factor)
}
