//! Whom a node of a large audience is connected with: a few, so that all together are one.
//!
//! `HyParView` (Leitão, Pereira and Rodrigues, DSN 2007): each node keeps a small *active* view of
//! neighbours, which is symmetric, and a larger *passive* one of others that it has heard of. Who
//! joins asks one node, which tells its neighbours, and they walk the news through the mesh until
//! somebody far away takes the new one up. A neighbour that is lost is replaced by one of the passive
//! view, which shuffles keep fresh.
//!
//! Beyond the paper, each node now and then takes up somebody new at random, be its view full or
//! not, so that no few nodes can be neighbours of one another only, and stay so.
//!
//! Neighbours say every second that they are. One that says nothing for a while is lost; one that
//! speaks to a node that does not hold it for a neighbour is taken up, or told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use serde::{Deserialize, Serialize};

/// How many neighbours a node has at most.
pub const ACTIVE_MAX: usize = 5;

/// With fewer neighbours than this a node looks for more.
const ACTIVE_MIN: usize = 4;

/// How many others it remembers.
const PASSIVE_MAX: usize = 30;

/// How far the news of one who joins walks.
const JOIN_WALK: u8 = 6;

/// Where on that walk it is remembered.
const REMEMBER_AT: u8 = 3;

/// How far a shuffle walks.
const SHUFFLE_WALK: u8 = 4;

/// How many nodes a shuffle names at most.
pub const SHUFFLE_MAX: usize = 8;

/// How often nodes shuffle, in pulses.
const SHUFFLE_EVERY: u64 = 5;

/// How often a node takes up somebody new, in pulses.
const REWIRE_EVERY: u64 = 8;

/// How long a neighbour may say nothing.
const SILENCE_MAX: Duration = Duration::from_millis(4_500);

/// How long an answer of one that was asked to be a neighbour is waited for.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// What nodes say to each other about their views.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The sender is new.
    Join,
    /// A node is new.
    ForwardJoin {
        /// Which.
        node: NodeId,
        /// How far the news still walks.
        walk: u8,
    },
    /// Be my neighbour.
    Neighbour {
        /// The sender has nobody else, or was found far away: it is not refused.
        urgent: bool,
    },
    /// The sender is.
    Accept,
    /// It is not.
    Refuse,
    /// It is no more.
    Disconnect,
    /// These are some whom a node knows.
    Shuffle {
        /// Which node.
        node: NodeId,
        /// How far it still walks.
        walk: u8,
        /// Whom it knows.
        known: Vec<NodeId>,
    },
    /// And these are some others.
    ShuffleReply {
        /// Who.
        known: Vec<NodeId>,
    },
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Up(NodeId),
    Down(NodeId),
}

/// The two views of a node.
#[derive(Debug)]
pub(super) struct View {
    me: NodeId,
    /// The neighbours, and when each was last heard.
    active: BTreeMap<NodeId, Instant>,
    passive: BTreeSet<NodeId>,
    /// Who was asked to be a neighbour, and until when an answer is waited for.
    asked: Option<(NodeId, Instant)>,
    /// Whom to ask if nobody else is known.
    contacts: Vec<NodeId>,
    pulses: u64,
    entropy: Entropy,
    pub(super) out: VecDeque<(NodeId, Said)>,
    pub(super) changes: VecDeque<Change>,
}

