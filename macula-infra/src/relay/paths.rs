//! Over which relay datagrams go to each node: pure.
//!
//! A node is heard over some relay, and answered over the same. If nothing is heard from it for a
//! while although something is sent, or the relay says that it is not there, the next relay is
//! tried. When all were tried in vain the node's own record is asked for anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

/// How long a node may be silent while something is sent to it, before the next relay is tried.
const SILENCE_MAX: Duration = Duration::from_millis(700);

/// How long a relay is passed over that does not lead to a node.
const AVOIDED: Duration = Duration::from_secs(5);

/// How many relays of one node are known.
const RELAYS_MAX: usize = 8;

/// Of how many nodes something is remembered. Those that were spoken to longest ago give way.
const NODES_MAX: usize = 16_384;

/// How long a node is remembered to which nothing is sent and from which nothing comes.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To this relay.
    Over(NodeId),
    /// Nobody knows: the node's record has to be asked for.
    Unknown,
}

#[derive(Debug)]
struct Relay {
    node: NodeId,
    avoided_until: Option<Instant>,
}

#[derive(Debug)]
struct Node {
    /// The first is in use.
    relays: Vec<Relay>,
    /// Since when something was sent and nothing heard.
    unheard_since: Option<Instant>,
    used: Instant,
}

impl Node {
    /// Passes over the relay in use, for a while.
    fn turn(&mut self, now: Instant) {
        if let Some(first) = self.relays.first_mut() {
            first.avoided_until = Some(now + AVOIDED);
            self.relays.rotate_left(1);
        }
        self.unheard_since = None;
    }
}

/// The ways to nodes.
#[derive(Debug, Default)]
pub struct Paths(BTreeMap<NodeId, Node>);

impl Paths {
    /// Over which relay to send something to a node now.
    pub fn way(&mut self, now: Instant, node: NodeId) -> Way {
        let Some(known) = self.0.get_mut(&node) else { return Way::Unknown };
        known.used = now;
        let is_over = |since: Instant| now.saturating_duration_since(since) >= SILENCE_MAX;
        if known.unheard_since.is_some_and(is_over) {
            known.turn(now);
        }
        for _ in 0..known.relays.len() {
            match known.relays.first() {
                Some(relay) if relay.avoided_until.is_none_or(|until| until <= now) => break,
                _ => known.relays.rotate_left(1),
            }
        }
        match known.relays.first() {
            Some(relay) if relay.avoided_until.is_none_or(|until| until <= now) => {
                known.unheard_since.get_or_insert(now);
                Way::Over(relay.node)
            }
            _ => Way::Unknown,
        }
    }

    /// The relay over which something would be sent to a node, for all that is known.
    #[must_use]
    pub fn over(&self, node: NodeId) -> Option<NodeId> {
        self.0.get(&node)?.relays.first().map(|relay| relay.node)
    }

    /// Something has come from a node over a relay: the way back is the same.
    pub fn heard(&mut self, now: Instant, node: NodeId, over: NodeId) {
        self.make_room(now, node);
        let known = self.known(now, node);
        (known.used, known.unheard_since) = (now, None);
        match known.relays.iter().position(|relay| relay.node == over) {
            Some(place) => known.relays.swap(0, place),
            None => known.relays.insert(0, Relay { node: over, avoided_until: None }),
        }
        if let Some(first) = known.relays.first_mut() {
            first.avoided_until = None;
        }
        known.relays.truncate(RELAYS_MAX);
    }

    /// The relays of a node, as its record has them now.
    pub fn resolved(&mut self, now: Instant, node: NodeId, relays: &[NodeId]) {
        self.make_room(now, node);
        let known = self.known(now, node);
        known.relays.retain(|relay| relays.contains(&relay.node));
        for relay in relays.iter().take(RELAYS_MAX) {
            match known.relays.iter_mut().find(|other| other.node == *relay) {
                Some(other) => other.avoided_until = None,
                None => known.relays.push(Relay { node: *relay, avoided_until: None }),
            }
        }
        known.unheard_since = None;
    }

    /// A relay does not carry anything to a node now.
    pub fn refused(&mut self, now: Instant, node: NodeId, over: NodeId) {
        let Some(known) = self.0.get_mut(&node) else { return };
        if known.relays.first().is_some_and(|relay| relay.node == over) {
            known.turn(now);
        }
    }

    /// A relay cannot be reached any more.
    pub fn lost(&mut self, now: Instant, relay: NodeId) {
        for known in self.0.values_mut() {
            if known.relays.first().is_some_and(|first| first.node == relay) {
                known.turn(now);
            }
        }
    }

    /// Whether a node may be heard over a relay, for all that is known.
    #[must_use]
    pub fn leads(&self, relay: NodeId, node: NodeId) -> bool {
        let known = self.0.get(&node);
        known.is_some_and(|known| known.relays.iter().any(|other| other.node == relay))
    }

    /// Whether something goes to some node over a relay.
    #[must_use]
    pub fn uses(&self, relay: NodeId) -> bool {
        let first = |known: &Node| known.relays.first().map(|first| first.node);
        self.0.values().any(|known| first(known) == Some(relay))
    }

    fn known(&mut self, now: Instant, node: NodeId) -> &mut Node {
        let nothing = || Node { relays: Vec::new(), unheard_since: None, used: now };
        self.0.entry(node).or_insert_with(nothing)
    }

    fn make_room(&mut self, now: Instant, node: NodeId) {
        if self.0.len() < NODES_MAX || self.0.contains_key(&node) {
            return;
        }
        self.0.retain(|_, known| now.saturating_duration_since(known.used) < IDLE_MAX);
        if self.0.len() >= NODES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.used);
            let oldest = oldest.map(|(node, _)| *node);
            oldest.and_then(|node| self.0.remove(&node));
        }
    }
}

#[cfg(test)]
mod tests;
