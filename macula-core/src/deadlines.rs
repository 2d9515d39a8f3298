//! The deadlines of a machine, the nearest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The deadlines of a machine's timers. Each timer has one at most.
#[derive(Debug)]
pub struct Deadlines<T> {
    at: BTreeMap<T, Instant>,
    order: BTreeSet<(Instant, T)>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deadlines<T> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> Deadlines<T> {
    /// Sets a timer, in the place of its deadline before.
    pub fn set(&mut self, timer: T, at: Instant) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    /// Takes a timer's deadline away, if it has one.
    pub fn clear(&mut self, timer: T) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    /// Takes all away.
    pub fn clear_all(&mut self) {
        *self = Self::new();
    }

    /// The deadline of a timer.
    #[must_use]
    pub fn get(&self, timer: T) -> Option<Instant> {
        self.at.get(&timer).copied()
    }

    /// Takes out one timer whose deadline has come: the one that has been due for longest.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        if self.order.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    /// The nearest deadline, and whose it is.
    #[must_use]
    pub fn next(&self) -> Option<(Instant, T)> {
        self.order.first().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::Deadlines;
    use crate::clock::{Clock as _, TokioClock};
    use std::time::Duration;

    #[test]
    fn timers_come_in_the_order_of_their_last_deadlines_and_once() {
        let now = TokioClock.now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        for (timer, ms) in [('a', 3), ('b', 1), ('c', 2), ('a', 4), ('d', 9)] {
            deadlines.set(timer, at(ms));
        }
        deadlines.clear('c');
        assert_eq!((deadlines.next(), deadlines.get('a')), (Some((at(1), 'b')), Some(at(4))));
        assert_eq!(deadlines.due(now), None);
        let due: Vec<char> = std::iter::from_fn(|| deadlines.due(at(4))).collect();
        assert_eq!(due, ['b', 'a']);
        deadlines.clear_all();
        assert_eq!(deadlines.next(), None);
    }
}
