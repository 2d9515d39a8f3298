//! How long answers take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// In which time of silence a measured latency counts for half.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// For how long the shortest latency is believed, at least. It may be twice as long.
const FLOOR_TTL: Duration = Duration::from_secs(60);

/// How many latencies of a procedure are remembered.
const SAMPLES_MAX: usize = 128;

/// How many there have to be before anything is said of them.
const SAMPLES_MIN: usize = 16;

/// The latency of one provider: what it is now, and the shortest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Latency {
    smoothed: Option<(Duration, Instant)>,
    floor: Option<(Duration, Instant)>,
    floor_before: Option<Duration>,
}

impl Latency {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self { smoothed: None, floor: None, floor_before: None };

    /// One more was measured. A longer one counts at once, a shorter one bit by bit.
    pub(crate) fn sample(&mut self, now: Instant, latency: Duration) {
        let smoothed = match self.smoothed(now) {
            Some(before) if latency < before => (before * 7 + latency) / 8,
            _ => latency,
        };
        self.smoothed = Some((smoothed, now));
        self.floor = match self.floor {
            Some((floor, since)) if now < since + FLOOR_TTL => Some((floor.min(latency), since)),
            before => {
                self.floor_before = before.map(|(floor, _)| floor);
                Some((latency, now))
            }
        };
    }

    /// What it is now; none if nothing is known. It fades, so that who was slow is tried again.
    pub(crate) fn smoothed(&self, now: Instant) -> Option<Duration> {
        let (smoothed, at) = self.smoothed?;
        let silence = now.saturating_duration_since(at).as_secs() / HALF_LIFE.as_secs();
        let halves = u32::try_from(silence).unwrap_or(u32::MAX).min(31);
        Some(smoothed / (1 << halves))
    }

    /// The shortest lately: about a round trip.
    pub(crate) fn floor(&self) -> Option<Duration> {
        let (floor, _) = self.floor?;
        Some(self.floor_before.map_or(floor, |before| before.min(floor)))
    }
}

/// The latencies of a procedure, of whichever provider.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies {
    samples: VecDeque<Duration>,
    /// What was reckoned last, and how many more samples there were since.
    slow: Option<Duration>,
    since: usize,
}

impl Latencies {
    /// One more was measured.
    pub(crate) fn sample(&mut self, latency: Duration) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(latency);
        self.since += 1;
        if self.samples.len() >= SAMPLES_MIN && self.since >= SAMPLES_MIN {
            let mut sorted: Vec<Duration> = self.samples.iter().copied().collect();
            sorted.sort_unstable();
            (self.slow, self.since) = (sorted.get(sorted.len() * 95 / 100).copied(), 0);
        }
    }

    /// What 95 % stay below; none as long as too little is known.
    pub(crate) const fn p95(&self) -> Option<Duration> {
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::{FLOOR_TTL, HALF_LIFE, Latencies, Latency, SAMPLES_MAX, SAMPLES_MIN};
    use macula_core::clock::{Clock as _, TokioClock};
    use std::time::Duration;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let (now, mut latency) = (TokioClock.now(), Latency::UNKNOWN);
        assert_eq!((latency.smoothed(now), latency.floor()), (None, None));
        latency.sample(now, ms(8));
        latency.sample(now, ms(80));
        assert_eq!(latency.smoothed(now), Some(ms(80)));
        latency.sample(now, ms(8));
        assert_eq!(latency.smoothed(now), Some(ms(71)));
        assert_eq!(latency.smoothed(now + HALF_LIFE * 3), Some(ms(71) / 8));
        assert_eq!(latency.floor(), Some(ms(8)));
        latency.sample(now + FLOOR_TTL, ms(9));
        assert_eq!(latency.floor(), Some(ms(8)), "it is believed a while longer");
        latency.sample(now + FLOOR_TTL * 2, ms(10));
        assert_eq!(latency.floor(), Some(ms(9)));
    }

    #[test]
    fn the_slow_twentieth_is_known_after_a_few() {
        let mut latencies = Latencies::default();
        for number in 1..SAMPLES_MIN {
            latencies.sample(ms(u64::try_from(number).unwrap()));
            assert_eq!(latencies.p95(), None);
        }
        latencies.sample(ms(16));
        assert_eq!(latencies.p95(), Some(ms(16)));
        (0..SAMPLES_MAX).for_each(|_| latencies.sample(ms(1)));
        assert_eq!(latencies.p95(), Some(ms(1)), "the old ones are forgotten");
        assert_eq!(latencies.samples.len(), SAMPLES_MAX);
    }
}
