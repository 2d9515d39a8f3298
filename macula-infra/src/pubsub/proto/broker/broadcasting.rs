//! Broadcasts: this node's own, and those in which it takes part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;

use super::super::super::message::{Qos, Reason, Report};
use super::super::flow::Stored;
use super::super::grove::{
    CONTACTS_MAX, Grown, Member, Planted, TREES_MAX, WAITING_MAX, Waiting, written,
};
use super::super::subscribers::{Handed, Origin};
use super::super::tree::{self, Tree};
use super::super::word::{Plant, SessionId, TreeId, Word};
use super::super::{Output, TopicId};
use super::{Broker, Timer};

/// How often parts that were not heard of are invited again.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Which session a word of a broadcast belongs to: none.
const NO_SESSION: SessionId = SessionId(0);

/// The publisher's part of a broadcast.
const fn origin(publisher: NodeId, number: u64) -> tree::Origin {
    tree::Origin { node: publisher, life: number }
}

/// What this node publishes.
impl Broker {
    /// Whether a topic has more subscribers than get its messages directly; and whether what was
    /// sent directly has arrived, so that a broadcast can begin without changing the order.
    pub(super) fn broadcast(&mut self, now: Instant, id: TopicId, qos: Qos) -> Broadcast {
        let Some(named) = self.topics.get(id) else { return Broadcast::Direct };
        let direct_max = self.me.config.direct_max;
        if self.planted.is_empty() && named.audience.plain.len() <= direct_max {
            return Broadcast::Direct;
        }
        if self.planted.contains_key(&(id, qos)) {
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
        let number = self.entropy.next_u64();
        let mut tree = Tree::new(self.me.node, number, self.entropy.fork());
        tree.handle(now, tree::Input::Join(Vec::new()));
        let (members, declined) = Default::default();
        let planted = Planted { number, tree, members, declined, published: 0 };
        self.planted.insert((id, qos), planted);
        self.numbers.insert(number, (id, qos));
        self.timers.set(Timer::Tend(number), now + TEND_EVERY);
        self.members(now, id);
        self.drive(now, TreeId { publisher: self.me.node, number });
        Broadcast::Planted
    }

    /// Whether there is room for a message in a broadcast.
    pub(super) fn has_room_in(&self, id: TopicId, qos: Qos) -> bool {
        self.planted.get(&(id, qos)).is_some_and(|planted| planted.has_room(qos))
    }

    /// Sends a message by broadcast.
    pub(super) fn broadcast_now(&mut self, now: Instant, stored: &Arc<Stored>) {
        let Some(planted) = self.planted.get_mut(&(stored.topic_id, stored.qos)) else { return };
        planted.published += 1;
        planted.tree.handle(now, tree::Input::Publish(written(stored)));
        let members = u64::try_from(planted.members.len()).unwrap_or(u64::MAX);
        let tree = TreeId { publisher: self.me.node, number: planted.number };
        self.tally(stored.topic_id).accepted += members;
        self.drive(now, tree);
    }

    /// The subscribers of a topic may be others: new ones are invited, and others let go.
    pub(super) fn members(&mut self, now: Instant, id: TopicId) {
        let Some(audience) = self.topics.get(id).map(|named| Arc::clone(&named.audience)) else {
            return;
        };
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let Some(planted) = self.planted.get_mut(&(id, qos)) else { continue };
            let wants = |node: &NodeId| audience.plain.iter().any(|(of, _)| of == node);
            let over: Vec<NodeId> =
                planted.members.keys().filter(|node| !wants(node)).copied().collect();
            // Whoever subscribes anew is asked anew.
            planted.declined.retain(wants);
            let published = planted.published;
            let mut fresh = Vec::new();
            for (node, _) in audience.plain.iter().filter(|(node, _)| *node != self.me.node) {
                if !planted.members.contains_key(node) && !planted.declined.contains(node) {
                    planted.members.insert(*node, Member::after(published));
                    fresh.push(*node);
                }
            }
            for node in over {
                self.let_go(now, (id, qos), node, Reason::Unsubscribed);
            }
            for node in fresh {
                self.invite((id, qos), node);
            }
        }
    }

