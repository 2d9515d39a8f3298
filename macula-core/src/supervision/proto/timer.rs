//! The deadlines of all children, and the smallest of them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Key;
use super::child::Child;

/// What a child's timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The next wave of stops; it has no child of its own.
    Wave,
    /// The wait of a restart is over.
    Retry,
    /// A start takes longer than the liveness bound.
    StartBound,
    /// Time to look whether the child is alive.
    Probe,
    /// The time to stop is over.
    Kill,
    /// A killed child should have ended.
    Stuck,
}

impl Due {
    const fn why(self) -> &'static str {
        match self {
            Self::Wave => "stop wave",
            Self::Retry => "restart",
            Self::StartBound => "start bound",
            Self::Probe => "liveness probe",
            Self::Kill => "shutdown bound",
            Self::Stuck => "kill grace",
        }
    }
}

/// A child has at most one timer: what it waits for is what its state says.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Key, Due)>);

impl Timers {
    pub(super) fn set<P>(&mut self, key: Key, child: &mut Child<P>, at: Instant, due: Due) {
        self.clear(key, child);
        child.timer = Some((at, due));
        self.0.insert((at, key, due));
    }

    pub(super) fn clear<P>(&mut self, key: Key, child: &mut Child<P>) {
        if let Some((at, due)) = child.timer.take() {
            self.0.remove(&(at, key, due));
        }
    }

    pub(super) fn set_wave(&mut self, at: Instant) {
        self.0.insert((at, Key(u64::MAX), Due::Wave));
    }

    /// How many are due, counting no further than `max`.
    pub(super) fn due(&self, now: Instant, max: usize) -> usize {
        self.0.iter().take(max).take_while(|(at, _, _)| *at <= now).count()
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<(Key, Due)> {
        let (at, key, due) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some((key, due))
    }

    pub(super) fn next(&self) -> Option<(Instant, &'static str)> {
        self.0.first().map(|(at, _, due)| (*at, due.why()))
    }
}
