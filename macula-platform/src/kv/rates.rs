//! How often each node may ask.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

/// How many nodes are known that have asked a little while ago.
const NODES_MAX: usize = 10_000;

/// How often nodes may ask.
#[derive(Debug)]
pub(super) struct Rates {
    per_s: u32,
    nodes: BTreeMap<NodeId, Instant>,
}

impl Rates {
    /// So many in a second, and at once, for each node; at least one.
    pub(super) fn new(per_s: u32) -> Self {
        Self { per_s: per_s.max(1), nodes: BTreeMap::new() }
    }

    /// Whether a node may ask now. What is kept is when all that it has asked is paid for (the
    /// "generic cell rate algorithm" of ATM).
    ///
    /// # Errors
    ///
    /// How long it has to wait.
    pub(super) fn ask(&mut self, now: Instant, node: NodeId) -> Result<(), Duration> {
        let (second, each) = (Duration::from_secs(1), Duration::from_secs(1) / self.per_s);
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            self.nodes.retain(|_, paid_at| *paid_at > now);
            if self.nodes.len() >= NODES_MAX {
                return Err(second);
            }
        }
        let paid_at = self.nodes.entry(node).or_insert(now);
        let next = (*paid_at).max(now) + each;
        let ahead = next.saturating_duration_since(now);
        if ahead > second {
            return Err(ahead - second);
        }
        *paid_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Rates;
    use macula_core::identity::Keypair;
    use std::time::{Duration, Instant};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn each_node_has_its_own_rate_and_gets_it_back_with_time() {
        let (mut rates, now) = (Rates::new(10), Instant::now());
        let node = |number: u8| Keypair::from_seed([number; 32]).node_id();
        assert!((0..10).all(|_| rates.ask(now, node(1)).is_ok()));
        assert_eq!(rates.ask(now, node(1)), Err(Duration::from_millis(100)));
        assert_eq!(rates.ask(now, node(2)), Ok(()));
        let later = now + Duration::from_millis(300);
        assert!((0..3).all(|_| rates.ask(later, node(1)).is_ok()));
        assert!(rates.ask(later, node(1)).is_err());
    }
}
