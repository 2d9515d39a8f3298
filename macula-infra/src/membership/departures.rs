//! Who waits for lives of nodes to be gone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Weak};

use macula_core::identity::NodeId;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How many lives are waited for before those that nobody waits for any more are let go.
const LIVES_MIN: usize = 64;

/// The waits, of which all for one node share one.
#[derive(Default)]
pub(super) struct Departures(Mutex<Waits>);

#[derive(Default)]
struct Waits {
    /// By node and life.
    lives: BTreeMap<(NodeId, u64), Weak<CancellationToken>>,
    /// At how many lives those that nobody waits for are let go.
    purge_at: usize,
}

impl Debug for Departures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Departures").field(&self.0.lock().lives.len()).finish()
    }
}

impl Departures {
    /// What is cancelled when a life of a node, or a later one, is held to be gone.
    pub(super) fn of(&self, node: NodeId, life: u64) -> Arc<CancellationToken> {
        let mut waits = self.0.lock();
        if let Some(token) = waits.lives.get(&(node, life)).and_then(Weak::upgrade) {
            return token;
        }
        if waits.lives.len() >= waits.purge_at.max(LIVES_MIN) {
            waits.lives.retain(|_, token| token.strong_count() > 0);
            waits.purge_at = waits.lives.len() * 2;
        }
        let token = Arc::new(CancellationToken::new());
        waits.lives.insert((node, life), Arc::downgrade(&token));
        token
    }

    /// A life of a node is gone, and with it all before.
    pub(super) fn gone(&self, node: NodeId, life: u64) {
        let mut waits = self.0.lock();
        let gone: Vec<_> =
            waits.lives.range((node, 0)..=(node, life)).map(|(key, _)| *key).collect();
        let tokens: Vec<_> = gone.iter().filter_map(|key| waits.lives.remove(key)).collect();
        drop(waits);
        tokens.iter().filter_map(Weak::upgrade).for_each(|token| token.cancel());
    }
}

#[cfg(test)]
mod tests {
    use super::{Departures, LIVES_MIN};
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
        let of = |number, life| departures.of(node(number), life);
        let (one, same, later, other) = (of(1, 7), of(1, 7), of(1, 8), of(2, 1));
        departures.gone(node(1), 6);
        assert!(!one.is_cancelled(), "an earlier life");
        departures.gone(node(1), 7);
        assert!(one.is_cancelled() && same.is_cancelled());
        assert!(!later.is_cancelled() && !other.is_cancelled(), "it lives anew");
        departures.gone(node(1), 9);
        assert!(later.is_cancelled() && !of(1, 7).is_cancelled() && !other.is_cancelled());
    }

    #[test]
    fn waits_that_are_over_are_let_go() {
        let departures = Departures::default();
        for number in 0..1_000 {
            drop(departures.of(node(number), 1));
        }
        assert!(departures.0.lock().lives.len() <= LIVES_MIN);
    }
}
