//! Joining, refuting, reconnecting and leaving: what a node does about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::super::config::Config;
use super::super::update::{Presence, Role, Seen, Stamp, Status, Update};
use super::ring::below;
use super::swim::{Stage, Swim};
use super::telling::Introduced;
use super::timer::Timer;
use super::{Body, Bug, Output, SEEDS_MAX};
use crate::contact::Contact;

/// How many seeds are asked at one time.
const JOIN_FANOUT: usize = 3;

/// How often a node refutes at most.
const REFUTE_EVERY: Duration = Duration::from_millis(100);

/// How many accusers are answered together.
const ACCUSERS_MAX: usize = 8;

/// How often a farewell is said, to how many members each time, and how long after the last.
const FAREWELLS: u32 = 3;
const FAREWELL_FANOUT: usize = 8;
const FAREWELL_EVERY: Duration = Duration::from_millis(100);

impl Swim {
    pub(super) fn join(&mut self, now: Instant, seeds: Vec<Contact>) {
        let me = self.me.node();
        let others = seeds.into_iter().filter(|seed| seed.node != me);
        self.seeds = others.take(SEEDS_MAX).collect();
        if self.stage == Stage::Idle {
            self.stage = Stage::Active;
            self.fresh = !self.seeds.is_empty();
            let wait = self.part_of(self.config.probe_interval);
            self.timers.set(Timer::Tick, now + wait);
            self.begin_sync(now);
            self.begin_reconnecting(now);
            self.spread(now, Update::Presence(Arc::clone(&self.me)));
        }
        self.join_attempts = 0;
        self.try_join(now);
    }

    /// Goes on with the members that an earlier machine of this life of the node had, and how each of
    /// them stood. Nobody is told of it: they have joined before, and are gone once they do not answer,
    /// or say or are said to be gone.
    pub fn resume(&mut self, now: Instant, held: BTreeMap<NodeId, (Arc<Seen>, Status)>) {
        let me = self.me.node();
        for (node, (seen, status)) in held.into_iter().filter(|(node, _)| *node != me) {
            if self.seen(node).is_none() {
                self.let_in(now, seen, false);
                if status == Status::Suspect {
                    self.suspect_still(now, node);
                }
            }
        }
    }

    /// Asks some seeds, and goes on with that until anybody is known.
    pub(super) fn try_join(&mut self, now: Instant) {
        if self.stage != Stage::Active || !self.members.is_empty() || self.seeds.is_empty() {
            return;
        }
        let start = below(&mut self.entropy, self.seeds.len());
        let asked: Vec<Contact> = self
            .seeds
            .iter()
            .cycle()
            .skip(start)
            .take(JOIN_FANOUT.min(self.seeds.len()))
            .cloned()
            .collect();
        for seed in asked {
            let sums = self.sums.all().to_vec();
            self.send_to(Introduced::Yes, seed, Body::Digest { sums });
        }
        let doubled = 1_u32 << self.join_attempts.min(30);
        self.join_attempts = self.join_attempts.saturating_add(1);
        let wait = self.config.join_backoff_initial.saturating_mul(doubled);
        let wait = self.jittered(wait.min(self.config.join_backoff_max));
        self.timers.set(Timer::Join, now + wait);
    }

    /// There is a connection: whoever is not known, or held to be down, is spoken to.
    pub(super) fn met(&mut self, now: Instant, node: NodeId) {
        if node == self.me.node() || self.members.contains_key(&node) || self.is_leaving() {
            return;
        }
        if self.departed.get(&node).is_some() {
            self.accuse(now, node);
        } else {
            self.introduce(node, Body::Ask { nodes: vec![node] });
        }
    }

    /// This node is held to be suspect or down.
    pub(super) fn accused(
        &mut self,
        now: Instant,
        from: NodeId,
        stamp: Stamp,
        asked: &mut Vec<NodeId>,
    ) {
        let mine = self.me.stamp();
        if self.is_leaving() {
            return;
        }
        if stamp <= mine {
            if self.accusers.len() < ACCUSERS_MAX && !self.accusers.contains(&from) {
                self.accusers.push(from);
            }
            if stamp == mine {
                self.refute(now);
            }
        } else {
            // This process has not signed that; if an earlier one of this life has, it is told.
            asked.push(self.me.node());
        }
    }

    pub(super) fn refute(&mut self, now: Instant) {
        self.refute_above(now, self.me.stamp());
    }

