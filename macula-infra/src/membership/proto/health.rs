//! What this node thinks of itself, and of the network.

use std::time::Duration;

/// The worst that a node thinks of itself.
const HEALTH_MAX: u32 = 8;

/// How long a round trip counts as before one was measured.
const RTT_UNKNOWN: Duration = Duration::from_millis(300);

/// Lifeguard's local health multiplier: 0 for a node that hears all answers, 8 at most.
///
/// A node that misses answers which others get has to blame itself: it is slow, or badly connected.
/// It then waits longer for answers, and probes less often.
#[derive(Debug, Default)]
pub(super) struct Health(u32);

impl Health {
    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(super) fn worse(&mut self, by: usize) {
        let by = u32::try_from(by).unwrap_or(HEALTH_MAX);
        self.0 = self.0.saturating_add(by).min(HEALTH_MAX);
    }

    pub(super) const fn score(&self) -> u32 {
        self.0
    }

    pub(super) fn stretch(&self, span: Duration) -> Duration {
        span.saturating_mul(self.0 + 1)
    }
}

/// The measured round trips of direct pings: mean and deviation as in RFC 6298.
#[derive(Debug, Default)]
pub(super) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    pub(super) fn measured(&mut self, took: Duration) {
        let (mean, deviation) = self.0.unwrap_or((took, took / 2));
        let off = mean.abs_diff(took);
        self.0 = Some(((mean * 7 + took) / 8, (deviation * 3 + off) / 4));
    }

    /// How long nearly all answers take at most.
    pub(super) fn bound(&self) -> Duration {
        self.0.map_or(RTT_UNKNOWN, |(mean, deviation)| mean + deviation * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, RoundTrip};
    use std::time::Duration;

    #[test]
    fn health_has_its_bounds() {
        let mut health = Health::default();
        health.better();
        assert_eq!(health.stretch(Duration::from_secs(1)), Duration::from_secs(1));
        health.worse(1_000);
        assert_eq!(health.stretch(Duration::from_secs(1)), Duration::from_secs(9));
        health.better();
        assert_eq!(health.score(), 7);
    }

    #[test]
    fn round_trips_that_vary_take_longer() {
        let mut steady = RoundTrip::default();
        let mut varied = RoundTrip::default();
        for turn in 0..100 {
            steady.measured(Duration::from_millis(50));
            varied.measured(Duration::from_millis(if turn % 2 == 0 { 10 } else { 90 }));
        }
        assert!(steady.bound() < Duration::from_millis(60), "{steady:?}");
        assert!(varied.bound() > Duration::from_millis(150), "{varied:?}");
    }
}
