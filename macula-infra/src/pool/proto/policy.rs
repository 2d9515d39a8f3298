//! The machine itself: what can happen, and where it is handled.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine;

use super::super::config::Config;
use super::peer::{Conn, Peer, State};
use super::room::Waiting;
use super::timer::Timer;
use super::{AttemptId, Bug, Class, ConnId, Denial, Input, Output, Stats, Ticket, Why};

/// How many addresses of one peer are dialled.
pub(super) const ADDRESSES_MAX: usize = 8;

/// The pool's policy. See the [module](super) for what it decides.
#[derive(Debug)]
pub struct Policy {
    pub(super) local: NodeId,
    pub(super) config: Config,
    pub(super) entropy: Entropy,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// Attempts that are under way, and whom they dial.
    pub(super) attempts: BTreeMap<AttemptId, NodeId>,
    pub(super) next_attempt: u64,
    /// Who waits for what.
    pub(super) tickets: BTreeMap<Ticket, NodeId>,
    /// Who waits for room, in order.
    pub(super) waiting: VecDeque<Waiting>,
    /// Whose next attempt waits until fewer are under way, in order.
    pub(super) slots: VecDeque<NodeId>,
    pub(super) timers: Deadlines<Timer>,
    pub(super) out: VecDeque<Output>,
    pub(super) stats: Stats,
    pub(super) stopping: bool,
}

impl Policy {
    /// A policy that knows of nothing yet.
    #[must_use]
    pub fn new(local: NodeId, config: Config, entropy: Entropy) -> Self {
        Self {
            local,
            config,
            entropy,
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            tickets: BTreeMap::new(),
            waiting: VecDeque::new(),
            slots: VecDeque::new(),
            timers: Deadlines::new(),
            out: VecDeque::new(),
            stats: Stats::default(),
            stopping: false,
        }
    }

