//! Subscriptions of this node.

use std::time::Instant;

use super::super::subscribers::{Room, Wish};
use super::super::topics::Audience;
use super::super::word::{FlowId, PREFIXES_MAX, Route, Standing, SubId, Wanted};
use super::Broker;

impl Broker {
    pub(super) fn subscribe(&mut self, now: Instant, id: SubId, wish: Wish) {
        let Wish { wanted, replay, .. } = wish.clone();
        self.subscribers.add(id, wish);
        if replay.is_wanted() {
            self.replay_here(now, id, &wanted, replay);
            let prefix = wanted.pattern.prefix();
            // What is wanted is told first, so that nothing falls between the two.
            self.pass_on(now);
            let max = self.subscribers.room_of(id);
            let mut asked = Vec::new();
            for (node, inlet) in &mut self.inlets {
                if inlet.is_asked(prefix) && inlet.replaying.insert(id) {
                    inlet.tell_changes();
                    inlet.replay(id, (wanted.pattern.clone(), replay), max);
                    asked.push(*node);
                }
            }
            for node in asked {
                self.tell_publisher(now, node);
            }
        }
    }

    /// What this node has published itself before somebody of it subscribed.
    fn replay_here(
        &mut self,
        now: Instant,
        id: SubId,
        wanted: &Wanted,
        replay: super::super::word::Replay,
    ) {
        let max = self.subscribers.room_of(id);
        let kept = self.archive.lock().replay(now, &wanted.pattern, replay, max);
        let nobody = Audience::default();
        for stored in kept {
            let route = Route { only: Some(id), ..Route::default() };
            // It has room for so many messages; if they are too long it goes without the last.
            if !self.hand_here(&stored, route, &nobody) {
                break;
            }
        }
        for flow in FlowId::all() {
            self.subscribers.cut(self.origin_here(flow), id);
        }
    }

    pub(super) fn unsubscribe(&mut self, now: Instant, id: SubId) {
        self.subscribers.remove(id);
        for inlet in self.inlets.values_mut() {
            inlet.replaying.remove(&id);
        }
        self.unblock(now);
    }

    pub(super) fn consumed(&mut self, now: Instant, id: SubId, read: Room) {
        if self.subscribers.consumed(id, read) {
            self.unblock(now);
        }
    }

    /// There is room, or nobody any more who needs it.
    fn unblock(&mut self, now: Instant) {
        for node in self.blocked.clone() {
            self.hand_on(node);
            self.pending.inlets.insert(node);
            self.flush_soon(now);
        }
        self.retry_stalled(now);
        if !self.topics.parked.is_empty() || !self.orphans.topics().is_empty() {
            self.pending.room = true;
            self.flush_soon(now);
        }
    }

    /// What this node wants has changed: publishers that have asked are told, its own topics are
    /// looked at, and if it is new to the node whoever is connected hears of it.
    pub(super) fn wanted_changed(&mut self, now: Instant, wanted: &Wanted, standing: Standing) {
        let prefix = wanted.pattern.prefix();
        for (node, inlet) in &mut self.inlets {
            if inlet.is_asked(prefix) {
                inlet.changed(wanted, standing);
                self.pending.inlets.insert(*node);
            }
        }
        for prefix in self.subscribers.take_fresh() {
            if self.pending.prefixes.len() < PREFIXES_MAX {
                self.pending.prefixes.insert(prefix);
            }
        }
        self.touch(now, &wanted.pattern);
        self.flush_soon(now);
    }
}
