//! What rides on messages, and how often it did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use macula_core::identity::NodeId;

use super::super::update::Update;

/// The order of rumours: those that were sent the fewest times come first, of these the newest.
type Place = (u32, Reverse<u64>, NodeId);

/// The updates that still have to be sent: one for each node, the newest.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    updates: BTreeMap<NodeId, (Update, Place)>,
    order: BTreeSet<Place>,
    number: u64,
}

impl Rumours {
    /// There is news of a node; what was said of it before is no news any more.
    pub(super) fn add(&mut self, update: Update) {
        let node = update.node();
        self.number += 1;
        let place = (0, Reverse(self.number), node);
        if let Some((_, before)) = self.updates.insert(node, (update, place)) {
            self.order.remove(&before);
        }
        self.order.insert(place);
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some((_, place)) = self.updates.remove(&node) {
            self.order.remove(&place);
        }
    }

    /// Up to `count` updates for one message. Each is given `limit` times altogether.
    pub(super) fn take(&mut self, count: usize, limit: u32) -> Vec<Update> {
        let places: Vec<Place> = self.order.iter().take(count).copied().collect();
        let mut taken = Vec::with_capacity(places.len());
        for place in places {
            let (sent, number, node) = place;
            self.order.remove(&place);
            let Some((update, kept)) = self.updates.get_mut(&node) else { continue };
            taken.push(update.clone());
            if sent + 1 < limit {
                *kept = (sent + 1, number, node);
                self.order.insert(*kept);
            } else {
                self.updates.remove(&node);
            }
        }
        taken
    }

    /// Whether there is news that was sent fewer than this many times.
    pub(super) fn is_fresh(&self, times: u32) -> bool {
        self.order.first().is_some_and(|(sent, _, _)| *sent < times)
    }

    pub(super) fn len(&self) -> usize {
        self.updates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Rumours;
    use crate::membership::update::{Claim, Stamp, Update, Verdict};
    use macula_core::identity::{Keypair, NodeId};

    fn claim(seed: u8, version: u64) -> Update {
        let node = Keypair::from_seed([seed; 32]).node_id();
        let stamp = Stamp { life: 1, version };
        Update::Claim(Claim { node, stamp, verdict: Verdict::Suspect, by: node })
    }

    fn nodes(updates: &[Update]) -> Vec<NodeId> {
        updates.iter().map(Update::node).collect()
    }

    #[test]
    fn what_was_sent_least_is_sent_first_and_nothing_too_often() {
        let mut rumours = Rumours::default();
        for seed in 1..=3 {
            rumours.add(claim(seed, 0));
        }
        let [one, two, three] = [1, 2, 3].map(|seed| claim(seed, 0).node());
        assert_eq!(nodes(&rumours.take(2, 2)), [three, two]);
        assert!(rumours.is_fresh(1));
        assert_eq!(nodes(&rumours.take(2, 2)), [one, three]);
        assert!(!rumours.is_fresh(1));
        // News of a node begins anew, in place of the old.
        rumours.add(claim(2, 1));
        assert_eq!(rumours.take(9, 2), [claim(2, 1), claim(1, 0)]);
        assert_eq!(rumours.take(9, 2), [claim(2, 1)]);
        assert_eq!(rumours.len(), 0);
        rumours.add(claim(1, 0));
        rumours.forget(one);
        assert_eq!(rumours.take(9, 2), []);
    }
}
