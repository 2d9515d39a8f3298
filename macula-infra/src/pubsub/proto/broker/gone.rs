//! Nodes that come and go.

use std::time::Instant;

use macula_core::identity::NodeId;

use super::super::outlet::State;
use super::super::word::{PREFIXES_MAX, SessionId, Word};
use super::{Broker, MET_MAX, Timer};

impl Broker {
    /// There is a connection to a node: it is told that there are subscriptions here.
    pub(super) fn met(&mut self, now: Instant, node: NodeId) {
        if self.met.len() < MET_MAX || self.met.contains_key(&node) {
            *self.met.entry(node).or_default() += 1;
        }
        let prefixes = self.subscribers.prefixes(PREFIXES_MAX);
        if !prefixes.is_empty() && !self.inlets.contains_key(&node) {
            self.send(node, SessionId(0), Word::News { prefixes });
        }
        // Whoever waited for it waits no longer.
        if self.outlets.get(&node).is_some_and(|outlet| outlet.state == State::Greeting) {
            self.timers.set(Timer::Retry(node), now);
        }
    }

    /// A connection is lost. The session goes on over another one.
    pub(super) fn lost(&mut self, now: Instant, node: NodeId) {
        if let Some(count) = self.met.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.met.remove(&node);
            }
        }
        if let Some(outlet) = self.outlets.get_mut(&node)
            && outlet.state == State::Open
        {
            (outlet.state, outlet.since) = (State::Greeting, now);
            self.timers.set(Timer::Retry(node), now);
        }
    }

    /// A node is gone from the mesh, and its subscriptions with it.
    pub(super) fn gone(&mut self, now: Instant, node: NodeId) {
        self.met.remove(&node);
        self.drop_outlet(now, node);
        self.topics.gone(node);
        self.drop_inlet(node);
    }

    /// Tells of prefixes that have their first subscription.
    pub(super) fn tell_news(&mut self) {
        let prefixes: Vec<_> = std::mem::take(&mut self.pending.prefixes).into_iter().collect();
        for prefixes in prefixes.chunks(PREFIXES_MAX) {
            let is_untold = |node: &&NodeId| {
                // Whoever has asked is told what is wanted, and not only that something is.
                self.inlets
                    .get(node)
                    .is_none_or(|inlet| prefixes.iter().any(|prefix| !inlet.is_asked(prefix)))
            };
            let untold: Vec<NodeId> = self.met.keys().filter(is_untold).copied().collect();
            for node in untold {
                self.send(node, SessionId(0), Word::News { prefixes: prefixes.to_vec() });
            }
        }
    }
}
