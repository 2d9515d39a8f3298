//! Pings, direct and through others.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::super::update::Stamp;
use super::swim::{Stage, Swim};
use super::timer::Timer;
use super::{Body, Offence};

/// How long nearly all answers are thought to take before one was measured.
const RTT_UNKNOWN: Duration = Duration::from_millis(300);

/// How many probes are under way at one time.
const PROBES_MAX: usize = 64;

/// How many pings for others are under way at one time.
const RELAYS_MAX: usize = 256;

/// How many times the patience for a direct answer an indirect one may take: it goes twice as far.
const INDIRECT_PATIENCE: u32 = 2;

/// How long this node waits at most before it tells another that there was no answer.
const RELAY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    target: NodeId,
    /// Which presence the target had: if it gets a newer one, it has spoken.
    stamp: Stamp,
    sent: Instant,
    /// Who else was asked to ping it; none yet if none.
    relays: Option<Vec<NodeId>>,
    /// Of these, who says that there was no answer so far.
    nacks: Vec<NodeId>,
}

/// A ping for another under way.
#[derive(Debug)]
pub(super) struct Relay {
    requester: NodeId,
    /// Of its ping.
    nonce: u64,
    target: NodeId,
}

impl Swim {
    /// How long nearly all direct answers take at most.
    pub(super) fn patience(&self) -> Duration {
        self.round_trip
            .within(4)
            .unwrap_or(RTT_UNKNOWN)
            .clamp(self.config.timeout_min, self.config.timeout_max)
    }

    /// It is the next member's turn.
    pub(super) fn tick(&mut self, now: Instant) {
        let wait = self.health.stretch(self.config.probe_interval);
        self.timers.set(Timer::Tick, now + wait);
        if let Some(target) = self.ring.turn(&mut self.entropy) {
            self.probe(now, target);
        }
    }

    /// Begins a probe, if there is room and none of this member.
    pub(super) fn probe(&mut self, now: Instant, target: NodeId) {
        if self.stage != Stage::Active || self.probes.len() >= PROBES_MAX {
            return;
        }
        let Some(member) = self.members.get(&target) else { return };
        let stamp = member.belief.seen.stamp();
        if !self.probed.insert(target) {
            return;
        }
        let nonce = self.entropy.next_u64();
        let probe = Probe { target, stamp, sent: now, relays: None, nacks: Vec::new() };
        self.probes.insert(nonce, probe);
        self.stats.probes += 1;
        self.timers.set(Timer::Probe(nonce), now + self.health.stretch(self.patience()));
        self.send(target, Body::Ping { nonce });
    }

    pub(super) fn probe_due(&mut self, now: Instant, nonce: u64) {
        let Some(probe) = self.probes.get(&nonce) else { return };
        if probe.relays.is_none() {
            self.ask_others(now, nonce, probe.target);
        } else {
            self.probe_failed(now, nonce);
        }
    }

    /// There is no direct answer: others ping the target, and this node does once more.
    fn ask_others(&mut self, now: Instant, nonce: u64, target: NodeId) {
        let relays = self.ring.pick(self.config.relays, Some(target), &mut self.entropy);
        self.stats.indirect += 1;
        let wait = self.health.stretch(self.patience());
        for relay in &relays {
            self.send(*relay, Body::PingReq { nonce, target, wait });
        }
        if let Some(probe) = self.probes.get_mut(&nonce) {
            probe.relays = Some(relays);
        }
        self.timers.set(Timer::Probe(nonce), now + wait * INDIRECT_PATIENCE);
        self.send(target, Body::Ping { nonce });
    }

    fn probe_failed(&mut self, now: Instant, nonce: u64) {
        let Some(probe) = self.end_probe(nonce) else { return };
        let Probe { target, stamp, relays, nacks, .. } = probe;
        self.stats.failed += 1;
        // Others say that they have no answer either: then it is not this node's fault. Whoever
        // says nothing at all has not heard this node, or this node has not heard it.
        let asked = relays.map_or(0, |relays| relays.len());
        self.health.worse(if asked == 0 { 1 } else { asked.saturating_sub(nacks.len()) });
        let held = self.members.get(&target).map(|member| member.belief.seen.stamp());
        if held == Some(stamp) {
            self.stats.suspicions += 1;
            self.suspect(now, target, self.me.node(), false);
        }
    }

