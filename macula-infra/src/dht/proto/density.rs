//! Density: how many nodes there are, told from how close the closest ones are to a key.
//!
//! # How it is computed
//!
//! Keys are hashes, so the distances of n nodes from any key, as fractions of the whole space, are n
//! uniform numbers; near the key they are a Poisson process of rate n, and the distance x to the
//! k-th closest has the Gamma distribution of shape k. So `(k - 1) / x` is n without bias, with a
//! standard error of n / √(k - 2): 24 % for k = 20 (Cohen, *Size-Estimation Framework with
//! Applications to Transitive Closure and Reachability*, JCSS 55, 1997). An [`Estimator`] takes the median over the
//! last lookups, so that up to half of them can be poisoned; for 16 the error is about 8 %.
//!
//! # What it is for
//!
//! Whoever wants to hide a record makes nodes until the k closest to its key are all his own; or
//! answers lookups with his own nodes only. The first makes the neighbourhood too dense, the second
//! makes it look too sparse. Both show against the estimate, and the answer to both is to store with
//! all nodes of the region in which k honest ones are to be expected, instead of with k nodes
//! (Sridhar and others, *Content Censorship in the `InterPlanetary` File System*, NDSS 2024).

use std::collections::VecDeque;

use super::peer::Peer;
use crate::dht::key::Key;

/// Of how many lookups an estimator remembers the outcome.
pub const SAMPLES_MAX: usize = 16;

/// To how many times k nodes a store set is widened at most.
pub const WIDEN_MAX: usize = 4;

/// How many times more nodes than were found have to be expected in a region before it is sparse.
/// Chance does that to one of 5,000 lookups for k = 20.
const SPARSE: f64 = 2.0;

/// Of the nodes that were found, which part has to be expected before the region is dense. Chance
/// does that to one of 300 lookups for k = 20.
const DENSE: f64 = 0.5;

/// How far a key is from another, as a fraction of the whole key space, in `0.0..1.0`.
#[must_use]
pub fn fraction(one: &Key, other: &Key) -> f64 {
    let bytes = one.as_bytes().iter().zip(other.as_bytes()).map(|(one, other)| one ^ other);
    let mut sum = 0.0;
    let mut unit = 1.0;
    for byte in bytes {
        unit /= 256.0;
        sum += f64::from(byte) * unit;
    }
    sum
}

/// The number of nodes that a lookup's outcome speaks for: `peers` are the closest ones to a key,
/// and `k` is how many were wanted. None if they say nothing.
#[must_use]
pub fn estimate(target: &Key, peers: &[Peer], k: usize) -> Option<f64> {
    if peers.len() < k {
        // These are all that there are.
        return Some(as_f64(peers.len()));
    }
    let farthest = radius(target, peers);
    (farthest > 0.0 && peers.len() > 1).then(|| as_f64(peers.len() - 1) / farthest)
}

/// What the outcomes of many lookups say together.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    samples: VecDeque<f64>,
}

impl Estimator {
    /// Notes the outcome of a lookup: the closest peers to its target, of which `k` were wanted.
    pub fn add(&mut self, target: &Key, peers: &[Peer], k: usize) {
        if let Some(sample) = estimate(target, peers, k) {
            if self.samples.len() >= SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(sample);
        }
    }

    /// How many nodes there are: the median of what the lookups say; none before the first.
    #[must_use]
    pub fn population(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.samples.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// How the closest nodes that were found look beside what the population makes likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Density {
    /// As many as there should be.
    Likely,
    /// Too many: some of them may have been made for this place.
    Dense,
    /// Too few: somebody may be hiding others.
    Sparse,
}

/// What to do about a store set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// How the region looks.
    pub density: Density,
    /// With how many of the closest nodes the record belongs: k if all is well, and up to
    /// [`WIDEN_MAX`] times as many.
    pub nodes: usize,
}

/// Advises on the store set of a key, given the closest nodes found, and the estimated population.
///
/// With n nodes in the mesh, `x` the distance of the k-th closest as a fraction of the key space,
/// `n * x` nodes are to be expected where k were found. If that is more than 2 k, others are hidden,
/// and the record goes to as many as are expected. If it is less than k / 2, then whoever has made
/// nodes there has made the region `k / (n * x)` times as dense as it should be. To reach out to
/// `k / n`, within which k honest nodes are expected, it goes to `k + k * k / (n * x)` nodes: his,
/// and k more.
#[must_use]
pub fn advise(target: &Key, peers: &[Peer], k: usize, population: Option<f64>) -> Advice {
    let likely = Advice { density: Density::Likely, nodes: k };
    let Some(population) = population.filter(|_| peers.len() >= k) else { return likely };
    let expected = population * radius(target, peers.get(..k).unwrap_or(peers));
    let at_most = |nodes: f64| count(nodes).min(WIDEN_MAX * k);
    if expected > SPARSE * as_f64(k) {
        Advice { density: Density::Sparse, nodes: at_most(expected) }
    } else if expected < DENSE * as_f64(k) {
        // The denser it is, the more of those who are close may be of one hand.
        let crowd = as_f64(k) / expected.max(1.0);
        Advice { density: Density::Dense, nodes: at_most(as_f64(k) * (1.0 + crowd)) }
    } else {
        likely
    }
}

/// The distance of the farthest.
fn radius(target: &Key, peers: &[Peer]) -> f64 {
    peers.iter().map(|peer| fraction(target, &peer.key())).fold(0.0, f64::max)
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A number of nodes, rounded up, without a lossy cast.
fn count(nodes: f64) -> usize {
    let whole = std::time::Duration::try_from_secs_f64(nodes.max(0.0).ceil());
    whole.map_or(usize::MAX, |whole| usize::try_from(whole.as_secs()).unwrap_or(usize::MAX))
}