    /// Signs a presence above one of this life, now or when it is time for another.
    pub(super) fn refute_above(&mut self, now: Instant, stamp: Stamp) {
        if self.is_leaving() {
            return;
        }
        if let Some(soonest) = self.refuted_at.map(|at| at + REFUTE_EVERY).filter(|at| *at > now) {
            return self.timers.set(Timer::Refute, soonest);
        }
        self.refuted_at = Some(now);
        self.stats.refutations += 1;
        // Others had reason to suspect it.
        self.health.worse(1);
        let version = stamp.version.max(self.me.stamp().version).saturating_add(1);
        let same = self.has(Bug::RefutesWithTheSameVersion);
        let version = if same { self.me.stamp().version } else { version };
        self.renew(now, |presence| presence.stamp.version = version);
        self.answer_accusers();
    }

    /// Tells those who hold this node to be suspect or down that it is there, unless it is about to
    /// refute that anyway.
    pub(super) fn answer_accusers(&mut self) {
        if self.timers.get(Timer::Refute).is_none() {
            for accuser in std::mem::take(&mut self.accusers) {
                self.introduce(accuser, Body::Gossip);
            }
        }
    }

    /// Says something new of itself.
    fn renew(&mut self, now: Instant, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.me.presence().clone();
        change(&mut presence);
        self.sums.toggle(self.me.node(), self.me.stamp());
        self.me = Arc::new(self.signer.seal(presence));
        self.sums.toggle(self.me.node(), self.me.stamp());
        self.spread(now, Update::Presence(Arc::clone(&self.me)));
    }

    pub(super) fn present(&mut self, now: Instant, addresses: Vec<SocketAddr>, role: Role) {
        let contact = Contact::new(self.me.node(), addresses);
        let said = self.me.presence();
        if self.is_leaving() || (said.contact == contact && said.role == role) {
            return;
        }
        self.renew(now, |presence| {
            presence.contact = contact;
            presence.role = role;
            presence.stamp.version = presence.stamp.version.saturating_add(1);
        });
    }

    pub(super) fn reconfigure(&mut self, now: Instant, config: Config) {
        self.config = config;
        if self.stage == Stage::Active {
            let wait = self.part_of(self.config.probe_interval);
            self.timers.set(Timer::Tick, now + wait);
            self.begin_sync(now);
            self.begin_reconnecting(now);
        }
    }

    fn begin_reconnecting(&mut self, now: Instant) {
        let wait = self.part_of(self.config.reconnect_interval);
        self.timers.set(Timer::Reconnect, now + wait);
    }

    /// Asks one of those that are down, or a seed that is no member, whether it is back.
    pub(super) fn reconnect(&mut self, now: Instant) {
        let wait = self.jittered(self.config.reconnect_interval);
        self.timers.set(Timer::Reconnect, now + wait);
        if self.has(Bug::NeverProbesTheDead) {
            return;
        }
        let lost = self.seeds.iter().filter(|seed| {
            let known = self.departed.get(&seed.node).is_some_and(|gone| gone.claim().is_some());
            !self.members.contains_key(&seed.node) && !known
        });
        let lost: Vec<Contact> = lost.cloned().collect();
        let place = below(&mut self.entropy, self.departed.down_len() + lost.len());
        let nonce = self.entropy.next_u64();
        if let Some(node) = self.departed.nth_down(place) {
            self.introduce(node, Body::Ping { nonce });
        } else if let Some(seed) = lost.get(place - self.departed.down_len()) {
            self.send_to(Introduced::Yes, seed.clone(), Body::Ping { nonce });
        }
    }

    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_) | Stage::Departed)
    }

    pub(super) fn leave(&mut self, now: Instant) {
        if self.is_leaving() {
            return;
        }
        self.timers.clear_all();
        self.end_probes();
        self.stage = Stage::Leaving(FAREWELLS);
        self.renew(now, |presence| {
            presence.leaving = true;
            presence.stamp.version = presence.stamp.version.saturating_add(1);
        });
        self.farewell(now);
    }

    /// Says farewell to some members, and after the last time nothing more.
    pub(super) fn farewell(&mut self, now: Instant) {
        let Stage::Leaving(left) = self.stage else { return };
        // Nobody hears the farewell of a node that is alone.
        let Some(left) = left.checked_sub(1).filter(|_left| !self.members.is_empty()) else {
            self.stage = Stage::Departed;
            self.timers.clear_all();
            return self.out.push_back(Output::Departed);
        };
        self.stage = Stage::Leaving(left);
        for node in self.ring.pick(FAREWELL_FANOUT, None, &mut self.entropy) {
            self.introduce(node, Body::Gossip);
        }
        self.timers.set(Timer::Leave, now + FAREWELL_EVERY);
    }
}