    /// A part is none any more: what it has not done with goes to nobody.
    fn let_go(&mut self, now: Instant, of: (TopicId, Qos), node: NodeId, why: Reason) {
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
        let of: Vec<(TopicId, Qos)> = self.planted.keys().copied().collect();
        for of in of {
            self.let_go(now, of, node, Reason::NodeLost);
        }
    }

    /// Another life of a node's actor takes part in nothing yet.
    pub(super) fn invite_again(&mut self, now: Instant, node: NodeId) {
        let of: Vec<(TopicId, Qos)> = self.planted.keys().copied().collect();
        for of in of {
            self.part_lost(now, of, node);
        }
    }

    /// A part knows nothing of the broadcast: it is invited again. If that is promised it gets what
    /// it has not done with again; else it may have handed that on, so it gets what comes.
    fn part_lost(&mut self, now: Instant, (id, qos): (TopicId, Qos), node: NodeId) {
        let Some(planted) = self.planted.get_mut(&(id, qos)) else { return };
        let published = planted.published;
        let Some(member) = planted.members.get_mut(&node) else { return };
        let unknown = published - member.acked();
        match qos {
            Qos::AtLeastOnce => member.again(member.acked() + 1),
            Qos::AtMostOnce => {
                member.again(published + 1);
                if unknown > 0 {
                    *self.tally(id).dropped.entry(Reason::NodeLost).or_default() += unknown;
                }
            }
        }
        self.invite((id, qos), node);
        self.flush_soon(now);
    }

    fn invite(&mut self, of: (TopicId, Qos), node: NodeId) {
        let Some(topic) = self.topics.get(of.0).map(|named| named.topic.clone()) else { return };
        let Some(planted) = self.planted.get(&of) else { return };
        let Some(member) = planted.members.get(&node) else { return };
        let (number, from) = (planted.number, member.from);
        let others: Vec<NodeId> = planted.members.keys().copied().collect();
        let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let mut contacts = vec![self.me.node];
        while contacts.len() < CONTACTS_MAX {
            let place = usize::try_from(self.entropy.below(count)).unwrap_or_default();
            contacts.extend(others.get(place).copied());
        }
        contacts.retain(|contact| *contact != node);
        let life = self.me.life;
        let plant = Plant { number, life, topic, qos: of.1, from, contacts, is_allowed: true };
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
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let of = (id, qos);
            let Some(planted) = self.planted.get(&of) else { continue };
            let (number, members) =
                (planted.number, planted.members.keys().copied().collect::<Vec<_>>());
            for node in members {
                self.let_go(now, of, node, Reason::Unsubscribed);
            }
            self.planted.remove(&of);
            self.numbers.remove(&number);
            self.timers.clear(Timer::Tend(number));
            self.timers.clear(Timer::Tree(TreeId { publisher: self.me.node, number }));
        }
    }
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

/// What others publish, and all that parts say to each other.
impl Broker {
    /// This node is to take part in a broadcast.
    pub(super) fn plant(&mut self, now: Instant, from: NodeId, plant: Plant) {
        let Plant { number, life, topic, qos, from: first, contacts, is_allowed } = plant;
        let id = TreeId { publisher: from, number };
        if !is_allowed {
            // The rules may have changed since it took part.
            self.end_part(id);
            return self.send(from, NO_SESSION, Word::Declined { tree: id });
        }
        if let Some(grown) = self.grown.get(&id) {
            // Whoever invites again may not know that it is there.
            let (upto, missed) = (grown.done, grown.missed);
            let said = tree::Said::Ack { origin: origin(from, number), upto, missed };
            return self.send(from, NO_SESSION, Word::Branch { tree: id, said });
        }
        self.end_older(from, life);
        if self.grown.len() >= TREES_MAX || first == 0 {
            return;
        }
        let mut tree = Tree::new(self.me.node, 0, self.entropy.fork());
        tree.handle(now, tree::Input::Begin { origin: origin(from, number), from: first });
        tree.handle(now, tree::Input::Join(contacts));
        let (done, missed, last) = (first - 1, 0, 0);
        let waiting = <_>::default();
        self.grown.insert(id, Grown { life, topic, qos, tree, waiting, done, missed, last });
        self.drive(now, id);
    }

