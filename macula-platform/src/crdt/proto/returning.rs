//! What becomes of those that were away while the group went on.
//!
//! Each collection begins an *epoch*, and nothing that was said in another one is taken. A member that
//! missed one is told what was collected, and does the same. One that was given up and missed more is
//! told to begin anew: it has what it alone had written, of which nobody knew, and takes all else from
//! the others. So it brings nothing back that was removed meanwhile.
//!
//! Whoever comes to an epoch, by whichever of these ways or as one that is new, is told what was collected
//! last, so that each member can tell it to the next one.
//!
//! A group that was never in touch with this one has another *lineage*: what the one has forgotten the
//! other one has never had, so both come together as they are.

use std::time::Instant;

use macula_core::replica::ReplicaId;

use super::Replica;
use super::buffer::Buffer;
use super::epoch::{Collection, Epoch, Lineages};
use super::message::Message;
use super::stability::of_node;
use crate::crdt::context::Context;

impl Replica {
    /// Whether a node of these lineages has missed more than the last collection of this group, or has
    /// collected something else meanwhile.
    pub(super) fn is_long_gone(&self, epoch: Epoch, lineages: &Lineages) -> bool {
        let own = (self.group.epoch, self.group.collection.before);
        self.group.lineages.have_passed(own, epoch, lineages)
    }

    /// Tells a node that is in an earlier epoch what it has missed.
    pub(super) fn tell_epoch(&mut self, to: u64, epoch: Epoch, lineages: &Lineages) {
        let own = self.group.lineages.clone();
        if self.is_long_gone(epoch, lineages) {
            // Of one that is not remembered it is not known what of it was.
            let known = self.group.roster.seat(to).map(|_| {
                let mut known = of_node(self.bucket.context(), to);
                if let Some(told) = self.group.roster.known_of(to) {
                    known.join(told);
                }
                known
            });
            let collection = self.group.collection.clone();
            return self.send(to, &Message::Resync { collection, known, lineages: own });
        }
        let collection = self.group.collection.clone();
        self.send(to, &Message::Collect { collection, lineages: own });
    }

    pub(super) fn told_collection(
        &mut self,
        now: Instant,
        from: u64,
        collection: &Collection,
        lineages: &Lineages,
    ) {
        let are_strangers = !self.group.lineages.shares(lineages);
        let is_next = collection.before == self.group.epoch;
        if collection.epoch() > self.group.epoch && (is_next || are_strangers) {
            // The others of its group have missed nothing of the one to which it comes over: they are
            // strangers to it as this one was, but for those that had missed something before.
            if are_strangers {
                let crossing = (self.group.epoch, collection.epoch());
                self.group.lineages.cross(crossing, lineages);
            }
            self.collect(now, collection);
            self.join_lineages(lineages);
            self.greet(now, from, true);
        }
    }

    /// Forgets what was collected.
    pub(super) fn collect(&mut self, now: Instant, collection: &Collection) {
        let changed = self.bucket.forget(&collection.departed);
        let replicas: Vec<ReplicaId> =
            collection.departed.iter().map(|(replica, _)| *replica).collect();
        self.buffer.forget(&replicas);
        self.group.epoch = collection.epoch();
        self.group.collection = collection.clone();
        if replicas.contains(&self.bucket.replica()) {
            self.begin_incarnation(now);
        }
        self.journal.rewrite(Some(changed));
        self.journal.group();
        self.forget_stability();
        // It was said before.
        self.deferred.clear();
        self.end_comparing(now);
        self.waits.stale = true;
    }

    /// Writes as another one from now on.
    pub(super) fn begin_incarnation(&mut self, now: Instant) {
        let wall_ms = u64::try_from(self.wall(now).as_millis()).unwrap_or(u64::MAX);
        self.group.incarnation = wall_ms.max(self.group.incarnation.saturating_add(1));
        let replica = ReplicaId { node: self.node, incarnation: self.group.incarnation };
        self.bucket.write_as(replica, 0, u64::MAX);
        self.roster_changed(now);
    }

    pub(super) fn told_resync(
        &mut self,
        now: Instant,
        collection: Collection,
        known: Option<&Context>,
        lineages: &Lineages,
    ) {
        let theirs = (collection.epoch(), collection.before);
        let is_gone = lineages.have_passed(theirs, self.group.epoch, &self.group.lineages);
        if !is_gone {
            return;
        }
        let all = self.bucket.context().clone();
        self.bucket = self.bucket.own_part(self.node, known.unwrap_or(&all));
        self.stats.resyncs += 1;
        self.group.epoch = collection.epoch();
        self.group.lineages.clone_from(lineages);
        self.group.collection = collection;
        self.begin_incarnation(now);
        // What is left goes by comparisons.
        self.buffer = Buffer::after(self.buffer.last());
        self.journal.rewrite(None);
        self.journal.group();
        self.forget_stability();
        // It was said before.
        self.deferred.clear();
        self.end_comparing(now);
        let silent: Vec<u64> = self.links.keys().copied().collect();
        for link in self.links.values_mut() {
            (link.active, link.behind) = (false, true);
        }
        silent.into_iter().for_each(|node| self.falls_silent(now, node));
        self.waits.stale = true;
    }
}
