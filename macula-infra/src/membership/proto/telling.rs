//! How messages are made, and how news is pushed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::super::update::Update;
use super::suspicion::Suspicion;
use super::swim::{Stage, Swim};
use super::timer::Timer;
use super::{ASK_NODES_MAX, Body, Message, Output, UPDATES_MAX};
use crate::contact::Contact;

/// How often news is pushed at most. What comes in between goes out together.
const PUSH_EVERY: Duration = Duration::from_millis(50);

/// How often one of the departed that says something is told at most that it is held to be down.
const ACCUSE_EVERY: Duration = Duration::from_secs(1);

/// Whether a message says who its sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Introduced {
    /// The receiver knows it, or will ask.
    No,
    /// It does.
    Yes,
}

impl Swim {
    pub(super) fn send(&mut self, to: NodeId, body: Body) {
        self.send_as(Introduced::No, to, body);
    }

    pub(super) fn introduce(&mut self, to: NodeId, body: Body) {
        self.send_as(Introduced::Yes, to, body);
    }

    fn send_as(&mut self, introduced: Introduced, to: NodeId, body: Body) {
        let contact = self.seen(to).map(|seen| seen.presence().contact.clone());
        let contact = contact.unwrap_or_else(|| Contact::new(to, []));
        self.send_to(introduced, contact, body);
    }

    pub(super) fn send_to(&mut self, introduced: Introduced, to: Contact, body: Body) {
        let mut updates = Vec::new();
        // Lifeguard's buddy system: whoever is accused is the first to be told.
        let suspected = self.suspicion_claim(to.node, Suspicion::first_accuser);
        let claim = suspected.or_else(|| self.departed.get(&to.node)?.claim());
        updates.extend(claim.map(Update::Claim));
        if introduced == Introduced::Yes || self.departed.get(&to.node).is_some() {
            updates.push(Update::Presence(Arc::clone(&self.me)));
        }
        let limit = self.transmit_limit();
        updates.extend(self.rumours.take(UPDATES_MAX - updates.len(), limit));
        self.out.push_back(Output::Send { to, message: Message { updates, body } });
    }

    /// How often each update is sent: lambda times the logarithm of the number of nodes.
    fn transmit_limit(&self) -> u32 {
        let nodes = self.members.len() + 1;
        self.config.transmit_factor * (nodes.ilog2() + 1)
    }

    /// Asks a node about others.
    pub(super) fn ask(&mut self, of: NodeId, mut nodes: Vec<NodeId>) {
        if !nodes.is_empty() {
            nodes.truncate(ASK_NODES_MAX);
            self.send(of, Body::Ask { nodes });
        }
    }

    /// Whoever is held to be down and speaks is told so, and has something to refute.
    pub(super) fn accuse(&mut self, now: Instant, from: NodeId) {
        let Some(gone) = self.departed.get_mut(&from) else { return };
        let lately = gone.accused_at.is_some_and(|at| now < at + ACCUSE_EVERY);
        if gone.claim().is_some() && !lately {
            gone.accused_at = Some(now);
            self.send(from, Body::Gossip);
        }
    }

    /// There is news for everybody.
    pub(super) fn spread(&mut self, now: Instant, news: Update) {
        self.rumours.add(news);
        self.schedule_push(now);
    }

    fn schedule_push(&mut self, now: Instant) {
        if self.stage != Stage::Idle && self.timers.get(Timer::Push).is_none() {
            let soonest = self.pushed_at.map_or(now, |at| (at + PUSH_EVERY).max(now));
            self.timers.set(Timer::Push, soonest);
        }
    }

    pub(super) fn push(&mut self, now: Instant) {
        self.pushed_at = Some(now);
        let fanout = self.config.push_fanout;
        for node in self.ring.pick(fanout, None, &mut self.entropy) {
            self.send(node, Body::Gossip);
        }
        let pushed = u32::try_from(fanout.min(self.members.len())).unwrap_or(u32::MAX);
        if self.rumours.is_fresh(pushed) {
            self.schedule_push(now);
        }
    }
}
