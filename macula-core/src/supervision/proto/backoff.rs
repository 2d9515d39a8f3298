//! How long a restart waits: exponential, capped, spread.

use std::time::Duration;

use crate::entropy::Entropy;
use crate::supervision::policy::Backoff;

/// The doubling stops here: 2^32 times the first wait is past every cap.
const DOUBLINGS_MAX: u32 = 32;

impl Backoff {
    /// The wait before the `failures`-th restart in a row (1 is the first).
    #[must_use]
    pub fn delay(&self, failures: u32, entropy: &mut Entropy) -> Duration {
        if self.initial.is_zero() || failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(DOUBLINGS_MAX);
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        let plain = self.initial.saturating_mul(factor).min(self.max);
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (entropy.unit() * 2.0 - 1.0);
        Duration::try_from_secs_f64(plain.as_secs_f64() * spread).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use crate::entropy::Entropy;
    use crate::supervision::policy::Backoff;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn doubles_up_to_its_cap() {
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1))
        };
        let mut entropy = Entropy::from_seed(0);
        let waits: Vec<u128> = (0..7).map(|n| backoff.delay(n, &mut entropy).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
    }

    proptest! {
        #[test]
        fn jitter_stays_in_its_band(failures in 1_u32..80, seed: u64, jitter in 0.0_f64..=1.0) {
            let first = Duration::from_millis(100);
            let backoff = Backoff { jitter, ..Backoff::exponential(first, Duration::from_secs(10)) };
            let plain = Backoff { jitter: 0.0, ..backoff }.delay(failures, &mut Entropy::from_seed(0));
            let got = backoff.delay(failures, &mut Entropy::from_seed(seed)).as_secs_f64();
            let (low, high) = (plain.as_secs_f64() * (1.0 - jitter), plain.as_secs_f64() * (1.0 + jitter));
            prop_assert!((low - 1e-6..=high + 1e-6).contains(&got), "{got} not in {low}..={high}");
        }
    }
}
