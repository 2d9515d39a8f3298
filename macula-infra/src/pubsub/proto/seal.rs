//! Signatures of broadcasts: whatever part a message comes from, its publisher has published it, to that
//! topic and at that place.
//!
//! A signature for each message would cost a part more than all else that it does with it. So those that
//! are published together are signed together: they are the leaves of a hash tree (Merkle, 1987), its root
//! is signed once, and each goes with that signature and its own path to the root. A part that has
//! verified a root verifies the others of its run by a few hashes.
//!
//! A part may say that a message which has an end is over; then the hash of what it said is in its
//! place, so that the leaf is the same. Of one that has none nobody can say that.

use std::collections::VecDeque;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use macula_core::identity::{Keypair, NodeId, Signature, digest};

use super::word::TreeId;

/// How many messages are signed together.
pub(crate) const RUN_MAX: usize = 16;

/// How many of the last roots that were verified a part remembers. Messages come in another order than
/// they were published.
const ROOTS_MAX: usize = 64;

/// What is signed begins with this, and is nothing else.
const CONTEXT: &[u8] = b"macula broadcast 1";

type Hash = [u8; 32];

/// A message of a broadcast, as its publisher has signed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaf {
    /// Its number in the broadcast.
    pub(crate) sequence: u64,
    /// Whether it has an end.
    pub(crate) is_mortal: bool,
    /// The hash of what it says.
    pub(crate) digest: Hash,
}

impl Leaf {
    pub(crate) fn new(sequence: u64, is_mortal: bool, payload: &[u8]) -> Self {
        Self { sequence, is_mortal, digest: digest(payload) }
    }

    fn hash(&self, tree: TreeId) -> Hash {
        let mut bytes = BytesMut::with_capacity(96);
        bytes.put_u8(0);
        bytes.put_slice(tree.publisher.as_bytes());
        bytes.put_u64(tree.number);
        bytes.put_u64(self.sequence);
        bytes.put_u8(self.is_mortal.into());
        bytes.put_slice(&self.digest);
        digest(&bytes)
    }
}

fn above(left: &Hash, right: &Hash) -> Hash {
    digest(&[&[1], left.as_slice(), right.as_slice()].concat())
}

fn signed(root: &Hash, count: u8) -> Vec<u8> {
    [CONTEXT, root.as_slice(), &[count]].concat()
}

/// Signs the messages of a run, and gives what goes with each.
pub(crate) fn seal(key: &Keypair, tree: TreeId, run: &[Leaf]) -> Vec<Bytes> {
    let mut level: Vec<Hash> = run.iter().map(|leaf| leaf.hash(tree)).collect();
    let mut paths: Vec<Vec<Hash>> = vec![Vec::new(); level.len()];
    let mut height = 0;
    while level.len() > 1 {
        for (place, path) in paths.iter_mut().enumerate() {
            path.extend(level.get((place >> height) ^ 1));
        }
        let pairs = level.chunks(2).map(|pair| match pair {
            [left, right] => above(left, right),
            // One without another goes up as it is.
            alone => alone.first().copied().unwrap_or_default(),
        });
        level = pairs.collect();
        height += 1;
    }
    let count = u8::try_from(run.len()).unwrap_or(u8::MAX);
    let root = level.first().copied().unwrap_or_default();
    let signature = key.sign(&signed(&root, count));
    let places = paths.iter().zip(0_u8..);
    places
        .zip(run)
        .map(|((path, place), leaf)| {
            let mut seal = BytesMut::with_capacity(3 + path.len() * 32 + 64);
            seal.put_slice(&[leaf.is_mortal.into(), place, count]);
            path.iter().for_each(|hash| seal.put_slice(hash));
            seal.put_slice(signature.as_bytes());
            seal.freeze()
        })
        .collect()
}

/// What a part has verified of a broadcast.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    roots: VecDeque<Hash>,
}

impl Seals {
    /// Whether the publisher of a broadcast has published a message with this number. `left_ms` is how
    /// long it is still good for, as is said of it; `payload` is what it says or, if it is over, the hash
    /// of that.
    pub(crate) fn hold(
        &mut self,
        tree: TreeId,
        (sequence, left_ms): (u64, Option<u64>),
        payload: &[u8],
        seal: &Bytes,
    ) -> bool {
        let mut seal = seal.clone();
        let (Ok(mortal), Ok(place), Ok(count)) =
            (seal.try_get_u8(), seal.try_get_u8(), seal.try_get_u8())
        else {
            return false;
        };
        let is_mortal = mortal == 1;
        if mortal > 1 || is_mortal != left_ms.is_some() {
            return false;
        }
        let leaf = match left_ms {
            Some(0) => {
                <_>::try_from(payload).ok().map(|digest| Leaf { sequence, is_mortal, digest })
            }
            _ => Some(Leaf::new(sequence, is_mortal, payload)),
        };
        let Some(root) = leaf.and_then(|leaf| root(leaf.hash(tree), (place, count), &mut seal))
        else {
            return false;
        };
        self.is_signed(tree.publisher, root, (count, &seal))
    }

