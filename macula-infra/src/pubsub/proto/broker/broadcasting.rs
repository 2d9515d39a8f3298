//! This node's own broadcasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;

use super::super::super::message::{Outcome, Qos, Reason, Report};
use super::super::flow::{Copy, Stored};
use super::super::grove::{
    BY_PUBLISHER_MAX, CONTACTS_MAX, Member, Planted, TREES_LEN_MAX, TREES_MAX, read, written,
};
use super::super::seal::{Leaf, RUN_MAX, seal};
use super::super::tree::{self, Failed, Tree};
use super::super::word::{Decline, FlowId, Plant, Route, SessionId, TreeId, Word};
use super::super::{Output, TopicId};
use super::{Broker, Timer};

/// How often parts that were not heard of are invited again.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Which session a word of a broadcast belongs to: none.
pub(super) const NO_SESSION: SessionId = SessionId(0);

/// The publisher's part of a broadcast.
pub(super) const fn origin(publisher: NodeId, number: u64) -> tree::Origin {
    tree::Origin { node: publisher, life: number }
}

/// How a topic's messages go to those of its subscribers that are in no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broadcast {
    /// To each of them.
    Direct,
    /// By broadcast, once what was sent to each has arrived.
    NotYet,
    /// By broadcast.
    Planted,
}

impl Broker {
    /// Whether a topic has more subscribers than get its messages directly; and whether what was
    /// sent directly has arrived, so that a broadcast can begin without changing the order.
    pub(super) fn broadcast(&mut self, now: Instant, id: TopicId, flow: FlowId) -> Broadcast {
        let Some(named) = self.topics.get(id) else { return Broadcast::Direct };
        let direct_max = self.me.config.direct_max;
        if self.planted.is_empty() && named.audience.plain.len() <= direct_max {
            return Broadcast::Direct;
        }
        if self.planted.contains_key(&(id, flow)) {
            return Broadcast::Planted;
        }
        let others = named.audience.plain.iter().filter(|(node, _)| *node != self.me.node).count();
        let is_known = self.planted.keys().any(|(of, _)| *of == id);
        if (others <= direct_max && !is_known) || self.planted.len() >= TREES_MAX {
            return Broadcast::Direct;
        }
        if named.direct > 0 {
            return Broadcast::NotYet;
        }
        let number = TreeId::number(self.entropy.next_u64(), flow);
        let mut tree = Tree::new(self.me.node, number, self.entropy.fork());
        tree.handle(now, tree::Input::Join(Vec::new()));
        self.planted.insert((id, flow), Planted::new(number, tree));
        self.numbers.insert(number, (id, flow));
        if let Some(topic) = self.topics.get(id).map(|named| named.topic.clone()) {
            let id = TreeId { publisher: self.me.node, number };
            self.out.push_back(Output::Tree { id, topic: Some(topic) });
        }
        self.timers.set(Timer::Tend(number), now + TEND_EVERY);
        self.members(now, id);
        self.drive(now, TreeId { publisher: self.me.node, number });
        Broadcast::Planted
    }

    /// Whether there is room for a message in a broadcast. If all of them together hold as much as they
    /// may, there is only in one that has nothing under way.
    pub(super) fn has_room_in(&self, id: TopicId, flow: FlowId) -> bool {
        self.planted.get(&(id, flow)).is_some_and(|planted| {
            let is_room = self.trees_len < TREES_LEN_MAX || planted.is_idle();
            is_room && planted.has_room(flow.qos())
        })
    }

    /// Whether a subscriber's node is sent to directly, though there is a broadcast.
    pub(super) fn is_direct(&self, id: TopicId, flow: FlowId, node: NodeId) -> bool {
        self.planted.get(&(id, flow)).is_some_and(|planted| planted.direct.contains(&node))
    }

    /// Sends a message by broadcast.
    pub(super) fn broadcast_now(&mut self, now: Instant, stored: &Arc<Stored>) {
        let of = (stored.topic_id, stored.flow());
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let (payload, until) = (written(stored), stored.until);
        planted.publish(payload.len());
        planted.run.push((payload, until));
        let is_whole = planted.run.len() >= RUN_MAX;
        let members = u64::try_from(planted.members.len()).unwrap_or(u64::MAX);
        self.tally(stored.topic_id).accepted += members;
        self.unsigned.insert(of);
        if is_whole {
            self.sign(now, of);
        }
    }

    /// Signs what was published by broadcast in this turn, and sends it.
    pub(super) fn sign_all(&mut self, now: Instant) {
        while let Some(of) = self.unsigned.pop_first() {
            self.sign(now, of);
        }
    }