    /// A member that others are asked about has said something, be it no answer: it lives. A probe
    /// may last long where this node trusts its own hearing little, and would know nothing of it.
    pub(super) fn spoke(&mut self, node: NodeId) {
        if !self.probed.contains(&node) {
            return;
        }
        let under_way = self.probes.iter().find(|(_, probe)| probe.target == node);
        if let Some((nonce, Probe { relays: Some(_), .. })) = under_way {
            self.end_probe(*nonce);
        }
    }

    fn end_probe(&mut self, nonce: u64) -> Option<Probe> {
        let probe = self.probes.remove(&nonce)?;
        self.probed.remove(&probe.target);
        self.timers.clear(Timer::Probe(nonce));
        Some(probe)
    }

    pub(super) fn end_probes(&mut self) {
        self.probes.clear();
        self.probed.clear();
        self.relays.clear();
    }

    pub(super) fn acked(&mut self, now: Instant, from: NodeId, nonce: u64) {
        if let Some(relay) = self.relays.get(&nonce) {
            if relay.target != from {
                return self.misbehaved(from, Offence::Answer);
            }
            let (requester, nonce_there) = (relay.requester, relay.nonce);
            self.relays.remove(&nonce);
            self.timers.clear(Timer::Relay(nonce));
            self.send(requester, Body::Ack { nonce: nonce_there });
            return;
        }
        // An answer that is too late is none.
        let Some(probe) = self.probes.get(&nonce) else { return };
        let asked = probe.relays.as_ref();
        if probe.target != from && !asked.is_some_and(|relays| relays.contains(&from)) {
            return self.misbehaved(from, Offence::Answer);
        }
        // The second ping has the same nonce: what its answer took is not known (Karn's rule).
        if asked.is_none() {
            self.round_trip.sample(now.saturating_duration_since(probe.sent));
        }
        self.end_probe(nonce);
        self.health.better();
    }

    pub(super) fn nacked(&mut self, from: NodeId, nonce: u64) {
        let Some(probe) = self.probes.get_mut(&nonce) else { return };
        let asked = probe.relays.as_ref().is_some_and(|relays| relays.contains(&from));
        if !asked {
            self.misbehaved(from, Offence::Answer);
        } else if !probe.nacks.contains(&from) {
            probe.nacks.push(from);
        }
    }

    /// Pings a target for another. Without room nothing is said, and this node lacks a nack there.
    pub(super) fn ping_for(
        &mut self,
        now: Instant,
        requester: NodeId,
        (nonce, target, wait): (u64, NodeId, Duration),
    ) {
        if target == self.me.node() || target == requester {
            return self.misbehaved(requester, Offence::PingReq);
        }
        if self.seen(target).is_none() {
            return self.send(requester, Body::Nack { nonce });
        }
        if self.relays.len() >= RELAYS_MAX {
            return;
        }
        let own = self.entropy.next_u64();
        self.relays.insert(own, Relay { requester, nonce, target });
        self.timers.set(Timer::Relay(own), now + wait.min(RELAY_WAIT_MAX));
        self.send(target, Body::Ping { nonce: own });
    }

    pub(super) fn relay_due(&mut self, nonce: u64) {
        if let Some(relay) = self.relays.remove(&nonce) {
            self.send(relay.requester, Body::Nack { nonce: relay.nonce });
        }
    }

    /// A connection to a member is lost, or a message to it: it is probed now, and through others
    /// if it is being probed already.
    pub(super) fn lost(&mut self, now: Instant, node: NodeId) {
        if !self.probed.contains(&node) {
            return self.probe(now, node);
        }
        let under_way = self.probes.iter().find(|(_, probe)| probe.target == node);
        if let Some((nonce, Probe { relays: None, .. })) = under_way {
            self.ask_others(now, *nonce, node);
        }
    }
}
