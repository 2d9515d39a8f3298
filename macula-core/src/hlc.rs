//! A hybrid logical clock: timestamps that are close to calendar time and respect causality.
//!
//! A timestamp is the greatest calendar time that the clock has heard of, in milliseconds, and a
//! counter for what happened within that millisecond. Whoever has seen a timestamp stamps later
//! ones only, whatever their own calendar says; calendars that step back do no harm. As in
//! Kulkarni, Demirbas, Madappa, Avva and Leone, *Logical Physical Clocks* (OPODIS 2014).
//!
//! One node with a calendar years ahead would drag all others along, so a timestamp from elsewhere
//! is refused if it is ahead of the own calendar by more than a bound.
//!
//! ```
//! use std::time::Duration;
//! use macula_core::hlc::{Hlc, Timestamp};
//!
//! let mut clock = Hlc::default();
//! let first = clock.tick(Duration::from_secs(100));
//! // The calendar steps back by a minute; the clock does not.
//! assert!(clock.tick(Duration::from_secs(40)) > first);
//! // A peer lives in the next hour.
//! let ahead = Timestamp { wall_ms: 3_700_000, counter: 0 };
//! let refused = clock.observe(ahead, Duration::from_secs(100)).unwrap_err();
//! assert_eq!(refused.ahead_ms, 3_600_000);
//! ```

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::replica::ReplicaId;

/// How far a timestamp from elsewhere may be ahead of the own calendar, unless said otherwise.
pub const SKEW_MAX_DEFAULT: Duration = Duration::from_secs(60);

/// Calendar time ends here, in milliseconds: later times count as this one.
///
/// It is 292 million years away, and leaves as many milliseconds again for overflowing counters.
const WALL_MS_MAX: u64 = u64::MAX >> 1;

/// A moment of a hybrid logical clock. The order is by `wall_ms`, then by `counter`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// The place among the moments of one millisecond.
    pub counter: u32,
}

impl Timestamp {
    /// The next moment: of the same millisecond, or of the next one if its counter is used up.
    const fn successor(self) -> Self {
        match self.counter.checked_add(1) {
            Some(counter) => Self { wall_ms: self.wall_ms, counter },
            None => Self { wall_ms: self.wall_ms.saturating_add(1), counter: 0 },
        }
    }
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.wall_ms, self.counter)
    }
}

/// A timestamp and who gave it: no two events in a mesh have the same.
///
/// The order is by timestamp, then by replica. It prints as `wall_ms+counter@node.incarnation`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// When.
    pub at: Timestamp,
    /// Who; it decides between equal timestamps.
    pub replica: ReplicaId,
}

impl Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.at, self.replica)
    }
}

/// A timestamp was too far ahead of the own calendar. The clock is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the timestamp {remote} is {ahead_ms} ms ahead of the own calendar ({now_ms} ms), and at most \
     {skew_ms_max} ms are accepted; the clock did not change"
)]
pub struct Skewed {
    /// What was refused.
    pub remote: Timestamp,
    /// The own calendar, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// By how many milliseconds it was ahead.
    pub ahead_ms: u64,
    /// How many would have been accepted.
    pub skew_ms_max: u64,
}

/// A hybrid logical clock. It is told the calendar's time and never asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Hlc {
    last: Timestamp,
    skew_ms_max: u64,
}

impl Default for Hlc {
    /// A clock that accepts [`SKEW_MAX_DEFAULT`].
    fn default() -> Self {
        Self::new(SKEW_MAX_DEFAULT)
    }
}

impl Hlc {
    /// A clock that accepts timestamps up to `skew_max` ahead of the own calendar.
    #[must_use]
    pub fn new(skew_max: Duration) -> Self {
        Self { last: Timestamp::default(), skew_ms_max: millis(skew_max) }
    }

    /// The last moment that was given or heard of.
    #[must_use]
    pub const fn last(&self) -> Timestamp {
        self.last
    }

    /// The moment of a local event, when the calendar says that `now` has passed since the Unix
    /// epoch. It is later than all moments before it.
    pub fn tick(&mut self, now: Duration) -> Timestamp {
        let calendar = Timestamp { wall_ms: millis(now), counter: 0 };
        self.last = self.last.successor().max(calendar);
        self.last
    }