    fn sign(&mut self, now: Instant, of: (TopicId, FlowId)) {
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let tree = TreeId { publisher: self.me.node, number: planted.number };
        let run = std::mem::take(&mut planted.run);
        let before = planted.published - u64::try_from(run.len()).unwrap_or_default();
        let leaves = run
            .iter()
            .zip(before + 1..)
            .map(|((payload, until), sequence)| Leaf::new(sequence, until.is_some(), payload));
        let leaves: Vec<Leaf> = leaves.collect();
        for ((payload, until), seal) in run.into_iter().zip(seal(&self.me.key, tree, &leaves)) {
            planted.tree.handle(now, tree::Input::Publish { payload, until, seal });
        }
        self.drive(now, tree);
    }

    /// The subscribers of a topic may be others: new ones are invited, and others let go.
    pub(super) fn members(&mut self, now: Instant, id: TopicId) {
        let Some(audience) = self.topics.get(id).map(|named| Arc::clone(&named.audience)) else {
            return;
        };
        for flow in FlowId::all() {
            let of = (id, flow);
            let Some(planted) = self.planted.get_mut(&of) else { continue };
            let wants = |node: &NodeId| audience.plain.iter().any(|(of, _)| of == node);
            let over: Vec<NodeId> =
                planted.members.keys().filter(|node| !wants(node)).copied().collect();
            // Whoever subscribes anew is asked anew.
            planted.declined.retain(wants);
            planted.direct.retain(wants);
            let published = planted.published;
            let mut fresh = Vec::new();
            for (node, _) in audience.plain.iter().filter(|(node, _)| *node != self.me.node) {
                let is_none = planted.declined.contains(node) || planted.direct.contains(node);
                if !planted.members.contains_key(node) && !is_none {
                    planted.members.insert(*node, Member::after(published));
                    fresh.push(*node);
                }
            }
            for node in over {
                self.let_go(now, of, node, Reason::Unsubscribed);
            }
            for node in fresh {
                self.invite(of, node);
            }
        }
    }

    /// A part is none any more: what it has not done with goes to nobody.
    fn let_go(&mut self, now: Instant, of: (TopicId, FlowId), node: NodeId, why: Reason) {
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let Some(member) = planted.members.remove(&node) else { return };
        let lost = planted.published - member.acked();
        let tree = TreeId { publisher: self.me.node, number: planted.number };
        planted.tree.handle(now, tree::Input::Gone(node));
        if lost > 0 {
            *self.tally(of.0).dropped.entry(why).or_default() += lost;
        }
        self.send(node, NO_SESSION, Word::Fell { tree });
        self.drive(now, tree);
        self.pending.room = true;
        self.flush_soon(now);
    }

    /// A node is lost, or has begun a new life: it is no part of anything.
    pub(super) fn leave_all(&mut self, now: Instant, node: NodeId) {
        let of: Vec<(TopicId, FlowId)> = self.planted.keys().copied().collect();
        for of in of {
            self.let_go(now, of, node, Reason::NodeLost);
        }
    }

    /// Another life of a node's actor takes part in nothing yet.
    pub(super) fn invite_again(&mut self, now: Instant, node: NodeId) {
        let of: Vec<(TopicId, FlowId)> = self.planted.keys().copied().collect();
        for of in of {
            self.part_lost(now, of, node);
        }
    }

    /// A part knows nothing of the broadcast: it is invited again. If that is promised it gets what
    /// it has not done with again; else it may have handed that on, so it gets what comes.
    pub(super) fn part_lost(&mut self, now: Instant, (id, flow): (TopicId, FlowId), node: NodeId) {
        let Some(planted) = self.planted.get_mut(&(id, flow)) else { return };
        let published = planted.published;
        let Some(member) = planted.members.get_mut(&node) else { return };
        let unknown = published - member.acked();
        match flow.qos() {
            Qos::AtLeastOnce => member.again(member.acked() + 1),
            Qos::AtMostOnce => {
                member.again(published + 1);
                member.lost += unknown;
                if unknown > 0 {
                    *self.tally(id).dropped.entry(Reason::NodeLost).or_default() += unknown;
                }
            }
        }
        self.invite((id, flow), node);
        self.flush_soon(now);
    }

    fn invite(&mut self, of: (TopicId, FlowId), node: NodeId) {
        let Some(topic) = self.topics.get(of.0).map(|named| named.topic.clone()) else { return };
        let Some(planted) = self.planted.get(&of) else { return };
        let Some(member) = planted.members.get(&node) else { return };
        let (number, from, lost) = (planted.number, member.from, member.lost);
        let others =
            planted.members.iter().filter(|(other, member)| member.is_there && **other != node);
        let mut others: Vec<NodeId> = others.map(|(other, _)| *other).collect();
        let mut contacts = Vec::new();
        if others.len() < BY_PUBLISHER_MAX {
            contacts.push(self.me.node);
        }
        while contacts.len() < CONTACTS_MAX && !others.is_empty() {
            let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
            let place = usize::try_from(self.entropy.below(count)).unwrap_or_default();
            contacts.push(others.swap_remove(place));
        }
        let life = self.me.life;
        let plant = Plant { number, life, topic, from, lost, contacts, is_allowed: true };
        self.send(node, NO_SESSION, Word::Plant(plant));
    }

