//! What a mutator is given: dots, stamps and limits.

use std::time::Duration;

use macula_core::hlc::Timestamp;
use macula_core::replica::ReplicaId;

use super::dot::Dot;
use super::limits::{Limits, Refused};
use super::stamps::Stamps;

/// The right to make an update: fresh dots of one replica, and a clock.
///
/// A [`Bucket`](super::bucket::Bucket) hands it out, and takes note of what was used only if the
/// update is taken.
#[derive(Debug)]
pub struct Write<'a> {
    replica: ReplicaId,
    /// The last dot that was used, and the last that may be.
    counter: u64,
    counter_max: u64,
    stamps: Stamps,
    now: Duration,
    limits: &'a Limits,
}

impl<'a> Write<'a> {
    /// A right to dots of `replica` after `counter` and up to `counter_max`, when `now` has passed
    /// since the Unix epoch.
    #[must_use]
    pub const fn new(
        replica: ReplicaId,
        (counter, counter_max): (u64, u64),
        stamps: Stamps,
        now: Duration,
        limits: &'a Limits,
    ) -> Self {
        Self { replica, counter, counter_max, stamps, now, limits }
    }

    /// As whom to write.
    #[must_use]
    pub const fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// What is too much.
    #[must_use]
    pub const fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// A dot that was never used.
    ///
    /// # Errors
    ///
    /// [`Refused::DotsSpent`] if there is none.
    pub fn dot(&mut self) -> Result<Dot, Refused> {
        let counter_max = self.counter_max;
        if self.counter >= counter_max {
            return Err(Refused::DotsSpent { counter_max });
        }
        self.counter += 1;
        Ok(Dot { replica: self.replica, counter: self.counter })
    }

    /// The last dot that was used.
    #[must_use]
    pub const fn last(&self) -> Dot {
        Dot { replica: self.replica, counter: self.counter }
    }

    /// The time of the update, later than all stamps that this replica has given or heard of.
    pub fn stamp(&mut self) -> Timestamp {
        self.stamps.tick(self.now)
    }

    /// What was used: the last dot, and the clock.
    #[must_use]
    pub const fn spent(self) -> (u64, Stamps) {
        (self.counter, self.stamps)
    }
}
