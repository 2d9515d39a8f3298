//! How long answers take: a smoothed mean and its deviation (RFC 6298, section 2).

use std::time::Duration;

/// The round trips that were measured, the latest counting most; none yet if none was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoundTrip(Option<(Duration, Duration)>);

impl RoundTrip {
    /// One more was measured.
    pub(crate) fn sample(&mut self, took: Duration) {
        self.0 = Some(match self.0 {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(took);
                ((mean * 7 + took) / 8, (deviation * 3 + off) / 4)
            }
        });
    }

    /// What is usual.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.0.map(|(mean, _)| mean)
    }

    /// The mean and so many deviations: with four, nearly all answers take less.
    pub(crate) fn within(&self, deviations: u32) -> Option<Duration> {
        self.0.map(|(mean, deviation)| mean + deviation * deviations)
    }
}

#[cfg(test)]
mod tests {
    use super::RoundTrip;
    use std::time::Duration;

    #[test]
    fn round_trips_that_vary_take_longer() {
        let (mut steady, mut varied) = (RoundTrip::default(), RoundTrip::default());
        assert_eq!((steady.mean(), steady.within(4)), (None, None));
        for turn in 0..100 {
            steady.sample(Duration::from_millis(50));
            varied.sample(Duration::from_millis(if turn % 2 == 0 { 10 } else { 90 }));
        }
        assert!(steady.within(4).unwrap() < Duration::from_millis(60), "{steady:?}");
        assert!(varied.within(4).unwrap() > Duration::from_millis(150), "{varied:?}");
        assert!(
            varied.mean().unwrap().abs_diff(Duration::from_millis(50)) < Duration::from_millis(9)
        );
    }
}
