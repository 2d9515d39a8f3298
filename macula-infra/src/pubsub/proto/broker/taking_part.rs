//! Broadcasts in which this node takes part, and all that parts say to each other.

use std::time::Instant;

use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;

use super::super::super::message::{Missed, Qos};
use super::super::Output;
use super::super::grove::{Grown, TREES_LEN_MAX, TREES_MAX, Waiting};
use super::super::subscribers::{Handed, Origin};
use super::super::tree::{self, Failed, Tree};
use super::super::word::{Decline, Failure, Missing, Plant, TreeId, Word};
use super::broadcasting::{Ack, NO_SESSION, origin};
use super::{Broker, SWEEP_EVERY, Timer};
use bytes::Bytes;

impl Broker {
    /// This node is to take part in a broadcast.
    pub(super) fn plant(&mut self, now: Instant, from: NodeId, plant: Plant) {
        let Plant { number, life, topic, from: first, lost, contacts, is_allowed } = plant;
        let id = TreeId { publisher: from, number };
        if first == 0 {
            return;
        }
        if !is_allowed {
            // The rules may have changed since it took part.
            self.end_part(id);
            let why = Decline::Forbidden;
            return self.send(from, NO_SESSION, Word::Declined { tree: id, why });
        }
        let is_promised = id.flow().qos() == Qos::AtLeastOnce;
        let begin = tree::Input::Begin { origin: of_id(id), from: first, is_promised };
        if let Some(grown) = self.grown.get_mut(&id) {
            // Whoever invites again may not know that it is there, or has given it up meanwhile.
            if first > grown.from {
                (grown.from, grown.failed) = (first, Failed::NONE);
                grown.tree.handle(now, begin);
            }
            let said = tree::Said::Ack {
                origin: of_id(id),
                from: grown.from,
                upto: grown.done,
                failed: grown.failed,
            };
            let said = Word::Branch { tree: id, said, is_allowed: true };
            return self.send(from, NO_SESSION, said);
        }
        self.end_older(from, life);
        if self.grown.len() >= TREES_MAX {
            let why = Decline::Full;
            return self.send(from, NO_SESSION, Word::Declined { tree: id, why });
        }
        let mut tree = Tree::new(self.me.node, 0, self.entropy.fork());
        tree.handle(now, begin);
        tree.handle(now, tree::Input::Join(contacts));
        if lost > 0 {
            let origin = Origin { publisher: from, life, flow: id.flow() };
            // What numbers they have among all of their publisher is not known.
            let (topic, why) = (topic.clone(), Missed::Restarted);
            let missing = Missing { topic, from: 1, to: lost, count: lost, why };
            self.subscribers.missing(origin, &missing);
        }
        self.out.push_back(Output::Tree { id, topic: Some(topic.clone()) });
        self.grown.insert(id, Grown::new(life, topic, tree, first));
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
        let Some(grown) = self.grown.remove(&id) else { return };
        self.out.push_back(Output::Tree { id, topic: None });
        self.trees_len -= grown.held;
        self.stalled.remove(&id);
        self.timers.clear(Timer::Tree(id));
    }

    /// A part says something, or a node that may be none.
    pub(super) fn branch(
        &mut self,
        now: Instant,
        from: NodeId,
        id: TreeId,
        (said, is_allowed): (tree::Said, bool),
    ) {
        let is_pulse = matches!(said, tree::Said::Pulse { .. });
        let is_own = id.publisher == self.me.node;
        // A part keeps the messages of its publisher, and of nobody else.
        let Some(said) = said.only(origin(id.publisher, id.number)) else { return };
        if self.is_too_much(id, &said) {
            return;
        }
        let is_good = !is_allowed || self.is_its_publishers(id, &said);
        let Some(tree) = self.tree(id) else {
            // It was a part in an earlier life, as others still believe.
            if is_pulse && !is_own {
                self.send(id.publisher, NO_SESSION, Word::Fell { tree: id });
                self.send(from, NO_SESSION, Word::Fell { tree: id });
            }
            return;
        };
        if is_good && is_allowed {
            tree.handle(now, tree::Input::Said { from, said });
        } else {
            // It is nobody's neighbour.
            tree.handle(now, tree::Input::Gone(from));
        }
        if !is_good {
            let why = "it broadcasts what its publisher has not signed";
            self.out.push_back(Output::Misbehaved { peer: from, why });
        }
        self.drive(now, id);
    }