    /// A publisher has begun a new life: what it had before is over.
    pub(super) fn end_older(&mut self, publisher: NodeId, life: super::Life) {
        let is_older =
            |(id, grown): &(&TreeId, &Grown)| id.publisher == publisher && grown.life < life;
        let older: Vec<TreeId> = self.grown.iter().filter(is_older).map(|(id, _)| *id).collect();
        older.into_iter().for_each(|id| self.end_part(id));
    }

    /// A publisher is gone.
    pub(super) fn end_all(&mut self, publisher: NodeId) {
        let of = self.grown.keys().filter(|id| id.publisher == publisher);
        let of: Vec<TreeId> = of.copied().collect();
        of.into_iter().for_each(|id| self.end_part(id));
    }

    fn end_part(&mut self, id: TreeId) {
        self.grown.remove(&id);
        self.stalled.remove(&id);
        self.timers.clear(Timer::Tree(id));
    }

    /// A part says something.
    pub(super) fn branch(&mut self, now: Instant, from: NodeId, id: TreeId, said: tree::Said) {
        let is_pulse = matches!(said, tree::Said::Pulse { .. });
        let is_own = id.publisher == self.me.node;
        // A part keeps the messages of its publisher, and of nobody else.
        let Some(said) = said.only(origin(id.publisher, id.number)) else { return };
        let Some(tree) = self.tree(id) else {
            // It was a part in an earlier life, as others still believe.
            if is_pulse && !is_own {
                self.send(id.publisher, NO_SESSION, Word::Fell { tree: id });
                self.send(from, NO_SESSION, Word::Fell { tree: id });
            }
            return;
        };
        tree.handle(now, tree::Input::Said { from, said });
        self.drive(now, id);
    }

    /// A node is no part of a broadcast any more, or this one is to be none.
    pub(super) fn felled(&mut self, now: Instant, from: NodeId, id: TreeId) {
        if id.publisher == self.me.node {
            if let Some(of) = self.numbers.get(&id.number).copied() {
                self.part_lost(now, of, from);
            }
        } else if id.publisher == from {
            self.end_part(id);
        } else if let Some(grown) = self.grown.get_mut(&id) {
            grown.tree.handle(now, tree::Input::Gone(from));
            self.drive(now, id);
        }
    }

    /// A node takes no part in a broadcast of this one.
    pub(super) fn declined(&mut self, now: Instant, from: NodeId, id: TreeId) {
        if id.publisher != self.me.node {
            return;
        }
        let Some(of) = self.numbers.get(&id.number).copied() else { return };
        let Some(planted) = self.planted.get_mut(&of) else { return };
        if planted.members.contains_key(&from) {
            planted.declined.insert(from);
            self.let_go(now, of, from, Reason::Forbidden);
        }
    }

    fn tree(&mut self, id: TreeId) -> Option<&mut Tree> {
        if id.publisher == self.me.node {
            let of = self.numbers.get(&id.number)?;
            return self.planted.get_mut(of).map(|planted| &mut planted.tree);
        }
        self.grown.get_mut(&id).map(|grown| &mut grown.tree)
    }

    /// A broadcast's time has come.
    pub(super) fn tree_due(&mut self, now: Instant, id: TreeId) {
        if let Some(tree) = self.tree(id) {
            tree.handle_timeout(now);
            self.drive(now, id);
        }
    }

