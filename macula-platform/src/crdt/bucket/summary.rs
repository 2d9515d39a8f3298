//! One number for all that a bucket has.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::{Bucket, Entry};
use crate::crdt::codec::Digest;

/// The sum of the hashes of all entries, as far as they are counted; and the keys that have others.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    sum: u128,
    dirty: BTreeSet<Arc<str>>,
}

fn hash_of(key: &str, digest: &Digest) -> u128 {
    let mut hash = blake3::Hasher::new();
    hash.update(digest).update(key.as_bytes());
    let mut first = [0; 16];
    hash.finalize_xof().fill(&mut first);
    u128::from_be_bytes(first)
}

impl Summary {
    /// An entry has come.
    pub(super) fn come(&mut self, key: &Arc<str>) {
        if !self.dirty.contains(key) {
            self.dirty.insert(Arc::clone(key));
        }
    }

    /// An entry has changed.
    pub(super) fn change(&mut self, key: &Arc<str>, entry: &mut Entry) {
        self.go(key, entry);
        entry.digest = OnceLock::new();
        self.come(key);
    }

    /// A key has no entries any more.
    pub(super) fn gone(&mut self, key: &str) {
        self.dirty.remove(key);
    }

    /// How many keys are to be looked at when the number is wanted.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.dirty.len()
    }

    /// An entry goes, or what is known of it.
    pub(super) fn go(&mut self, key: &Arc<str>, entry: &mut Entry) {
        if std::mem::take(&mut entry.counted) {
            self.sum = self.sum.wrapping_sub(hash_of(key, &entry.digest()));
        }
    }
}

impl Bucket {
    /// A number for all states under their keys: two buckets have the same number if they have the same
    /// states, and other ones, but for chance, if not. It costs as much as has changed since it was
    /// asked for.
    ///
    /// It is a sum of hashes, so that whoever chooses very many states can have two sums meet.
    pub fn summary(&mut self) -> u128 {
        for key in std::mem::take(&mut self.summary.dirty) {
            for entry in self.slots.get_mut(&key).into_iter().flatten() {
                if !std::mem::replace(&mut entry.counted, true) {
                    let hash = hash_of(&key, &entry.digest());
                    self.summary.sum = self.summary.sum.wrapping_add(hash);
                }
            }
        }
        self.summary.sum
    }
}
