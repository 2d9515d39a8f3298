//! Over which relays datagrams go to each node: pure.
//!
//! A node is heard over some relay, and answered over the same. If nothing is heard from it for a
//! while although something is sent, what is sent goes over all relays that may lead to it at once,
//! until it is heard over one of them: QUIC takes a datagram that comes twice for one. Meanwhile the
//! node's own record is asked for anew. So it makes no difference how many relays are lost at one
//! time, as long as one is left.
//!
//! What a relay brings is taken for the node's before QUIC has looked at it, so that a relay can say it
//! brings something from anybody. As long as a node's own record names relays, a way over another one
//! is not taken on that word alone, and a node that was heard before its record was read has it read.
//! A relay that the node names itself can always keep what it is to carry; the node names others then.
//!
//! Relays that may lead to a node are those that it says of itself, and those at which this node has a
//! place: both may have one at the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::Bug;

/// How long a node may be silent while something is sent to it, before other relays are tried.
const SILENCE_MAX: Duration = Duration::from_millis(700);

/// How long a relay is passed over that does not lead to a node.
const AVOIDED: Duration = Duration::from_secs(5);

/// How long after a node's record was asked for it is not asked for again.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How long after that it is not asked for again to see whether the relay over which a node was heard is
/// one that it names.
const DOUBTED_EVERY: Duration = Duration::from_secs(60);

/// How many relays of one node are known.
pub(super) const RELAYS_MAX: usize = 8;

/// Over how many relays one datagram goes.
const AT_ONCE_MAX: usize = 4;

/// Of how many nodes something is remembered. Those that were spoken to longest ago give way.
const NODES_MAX: usize = 16_384;

/// How long a node is remembered to which nothing is sent and from which nothing comes.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Where a datagram goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// To these relays, to each of them.
    pub over: Vec<NodeId>,
    /// Whether the node's record is to be asked for.
    pub asks: bool,
    /// Whether nothing is known of the node, so that it had better wait for the record too.
    pub waits: bool,
}

#[derive(Debug)]
struct Relay {
    node: NodeId,
    avoided_until: Option<Instant>,
    /// Whether the node itself says that it is reached over it.
    is_named: bool,
}

impl Relay {
    const fn new(node: NodeId, is_named: bool) -> Self {
        Self { node, avoided_until: None, is_named }
    }

    fn is_usable(&self, now: Instant) -> bool {
        self.avoided_until.is_none_or(|until| until <= now)
    }
}

#[derive(Debug)]
struct Node {
    /// The first is in use.
    relays: Vec<Relay>,
    /// Since when something was sent and nothing heard.
    unheard_since: Option<Instant>,
    /// When its record was asked for.
    asked_at: Option<Instant>,
    used: Instant,
}

impl Node {
    /// Passes over a relay, for a while.
    fn avoid(&mut self, now: Instant, over: NodeId) {
        let avoided_until = Some(now + AVOIDED);
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.node == over) {
            relay.avoided_until = avoided_until;
        } else if self.relays.len() < RELAYS_MAX {
            self.relays.push(Relay { avoided_until, ..Relay::new(over, false) });
        }
    }

    /// Whether the node itself names any relays.
    fn names_any(&self) -> bool {
        self.relays.iter().any(|relay| relay.is_named)
    }

    fn first(&self) -> Option<NodeId> {
        self.relays.first().map(|relay| relay.node)
    }
}

/// The ways to nodes.
#[derive(Debug, Default)]
pub struct Paths {
    nodes: BTreeMap<NodeId, Node>,
    bug: Option<Bug>,
}

impl Paths {
    /// Ways to nobody, with a bug that a test has planted.
    #[must_use]
    pub const fn new(bug: Option<Bug>) -> Self {
        Self { nodes: BTreeMap::new(), bug }
    }

