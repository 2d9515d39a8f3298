//! What follows from the round trip to a peer: timeouts, with a back-off (RFC 6298, section 5).

use std::time::Duration;

use super::Config;
use crate::round_trip::RoundTrip;

/// How often a timeout is doubled at most.
const BACK_OFF_MAX: u32 = 6;

/// The round trip, and how often there was no answer in time since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rtt {
    measured: RoundTrip,
    backed_off: u32,
}

impl Rtt {
    /// One more was measured. Each request has an id of its own, so there is no doubt what was
    /// answered.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.backed_off = 0;
        self.measured.sample(rtt);
    }

    /// There was no answer in time.
    pub(super) const fn back_off(&mut self) {
        if self.backed_off < BACK_OFF_MAX {
            self.backed_off += 1;
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.measured.mean()
    }

    /// How long a request may take. As long as this peer was not measured, twice what would do for
    /// most of `all`, and no longer than at first.
    pub(super) fn timeout(&self, all: &Self, config: &Config) -> Duration {
        let unmeasured = || {
            let usual = all.measured.within(4).map(|usual| usual.saturating_mul(2));
            usual.map_or(config.timeout_initial, |usual| usual.min(config.timeout_initial))
        };
        let timeout = self.measured.within(4).unwrap_or_else(unmeasured).max(config.timeout_min);
        timeout.saturating_mul(1 << self.backed_off).min(config.timeout_max)
    }

    /// What about 95 % stay below: for a normal distribution the mean deviation is 0.8 of the
    /// standard deviation, of which 1.64 make it.
    pub(super) fn slow_after(&self) -> Option<Duration> {
        self.measured.within(2)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Config, Rtt};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_timeout_follows_the_round_trip_within_its_bounds() {
        let config = Config::default();
        let (mut rtt, mut all) = (Rtt::default(), Rtt::default());
        assert_eq!((rtt.timeout(&all, &config), rtt.slow_after()), (ms(1000), None));
        all.sample(ms(100));
        assert_eq!(rtt.timeout(&all, &config), ms(600));
        all.sample(ms(9000));
        assert_eq!(rtt.timeout(&all, &config), ms(1000));
        rtt.sample(ms(100));
        assert_eq!((rtt.timeout(&all, &config), rtt.slow_after()), (ms(300), Some(ms(200))));
        rtt.back_off();
        assert_eq!(rtt.timeout(&all, &config), ms(600));
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(&all, &config), ms(5000));
        (0..100).for_each(|_| rtt.sample(ms(100)));
        assert_eq!(rtt.timeout(&all, &config), ms(200));
        assert!(rtt.slow_after().unwrap() < ms(101), "{rtt:?}");
        rtt.sample(ms(900));
        assert_eq!(rtt.smoothed(), Some(ms(200)));
        assert!(rtt.timeout(&all, &config) > ms(900), "{rtt:?}");
    }
}