    /// Hears of a moment elsewhere, and gives the moment of hearing it, which is later than both
    /// that one and all local ones.
    ///
    /// # Errors
    ///
    /// [`Skewed`] if `remote` is ahead of everything heard of so far and ahead of `now` by more
    /// than the bound. The clock is as it was.
    pub fn observe(&mut self, remote: Timestamp, now: Duration) -> Result<Timestamp, Skewed> {
        let now_ms = millis(now);
        let ahead_ms = remote.wall_ms.saturating_sub(now_ms);
        // What is not ahead of the clock cannot drag it along, even if the calendar stepped back.
        if remote > self.last && ahead_ms > self.skew_ms_max {
            let skew_ms_max = self.skew_ms_max;
            return Err(Skewed { remote, now_ms, ahead_ms, skew_ms_max });
        }
        self.last = self.last.max(remote);
        Ok(self.tick(now))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(WALL_MS_MAX).min(WALL_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::{Hlc, SKEW_MAX_DEFAULT, Skewed, Timestamp};
    use proptest::prelude::*;
    use std::time::Duration;

    const fn at(wall_ms: u64, counter: u32) -> Timestamp {
        Timestamp { wall_ms, counter }
    }

    #[test]
    fn follows_the_calendar_and_counts_within_a_millisecond() {
        let mut clock = Hlc::default();
        assert_eq!(clock.tick(Duration::from_millis(5)), at(5, 0));
        assert_eq!(clock.tick(Duration::from_millis(5)), at(5, 1));
        assert_eq!(clock.tick(Duration::from_millis(4)), at(5, 2));
        assert_eq!(clock.tick(Duration::from_millis(6)), at(6, 0));
    }

    #[test]
    fn a_counter_that_is_used_up_borrows_the_next_millisecond() {
        let mut clock = Hlc::default();
        let now = Duration::from_millis(5);
        assert_eq!(clock.observe(at(5, u32::MAX), now), Ok(at(6, 0)));
        assert_eq!(clock.tick(now), at(6, 1));
    }

    #[test]
    fn the_bound_of_skew_is_inclusive_and_the_refusal_says_the_numbers() {
        let mut clock = Hlc::default();
        let (now, bound) = (Duration::from_secs(1), 61_000);
        let refused = clock.observe(at(bound + 1, 0), now).unwrap_err();
        insta::assert_snapshot!(refused);
        assert_eq!(clock.last(), Timestamp::default());
        assert_eq!(clock.observe(at(bound, 7), now), Ok(at(bound, 8)));
    }

    #[test]
    fn the_end_of_time_is_survived() {
        let mut clock = Hlc::default();
        let first = clock.tick(Duration::MAX);
        assert!(clock.tick(Duration::MAX) > first);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Tick(u64),
        Observe(Timestamp, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let wall = 0..200_000_u64;
        let counter = prop_oneof![0..3_u32, Just(u32::MAX - 1), Just(u32::MAX)];
        prop_oneof![
            wall.clone().prop_map(Step::Tick),
            (wall.clone(), counter, wall)
                .prop_map(|(wall_ms, counter, now)| Step::Observe(at(wall_ms, counter), now)),
        ]
    }

    proptest! {
        /// Whatever calendars and peers do, moments grow strictly, and a refusal changes nothing.
        #[test]
        fn moments_grow(steps in prop::collection::vec(step(), 0..100)) {
            let mut clock = Hlc::default();
            for step in steps {
                let before = clock.last();
                match step {
                    Step::Tick(now) => {
                        let given = clock.tick(Duration::from_millis(now));
                        prop_assert!(given > before && given.wall_ms >= now);
                    }
                    Step::Observe(remote, now) => {
                        match clock.observe(remote, Duration::from_millis(now)) {
                            Ok(given) => prop_assert!(given > before && given > remote),
                            Err(Skewed { ahead_ms, skew_ms_max, .. }) => {
                                prop_assert!(ahead_ms > skew_ms_max && remote > before);
                                prop_assert_eq!(clock.last(), before);
                            }
                        }
                    }
                }
            }
        }

        /// The clock is never further ahead of the best calendar than the bound, and one for each
        /// event that overflowed a counter.
        #[test]
        fn drift_is_bounded(steps in prop::collection::vec(step(), 0..100)) {
            let (mut clock, mut calendar, mut events) = (Hlc::default(), 0, 0);
            for step in steps {
                let now = match step {
                    Step::Tick(now) => {
                        clock.tick(Duration::from_millis(now));
                        events += 1;
                        now
                    }
                    Step::Observe(remote, now) => {
                        let heard = clock.observe(remote, Duration::from_millis(now));
                        events += u64::from(heard.is_ok());
                        now
                    }
                };
                calendar = calendar.max(now);
                let bound = u64::try_from(SKEW_MAX_DEFAULT.as_millis()).unwrap();
                prop_assert!(clock.last().wall_ms <= calendar + bound + events);
            }
        }
    }
}