    /// Carries out what a tree wants done.
    fn drive(&mut self, now: Instant, id: TreeId) {
        while let Some(output) = self.tree(id).and_then(|tree| tree.poll_output()) {
            match output {
                tree::Output::Send { to, said } => {
                    self.send(to, NO_SESSION, Word::Branch { tree: id, said });
                }
                tree::Output::Deliver { origin, payload, .. } if origin == of(id) => {
                    self.delivered(id, payload);
                }
                tree::Output::Gap { origin, from, to } if origin == of(id) => {
                    if let Some(grown) = self.grown.get_mut(&id) {
                        let missing = grown.missing(to - from + 1);
                        grown.waiting.push_back(Waiting::Missing(missing));
                    }
                }
                tree::Output::Acked { by, upto, missed } => {
                    self.acked(now, id.number, by, (upto, missed));
                }
                // Nobody else publishes in it.
                tree::Output::Deliver { .. } | tree::Output::Gap { .. } => {}
            }
        }
        self.hand_on_tree(now, id);
        let due = self.tree(id).and_then(|tree| tree.poll_timeout());
        match due {
            Some((at, _reason)) => self.timers.set(Timer::Tree(id), at),
            None => self.timers.clear(Timer::Tree(id)),
        }
    }

    fn delivered(&mut self, id: TreeId, payload: bytes::Bytes) {
        let Some(grown) = self.grown.get_mut(&id) else { return };
        let read = grown.read(payload).filter(|_| grown.waiting.len() < WAITING_MAX);
        let waiting = match read {
            Some((carried, flow)) => Waiting::Message(carried, flow),
            None => {
                let why = "what it broadcasts is no message, or more than it may";
                self.out.push_back(Output::Misbehaved { peer: id.publisher, why });
                Waiting::Missing(grown.missing(1))
            }
        };
        grown.waiting.push_back(waiting);
    }

    /// A part says how far it is.
    fn acked(&mut self, now: Instant, number: u64, by: NodeId, (upto, missed): (u64, u64)) {
        let Some(of) = self.numbers.get(&number).copied() else { return };
        let Some(planted) = self.planted.get_mut(&of) else { return };
        let Some(member) = planted.members.get_mut(&by) else { return };
        let report = member.heard(upto, missed);
        if report != Report::default() {
            self.tally(of.0).add(&report);
            self.pending.room = true;
            self.flush_soon(now);
        }
    }

    /// Hands on what has come by a broadcast, as far as there is room.
    pub(super) fn hand_on_tree(&mut self, now: Instant, id: TreeId) {
        let Some(grown) = self.grown.get_mut(&id) else { return };
        self.stalled.remove(&id);
        let before = grown.done;
        let (publisher, life, topic) = (id.publisher, grown.life, grown.topic.clone());
        let takers = self.subscribers.takers(&topic);
        while let Some(waiting) = grown.waiting.pop_front() {
            match waiting {
                Waiting::Message(carried, flow) => {
                    let (origin, sequence) = (Origin { publisher, life, flow }, carried.sequence);
                    match self.subscribers.hand(origin, carried, &takers) {
                        Handed::Over(failure) => {
                            grown.missed += u64::from(failure.is_some());
                            (grown.done, grown.last) = (grown.done + 1, sequence);
                        }
                        Handed::NotYet(carried) => {
                            grown.waiting.push_front(Waiting::Message(carried, flow));
                            self.stalled.insert(id);
                            break;
                        }
                    }
                }
                Waiting::Missing(missing) => {
                    let flow = super::FlowId::of(<_>::default(), grown.qos);
                    self.subscribers.missing(Origin { publisher, life, flow }, &missing);
                    grown.missed += missing.count;
                    (grown.done, grown.last) = (grown.done + missing.count, missing.to);
                }
            }
        }
        if grown.done == before {
            return;
        }
        let (upto, missed) = (grown.done, grown.missed);
        let origin = origin(publisher, id.number);
        grown.tree.handle(now, tree::Input::Done { origin, upto, missed });
        while let Some(output) = self.grown.get_mut(&id).and_then(|of| of.tree.poll_output()) {
            if let tree::Output::Send { to, said } = output {
                self.send(to, NO_SESSION, Word::Branch { tree: id, said });
            }
        }
    }
}

const fn of(id: TreeId) -> tree::Origin {
    origin(id.publisher, id.number)
}
