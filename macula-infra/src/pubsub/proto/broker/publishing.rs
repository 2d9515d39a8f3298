//! What this node publishes, on its way to those who want it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::super::super::message::{Missed, Outcome, PublishOptions, Qos, Reason};
use super::super::flow::{Copy, Stored};
use super::super::outlet::Outlet;
use super::super::subscribers::{Handed, Origin};
use super::super::topics::Audience;
use super::super::word::{Carried, FlowId, GROUPS_MAX, Missing, Route};
use super::super::{Bug, Posted, TopicId, Weight};
use super::broadcasting::Broadcast;
use super::{Broker, SWEEP_EVERY, Timer};

/// The nodes that get a message, and for whom there. There are few, or the message is broadcast. A node
/// may be named more than once.
#[derive(Debug, Default)]
pub(super) struct Chosen(Vec<(NodeId, Route)>);

impl Chosen {
    /// All there that are in no group.
    fn plain(&mut self, node: NodeId) {
        self.0.push((node, Route { plain: true, ..Route::default() }));
    }

    /// One member there of a group: together with all that is for the node and fits into one copy, or
    /// `apart`.
    fn group(&mut self, node: NodeId, group: &Arc<str>, apart: bool) {
        let fits = |route: &Route| !apart && route.groups.len() < GROUPS_MAX;
        match self.0.iter_mut().find(|(of, route)| *of == node && fits(route)) {
            Some((_, route)) => route.groups.push(Arc::clone(group)),
            None => {
                let groups = vec![Arc::clone(group)];
                self.0.push((node, Route { groups, ..Route::default() }));
            }
        }
    }

    /// All that is for one node.
    fn take(&mut self, node: NodeId) -> Option<Route> {
        let taken = self.0.extract_if(.., |(of, _)| *of == node);
        taken.map(|(_, route)| route).reduce(|mut all, more| {
            all.plain |= more.plain;
            all.groups.extend(more.groups);
            all
        })
    }
}

impl Broker {
    pub(super) fn publish(&mut self, now: Instant, messages: Vec<Posted>) {
        self.flush_soon(now);
        // Most are of the topic of the one before.
        let mut last: Option<(TopicId, Option<Topic>)> = None;
        for posted in messages {
            let id = posted.topic;
            if last.as_ref().is_none_or(|(of, _)| *of != id) {
                last = Some((id, self.used(now, id)));
            }
            match last.as_ref().and_then(|(_, topic)| topic.clone()) {
                Some(topic) => self.publish_one(now, topic, posted),
                None => {
                    // Its topic was closed behind its back: nobody is told to do that while it
                    // publishes.
                    let (unwanted, weight) = (Reason::Unsubscribed, posted.weight);
                    self.tally(id).accepted += weight.messages;
                    self.tally(id).ended(Outcome::Dropped(unwanted), weight.messages);
                    self.freed(id, weight);
                }
            }
        }
    }

    /// Something is published to a topic. Gives its name.
    fn used(&mut self, now: Instant, id: TopicId) -> Option<Topic> {
        let named = self.topics.get_mut(id)?;
        named.is_used = true;
        let (topic, is_dormant) = (named.topic.clone(), named.is_dormant);
        if is_dormant {
            self.seek_again(now, id);
        }
        Some(topic)
    }

    fn publish_one(&mut self, now: Instant, topic: Topic, posted: Posted) {
        let Posted { topic: id, payload, options, weight } = posted;
        let stored = self.store(now, (id, topic), payload, options);
        if weight == Weight::default() {
            // It was told that nobody subscribes.
            return;
        }
        let is_behind = self.topics.parked.contains(&id)
            || self.topics.unknown.contains(&id)
            || self.is_behind_orphans(&stored);
        if is_behind || !self.dispatch(now, &stored) {
            self.park(now, stored, weight);
        } else {
            self.freed(id, weight);
        }
    }

    fn store(
        &mut self,
        now: Instant,
        (topic_id, topic): (TopicId, Topic),
        payload: Bytes,
        options: PublishOptions,
    ) -> Arc<Stored> {
        self.me.sequence += 1;
        let PublishOptions { qos, priority, expiry, retain, keep } = options;
        let stored = Arc::new(Stored {
            topic_id,
            topic,
            payload,
            sequence: self.me.sequence,
            qos,
            priority,
            until: expiry.and_then(|expiry| now.checked_add(expiry)),
            at: now,
        });
        if retain || keep {
            self.archive.lock().keep(&stored, retain, keep);
        }
        stored
    }

    fn park(&mut self, now: Instant, stored: Arc<Stored>, weight: Weight) {
        let id = stored.topic_id;
        let is_mortal = stored.until.is_some();
        if let Some(named) = self.topics.get_mut(id) {
            named.parked.push_back((stored, weight));
            self.topics.parked.insert(id);
        }
        if is_mortal && self.timers.get(Timer::Sweep).is_none() {
            self.timers.set(Timer::Sweep, now + SWEEP_EVERY);
        }
    }

    /// Whether others of its topic wait for a member of their group, and go first.
    fn is_behind_orphans(&self, stored: &Stored) -> bool {
        stored.qos == Qos::AtLeastOnce && self.orphans.has(stored.topic_id)
    }

