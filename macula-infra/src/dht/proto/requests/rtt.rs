//! The round trip to a peer, and what follows from it (RFC 6298).

use std::time::Duration;

use super::Config;

/// How often a timeout is doubled at most.
const BACK_OFF_MAX: u32 = 6;

/// The smoothed round trip, and how much it varies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    backed_off: u32,
}

impl Rtt {
    /// One more was measured. Each request has an id of its own, so there is no doubt what was
    /// answered.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.backed_off = 0;
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(rtt);
            self.variation = rtt / 2;
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((smoothed * 7 + rtt) / 8);
    }

    /// There was no answer in time.
    pub(super) const fn back_off(&mut self) {
        if self.backed_off < BACK_OFF_MAX {
            self.backed_off += 1;
        }
    }

    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long a request may take.
    pub(super) fn timeout(&self, config: &Config) -> Duration {
        let measured = self.smoothed.map(|smoothed| smoothed + self.variation * 4);
        let timeout = measured.unwrap_or(config.timeout_initial).max(config.timeout_min);
        timeout.saturating_mul(1 << self.backed_off).min(config.timeout_max)
    }

    /// What about 95 % stay below: for a normal distribution the mean deviation is 0.8 of the
    /// standard deviation, of which 1.64 make it.
    pub(super) fn slow_after(&self) -> Option<Duration> {
        self.smoothed.map(|smoothed| smoothed + self.variation * 2)
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
        let mut rtt = Rtt::default();
        assert_eq!((rtt.timeout(&config), rtt.slow_after()), (ms(1000), None));
        rtt.sample(ms(100));
        assert_eq!((rtt.timeout(&config), rtt.slow_after()), (ms(300), Some(ms(200))));
        rtt.back_off();
        assert_eq!(rtt.timeout(&config), ms(600));
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.timeout(&config), ms(5000));
        (0..100).for_each(|_| rtt.sample(ms(100)));
        assert_eq!(rtt.timeout(&config), ms(200));
        assert!(rtt.slow_after().unwrap() < ms(101), "{rtt:?}");
        rtt.sample(ms(900));
        assert_eq!(rtt.smoothed(), Some(ms(200)));
        assert!(rtt.timeout(&config) > ms(900), "{rtt:?}");
    }
}
