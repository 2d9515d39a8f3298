//! The clock that stamps updates.

use std::time::Duration;

use macula_core::hlc::{Hlc, SKEW_MAX_DEFAULT, Timestamp};

/// A hybrid logical clock that counts what it refuses.
///
/// What a register holds is decided by causality first: a write replaces all that it has seen,
/// whatever the stamps say. Stamps decide between writes that did not see each other, and there any
/// stamps serve for replicas to agree. So a stamp from a calendar that is far ahead is kept with its
/// value, and all replicas converge; but the clock refuses to follow it, and it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    clock: Hlc,
    skew_max: Duration,
    refused: u64,
    set_back: u64,
}

impl Default for Stamps {
    /// A clock that follows stamps up to [`SKEW_MAX_DEFAULT`] ahead of the calendar.
    fn default() -> Self {
        Self::new(SKEW_MAX_DEFAULT)
    }
}

impl Stamps {
    /// A clock that follows stamps up to `skew_max` ahead of the own calendar.
    #[must_use]
    pub fn new(skew_max: Duration) -> Self {
        Self { clock: Hlc::new(skew_max), skew_max, refused: 0, set_back: 0 }
    }

    /// The stamp of an update when `now` has passed since the Unix epoch. It is later than all before
    /// it, unless the calendar was set back by more than the bound: then the clock begins anew, since
    /// this replica would win over all others for as long as it was ahead.
    pub fn tick(&mut self, now: Duration) -> Timestamp {
        let last = Duration::from_millis(self.clock.last().wall_ms);
        if last > now.saturating_add(self.skew_max) {
            self.clock = Hlc::new(self.skew_max);
            self.set_back += 1;
        }
        self.clock.tick(now)
    }

    /// Hears of a stamp elsewhere. Says whether it was followed.
    pub fn observe(&mut self, stamp: Timestamp, now: Duration) -> bool {
        let followed = self.clock.observe(stamp, now).is_ok();
        self.refused += u64::from(!followed);
        followed
    }

    /// How many stamps were too far ahead to be followed.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// How often the calendar was set back so far that the clock began anew.
    #[must_use]
    pub const fn set_back(&self) -> u64 {
        self.set_back
    }
}

#[cfg(test)]
mod tests {
    use super::Stamps;
    use macula_core::hlc::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_stamp_of_the_next_hour_is_counted_and_not_followed() {
        let (mut stamps, now) = (Stamps::default(), Duration::from_secs(100));
        let ahead = Timestamp { wall_ms: 3_700_000, counter: 0 };
        assert!(!stamps.observe(ahead, now));
        assert_eq!(stamps.refused(), 1);
        assert!(stamps.tick(now) < ahead);
        assert!(stamps.observe(Timestamp { wall_ms: 160_000, counter: 0 }, now));
        assert_eq!(stamps.refused(), 1);
    }

    #[test]
    fn a_calendar_that_is_set_back_a_little_is_passed_over_and_by_an_hour_begins_anew() {
        let mut stamps = Stamps::default();
        let first = stamps.tick(Duration::from_secs(4000));
        assert!(stamps.tick(Duration::from_secs(3940)) > first);
        assert_eq!(stamps.set_back(), 0);
        assert_eq!(stamps.tick(Duration::from_secs(400)).wall_ms, 400_000);
        assert_eq!(stamps.set_back(), 1);
    }
}
