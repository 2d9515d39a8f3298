//! How long a suspect has to refute: Lifeguard's dynamic timeout.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

/// How many accusers of one suspect are remembered at most.
const ACCUSERS_MAX: usize = 17;

/// A suspicion of one presence.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub(super) since: Instant,
    /// Who suspects it independently, the first one first.
    accusers: Vec<NodeId>,
    /// Whether it has the shortest time anyway.
    hasty: bool,
}

/// How long suspects have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) min: Duration,
    pub(super) max: Duration,
    /// How many further accusers make it the shortest time.
    pub(super) confirmations: usize,
}

impl Suspicion {
    pub(super) fn new(now: Instant, by: NodeId, hasty: bool) -> Self {
        Self { since: now, accusers: vec![by], hasty }
    }

    pub(super) fn first_accuser(&self) -> Option<NodeId> {
        self.accusers.first().copied()
    }

    /// The last one that counted: news for those who have heard of the others.
    pub(super) fn last_accuser(&self) -> Option<NodeId> {
        self.accusers.last().copied()
    }

    /// Another one suspects it. Says whether that counts.
    pub(super) fn confirm(&mut self, by: NodeId, terms: Terms) -> bool {
        let wanted = (terms.confirmations + 1).min(ACCUSERS_MAX);
        if self.accusers.len() >= wanted || self.accusers.contains(&by) {
            return false;
        }
        self.accusers.push(by);
        true
    }

    /// Somebody holds it to be down already. Says whether that changes anything.
    pub(super) const fn hurry(&mut self) -> bool {
        !std::mem::replace(&mut self.hasty, true)
    }

    /// When the suspect's time is over: from the longest to the shortest, with the logarithm of the
    /// number of confirmations.
    pub(super) fn ends(&self, terms: Terms) -> Instant {
        let Terms { min, max, confirmations } = terms;
        if self.hasty || confirmations == 0 {
            return self.since + min;
        }
        let part = log(self.accusers.len()) / log(confirmations + 1);
        let shorter = max.saturating_sub(min).mul_f64(part.clamp(0.0, 1.0));
        self.since + max.saturating_sub(shorter).max(min)
    }
}

fn log(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)).ln()
}

#[cfg(test)]
mod tests {
    use super::{Suspicion, Terms};
    use macula_core::clock::{Clock as _, TokioClock};
    use macula_core::identity::Keypair;
    use std::time::Duration;

    #[test]
    fn confirmations_shorten_the_time_of_a_suspect() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(4));
        let terms = Terms { min, max, confirmations: 3 };
        let now = TokioClock.now();
        let by = |seed| Keypair::from_seed([seed; 32]).node_id();
        let mut suspicion = Suspicion::new(now, by(1), false);
        let mut times = vec![suspicion.ends(terms) - now];
        for seed in [1, 2, 2, 3, 4, 5] {
            if suspicion.confirm(by(seed), terms) {
                times.push(suspicion.ends(terms) - now);
            }
        }
        let millis: Vec<u128> = times.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [4000, 2500, 1622, 1000]);
        assert_eq!(suspicion.last_accuser(), Some(by(4)), "enough is enough");
        // With nobody who could confirm, there is nothing to wait for.
        let alone = Terms { confirmations: 0, ..terms };
        assert_eq!(Suspicion::new(now, by(1), false).ends(alone), now + min);
        assert_eq!(Suspicion::new(now, by(1), true).ends(terms), now + min);
    }
}
