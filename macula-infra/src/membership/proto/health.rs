//! What this node thinks of itself.

use std::time::Duration;

/// The worst that a node thinks of itself.
const HEALTH_MAX: u32 = 8;

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

#[cfg(test)]
mod tests {
    use super::Health;
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
}
