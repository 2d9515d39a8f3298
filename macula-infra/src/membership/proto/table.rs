//! The members, the departed, and the sums over the view.

use std::collections::BTreeMap;
use std::time::Instant;

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::super::update::{Belief, Claim, Stamp, Status, Verdict};
use super::BUCKETS;
use super::ring::below;
use super::suspicion::Suspicion;

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) belief: Belief,
    /// There is one exactly if the status is suspect.
    pub(super) suspicion: Option<Box<Suspicion>>,
}

/// One that was a member, here or elsewhere.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) belief: Belief,
    /// Who holds it to be gone.
    pub(super) by: NodeId,
    /// Whether it was a member here, and not only in the memory of others.
    pub(super) met: bool,
    /// When it was last told so without having asked for an answer.
    pub(super) accused_at: Option<Instant>,
}

impl Gone {
    /// What is claimed of it, unless it says so itself.
    pub(super) fn claim(&self) -> Option<Claim> {
        let Belief { seen, status } = &self.belief;
        (*status == Status::Down).then(|| Claim {
            node: seen.node(),
            stamp: seen.stamp(),
            verdict: Verdict::Down,
            by: self.by,
        })
    }
}

/// The departed, up to a bound. For another one those that have left give way, and if there are
/// none those that are down, at random: whoever makes many short-lived members must not be able to
/// choose which are forgotten.
#[derive(Debug, Default)]
pub(super) struct Departed {
    down: BTreeMap<NodeId, Gone>,
    left: BTreeMap<NodeId, Gone>,
}

impl Departed {
    pub(super) fn len(&self) -> usize {
        self.down.len() + self.left.len()
    }

    pub(super) fn down_len(&self) -> usize {
        self.down.len()
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Gone> {
        self.down.get(node).or_else(|| self.left.get(node))
    }

    pub(super) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Gone> {
        self.down.get_mut(node).or_else(|| self.left.get_mut(node))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &Gone)> {
        self.down.iter().chain(&self.left)
    }

    pub(super) fn remove(&mut self, node: &NodeId) -> Option<Gone> {
        self.down.remove(node).or_else(|| self.left.remove(node))
    }

    /// Remembers one more, and says who is forgotten for it.
    pub(super) fn insert(
        &mut self,
        gone: Gone,
        max: usize,
        entropy: &mut Entropy,
    ) -> Option<NodeId> {
        let node = gone.belief.seen.node();
        self.remove(&node);
        let forgotten = if self.len() < max {
            None
        } else {
            let from = if self.left.is_empty() { &mut self.down } else { &mut self.left };
            let victim = nth(from, below(entropy, from.len()));
            victim.inspect(|node| {
                from.remove(node);
            })
        };
        let into = if gone.belief.status == Status::Left { &mut self.left } else { &mut self.down };
        into.insert(node, gone);
        forgotten
    }

    /// The one that is down and has this place among them.
    pub(super) fn nth_down(&self, place: usize) -> Option<NodeId> {
        nth(&self.down, place)
    }
}

fn nth(nodes: &BTreeMap<NodeId, Gone>, place: usize) -> Option<NodeId> {
    nodes.keys().nth(place).copied()
}

/// Sums over all nodes that are held to be there, in buckets of neighbouring node ids. Two views
/// with equal sums are equal, or somebody has gone to great pains.
#[derive(Debug)]
pub(super) struct Sums([u64; BUCKETS]);

impl Default for Sums {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Sums {
    /// Takes a presence in, or out again.
    pub(super) fn toggle(&mut self, node: NodeId, stamp: Stamp) {
        if let Some(sum) = self.0.get_mut(usize::from(bucket(node))) {
            *sum ^= line(node, stamp);
        }
    }

    pub(super) const fn all(&self) -> &[u64; BUCKETS] {
        &self.0
    }
}

/// In which bucket a node is; nodes of one bucket follow on one another.
pub(super) fn bucket(node: NodeId) -> u8 {
    let [first, ..] = *node.as_bytes();
    first / 4
}

fn line(node: NodeId, stamp: Stamp) -> u64 {
    let words = node.as_bytes().as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
    words.chain([stamp.life, stamp.version]).fold(0, |sum, word| mixed(sum ^ word))
}

/// Splitmix64's finalizer (Steele, Lea and Flood, OOPSLA 2014).
const fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
