//! Room: who counts, who waits, and who gives way.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::peer::{Peer, State};
use super::policy::Policy;
use super::timer::Timer;
use super::{Bug, ConnId, Denial, Output, Why};

/// How many connections are asked at one time whether they can retire.
pub(super) const ASKED_MAX: usize = 32;

/// How long a connection that was busy is not asked again.
pub(super) const SPARED: Duration = Duration::from_secs(1);

/// Who waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// A dial of this peer.
    Dial(NodeId),
    /// A connection that a peer has dialled.
    Newcomer(ConnId),
}

impl Policy {
    /// How many connections and dials have room. What was told to close has given it back.
    pub(super) fn live(&self) -> usize {
        let conns = self.conns.values().filter(|conn| !conn.exempt);
        let conns = conns.filter(|conn| conn.has_room()).count();
        let dials = self.peers.values().filter_map(|peer| peer.dial.as_ref());
        conns + dials.filter(|dial| dial.begun && !dial.exempt).count()
    }

    /// Lets in who waits, in order, as far as there is room; makes room for the others.
    pub(super) fn admit(&mut self, now: Instant) {
        if self.stopping || self.waiting.is_empty() {
            return;
        }
        let mut free = self.config.live_high.saturating_sub(self.live());
        let mut still = std::collections::VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let exempt = self.needs_no_room(waiting);
            if !exempt && free == 0 {
                still.push_back(waiting);
                continue;
            }
            free -= usize::from(!exempt);
            match waiting {
                Waiting::Dial(id) => self.begin(now, id),
                Waiting::Newcomer(conn) => {
                    self.timers.clear(Timer::Newcomer(conn));
                    self.establish(now, conn);
                }
            }
        }
        // Whoever was let in may have made others wait.
        still.append(&mut self.waiting);
        self.waiting = still;
        if !self.waiting.is_empty() {
            self.make_room(now);
        }
    }

    fn needs_no_room(&self, waiting: Waiting) -> bool {
        match waiting {
            Waiting::Dial(id) => {
                let dial = self.peers.get(&id).and_then(|peer| peer.dial.as_ref());
                dial.is_none_or(|dial| dial.exempt)
            }
            Waiting::Newcomer(conn) => self.conns.get(&conn).is_none_or(|conn| conn.exempt),
        }
    }

    /// Asks those to peers that do badly, and then those that were used longest ago, down to the low
    /// mark. If nobody can give way, nobody
    /// who waits will get room.
    pub(super) fn make_room(&mut self, now: Instant) {
        let counted = || self.conns.values().filter(|conn| !conn.exempt);
        let asked = counted().filter(|conn| conn.state == State::Asked).count();
        // Those that are let go without haste may keep their place for long.
        let going = counted().filter(|conn| conn.is_draining(true)).count();
        // At least one, and at most as many as are above the low mark.
        let surplus = self.live().saturating_sub(self.config.live_low).max(1);
        let wanted = surplus.saturating_sub(asked + going);
        let wanted = wanted.min(ASKED_MAX.saturating_sub(asked));
        let mut oldest: Vec<(bool, Instant, ConnId)> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                conn.state == State::Up
                    && !conn.exempt
                    && (conn.spared_until <= now || self.has(Bug::EvictsTheBusy))
                    && !self.peers.get(&conn.peer).is_some_and(Peer::is_protected)
            })
            .map(|(id, conn)| {
                let healthy = self.peers.get(&conn.peer).is_none_or(Peer::is_healthy);
                (healthy, conn.last_used, *id)
            })
            .collect();
        oldest.sort_unstable();
        let candidates = oldest.len();
        for (_healthy, last_used, conn) in oldest.into_iter().take(wanted) {
            self.ask(conn, last_used, true);
        }
        if candidates == 0 && asked == 0 && going == 0 {
            self.turn_away(now);
        }
    }

    pub(super) fn ask(&mut self, id: ConnId, unused_since: Instant, evicting: bool) {
        let evicts_the_busy = self.has(Bug::EvictsTheBusy);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.state = State::Asked;
            conn.evicting = evicting;
            if evicting && evicts_the_busy {
                self.out.push_back(Output::Close { conn: id, why: Why::Evicted });
                return;
            }
            self.out.push_back(Output::Retire { conn: id, unused_since });
        }
    }

    /// Nobody gives way: all who need room are turned away.
    fn turn_away(&mut self, now: Instant) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Dial(id) => self.no_room_for_dial(now, id),
                Waiting::Newcomer(conn) => self.no_room_for(conn),
            }
        }
    }

    pub(super) fn no_room_for_dial(&mut self, now: Instant, id: NodeId) {
        self.end_dial(id);
        let (live, high) = (self.live(), self.config.live_high);
        self.deny_all(id, Denial::Full { live, high });
        // One that became protected meanwhile is exempt, and was let in.
        self.keep(now, id);
    }

    pub(super) fn no_room_for(&mut self, conn: ConnId) {
        self.waiting.retain(|waiting| *waiting != Waiting::Newcomer(conn));
        if self.conns.get(&conn).is_some_and(|conn| conn.state == State::Newcomer) {
            self.stats.overloaded += 1;
            self.close(conn, Why::Overloaded);
        }
    }
}
