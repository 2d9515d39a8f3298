//! All deadlines in one place, the nearest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use macula_core::identity::NodeId;

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next probe.
    Tick,
    /// The answer to a probe.
    Probe(u64),
    /// The answer to a ping for another.
    Relay(u64),
    /// A suspect's time is over.
    Suspicion(NodeId),
    /// News goes out.
    Push,
    /// The next comparison of views.
    Sync,
    /// The next ping of one of the departed.
    Reconnect,
    /// The next attempt to join.
    Join,
    /// The refutation of what was claimed of this node.
    Refute,
    /// The next farewell.
    Leave,
}

impl Timer {
    const fn reason(self) -> &'static str {
        match self {
            Self::Tick => "probe",
            Self::Probe(_) => "answer",
            Self::Relay(_) => "relayed answer",
            Self::Suspicion(_) => "suspicion",
            Self::Push => "push",
            Self::Sync => "sync",
            Self::Reconnect => "reconnect",
            Self::Join => "join",
            Self::Refute => "refute",
            Self::Leave => "leave",
        }
    }
}

/// The deadlines. Each timer has one at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    at: BTreeMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    #[cfg(test)]
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.at.get(&timer).copied()
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(super) fn clear_all(&mut self) {
        *self = Self::default();
    }

    /// Takes out one timer whose deadline has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<(Instant, &'static str)> {
        self.order.first().map(|(at, timer)| (*at, timer.reason()))
    }
}