    /// What was counted, and how things stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            live: self.conns.len(),
            dialling: self.peers.values().filter(|peer| peer.dial.is_some()).count(),
            waiting: self.waiting.len(),
            unhealthy: self.peers.values().filter(|peer| !peer.is_healthy()).count(),
            ..self.stats
        }
    }

    /// How well a peer has done lately: 1.0 is always, 0.0 never. None of whom nothing is known.
    /// When room is short, connections to peers below one half give way before those to others.
    #[must_use]
    pub fn health(&self, peer: NodeId) -> Option<f64> {
        self.peers.get(&peer).map(|peer| peer.health)
    }

    /// The peer, which is known from now on. Those that were of no interest for longest give way.
    pub(super) fn peer(&mut self, now: Instant, id: NodeId) -> &mut Peer {
        if !self.peers.contains_key(&id) && self.peers.len() >= self.config.peers_max {
            let idle = self.peers.iter().filter(|(_, peer)| peer.is_idle());
            let oldest = idle.min_by_key(|(_, peer)| peer.touched).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.peers.remove(&oldest);
            }
        }
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(now));
        peer.touched = now;
        peer
    }

    pub(super) fn deny(&mut self, ticket: Ticket, why: Denial) {
        self.tickets.remove(&ticket);
        self.stats.denied += 1;
        if matches!(why, Denial::Full { .. }) {
            self.stats.denied_full += 1;
        }
        self.out.push_back(Output::Deny { ticket, why });
    }

    /// Tells all that wait for a peer that there is nothing for them.
    pub(super) fn deny_all(&mut self, peer: NodeId, why: Denial) {
        let wants = self.peers.get_mut(&peer).map(|peer| std::mem::take(&mut peer.wants));
        wants.into_iter().flatten().for_each(|ticket| self.deny(ticket, why));
    }

    /// Gives all that wait for a peer its connection.
    pub(super) fn grant_all(&mut self, now: Instant, peer: NodeId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(conn) = state.used else { return };
        let wants = std::mem::take(&mut state.wants);
        if let Some(conn) = self.conns.get_mut(&conn)
            && !wants.is_empty()
        {
            conn.last_used = now;
        }
        for ticket in wants {
            self.tickets.remove(&ticket);
            self.stats.granted += 1;
            self.out.push_back(Output::Grant { ticket, conn });
        }
    }

    fn want(&mut self, now: Instant, ticket: Ticket, id: NodeId, addresses: Vec<SocketAddr>) {
        if self.tickets.contains_key(&ticket) {
            return;
        }
        if self.stopping {
            return self.deny(ticket, Denial::Stopping);
        }
        let peer = self.peer(now, id);
        if !addresses.is_empty() {
            peer.addresses = addresses;
        }
        if peer.used.is_none() && peer.dial.is_none() {
            if let Some(until) = peer.until.filter(|until| *until > now) {
                return self.deny(ticket, Denial::BackingOff { until });
            }
            if peer.addresses.is_empty() {
                return self.deny(ticket, Denial::NoAddress);
            }
        }
        peer.wants.push(ticket);
        let used = peer.used.is_some();
        if !used && peer.dial.as_ref().is_some_and(|dial| dial.upgrades) {
            // The relayed connection is lost, and another may do as well as a direct one.
            self.end_dial(id);
        }
        let dials = self.peers.get(&id).is_some_and(|peer| peer.dial.is_some());
        self.tickets.insert(ticket, id);
        if used {
            self.grant_all(now, id);
        } else if !dials || self.has(Bug::NoSingleFlight) {
            self.dial(now, id);
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        let Some(id) = self.tickets.remove(&ticket) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.wants.retain(|waiting| *waiting != ticket);
        let unwanted = peer.wants.is_empty() && !peer.is_protected();
        if unwanted && peer.dial.as_ref().is_some_and(|dial| !dial.begun) {
            self.end_dial(id);
        }
    }

    fn protect(&mut self, now: Instant, id: NodeId, class: Class, addresses: Vec<SocketAddr>) {
        let peer = self.peer(now, id);
        peer.protected.insert(class);
        if !addresses.is_empty() {
            peer.addresses = addresses;
        }
        if let Some(dial) = &mut peer.dial {
            dial.exempt = true;
        }
        let conns = peer.conns.clone();
        for conn in conns {
            if let Some(conn) = self.conns.get_mut(&conn) {
                conn.exempt = true;
            }
        }
        self.admit(now);
        self.keep(now, id);
    }

    fn release(&mut self, id: NodeId, class: Class) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.protected.remove(&class);
        if !peer.is_protected() {
            self.timers.clear(Timer::Redial(id));
        }
    }

    /// Sees to it that a protected peer is connected, now or when it has been left alone.
    pub(super) fn keep(&mut self, now: Instant, id: NodeId) {
        let Some(peer) = self.peers.get(&id) else { return };
        if self.stopping
            || !peer.is_protected()
            || peer.used.is_some()
            || peer.dial.is_some()
            || peer.addresses.is_empty()
        {
            return;
        }
        match peer.until.filter(|until| *until > now) {
            Some(until) => self.timers.set(Timer::Redial(id), until),
            None => self.dial(now, id),
        }
    }

    fn reconfigure(&mut self, now: Instant, config: Config) {
        self.config = config;
        let up = self.conns.iter().filter(|(_, conn)| conn.is_up());
        let idle: Vec<_> = up.map(|(id, conn)| (*id, conn.last_used)).collect();
        for (conn, last_used) in idle {
            let at = (last_used + self.config.idle_ttl).max(now);
            self.timers.set(Timer::Idle(conn), at);
        }
        self.admit(now);
        self.take_slots(now);
    }

    fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.waiting.clear();
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.deny_all(peer, Denial::Stopping);
            self.end_dial(peer);
            self.timers.clear(Timer::Redial(peer));
            self.timers.clear(Timer::Upgrade(peer));
        }
        let conns: Vec<(ConnId, State)> =
            self.conns.iter().map(|(id, conn)| (*id, conn.state)).collect();
        for (conn, state) in conns {
            match state {
                State::Newcomer => self.close(conn, Why::Stopping),
                State::Up | State::Asked => self.drain(now, conn, Why::Stopping),
                State::Draining { .. } => self.hasten(now, conn),
                State::Closing => {}
            }
        }
    }

    fn due(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Race(peer) => self.step(now, peer),
            Timer::Room(peer) => self.no_room_for_dial(now, peer),
            Timer::Dial(peer) => self.dial_overdue(now, peer),
            Timer::Redial(peer) => self.keep(now, peer),
            Timer::Newcomer(conn) => self.no_room_for(conn),
            Timer::Idle(conn) => self.idle(now, conn),
            Timer::Expire(conn) => self.expired(now, conn),
            Timer::Drain(conn) => self.close(conn, Why::Slow),
            Timer::Upgrade(peer) => self.upgrade_due(now, peer),
        }
    }
}

impl Machine for Policy {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Want { ticket, peer, addresses } => self.want(now, ticket, peer, addresses),
            Input::Forget { ticket } => self.forget(ticket),
            Input::Protect { peer, class, addresses } => {
                self.protect(now, peer, class, addresses);
            }
            Input::Release { peer, class } => self.release(peer, class),
            Input::Dialed { attempt, conn, peer, incarnation, relayed } => {
                self.dialed(now, attempt, (conn, peer, incarnation, relayed));
            }
            Input::DialFailed { attempt, fault } => self.dial_failed(now, attempt, fault),
            Input::Accepted { peer, conn, incarnation, relayed } => {
                self.accepted(now, (conn, peer, incarnation, relayed));
            }
            Input::Found { peer, addresses } => self.found(now, peer, addresses),
            Input::Closed { conn, clean } => self.closed(now, conn, clean),
            Input::Retired { conn } => self.retired(now, conn),
            Input::Busy { conn, last_used } => self.busy(now, conn, last_used),
            Input::Leaving { conn } => self.leaving(now, conn),
            Input::Reconfigure(config) => self.reconfigure(now, config),
            Input::Stop => self.stop(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            self.due(now, timer);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, timer)| (at, timer.reason()))
    }
}