    /// Over which relays to send something to a node now. `places` are those at which this node has
    /// one.
    pub fn way(&mut self, now: Instant, node: NodeId, places: &BTreeSet<NodeId>) -> Way {
        let stays = self.bug == Some(Bug::StaysWithTheDead);
        self.make_room(now, node);
        let known = self.known(now, node);
        known.used = now;
        let is_over = |since: Instant| now.saturating_duration_since(since) >= SILENCE_MAX;
        let is_silent = known.unheard_since.is_some_and(is_over) && !stays;
        let usable = known.relays.iter().filter(|relay| relay.is_usable(now) || stays);
        let mut over: Vec<NodeId> = usable.map(|relay| relay.node).collect();
        if is_silent || over.is_empty() {
            let others = places
                .iter()
                .filter(|place| known.relays.iter().all(|relay| relay.node != **place))
                .copied();
            let others: Vec<NodeId> = others.take(AT_ONCE_MAX).collect();
            // Of both there are some: what the other end is heard over it may not be heard over itself.
            over.truncate(AT_ONCE_MAX - others.len().min(AT_ONCE_MAX / 2));
            over.extend(others);
            over.truncate(AT_ONCE_MAX);
        } else {
            over.truncate(1);
        }
        let usable = known.relays.iter().any(|relay| relay.is_usable(now));
        let wants = is_silent || !usable;
        let every = if wants { ASKED_EVERY } else { DOUBTED_EVERY };
        let asked = |at: Instant| now.saturating_duration_since(at) < every;
        let asks = (wants || !known.names_any()) && !known.asked_at.is_some_and(asked);
        if asks {
            known.asked_at = Some(now);
        }
        if !over.is_empty() {
            known.unheard_since.get_or_insert(now);
        }
        Way { over, asks, waits: known.relays.is_empty() }
    }

    /// The relay over which something would be sent to a node, for all that is known.
    #[must_use]
    pub fn over(&self, node: NodeId) -> Option<NodeId> {
        self.nodes.get(&node)?.first()
    }

    /// Something has come from a node over a relay: the way back is the same, unless the node names
    /// others.
    pub fn heard(&mut self, now: Instant, node: NodeId, over: NodeId) {
        self.make_room(now, node);
        let known = self.known(now, node);
        (known.used, known.unheard_since) = (now, None);
        let place = known.relays.iter().position(|relay| relay.node == over);
        let is_named =
            place.and_then(|place| known.relays.get(place)).is_some_and(|relay| relay.is_named);
        if !is_named && known.names_any() {
            return;
        }
        match place {
            Some(place) => known.relays.swap(0, place),
            None => known.relays.insert(0, Relay::new(over, false)),
        }
        if let Some(first) = known.relays.first_mut() {
            first.avoided_until = None;
        }
        known.relays.truncate(RELAYS_MAX);
    }

    /// The relays of a node, as it says now.
    pub fn resolved(&mut self, now: Instant, node: NodeId, relays: &[NodeId]) {
        self.make_room(now, node);
        let known = self.known(now, node);
        known.relays.retain(|relay| relays.contains(&relay.node));
        for relay in relays.iter().take(RELAYS_MAX) {
            match known.relays.iter_mut().find(|other| other.node == *relay) {
                Some(other) => *other = Relay::new(*relay, true),
                None => known.relays.push(Relay::new(*relay, true)),
            }
        }
    }

    /// A relay does not carry anything to a node now.
    pub fn refused(&mut self, now: Instant, node: NodeId, over: NodeId) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.avoid(now, over);
        }
    }

    /// A relay cannot be reached any more.
    pub fn lost(&mut self, now: Instant, relay: NodeId) {
        for known in self.nodes.values_mut() {
            if known.first() == Some(relay) {
                known.avoid(now, relay);
            }
        }
    }

    /// Whether a node may be heard over a relay, for all that is known.
    #[must_use]
    pub fn leads(&self, relay: NodeId, node: NodeId) -> bool {
        let known = self.nodes.get(&node);
        known.is_some_and(|known| known.relays.iter().any(|other| other.node == relay))
    }

    /// Whether something goes to some node over a relay.
    #[must_use]
    pub fn uses(&self, relay: NodeId) -> bool {
        self.nodes.values().any(|known| known.first() == Some(relay))
    }

    fn known(&mut self, now: Instant, node: NodeId) -> &mut Node {
        let nothing =
            || Node { relays: Vec::new(), unheard_since: None, asked_at: None, used: now };
        self.nodes.entry(node).or_insert_with(nothing)
    }

    fn make_room(&mut self, now: Instant, node: NodeId) {
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&node) {
            return;
        }
        self.nodes.retain(|_, known| now.saturating_duration_since(known.used) < IDLE_MAX);
        if self.nodes.len() >= NODES_MAX {
            let oldest = self.nodes.iter().min_by_key(|(_, known)| known.used);
            let oldest = oldest.map(|(node, _)| *node);
            oldest.and_then(|node| self.nodes.remove(&node));
        }
    }
}

#[cfg(test)]
mod tests;
