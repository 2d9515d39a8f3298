//! How many restarts a supervisor allows itself: a sliding period, as in OTP.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The moments of the restarts that still count.
#[derive(Debug, Default)]
pub(super) struct Budget(VecDeque<Instant>);

impl Budget {
    /// Notes a restart at `now`; false if that is more than `intensity` within `period`.
    ///
    /// At most `intensity + 1` moments are kept.
    pub(super) fn spend(&mut self, now: Instant, intensity: u32, period: Duration) -> bool {
        while self.0.front().is_some_and(|&at| now.duration_since(at) > period) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= usize::try_from(intensity).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use crate::clock::{Clock, TokioClock};
    use proptest::prelude::*;
    use std::time::Duration;

    const PERIOD: Duration = Duration::from_secs(5);

    #[test]
    fn intensity_zero_allows_nothing() {
        assert!(!Budget::default().spend(TokioClock.now(), 0, PERIOD));
    }

    #[test]
    fn the_period_slides() {
        let start = TokioClock.now();
        let mut budget = Budget::default();
        for second in [0, 3, 6, 9, 12] {
            assert!(budget.spend(start + Duration::from_secs(second), 2, PERIOD), "{second}");
        }
        assert!(!budget.spend(start + Duration::from_secs(13), 2, PERIOD));
    }

    proptest! {
        /// The budget says no exactly when a naive count over the period does.
        #[test]
        fn agrees_with_a_naive_count(gaps in prop::collection::vec(0_u64..4000, 1..60), intensity in 0_u32..6) {
            let start = TokioClock.now();
            let (mut budget, mut at, mut moments) = (Budget::default(), start, Vec::new());
            for gap in gaps {
                at += Duration::from_millis(gap);
                moments.push(at);
                let within = moments.iter().filter(|&&m| at - m <= PERIOD).count();
                prop_assert_eq!(budget.spend(at, intensity, PERIOD), within <= intensity as usize);
            }
        }
    }
}
