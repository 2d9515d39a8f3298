//! Who waits for nodes to be gone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Weak};

use macula_core::identity::NodeId;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How many nodes are waited for before those that nobody waits for any more are let go.
const NODES_MIN: usize = 64;

/// The waits, of which all for one node share one.
#[derive(Default)]
pub(super) struct Departures(Mutex<Waits>);

#[derive(Default)]
struct Waits {
    nodes: BTreeMap<NodeId, Weak<CancellationToken>>,
    /// At how many nodes those that nobody waits for are let go.
    purge_at: usize,
}

impl Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Departures").field(&self.0.lock().nodes.len()).finish()
    }
}

impl Departures {
    /// What is cancelled when the node is next held to be gone.
    pub(super) fn of(&self, node: NodeId) -> Arc<CancellationToken> {
        let mut waits = self.0.lock();
        if let Some(token) = waits.nodes.get(&node).and_then(Weak::upgrade) {
            return token;
        }
        if waits.nodes.len() >= waits.purge_at.max(NODES_MIN) {
            waits.nodes.retain(|_, token| token.strong_count() > 0);
            waits.purge_at = waits.nodes.len() * 2;
        }
        let token = Arc::new(CancellationToken::new());
        waits.nodes.insert(node, Arc::downgrade(&token));
        token
    }

    /// A node is gone.
    pub(super) fn gone(&self, node: NodeId) {
        let token = self.0.lock().nodes.remove(&node);
        if let Some(token) = token.and_then(|token| token.upgrade()) {
            token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Departures, NODES_MIN};
    use macula_core::identity::{Keypair, NodeId};

    fn node(number: u16) -> NodeId {
        let [high, low] = number.to_be_bytes();
        let mut seed = [0; 32];
        (seed[0], seed[1]) = (high, low);
        Keypair::from_seed(seed).node_id()
    }

    #[test]
    fn whoever_waits_for_a_node_is_told_once_and_of_no_other() {
        let departures = Departures::default();
        let (one, same, other) =
            (departures.of(node(1)), departures.of(node(1)), departures.of(node(2)));
        departures.gone(node(1));
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        assert!(!departures.of(node(1)).is_cancelled(), "the next departure is another");
    }

    #[test]
    fn waits_that_are_over_are_let_go() {
        let departures = Departures::default();
        for number in 0..1_000 {
            drop(departures.of(node(number)));
        }
        assert!(departures.0.lock().nodes.len() <= NODES_MIN);
    }
}
