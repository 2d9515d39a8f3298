//! All deadlines of the policy in one place, the nearest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use macula_core::identity::NodeId;

use super::ConnId;

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next address of a dial.
    Race(NodeId),
    /// The end of the wait for room for a dial.
    Room(NodeId),
    /// The end of the time that a dial has.
    Dial(NodeId),
    /// The next dial of a peer that is protected.
    Redial(NodeId),
    /// The end of the wait for room for a connection that a peer dialled.
    Newcomer(ConnId),
    /// Nobody has used a connection.
    Idle(ConnId),
    /// A connection is old.
    Expire(ConnId),
    /// A connection has not become quiet.
    Drain(ConnId),
}

impl Timer {
    const fn reason(self) -> &'static str {
        match self {
            Self::Race(_) => "race",
            Self::Room(_) | Self::Newcomer(_) => "room",
            Self::Dial(_) => "dial",
            Self::Redial(_) => "redial",
            Self::Idle(_) => "idle",
            Self::Expire(_) => "lifetime",
            Self::Drain(_) => "drain",
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

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.order.remove(&(before, timer));
        }
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
