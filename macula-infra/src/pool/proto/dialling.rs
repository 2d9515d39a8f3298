//! Dials: one for each peer, racing its addresses.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::peer::Dial;
use super::policy::{ADDRESSES_MAX, Policy};
use super::room::Waiting;
use super::timer::Timer;
use super::{ADOPTED, AttemptId, ConnId, Denial, Fault, Output, Why};

/// How long a dial may take from when it has room. Each attempt ends by itself before this, with the
/// endpoint's handshake timeout; if the word of that is lost, the dial ends all the same.
pub(super) const DIAL_MAX: Duration = Duration::from_secs(150);

impl Policy {
    /// Begins a dial, as soon as there is room.
    pub(super) fn dial(&mut self, now: Instant, id: NodeId) {
        let addresses = self.peer(now, id).addresses.clone();
        self.dial_at(now, id, addresses, false);
    }

    /// Dials these addresses of a peer: all of them, or its direct ones in place of what is relayed.
    pub(super) fn dial_at(
        &mut self,
        now: Instant,
        id: NodeId,
        addresses: Vec<SocketAddr>,
        upgrades: bool,
    ) {
        let peer = self.peer(now, id);
        let todo: VecDeque<_> = addresses.into_iter().take(ADDRESSES_MAX).collect();
        let (exempt, fault) = (peer.is_protected(), Fault::Unreachable);
        let live = BTreeSet::new();
        peer.dial = Some(Dial { todo, live, begun: false, exempt, upgrades, fault });
        self.waiting.push_back(Waiting::Dial(id));
        self.timers.set(Timer::Room(id), now + self.config.room_wait);
        self.admit(now);
    }

    /// There is room: the first address is dialled.
    pub(super) fn begin(&mut self, now: Instant, id: NodeId) {
        self.timers.clear(Timer::Room(id));
        if let Some(dial) = self.peers.get_mut(&id).and_then(|peer| peer.dial.as_mut()) {
            dial.begun = true;
            self.timers.set(Timer::Dial(id), now + DIAL_MAX);
            self.step(now, id);
        }
    }

    /// A dial has taken too long: what is under way of it counts as failed.
    pub(super) fn dial_overdue(&mut self, now: Instant, id: NodeId) {
        let Some(dial) = self.peers.get(&id).and_then(|peer| peer.dial.as_ref()) else { return };
        self.stats.dial_failures += u64::try_from(dial.live.len()).unwrap_or(u64::MAX);
        self.dial_has_failed(now, id, Fault::TimedOut);
        self.take_slots(now);
    }

    /// Dials the next address of a peer, if not too many are being dialled.
    pub(super) fn step(&mut self, now: Instant, id: NodeId) {
        let free = self.attempts.len() < self.config.dials_max;
        let Some(dial) = self.peers.get_mut(&id).and_then(|peer| peer.dial.as_mut()) else {
            return;
        };
        if !dial.begun || dial.todo.is_empty() {
            return;
        }
        if !free {
            if !self.slots.contains(&id) {
                self.slots.push_back(id);
            }
            return;
        }
        if let Some(address) = dial.todo.pop_front() {
            self.next_attempt += 1;
            let attempt = AttemptId(self.next_attempt);
            dial.live.insert(attempt);
            if !dial.todo.is_empty() {
                self.timers.set(Timer::Race(id), now + self.config.race_delay);
            }
            self.attempts.insert(attempt, id);
            self.stats.dials += 1;
            self.out.push_back(Output::Dial { attempt, peer: id, address });
        }
    }

    /// Fewer are being dialled: those that waited go on.
    pub(super) fn take_slots(&mut self, now: Instant) {
        while self.attempts.len() < self.config.dials_max
            && let Some(id) = self.slots.pop_front()
        {
            self.step(now, id);
        }
    }