    /// Sends what waits, as far as there is room now.
    pub(super) fn retry_parked(&mut self, now: Instant) {
        let parked: Vec<TopicId> = self.topics.parked.iter().copied().collect();
        for id in parked {
            self.retry_topic(now, id);
        }
    }

    pub(super) fn retry_topic(&mut self, now: Instant, id: TopicId) {
        if self.topics.unknown.contains(&id) {
            return;
        }
        while let Some(named) = self.topics.get_mut(id)
            && let Some((stored, weight)) = named.parked.pop_front()
        {
            if stored.is_over(now) {
                self.over(&stored);
            } else if self.is_behind_orphans(&stored) || !self.dispatch(now, &stored) {
                if let Some(named) = self.topics.get_mut(id) {
                    named.parked.push_front((stored, weight));
                }
                return;
            }
            self.freed(id, weight);
        }
        self.topics.parked.remove(&id);
    }

    /// Ends what is over while it waits for room.
    pub(super) fn sweep(&mut self, now: Instant) {
        let parked: Vec<TopicId> = self.topics.parked.iter().copied().collect();
        let mut is_mortal = self.retry_orphans(now);
        self.retry_stalled(now);
        for id in parked {
            let (over, left) = self
                .topics
                .unpark(id)
                .into_iter()
                .partition(|(stored, _): &(Arc<Stored>, Weight)| stored.is_over(now));
            let over: Vec<_> = over;
            for (stored, weight) in over {
                self.over(&stored);
                self.freed(id, weight);
            }
            let left: Vec<_> = left;
            is_mortal |= left.iter().any(|(stored, _)| stored.until.is_some());
            if !left.is_empty()
                && let Some(named) = self.topics.get_mut(id)
            {
                named.parked.extend(left);
                self.topics.parked.insert(id);
            }
        }
        if is_mortal {
            self.timers.set(Timer::Sweep, now + SWEEP_EVERY);
        }
    }

    /// The time of a message was over before anybody had room for it: its subscribers are told, but for
    /// those to which it was to be broadcast.
    fn over(&mut self, stored: &Stored) {
        let (id, flow) = (stored.topic_id, stored.flow());
        self.tally(id).accepted += 1;
        self.tally(id).end(Outcome::Expired);
        let audience = self.topics.get(id).map(|named| Arc::clone(&named.audience));
        let planted = self.planted.get(&(id, flow));
        for (node, _) in audience.iter().flat_map(|audience| &audience.plain) {
            if *node == self.me.node {
                let missing = Missing::one(&stored.topic, stored.sequence, Missed::Expired);
                self.subscribers.missing(self.origin_here(flow), &missing);
            } else if !planted.is_some_and(|planted| planted.members.contains_key(node))
                && let Some(flow) = self.outlets.get_mut(node).and_then(|of| of.flow(flow))
            {
                flow.miss(stored, Missed::Expired);
                self.pending.outlets.insert(*node);
            }
        }
    }

    /// Whether one may be sent to a node now.
    fn is_willing(&self, node: NodeId, is_open: bool, flow: FlowId) -> bool {
        is_open && self.outlets.get(&node).is_some_and(|outlet| outlet.has_room(flow))
    }

    fn has_room_here(&self, audience: &Audience, group: Option<&str>) -> bool {
        self.subscribers.has_room(&audience.here, group)
    }

    /// The node that gets a message for a group: of those that have room, the one that has least to
    /// do; and if they have the same, one after the other.
    pub(super) fn member(
        &self,
        audience: &Audience,
        group: &str,
        nodes: &[(NodeId, bool)],
        stored: &Stored,
    ) -> Option<NodeId> {
        let count = u64::try_from(nodes.len()).unwrap_or(1).max(1);
        let willing = nodes.iter().zip(0_u64..).filter_map(|((node, is_open), place)| {
            let outstanding = if *node == self.me.node {
                self.has_room_here(audience, Some(group)).then_some(0)?
            } else {
                self.is_willing(*node, *is_open, stored.flow()).then_some(())?;
                self.outlets.get(node).map(Outlet::outstanding)?
            };
            Some((outstanding, (place + stored.sequence) % count, *node))
        });
        willing.min().map(|(_, _, node)| node)
    }

    /// Sends a message to all who want it. If it has to wait it is sent to nobody: one that is
    /// promised to arrive waits for all, and another until somebody has room.
    fn dispatch(&mut self, now: Instant, stored: &Arc<Stored>) -> bool {
        let id = stored.topic_id;
        let Some(audience) = self.topics.get(id).map(|named| Arc::clone(&named.audience)) else {
            return true;
        };
        if audience.len() == 0 {
            self.tally(id).accepted += 1;
            self.tally(id).end(Outcome::Dropped(Reason::Unsubscribed));
            return true;
        }
        let broadcast = self.broadcast(now, id, stored.flow());
        let is_broadcast = broadcast == Broadcast::Planted;
        if broadcast == Broadcast::NotYet || (is_broadcast && !self.has_room_in(id, stored.flow()))
        {
            return false;
        }
        // Memory is taken once, and not for each message.
        let mut chosen = std::mem::take(&mut self.chosen);
        let is_over = self.dispatch_to(now, stored, (&audience, is_broadcast), &mut chosen);
        chosen.0.clear();
        self.chosen = chosen;
        is_over
    }