impl View {
    pub(super) fn new(me: NodeId, mut entropy: Entropy) -> Self {
        Self {
            // Not all do the same in the same second.
            pulses: entropy.below(REWIRE_EVERY * SHUFFLE_EVERY),
            me,
            active: BTreeMap::new(),
            passive: BTreeSet::new(),
            asked: None,
            contacts: Vec::new(),
            entropy,
            out: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    pub(super) fn active(&self) -> impl Iterator<Item = NodeId> {
        self.active.keys().copied()
    }

    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.active.contains_key(&node)
    }

    /// Becomes one of the audience, of which these are some.
    pub(super) fn join(&mut self, contacts: Vec<NodeId>) {
        self.contacts = contacts;
        self.contacts.retain(|contact| *contact != self.me);
        self.ask_contact();
    }

    fn ask_contact(&mut self) {
        let contacts = self.contacts.clone();
        if let Some(contact) = self.pick(contacts.into_iter()) {
            self.say(contact, Said::Join);
        }
    }

    fn say(&mut self, to: NodeId, said: Said) {
        self.out.push_back((to, said));
    }

    fn pick(&mut self, of: impl Iterator<Item = NodeId>) -> Option<NodeId> {
        let of: Vec<NodeId> = of.collect();
        let len = u64::try_from(of.len()).unwrap_or(u64::MAX);
        usize::try_from(self.entropy.below(len)).ok().and_then(|place| of.get(place)).copied()
    }

    fn pick_active(&mut self, but: NodeId) -> Option<NodeId> {
        let others: Vec<NodeId> = self.active().filter(|node| *node != but).collect();
        self.pick(others.into_iter())
    }

    /// A neighbour has said something, whatever it is.
    pub(super) fn heard(&mut self, now: Instant, from: NodeId) {
        if let Some(heard) = self.active.get_mut(&from) {
            *heard = now;
        }
    }

    /// Somebody believes that this node is its neighbour.
    pub(super) fn pulse_of(&mut self, now: Instant, from: NodeId) {
        if self.is_active(from) {
            self.heard(now, from);
        } else if self.active.len() < ACTIVE_MAX {
            self.take_up(now, from);
        } else {
            self.say(from, Said::Disconnect);
        }
    }

    fn take_up(&mut self, now: Instant, node: NodeId) {
        if node == self.me {
            return;
        }
        self.passive.remove(&node);
        if self.active.insert(node, now).is_some() {
            return;
        }
        self.changes.push_back(Change::Up(node));
        if self.active.len() > ACTIVE_MAX
            && let Some(other) = self.pick_active(node)
        {
            self.say(other, Said::Disconnect);
            self.let_go(other);
            self.remember(other);
        }
    }

    pub(super) fn let_go(&mut self, node: NodeId) {
        if self.active.remove(&node).is_some() {
            self.changes.push_back(Change::Down(node));
        }
    }

    fn remember(&mut self, node: NodeId) {
        if node == self.me || self.is_active(node) {
            return;
        }
        self.passive.insert(node);
        while self.passive.len() > PASSIVE_MAX {
            let others: Vec<NodeId> = self.passive.iter().copied().collect();
            let other = self.pick(others.into_iter());
            other.map(|other| self.passive.remove(&other));
        }
    }

    pub(super) fn hear(&mut self, now: Instant, from: NodeId, said: Said) {
        self.heard(now, from);
        match said {
            Said::Join => {
                self.take_up(now, from);
                self.say(from, Said::Accept);
                let others: Vec<NodeId> = self.active().filter(|node| *node != from).collect();
                for other in others {
                    self.say(other, Said::ForwardJoin { node: from, walk: JOIN_WALK });
                }
            }
            Said::ForwardJoin { node, walk } => self.forward_join(now, from, (node, walk)),
            Said::Neighbour { urgent } => {
                if urgent || self.active.len() < ACTIVE_MAX {
                    self.take_up(now, from);
                    self.say(from, Said::Accept);
                } else {
                    self.remember(from);
                    self.say(from, Said::Refuse);
                }
            }
            Said::Accept => {
                self.asked = self.asked.filter(|(node, _)| *node != from);
                self.take_up(now, from);
            }
            Said::Refuse => self.asked = self.asked.filter(|(node, _)| *node != from),
            Said::Disconnect => {
                self.let_go(from);
                self.remember(from);
            }
            Said::Shuffle { node, walk, known } => {
                let next = if walk > 0 { self.pick_active(from) } else { None };
                match next.filter(|next| *next != node) {
                    Some(next) => {
                        self.say(next, Said::Shuffle { node, walk: walk - 1, known });
                    }
                    None => {
                        let reply = self.sample(node);
                        self.say(node, Said::ShuffleReply { known: reply });
                        known.into_iter().chain([node]).for_each(|node| self.remember(node));
                    }
                }
            }
            Said::ShuffleReply { known } => known.into_iter().for_each(|node| self.remember(node)),
        }
    }

    fn forward_join(&mut self, now: Instant, from: NodeId, (node, walk): (NodeId, u8)) {
        let next = if walk > 0 { self.pick_active(from) } else { None };
        match next.filter(|next| *next != node) {
            Some(next) => {
                if walk == REMEMBER_AT {
                    self.remember(node);
                }
                self.say(next, Said::ForwardJoin { node, walk: walk - 1 });
            }
            None if node != self.me && !self.is_active(node) => {
                self.take_up(now, node);
                self.say(node, Said::Neighbour { urgent: true });
            }
            None => {}
        }
    }

    /// Some nodes of both views.
    fn sample(&mut self, but: NodeId) -> Vec<NodeId> {
        let mut all: Vec<NodeId> =
            self.active().chain(self.passive.iter().copied()).filter(|node| *node != but).collect();
        let mut sample = Vec::new();
        while sample.len() < SHUFFLE_MAX && !all.is_empty() {
            let len = u64::try_from(all.len()).unwrap_or(u64::MAX);
            let place = usize::try_from(self.entropy.below(len)).unwrap_or_default();
            sample.push(all.swap_remove(place));
        }
        sample
    }

    /// A second has passed: lets go of those that are silent, and looks for others.
    pub(super) fn pulse(&mut self, now: Instant) {
        self.pulses += 1;
        let silent = |heard: &Instant| now.saturating_duration_since(*heard) > SILENCE_MAX;
        let silent: Vec<NodeId> =
            self.active.iter().filter(|(_, heard)| silent(heard)).map(|(node, _)| *node).collect();
        for node in silent {
            self.let_go(node);
        }
        if let Some((node, _)) = self.asked.filter(|(_, until)| *until <= now) {
            self.asked = None;
            self.passive.remove(&node);
        }
        if self.active.len() < ACTIVE_MIN && self.asked.is_none() {
            let passive: Vec<NodeId> = self.passive.iter().copied().collect();
            match self.pick(passive.into_iter()) {
                Some(node) => {
                    self.asked = Some((node, now + ANSWER_WITHIN));
                    let urgent = self.active.is_empty();
                    self.say(node, Said::Neighbour { urgent });
                }
                None if self.active.is_empty() => self.ask_contact(),
                None => {}
            }
        }
        if self.pulses.is_multiple_of(REWIRE_EVERY) {
            let others = self.contacts.iter().chain(&self.passive).copied();
            let others: Vec<NodeId> = others.filter(|node| !self.is_active(*node)).collect();
            if let Some(node) = self.pick(others.into_iter()) {
                self.say(node, Said::Neighbour { urgent: true });
            }
        }
        if self.pulses.is_multiple_of(SHUFFLE_EVERY)
            && let Some(next) = self.pick_active(self.me)
        {
            let known = self.sample(next);
            self.say(next, Said::Shuffle { node: self.me, walk: SHUFFLE_WALK, known });
        }
    }
}