    /// Invites parts again that were not heard of.
    pub(super) fn tend(&mut self, now: Instant, number: u64) {
        let Some(of) = self.numbers.get(&number).copied() else { return };
        self.timers.set(Timer::Tend(number), now + TEND_EVERY);
        let Some(planted) = self.planted.get(&of) else { return };
        let missing = planted.members.iter().filter(|(_, member)| !member.is_there);
        let missing: Vec<NodeId> = missing.map(|(node, _)| *node).collect();
        for node in missing {
            self.invite(of, node);
        }
    }

    /// A topic is let go, and its broadcasts end.
    pub(super) fn fell(&mut self, now: Instant, id: TopicId) {
        for flow in FlowId::all() {
            let of = (id, flow);
            let Some(planted) = self.planted.get(&of) else { continue };
            let (number, members) =
                (planted.number, planted.members.keys().copied().collect::<Vec<_>>());
            for node in members {
                self.let_go(now, of, node, Reason::Unsubscribed);
            }
            let held = self.planted.remove(&of).map_or(0, |planted| planted.held);
            self.trees_len -= held;
            self.numbers.remove(&number);
            let tree = TreeId { publisher: self.me.node, number };
            self.out.push_back(Output::Tree { id: tree, topic: None });
            self.timers.clear(Timer::Tend(number));
            self.timers.clear(Timer::Tree(tree));
        }
    }

    /// A node takes no part in a broadcast of this one.
    pub(super) fn declined(&mut self, now: Instant, from: NodeId, id: TreeId, why: Decline) {
        if id.publisher != self.me.node {
            return;
        }
        let Some(of) = self.numbers.get(&id.number).copied() else { return };
        let Some(planted) = self.planted.get_mut(&of) else { return };
        if !planted.members.contains_key(&from) {
            return;
        }
        match why {
            Decline::Forbidden => {
                planted.declined.insert(from);
                self.let_go(now, of, from, Reason::Forbidden);
            }
            Decline::Full => self.send_directly(now, of, from),
        }
    }

    /// A node has no room for one more broadcast: it is sent to directly, also what was published since
    /// it was invited.
    fn send_directly(&mut self, now: Instant, of: (TopicId, FlowId), node: NodeId) {
        let Some(topic) = self.topics.get(of.0).map(|named| named.topic.clone()) else { return };
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let Some(member) = planted.members.remove(&node) else { return };
        planted.direct.insert(node);
        planted.tree.handle(now, tree::Input::Gone(node));
        let tree = TreeId { publisher: self.me.node, number: planted.number };
        let mut copies = Vec::new();
        let (mut expired, mut lost) = (0, 0);
        for place in member.acked() + 1..=planted.published {
            let kept = planted.tree.published(place);
            if kept.as_ref().is_some_and(|(_, until)| until.is_some_and(|until| until <= now)) {
                expired += 1;
                continue;
            }
            match kept.and_then(|(payload, until)| Some((read(payload)?, until))) {
                Some(((sequence, payload), until)) => copies.push(Stored {
                    topic_id: of.0,
                    topic: topic.clone(),
                    payload,
                    sequence,
                    qos: of.1.qos(),
                    priority: of.1.priority(),
                    until,
                    at: now,
                }),
                None => lost += 1,
            }
        }
        let tally = self.tally(of.0);
        tally.ended(Outcome::Expired, expired);
        tally.ended(Outcome::Dropped(Reason::OutOfReach), lost);
        for stored in copies {
            if let Some(named) = self.topics.get_mut(of.0) {
                named.direct += 1;
            }
            let route = Route { plain: true, ..Route::default() };
            self.put_into_queue(now, node, Copy::new(Arc::new(stored), route));
        }
        self.drive(now, tree);
        self.pending.room = true;
        self.flush_soon(now);
    }

    /// A part says how far it is.
    pub(super) fn acked(&mut self, now: Instant, number: u64, by: NodeId, ack: Ack) {
        let Ack { from, upto, failed } = ack;
        let Some(of) = self.numbers.get(&number).copied() else { return };
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let Some(member) = planted.members.get_mut(&by) else { return };
        let report = member.heard(from, upto, failed);
        if report != Report::default() {
            self.tally(of.0).add(&report);
            self.pending.room = true;
            self.flush_soon(now);
        }
    }
}

/// How far a part is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    /// The first message that is for it.
    pub(super) from: u64,
    /// The last that it has done with.
    pub(super) upto: u64,
    /// How many of those went to nobody.
    pub(super) failed: Failed,
}