    fn dispatch_to(
        &mut self,
        now: Instant,
        stored: &Arc<Stored>,
        (audience, is_broadcast): (&Audience, bool),
        chosen: &mut Chosen,
    ) -> bool {
        let (id, flow, me) = (stored.topic_id, stored.flow(), self.me.node);
        let mut slow = Vec::new();
        for (node, is_open) in &audience.plain {
            if is_broadcast && *node != me && !self.is_direct(id, flow, *node) {
                continue;
            }
            let is_willing = if *node == me {
                self.has_room_here(audience, None)
            } else {
                self.is_willing(*node, *is_open, flow)
            };
            if is_willing {
                chosen.plain(*node);
            } else {
                slow.push(*node);
            }
        }
        let mut unserved = 0;
        for (group, nodes) in &audience.groups {
            match self.member(audience, group, nodes, stored) {
                Some(node) => {
                    // What is promised may have to go to another member.
                    let apart = node != me && stored.qos == Qos::AtLeastOnce;
                    chosen.group(node, group, apart);
                }
                None => unserved += 1,
            }
        }
        let waits = match stored.qos {
            Qos::AtLeastOnce => unserved > 0 || !slow.is_empty(),
            Qos::AtMostOnce => chosen.0.is_empty() && !is_broadcast,
        };
        if waits {
            return false;
        }
        if let Some(route) = chosen.take(me)
            && !self.hand_here(stored, route, audience)
        {
            return false;
        }
        if is_broadcast {
            self.broadcast_now(now, stored);
        }
        for (node, route) in chosen.0.drain(..) {
            self.enqueue(now, node, Copy::new(Arc::clone(stored), route));
        }
        for _ in 0..unserved {
            self.dropped_slow(id);
        }
        for node in slow {
            self.dropped_slow(id);
            if node == me {
                let missing = Missing::one(&stored.topic, stored.sequence, Missed::SlowSubscriber);
                self.subscribers.missing(self.origin_here(flow), &missing);
            } else if let Some(flow) =
                self.outlets.get_mut(&node).and_then(|outlet| outlet.flow(flow))
            {
                flow.miss(stored, Missed::SlowSubscriber);
                self.pending.outlets.insert(node);
            }
        }
        true
    }

    fn dropped_slow(&mut self, id: TopicId) {
        self.tally(id).accepted += 1;
        if !self.has(Bug::ForgetsTheSlow) {
            self.tally(id).end(Outcome::Dropped(Reason::SlowSubscriber));
        }
    }

    /// Puts a copy into the queue for a node.
    pub(super) fn enqueue(&mut self, now: Instant, node: NodeId, copy: Copy) {
        let id = copy.stored.topic_id;
        self.tally(id).accepted += 1;
        if let Some(named) = self.topics.get_mut(id) {
            named.direct += 1;
        }
        self.put_into_queue(now, node, copy);
    }

    /// Puts one that is counted into the queue for a node.
    pub(super) fn put_into_queue(&mut self, now: Instant, node: NodeId, copy: Copy) {
        let flow = copy.stored.flow();
        let there = self.outlets.get_mut(&node).and_then(|outlet| outlet.flow(flow));
        let Some(there) = there else {
            return self.ended([(copy, Outcome::Dropped(Reason::NodeGone))]);
        };
        there.push(copy);
        if there.has_one_more_batch() {
            self.send_batches(now, node);
        } else {
            self.pending.outlets.insert(node);
            self.flush_soon(now);
        }
    }

    /// From where this node's own messages come.
    pub(super) const fn origin_here(&self, flow: FlowId) -> Origin {
        Origin { publisher: self.me.node, life: self.me.life, flow }
    }

    /// Hands a message to this node's own subscribers, or says that it has to wait.
    pub(super) fn hand_here(
        &mut self,
        stored: &Arc<Stored>,
        route: Route,
        audience: &Audience,
    ) -> bool {
        let Some(how) = self.hand_over_here(stored, route, audience) else { return false };
        let tally = self.tally(stored.topic_id);
        tally.accepted += 1;
        tally.end(how);
        true
    }

    /// Hands a message to this node's own subscribers, and says how that has ended; nothing if it has
    /// to wait.
    pub(super) fn hand_over_here(
        &mut self,
        stored: &Arc<Stored>,
        route: Route,
        audience: &Audience,
    ) -> Option<Outcome> {
        let origin = self.origin_here(stored.flow());
        let carried = Carried {
            topic: stored.topic.clone(),
            sequence: stored.sequence,
            payload: stored.payload.clone(),
            route,
            is_allowed: true,
        };
        let Handed::Over(failure) = self.subscribers.hand(origin, carried, &audience.here) else {
            return None;
        };
        Some(failure.map_or(Outcome::Delivered, |failure| failure.outcome()))
    }
}