    fn is_signed(
        &mut self,
        publisher: NodeId,
        root: Hash,
        (count, signature): (u8, &[u8]),
    ) -> bool {
        if self.roots.contains(&root) {
            return true;
        }
        let Ok(signature) = <[u8; 64]>::try_from(signature) else { return false };
        let signature = Signature::from_bytes(signature);
        let is_good = publisher.verify(&signed(&root, count), &signature).is_ok();
        if is_good {
            self.roots.push_back(root);
            if self.roots.len() > ROOTS_MAX {
                self.roots.pop_front();
            }
        }
        is_good
    }
}

/// The root above a leaf at a place among so many, whose path a seal begins with.
fn root(leaf: Hash, (place, count): (u8, u8), seal: &mut Bytes) -> Option<Hash> {
    if place >= count || usize::from(count) > RUN_MAX {
        return None;
    }
    let (mut hash, mut place, mut count) = (leaf, place, count);
    while count > 1 {
        if place ^ 1 < count {
            let mut other = Hash::default();
            seal.try_copy_to_slice(&mut other).ok()?;
            let is_right = place % 2 == 1;
            hash = if is_right { above(&other, &hash) } else { above(&hash, &other) };
        }
        (place, count) = (place / 2, count.div_ceil(2));
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use macula_core::identity::{Keypair, digest};

    use super::{Leaf, RUN_MAX, Seals, seal};
    use crate::pubsub::proto::word::TreeId;

    fn key(number: u8) -> Keypair {
        Keypair::from_seed([number; 32])
    }

    fn tree() -> TreeId {
        TreeId { publisher: key(1).node_id(), number: 8 }
    }

    /// A run of messages from a number on, every third of which has an end.
    fn run(from: u64, len: usize) -> Vec<(Leaf, Vec<u8>)> {
        let one = |sequence: u64| {
            let payload = sequence.to_be_bytes().to_vec();
            (Leaf::new(sequence, sequence.is_multiple_of(3), &payload), payload)
        };
        (from..).take(len).map(one).collect()
    }

    fn sealed(by: &Keypair, run: &[(Leaf, Vec<u8>)]) -> Vec<Bytes> {
        seal(by, tree(), &run.iter().map(|(leaf, _)| *leaf).collect::<Vec<_>>())
    }

    #[test]
    fn each_of_a_run_holds_alone_and_over_or_not() {
        for len in 1..=RUN_MAX {
            let run = run(5, len);
            let seals = sealed(&key(1), &run);
            assert_eq!(seals.len(), len);
            for ((leaf, payload), seal) in run.iter().zip(&seals) {
                let left = leaf.is_mortal.then_some(7);
                assert!(Seals::default().hold(tree(), (leaf.sequence, left), payload, seal));
                let over =
                    Seals::default().hold(tree(), (leaf.sequence, Some(0)), &digest(payload), seal);
                assert_eq!(over, leaf.is_mortal, "{leaf:?}");
            }
        }
    }

    #[test]
    fn nothing_else_holds() {
        let run = run(5, 7);
        let seals = sealed(&key(1), &run);
        let forged = sealed(&key(2), &run);
        let other = TreeId { number: 16, ..tree() };
        // Also where its run is known to be good.
        let mut known = Seals::default();
        for ((leaf, payload), seal) in run.iter().zip(&seals) {
            let of = (leaf.sequence, leaf.is_mortal.then_some(7));
            assert!(known.hold(tree(), of, payload, seal));
        }
        for (place, (leaf, payload)) in run.iter().enumerate() {
            let of = (leaf.sequence, leaf.is_mortal.then_some(7));
            for seals_known in [&mut Seals::default(), &mut known] {
                let mut holds = |tree, of, payload: &[u8], seal: &Bytes| {
                    seals_known.hold(tree, of, payload, seal)
                };
                let seal = &seals[place];
                assert!(!holds(tree(), (leaf.sequence + 1, of.1), payload, seal));
                assert!(!holds(tree(), of, b"lies", seal));
                assert!(!holds(tree(), of, payload, &seals[(place + 1) % 7]));
                assert!(!holds(other, of, payload, seal));
                assert!(!holds(tree(), of, payload, &Bytes::new()));
                let mortal = if leaf.is_mortal { None } else { Some(7) };
                assert!(!holds(tree(), (leaf.sequence, mortal), payload, seal));
                for cut in 0..seal.len().min(60) {
                    assert!(!Seals::default().hold(tree(), of, payload, &seal.slice(..cut)));
                }
            }
            assert!(!Seals::default().hold(tree(), of, payload, &forged[place]));
        }
    }
}
