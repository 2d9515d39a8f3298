//! The order in which members are probed, and members drawn at random.
//!
//! Each round goes through all members in an order of its own (SWIM, section 4.3), so that the time
//! until a member is probed by one other is bounded. A newcomer gets a random place in what is left
//! of the round.

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

/// All members, each once.
#[derive(Debug, Default)]
pub(super) struct Ring {
    nodes: Vec<NodeId>,
    /// Those before it were probed in this round.
    next: usize,
}

impl Ring {
    pub(super) fn insert(&mut self, node: NodeId, entropy: &mut Entropy) {
        let place = self.next + below(entropy, self.nodes.len() - self.next + 1);
        self.nodes.push(node);
        let last = self.nodes.len() - 1;
        self.nodes.swap(place, last);
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        let Some(mut place) = self.nodes.iter().position(|other| *other == node) else {
            return;
        };
        if place < self.next {
            // The last one that was probed takes its place, so that nobody is left out.
            self.next -= 1;
            self.nodes.swap(place, self.next);
            place = self.next;
        }
        self.nodes.swap_remove(place);
    }

    /// Whose turn it is.
    pub(super) fn turn(&mut self, entropy: &mut Entropy) -> Option<NodeId> {
        if self.next >= self.nodes.len() {
            self.next = 0;
            for place in (1..self.nodes.len()).rev() {
                self.nodes.swap(place, below(entropy, place + 1));
            }
        }
        let node = self.nodes.get(self.next).copied()?;
        self.next += 1;
        Some(node)
    }

    /// Up to `count` members, each once, but not `except`.
    pub(super) fn pick(
        &self,
        count: usize,
        except: Option<NodeId>,
        entropy: &mut Entropy,
    ) -> Vec<NodeId> {
        if self.nodes.len() <= count {
            let others = self.nodes.iter().filter(|node| Some(**node) != except);
            return others.copied().collect();
        }
        let mut picked = Vec::with_capacity(count);
        // With more members than are wanted, each draw succeeds with some probability.
        for _ in 0..count * 8 {
            let drawn = self.nodes.get(below(entropy, self.nodes.len())).copied();
            let Some(node) = drawn.filter(|node| Some(*node) != except) else { continue };
            if !picked.contains(&node) {
                picked.push(node);
                if picked.len() == count {
                    break;
                }
            }
        }
        picked
    }
}

pub(super) fn below(entropy: &mut Entropy, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    usize::try_from(entropy.below(bound)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Ring;
    use macula_core::entropy::Entropy;
    use macula_core::identity::{Keypair, NodeId};

    fn nodes(count: u8) -> Vec<NodeId> {
        (1..=count).map(|seed| Keypair::from_seed([seed; 32]).node_id()).collect()
    }

    #[test]
    fn a_round_is_complete_whoever_comes_and_goes() {
        let (mut ring, mut entropy, nodes) = (Ring::default(), Entropy::from_seed(1), nodes(9));
        assert_eq!(ring.turn(&mut entropy), None);
        for node in &nodes[..7] {
            ring.insert(*node, &mut entropy);
        }
        for _ in 0..20 {
            // One that was probed goes, and another comes: the others are probed all the same.
            let first: Vec<NodeId> = (0..3).filter_map(|_| ring.turn(&mut entropy)).collect();
            ring.remove(first[1]);
            ring.insert(nodes[8], &mut entropy);
            let rest: Vec<NodeId> = (0..5).filter_map(|_| ring.turn(&mut entropy)).collect();
            let probed: BTreeSet<NodeId> = first.iter().chain(&rest).copied().collect();
            assert_eq!(probed.len(), 8, "each once");
            ring.remove(nodes[8]);
            ring.insert(first[1], &mut entropy);
            // To the end of the round.
            while ring.next < ring.nodes.len() {
                ring.turn(&mut entropy);
            }
        }
    }

    #[test]
    fn a_pick_is_of_different_members_without_the_exception() {
        let (mut ring, mut entropy, nodes) = (Ring::default(), Entropy::from_seed(1), nodes(5));
        for node in &nodes {
            ring.insert(*node, &mut entropy);
        }
        for count in [1, 3, 4, 5, 9] {
            let picked = ring.pick(count, Some(nodes[2]), &mut entropy);
            assert!(!picked.contains(&nodes[2]));
            let different: BTreeSet<&NodeId> = picked.iter().collect();
            assert_eq!((different.len(), picked.len()), (count.min(4), count.min(4)));
        }
    }
}
