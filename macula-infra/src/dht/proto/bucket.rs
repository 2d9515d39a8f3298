//! A bucket: up to k peers whose keys have a prefix of one length in common with the table's own.

use std::time::Instant;

use macula_core::identity::NodeId;

use super::diversity::{Limits, Prefix};
use super::peer::Peer;

/// A peer in a bucket or its replacement cache.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) peer: Peer,
    /// The network under which it counts. It is with the entry, since all of a table are counted
    /// often, and peers lie far apart in memory.
    pub(super) prefix: Option<Prefix>,
    pub(super) last_seen: Instant,
    /// How many times it failed in a row.
    pub(super) failures: u8,
}

/// Peers, the least recently seen first, and those that wait for the place of one.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) entries: Vec<Entry>,
    pub(super) cache: Vec<Entry>,
    /// When it asks for a lookup, unless one comes first.
    pub(super) refresh_at: Instant,
    /// Who is questioned now, and when that is given up.
    pub(super) question: Option<(NodeId, Instant)>,
}

impl Bucket {
    pub(super) const fn new(refresh_at: Instant) -> Self {
        Self { entries: Vec::new(), cache: Vec::new(), refresh_at, question: None }
    }

    pub(super) fn position(&self, peer: &Peer) -> Option<usize> {
        position(&self.entries, peer)
    }

    pub(super) fn entry_mut(&mut self, peer: &Peer) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.peer.node() == peer.node())
    }

    /// How many of its entries count under a prefix.
    pub(super) fn count(&self, prefix: Prefix) -> usize {
        count(&self.entries, prefix)
    }

    /// Puts an entry where its age says.
    pub(super) fn insert(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|other| other.last_seen <= entry.last_seen);
        self.entries.insert(at, entry);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, peer: &Peer) -> Option<Entry> {
        self.position(peer).map(|at| self.entries.remove(at))
    }

    /// Takes a peer out of the replacement cache.
    pub(super) fn uncache(&mut self, peer: &Peer) {
        if let Some(at) = position(&self.cache, peer) {
            self.cache.remove(at);
        }
    }

    /// Keeps a peer for the day when a place becomes free; says whether it is kept. The one that
    /// was seen longest ago makes way for it.
    pub(super) fn keep(&mut self, entry: Entry, cache_len: usize, limits: &Limits) -> bool {
        self.uncache(&entry.peer);
        let full = |prefix| count(&self.cache, prefix) >= limits.bucket_max;
        if entry.prefix.is_some_and(full) {
            return false;
        }
        if self.cache.len() >= cache_len && !self.cache.is_empty() {
            self.cache.remove(0);
        }
        if self.cache.len() < cache_len {
            self.cache.push(entry);
        }
        true
    }

    /// The entry that has failed too often and was seen longest ago.
    pub(super) fn questionable(&self, failures_max: u8) -> Option<usize> {
        self.entries.iter().position(|entry| entry.failures >= failures_max)
    }

    /// The memory that its lists hold, in bytes.
    pub(super) const fn heap_len(&self) -> usize {
        (self.entries.capacity() + self.cache.capacity()) * size_of::<Entry>()
    }
}

fn position(entries: &[Entry], peer: &Peer) -> Option<usize> {
    entries.iter().position(|entry| entry.peer.node() == peer.node())
}

fn count(entries: &[Entry], prefix: Prefix) -> usize {
    entries.iter().filter(|entry| entry.prefix == Some(prefix)).count()
}
