//! What a bucket forgets for good: replicas that write no more, and what others than one node did.

use std::sync::Arc;

use macula_core::replica::ReplicaId;

use super::{Bucket, Entry, KeyDelta, Slots, weight_of};
use crate::crdt::context::Context;
use crate::crdt::dot::Dot;
use crate::crdt::state::State;

impl Bucket {
    /// Forgets that a replica was there: whatever of it is still live up to a counter is removed, and
    /// its dots leave the context. Every member has to do so, and to take nothing any more that was
    /// said before it did: whoever still had one of its dots would bring it back. Gives the keys that
    /// changed.
    pub fn forget(&mut self, departed: &[(ReplicaId, u64)]) -> Vec<Arc<str>> {
        let mut dead = Context::default();
        for &(replica, last) in departed {
            dead.insert_span(Dot { replica, counter: 1 }, last);
        }
        let changed = self.keep(|dot| !dead.contains(dot));
        for &(replica, _) in departed {
            self.context.forget(replica);
        }
        changed
    }

    /// The same replica with nothing but what one node has done, of which `known` says what others
    /// had seen: of that it has nothing, and does not know that it was there.
    #[must_use]
    pub fn own_part(&self, node: u64, known: &Context) -> Self {
        let mut own = self.clone();
        let mut foreign = Context::default();
        for (first, last) in self.context.spans() {
            if first.replica.node != node {
                foreign.insert_span(first, last);
            }
        }
        own.context = self.context.minus(&foreign);
        let mut live = Context::default();
        for entry in self.slots.values().flatten() {
            entry.state.visit(&mut |dot| {
                live.insert(dot);
            });
        }
        own.keep(|dot| dot.replica.node == node && !known.contains(dot));
        own.context = own.context.minus(&live.meet(known));
        own
    }

    /// Whether any dot of a replica is live.
    #[must_use]
    pub fn live_of(&self, replicas: &[ReplicaId]) -> Vec<ReplicaId> {
        let mut live: Vec<ReplicaId> = Vec::new();
        for entry in self.slots.values().flatten() {
            entry.state.visit(&mut |dot| {
                if replicas.contains(&dot.replica) && !live.contains(&dot.replica) {
                    live.push(dot.replica);
                }
            });
        }
        live
    }

    /// Puts back what this replica had itself: no limit holds, and no clock is asked.
    pub(in crate::crdt) fn put_back(&mut self, key: &Arc<str>, state: State) {
        // Two states of one kind under one key were never written: the first one stays.
        let _: Option<()> = self.insert(key, state);
    }

    /// Puts back a change that this replica had taken.
    pub(in crate::crdt) fn put_back_change(&mut self, change: &KeyDelta) {
        let KeyDelta { key, delta } = change;
        // It was joined before, with the same state.
        let _: Option<bool> = self.join_slot(key, &delta.state, &delta.context);
        self.context.join(&delta.context);
    }

    /// Removes live dots of which `stays` is not true. Gives the keys that changed.
    fn keep(&mut self, stays: impl Fn(Dot) -> bool) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        let mut kept = Slots::new();
        self.weight = 0;
        for (key, mut slot) in std::mem::take(&mut self.slots) {
            for entry in &mut slot {
                let gone = gone_of(entry, &stays);
                if gone.is_empty() {
                    continue;
                }
                self.summary.change(&key, entry);
                // It has seen all of its dots, and is told that these are gone.
                let (seen, bottom) = (entry.state.dots(), entry.state.bottom());
                entry.state.join(&seen, &bottom, &gone);
                if changed.last() != Some(&key) {
                    changed.push(Arc::clone(&key));
                }
            }
            slot.retain(|entry| !entry.state.is_bottom());
            self.weight += slot.iter().map(|entry| weight_of(&key, &entry.state)).sum::<usize>();
            if !slot.is_empty() {
                kept.insert(key, slot);
            }
        }
        self.slots = kept;
        changed
    }
}

/// The live dots that do not stay.
fn gone_of(entry: &Entry, stays: &impl Fn(Dot) -> bool) -> Context {
    let mut gone = Context::default();
    entry.state.visit(&mut |dot| {
        if !stays(dot) {
            gone.insert(dot);
        }
    });
    gone
}