    /// A dial is over, and whatever is under way of it is given up.
    pub(super) fn end_dial(&mut self, id: NodeId) {
        let Some(dial) = self.peers.get_mut(&id).and_then(|peer| peer.dial.take()) else { return };
        for attempt in dial.live {
            self.attempts.remove(&attempt);
            self.out.push_back(Output::Abort { attempt });
        }
        self.timers.clear(Timer::Race(id));
        self.timers.clear(Timer::Room(id));
        self.timers.clear(Timer::Dial(id));
        self.waiting.retain(|waiting| *waiting != Waiting::Dial(id));
        self.slots.retain(|waiting| *waiting != id);
    }

    pub(super) fn dialed(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        (conn, id, incarnation, relayed): (ConnId, NodeId, u64, bool),
    ) {
        if self.conns.contains_key(&conn) {
            return;
        }
        let dialled = self.attempts.remove(&attempt);
        if let Some(other) = dialled.filter(|dialled| *dialled != id) {
            // Somebody else has answered, which is only reported. Whoever was dialled has not.
            self.attempt_failed(now, other, attempt, Fault::Refused);
        }
        let expected = dialled == Some(id);
        let peer = self.peer(now, id);
        peer.feels(true);
        let dial_exempt = peer.dial.as_ref().is_some_and(|dial| dial.exempt);
        let exempt = peer.is_protected() || (expected && dial_exempt) || attempt == ADOPTED;
        if let Some(dial) = peer.dial.as_mut().filter(|_| expected) {
            dial.live.remove(&attempt);
        }
        if expected {
            // The connection has the dial's room.
            self.end_dial(id);
        }
        self.insert(now, (conn, id, incarnation, relayed), true, exempt);
        if !expected && attempt != ADOPTED && self.is_spare(now, conn, id) {
            return;
        }
        self.establish(now, conn);
        let left =
            self.peers.get(&id).is_some_and(|peer| peer.used.is_none() && peer.dial.is_none());
        if left {
            // The peer has been restarted meanwhile, and the connection is none any more.
            self.deny_all(id, Denial::Failed(Fault::Unreachable));
            self.keep(now, id);
        }
        self.admit(now);
        self.take_slots(now);
    }

    /// Whether a connection that a given-up dial has made all the same is one too many. It is let go
    /// in good order, since the peer may have begun to use it, and needs no room for that.
    fn is_spare(&mut self, now: Instant, conn: ConnId, id: NodeId) -> bool {
        let why = if self.peers.get(&id).is_some_and(|peer| peer.used.is_some()) {
            self.stats.duplicates += 1;
            Why::Duplicate
        } else if self.live() > self.config.live_high {
            self.stats.overloaded += 1;
            Why::Overloaded
        } else {
            return false;
        };
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.exempt = true;
        }
        self.drain(now, conn, why);
        true
    }

    pub(super) fn dial_failed(&mut self, now: Instant, attempt: AttemptId, fault: Fault) {
        if let Some(id) = self.attempts.remove(&attempt) {
            self.attempt_failed(now, id, attempt, fault);
            self.take_slots(now);
        }
    }

    /// An attempt to dial this peer is over, and has led to no connection with it.
    fn attempt_failed(&mut self, now: Instant, id: NodeId, attempt: AttemptId, fault: Fault) {
        self.stats.dial_failures += 1;
        let Some(dial) = self.peers.get_mut(&id).and_then(|peer| peer.dial.as_mut()) else {
            return;
        };
        dial.live.remove(&attempt);
        // Whoever answers and refuses says more than whoever does not answer.
        if dial.fault != Fault::Refused {
            dial.fault = fault;
        }
        let fault = dial.fault;
        if !dial.todo.is_empty() {
            self.timers.clear(Timer::Race(id));
            self.step(now, id);
        } else if dial.live.is_empty() {
            self.dial_has_failed(now, id, fault);
        }
    }

    fn dial_has_failed(&mut self, now: Instant, id: NodeId, fault: Fault) {
        if self.upgrade_has_failed(now, id) {
            return;
        }
        self.end_dial(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.failed(now, &self.config, &mut self.entropy);
        }
        // One who waits may have been given the peer's own connection meanwhile.
        self.deny_all(id, Denial::Failed(fault));
        self.keep(now, id);
        self.admit(now);
    }
}