    /// Whether a message is its publisher's, or one that is there already, and so is not looked at. All
    /// else is.
    fn is_its_publishers(&mut self, id: TreeId, said: &tree::Said) -> bool {
        let tree::Said::Gossip { sequence, left_ms, payload, seal, .. } = said else { return true };
        if self.tree(id).is_some_and(|tree| tree.has(of_id(id), *sequence)) {
            return true;
        }
        self.grown
            .get_mut(&id)
            .is_some_and(|grown| grown.seals.hold(id, (*sequence, *left_ms), payload, seal))
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

    /// Whether a message would be more than all broadcasts together may hold, and could not be handed on
    /// at once. It is asked for again.
    fn is_too_much(&self, id: TreeId, said: &tree::Said) -> bool {
        let is_message = matches!(said, tree::Said::Gossip { .. });
        let waits = || self.grown.get(&id).is_some_and(|grown| grown.len().1 > 0);
        is_message && self.trees_len >= TREES_LEN_MAX && waits()
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
    pub(super) fn drive(&mut self, now: Instant, id: TreeId) {
        while let Some(output) = self.tree(id).and_then(|tree| tree.poll_output()) {
            match output {
                tree::Output::Send { to, said } => {
                    self.send(to, NO_SESSION, Word::Branch { tree: id, said, is_allowed: true });
                }
                tree::Output::Deliver { origin, payload, until, .. } if origin == of_id(id) => {
                    self.delivered(now, id, payload, until);
                }
                tree::Output::Gap { origin, from, to } if origin == of_id(id) => {
                    if let Some(grown) = self.grown.get_mut(&id) {
                        grown.lack(to - from + 1, Missed::OutOfReach);
                    }
                }
                tree::Output::Acked { by, from, upto, failed } => {
                    self.acked(now, id.number, by, Ack { from, upto, failed });
                }
                // Nobody else publishes in it.
                tree::Output::Deliver { .. } | tree::Output::Gap { .. } => {}
            }
        }
        self.hand_on_tree(now, id);
        self.weigh_tree(id);
        let due = self.tree(id).and_then(|tree| tree.poll_timeout());
        match due {
            Some((at, _reason)) => self.timers.set(Timer::Tree(id), at),
            None => self.timers.clear(Timer::Tree(id)),
        }
    }

    fn delivered(&mut self, now: Instant, id: TreeId, payload: Bytes, until: Option<Instant>) {
        let Some(grown) = self.grown.get_mut(&id) else { return };
        if !grown.take(now, payload, until) {
            let why = "what it broadcasts is no message, or more than it may";
            self.out.push_back(Output::Misbehaved { peer: id.publisher, why });
        }
    }

    /// Counts what a broadcast holds. If all of them hold more than they may, it lets go of what only
    /// others may still need; its publisher has it as long as one of them does.
    fn weigh_tree(&mut self, id: TreeId) {
        let is_much = self.trees_len >= TREES_LEN_MAX;
        let counted = if id.publisher == self.me.node {
            let of = self.numbers.get(&id.number);
            let planted = of.and_then(|of| self.planted.get_mut(of));
            planted.map(|planted| {
                if is_much {
                    planted.tree.forget(of_id(id), planted.acked());
                }
                (planted.tree.kept_len(), &mut planted.held)
            })
        } else {
            self.grown.get_mut(&id).map(|grown| {
                if is_much {
                    grown.tree.forget(of_id(id), u64::MAX);
                }
                let (kept, waiting) = grown.len();
                (kept + waiting, &mut grown.held)
            })
        };
        let Some((now, held)) = counted else { return };
        self.trees_len = self.trees_len - *held + now;
        *held = now;
    }

    /// Hands on what has come by a broadcast, as far as there is room.
    pub(super) fn hand_on_tree(&mut self, now: Instant, id: TreeId) {
        let Some(grown) = self.grown.get_mut(&id) else { return };
        self.stalled.remove(&id);
        let before = grown.done;
        let origin = Origin { publisher: id.publisher, life: grown.life, flow: id.flow() };
        let takers = self.subscribers.takers(&grown.topic);
        while let Some(waiting) = grown.next() {
            let missing = match waiting {
                Waiting::Message(carried, until) if until.is_some_and(|until| until <= now) => {
                    Missing::one(&carried.topic, carried.sequence, Missed::Expired)
                }
                Waiting::Message(carried, until) => {
                    let sequence = carried.sequence;
                    match self.subscribers.hand(origin, carried, &takers) {
                        Handed::Over(failure) => grown.pass(1, sequence, failure.map(counter)),
                        Handed::NotYet(carried) => {
                            grown.put_back(Waiting::Message(carried, until));
                            self.stalled.insert(id);
                            if until.is_some() && self.timers.get(Timer::Sweep).is_none() {
                                self.timers.set(Timer::Sweep, now + SWEEP_EVERY);
                            }
                            break;
                        }
                    }
                    continue;
                }
                Waiting::Missing(missing) => missing,
            };
            self.subscribers.missing(origin, &missing);
            let of: fn(&mut Failed) -> &mut u64 = match missing.why {
                Missed::Expired => |failed| &mut failed.expired,
                Missed::SlowSubscriber => |failed| &mut failed.slow,
                Missed::OutOfReach | Missed::Restarted => |failed| &mut failed.unreached,
            };
            grown.pass(missing.count, missing.to, Some(of));
        }
        if grown.done == before {
            return;
        }
        let (upto, failed) = (grown.done, grown.failed);
        grown.tree.handle(now, tree::Input::Done { origin: of_id(id), upto, failed });
        while let Some(output) = self.grown.get_mut(&id).and_then(|of| of.tree.poll_output()) {
            if let tree::Output::Send { to, said } = output {
                self.send(to, NO_SESSION, Word::Branch { tree: id, said, is_allowed: true });
            }
        }
    }

    /// There is room again for what waits here, or it may be over.
    pub(super) fn retry_stalled(&mut self, now: Instant) {
        // The most urgent go first.
        let mut stalled: Vec<TreeId> = self.stalled.iter().copied().collect();
        stalled.sort_by_key(|id| id.flow());
        for id in stalled {
            self.hand_on_tree(now, id);
            self.weigh_tree(id);
        }
    }
}

/// Where a failure is counted.
const fn counter(failure: Failure) -> fn(&mut Failed) -> &mut u64 {
    match failure {
        Failure::Expired => |failed| &mut failed.expired,
        Failure::Slow => |failed| &mut failed.slow,
        Failure::Unsubscribed => |failed| &mut failed.unsubscribed,
        Failure::Forbidden => |failed| &mut failed.forbidden,
    }
}

const fn of_id(id: TreeId) -> tree::Origin {
    origin(id.publisher, id.number)
}
