//! All keys of a bucket as numbers, for one comparison.

use std::ops::Bound;
use std::sync::Arc;

use super::sketch::Sketch;
use crate::crdt::bucket::{Bucket, Entry};
use crate::crdt::state::State;

/// A key with all of its states, as a hash in two parts.
#[derive(Debug, Clone)]
struct Item {
    id: u64,
    rest: u64,
    key: Arc<str>,
}

/// The keys at one moment, each with a hash of what it had. The hashes hang on the name of the
/// comparison, so that nobody can look for two that are equal.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Snapshot {
    /// In the order of their ids.
    items: Vec<Item>,
    /// The sum of the rests of all hashes.
    sum: u64,
}

impl Snapshot {
    pub(in crate::crdt) fn of(bucket: &Bucket, session: u64) -> Self {
        let mut salt = blake3::Hasher::new();
        salt.update(b"macula crdt snapshot").update(&session.to_be_bytes());
        let salt = *salt.finalize().as_bytes();
        let (mut items, mut sum) = (Vec::with_capacity(bucket.len()), 0_u64);
        let mut entries = bucket.entries(Bound::Unbounded).peekable();
        while let Some((key, entry)) = entries.next() {
            let mut hash = blake3::Hasher::new_keyed(&salt);
            hash.update(&entry.digest());
            while let Some((_, entry)) = entries.next_if(|(next, _)| *next == key) {
                hash.update(&entry.digest());
            }
            hash.update(key.as_bytes());
            let mut both = [0; 16];
            hash.finalize_xof().fill(&mut both);
            let both = u128::from_be_bytes(both);
            let id = u64::try_from(both >> 64).unwrap_or(0);
            let rest = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
            sum = sum.wrapping_add(rest);
            items.push(Item { id, rest, key: Arc::clone(key) });
        }
        items.sort_unstable_by_key(|item| item.id);
        Self { items, sum }
    }

    pub(in crate::crdt) const fn sum(&self) -> u64 {
        self.sum
    }

    pub(in crate::crdt) fn sketch(&self) -> Sketch {
        Sketch::of(self.items.iter().map(|item| item.id))
    }

    /// The key of an id, and the rest of the hash.
    pub(in crate::crdt) fn find(&self, id: u64) -> Option<(&Arc<str>, u64)> {
        let at = self.items.binary_search_by_key(&id, |item| item.id).ok()?;
        self.items.get(at).map(|item| (&item.key, item.rest))
    }
}

/// What a bucket has under a key.
pub(in crate::crdt) fn slot<'a>(
    bucket: &'a Bucket,
    key: &'a str,
) -> impl Iterator<Item = &'a Entry> {
    let entries = bucket.entries(Bound::Included(key));
    entries.take_while(move |(other, _)| &***other == key).map(|(_, entry)| entry)
}

/// The same, to be sent.
pub(in crate::crdt) fn states(bucket: &Bucket, key: &str) -> Vec<State> {
    slot(bucket, key).map(|entry| entry.state().clone()).collect()
}

/// Whether a bucket has under a key just these.
pub(in crate::crdt) fn has_just(bucket: &Bucket, key: &str, states: &[State]) -> bool {
    slot(bucket, key).map(|entry| entry.digest()).eq(states.iter().map(State::digest))
}
