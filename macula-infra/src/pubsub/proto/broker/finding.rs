//! Who wants what this node publishes: who is found, and whether that is known.

use std::sync::Arc;
use std::time::Instant;

use macula_core::identity::NodeId;
use macula_core::topic::{Pattern, Topic};

use super::super::super::message::{Outcome, Reason};
use super::super::crowd::{self, CROWD, Next};
use super::super::topics::FOUND_TTL;
use super::super::{Output, TopicId};
use super::{Broker, KNOWN_WITHIN, Timer};

/// How many nodes are looked for at one key.
const FOUND_MAX: usize = 1_024;

impl Broker {
    pub(super) fn open(&mut self, now: Instant, id: TopicId, topic: Topic) {
        if !self.topics.open(id, topic) {
            return;
        }
        self.weigh(id);
        self.seek(now, id);
        self.timers.set(Timer::Know(id), now + KNOWN_WITHIN);
        for node in self.topics.nodes_of(id) {
            self.may_want(now, node, &[id]);
        }
        self.know_all(now);
    }

    pub(super) fn close(&mut self, now: Instant, id: TopicId) {
        self.fell(now, id);
        self.timers.clear(Timer::Seek(id));
        self.timers.clear(Timer::Know(id));
        self.end_orphans(id);
        let Some(named) = self.topics.close(id) else { return };
        for (_, weight) in named.parked {
            self.tally(id).accepted += 1;
            self.tally(id).end(Outcome::Dropped(Reason::SlowSubscriber));
            self.freed(id, weight);
        }
    }

    /// Looks for whoever subscribes to a topic, in the background.
    pub(super) fn seek(&mut self, now: Instant, id: TopicId) {
        self.timers.set(Timer::Seek(id), now + FOUND_TTL);
        for prefix in self.topics.seek(id, now) {
            self.out.push_back(Output::Find { prefix, max: FOUND_MAX });
        }
    }

    /// Looks again, if anything was published since it was looked.
    pub(super) fn seek_again(&mut self, now: Instant, id: TopicId) {
        let Some(named) = self.topics.get_mut(id) else { return };
        named.is_dormant = !std::mem::take(&mut named.is_used);
        if !named.is_dormant {
            self.seek(now, id);
        }
    }

    /// It was looked under a prefix.
    pub(super) fn found(&mut self, now: Instant, name: &str, nodes: Option<Vec<NodeId>>) {
        match self.crowds.found(now, name, nodes.as_ref().map(Vec::len)) {
            Next::Nothing => {}
            Next::Look(prefix) => self.out.push_back(Output::Find { prefix, max: CROWD }),
            Next::Depth(prefix, depth) => self.out.push_back(Output::Depth { prefix, depth }),
        }
        let found = nodes.as_ref().map(Vec::len);
        for prefix in self.topics.sought(now, name, found) {
            self.out.push_back(Output::Find { prefix, max: FOUND_MAX });
        }
        let prefix = Arc::from(crowd::prefix_of(name).0);
        self.there_are(now, &prefix, nodes.unwrap_or_default());
        self.know_all(now);
    }

    /// Some nodes have subscriptions with a prefix.
    pub(super) fn there_are(&mut self, now: Instant, prefix: &Arc<str>, nodes: Vec<NodeId>) {
        let me = self.me.node;
        let others = nodes.into_iter().filter(|node| *node != me);
        let (fresh, topics) = self.topics.found(prefix, others);
        for node in fresh {
            self.may_want(now, node, &topics);
        }
    }

    /// A node may want some topics: it is asked.
    fn may_want(&mut self, now: Instant, node: NodeId, topics: &[TopicId]) {
        for id in topics {
            let prefixes = self.topics.get(*id).map(|named| named.prefixes.clone());
            for prefix in prefixes.unwrap_or_default() {
                let is_new = self.outlet(now, node).is_some_and(|outlet| outlet.ask(&prefix));
                if is_new {
                    self.ask_soon(now, node);
                }
            }
        }
    }

    /// Somebody who wants topics of this pattern has come, gone, or stands otherwise.
    pub(super) fn touch(&mut self, now: Instant, pattern: &Pattern) {
        for id in self.topics.matching(pattern) {
            self.weigh(id);
            self.members(now, id);
            self.tell_audience(id);
            if self.topics.parked.contains(&id) || self.orphans.has(id) {
                self.pending.room = true;
                self.flush_soon(now);
            }
        }
    }

    fn weigh(&mut self, id: TopicId) {
        let here = self.topics.get(id).map(|named| self.subscribers.takers(&named.topic));
        if let Some(here) = here {
            self.topics.weigh(id, self.me.node, here);
        }
    }

    /// Tells how many subscribers a topic has, if that is known and news.
    fn tell_audience(&mut self, id: TopicId) {
        let is_known = !self.topics.unknown.contains(&id);
        let Some(named) = self.topics.get_mut(id).filter(|_| is_known) else { return };
        let subscribers = named.audience.len();
        if named.told.replace(subscribers) != Some(subscribers) {
            self.out.push_back(Output::Audience { topic: id, subscribers });
        }
    }

    /// Looks whether the subscribers of more topics are known by now.
    pub(super) fn know_all(&mut self, now: Instant) {
        let unknown: Vec<TopicId> = self.topics.unknown.iter().copied().collect();
        for id in unknown {
            let is_known = self.topics.is_sought(id)
                && self.topics.get(id).is_some_and(|named| {
                    let mut nodes = self.topics.nodes_of(id).into_iter();
                    nodes.all(|node| {
                        let outlet = self.outlets.get(&node);
                        outlet.is_none_or(|outlet| outlet.has_answered(&named.prefixes))
                    })
                });
            if is_known {
                self.know(now, id);
            }
        }
    }

    /// Whatever the subscribers of a topic are known to be by now is true enough.
    pub(super) fn know(&mut self, now: Instant, id: TopicId) {
        self.timers.clear(Timer::Know(id));
        if self.topics.unknown.remove(&id) {
            self.tell_audience(id);
            self.pending.room = true;
            self.flush_soon(now);
        }
    }
}
