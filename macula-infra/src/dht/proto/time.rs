//! Moments on two clocks.

use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;

/// One moment on both clocks: what travels is dated by the calendar, which may jump, and what is
/// kept here ends by the monotonic clock, which does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub now: Instant,
    /// On the calendar: since the Unix epoch.
    pub since_epoch: Duration,
}

impl Moment {
    /// A calendar moment on the monotonic clock; none if it is not in the future.
    #[must_use]
    pub fn deadline(&self, at: Duration) -> Option<Instant> {
        let left = at.saturating_sub(self.since_epoch);
        if left.is_zero() { None } else { self.now.checked_add(left) }
    }
}

/// A wait that is longer or shorter by at most `part` of it (0.0 to 1.0), by chance.
pub(super) fn jittered(wait: Duration, part: f64, entropy: &mut Entropy) -> Duration {
    let factor = 1.0 + part.clamp(0.0, 1.0) * (2.0 * entropy.unit() - 1.0);
    wait.mul_f64(factor)
}
