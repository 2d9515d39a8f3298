//! A bucket of tokens: how much a peer may do in a time, and at once.

use std::time::{Duration, Instant};

/// How many parts a token has: a bucket counts in millionths.
const MICRO: u64 = 1_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many tokens come in a second; at least one.
    pub(crate) per_s: u32,
    /// How many it holds.
    pub(crate) burst: u32,
}

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// In millionths.
    tokens: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(now: Instant, rate: Rate) -> Self {
        Self { tokens: u64::from(rate.burst) * MICRO, filled_at: now }
    }

    /// Whether it has all that it can hold.
    pub(crate) fn is_full(&self, now: Instant, rate: Rate) -> bool {
        let mut bucket = *self;
        bucket.take(now, rate, rate.burst).is_ok()
    }

    /// Takes tokens out, if there are enough. What costs more than the bucket holds empties it.
    ///
    /// # Errors
    ///
    /// How long it takes until there are enough; nothing was taken.
    pub(crate) fn take(&mut self, now: Instant, rate: Rate, cost: u32) -> Result<(), Duration> {
        let per_s = u64::from(rate.per_s).max(1);
        let micros = now.saturating_duration_since(self.filled_at).as_micros();
        // So many millionths come in a microsecond as tokens in a second.
        let gained = u64::try_from(micros).unwrap_or(u64::MAX).saturating_mul(per_s);
        self.tokens = self.tokens.saturating_add(gained).min(u64::from(rate.burst) * MICRO);
        self.filled_at = self.filled_at.max(now);
        let cost = u64::from(cost.min(rate.burst)) * MICRO;
        match self.tokens.checked_sub(cost) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => Err(Duration::from_micros((cost - self.tokens).div_ceil(per_s))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};
    use macula_core::clock::{Clock as _, TokioClock};
    use std::time::Duration;

    #[test]
    fn it_fills_with_time_and_never_overflows() {
        let (now, rate) = (TokioClock.now(), Rate { per_s: 10, burst: 5 });
        let mut bucket = Bucket::full(now, rate);
        assert_eq!(bucket.take(now, rate, 5), Ok(()));
        assert_eq!(bucket.take(now, rate, 2), Err(Duration::from_millis(200)));
        let later = now + Duration::from_millis(150);
        assert_eq!(bucket.take(later, rate, 1), Ok(()));
        assert_eq!(bucket.take(later, rate, 1), Err(Duration::from_millis(50)));
        // A year fills it, and not more; what is dearer than all of it can be paid.
        let year = later + Duration::from_secs(31_557_600);
        assert_eq!(bucket.take(year, rate, 1_000), Ok(()));
        assert_eq!(bucket.take(year, rate, 1), Err(Duration::from_millis(100)));
        // Clocks that go back give nothing.
        assert!(bucket.take(now, rate, 1).is_err());
    }
}
