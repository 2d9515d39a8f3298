//! Connections: which is used, which is one too many, and how they end.

use std::time::Instant;

use macula_core::identity::NodeId;

use super::super::config::Config;
use super::peer::{Conn, State, spread};
use super::policy::Policy;
use super::room::{SPARED, Waiting};
use super::timer::Timer;
use super::{Bug, ConnId, Output, Why};

/// How many connections of one peer are let go without haste at one time.
const UNHURRIED_MAX: usize = 4;

/// By which part of itself a connection's lifetime is spread to either side.
const LIFETIME_JITTER: f64 = 0.1;

impl Policy {
    pub(super) fn insert(
        &mut self,
        now: Instant,
        (id, peer, incarnation, relayed): (ConnId, NodeId, u64, bool),
        dialled: bool,
        exempt: bool,
    ) {
        let conn = Conn {
            peer,
            dialled,
            incarnation,
            relayed,
            since: now,
            last_used: now,
            spared_until: now,
            state: State::Up,
            exempt,
            evicting: false,
        };
        self.conns.insert(id, conn);
        self.peer(now, peer).conns.push(id);
    }

    pub(super) fn accepted(
        &mut self,
        now: Instant,
        (id, peer, incarnation, relayed): (ConnId, NodeId, u64, bool),
    ) {
        if self.conns.contains_key(&id) {
            return;
        }
        self.stats.accepted += 1;
        let exempt = self.peer(now, peer).is_protected();
        self.insert(now, (id, peer, incarnation, relayed), false, exempt);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.state = State::Newcomer;
        }
        if self.stopping {
            return self.close(id, Why::Stopping);
        }
        if self.is_stale(id) {
            self.stats.stale += 1;
            return self.close(id, Why::Stale);
        }
        self.supersede(now, id);
        self.waiting.push_back(Waiting::Newcomer(id));
        self.timers.set(Timer::Newcomer(id), now + self.config.room_wait);
        self.admit(now);
    }

    /// Whether the peer has been restarted since this connection was made.
    fn is_stale(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        self.others(id).any(|(_, other)| other.incarnation > conn.incarnation)
    }

    /// The other connections to the same peer that are not being closed.
    fn others(&self, id: ConnId) -> impl Iterator<Item = (ConnId, &Conn)> {
        let peer = self.conns.get(&id).and_then(|conn| self.peers.get(&conn.peer));
        let conns =
            peer.into_iter().flat_map(|peer| &peer.conns).filter(move |other| **other != id);
        conns
            .filter_map(|other| Some((*other, self.conns.get(other)?)))
            .filter(|(_, other)| other.state != State::Closing)
    }

    /// Lets go of what a new connection proves to be past: it closes those of earlier lives of the
    /// peer, and drains those that the peer dialled before, if it has dialled this one. The peer has
    /// lost these, or is letting go of them with something still in flight.
    fn supersede(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (incarnation, dialled, relayed) = (conn.incarnation, conn.dialled, conn.relayed);
        let is_kept = |held: &Conn| relayed && held.is_young_and_direct(now);
        let dead: Vec<(ConnId, Why)> = self
            .others(id)
            .filter_map(|(other, held)| {
                if held.incarnation < incarnation {
                    Some((other, Why::Stale))
                } else if !dialled
                    && !held.dialled
                    && !is_kept(held)
                    && !matches!(held.state, State::Draining { .. })
                {
                    Some((other, Why::Duplicate))
                } else {
                    None
                }
            })
            .collect();
        for (other, why) in dead {
            if why == Why::Stale {
                self.stats.stale += 1;
                self.close(other, why);
            } else {
                self.stats.duplicates += 1;
                self.leaving(now, other);
                self.out.push_back(Output::Drain { conn: other, why });
            }
        }
    }

    /// A connection is let in.
    pub(super) fn establish(&mut self, now: Instant, id: ConnId) {
        if self.stopping {
            return self.close(id, Why::Stopping);
        }
        if self.is_stale(id) {
            self.stats.stale += 1;
            return self.close(id, Why::Stale);
        }
        self.supersede(now, id);
        let lifetime = self.config.lifetime.mul_f64(self.ages(id));
        let lifetime = spread(lifetime, LIFETIME_JITTER, &mut self.entropy);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !matches!(conn.state, State::Newcomer | State::Up) {
            return;
        }
        conn.state = State::Up;
        let peer = conn.peer;
        self.timers.set(Timer::Idle(id), now + self.config.idle_ttl);
        self.timers.set(Timer::Expire(id), now + lifetime);
        self.timers.clear(Timer::Redial(peer));
        if let Some(state) = self.peers.get_mut(&peer) {
            state.until = None;
            state.failures = 0;
        }
        self.replace_own(now, id);
        self.resolve(now, peer);
        self.choose(peer);
        self.grant_all(now, peer);
        self.seek_direct(now, peer);
    }

    /// The acceptor of a connection waits a little for its dialler to replace it.
    fn ages(&self, id: ConnId) -> f64 {
        if self.conns.get(&id).is_some_and(|conn| conn.dialled) { 1.0 } else { 1.5 }
    }

    /// A new connection that this node dialled takes the place of those that it dialled before.
    fn replace_own(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.dialled) else { return };
        let relayed = conn.relayed;
        let older: Vec<ConnId> = self
            .others(id)
            .filter(|(_, other)| other.dialled && other.is_up() && (other.relayed || !relayed))
            .map(|(other, _)| other)
            .collect();
        for other in older {
            self.drain(now, other, Why::Lifetime);
        }
    }

    /// If there is a direct connection, each side lets go of the relayed ones that it dialled. Of
    /// those that are left, if there is one of each kind, the greater node lets go of its own.
    fn resolve(&mut self, now: Instant, peer: NodeId) {
        self.drain_relayed(now, peer);
        let relayed = !self.is_direct(peer);
        let up = |dialled: bool| -> Vec<ConnId> {
            let is_one = |conn: &Conn| conn.is_up() && conn.relayed == relayed;
            let conns = self.peers.get(&peer).into_iter().flat_map(|peer| &peer.conns);
            conns
                .filter(|id| {
                    self.conns.get(id).is_some_and(|conn| is_one(conn) && conn.dialled == dialled)
                })
                .copied()
                .collect()
        };
        let (own, theirs) = (up(true), up(false));
        if theirs.is_empty() || own.is_empty() || !self.lets_go(peer) {
            return;
        }
        for id in own {
            self.stats.duplicates += 1;
            self.drain(now, id, Why::Duplicate);
        }
    }

    /// Whether this node is the one that lets go of its own connection.
    fn lets_go(&self, peer: NodeId) -> bool {
        if self.has(Bug::BothLetGo) {
            return true;
        }
        self.local > peer && !self.has(Bug::NobodyLetsGo)
    }

    /// New work goes over a direct connection, and of those over the one that the smaller node
    /// dialled, else over the newest.
    pub(super) fn choose(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let smaller_dials = self.local < id;
        let best = peer
            .conns
            .iter()
            .filter_map(|conn| Some((*conn, self.conns.get(conn)?)))
            .filter(|(_, conn)| conn.is_up())
            .max_by_key(|(number, conn)| {
                (!conn.relayed, conn.dialled == smaller_dials, conn.since, *number)
            })
            .map(|(conn, _)| conn);
        if best == peer.used {
            return;
        }
        if let Some(conn) = peer.used {
            self.out.push_back(Output::Unuse { peer: id, conn });
        }
        if let Some(conn) = best {
            self.out.push_back(Output::Use { peer: id, conn });
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.used = best;
        }
    }

    /// It takes no new work, and is closed when it is quiet.
    pub(super) fn drain(&mut self, now: Instant, id: ConnId, why: Why) {
        if self.conns.get(&id).is_some_and(Conn::is_up) {
            self.out.push_back(Output::Drain { conn: id, why });
            self.drains(now, id, matches!(why, Why::Stopping | Why::Overloaded));
        }
    }

    /// It is let go. In haste it has little time for what is in flight; else it has as long as a
    /// connection lives, since nobody needs its place.
    fn drains(&mut self, now: Instant, id: ConnId, in_haste: bool) {
        let Some(peer) = self.conns.get(&id).map(|conn| conn.peer) else { return };
        let others = self.others(id).filter(|(_, other)| other.is_draining(false)).count();
        let in_haste = in_haste || others >= UNHURRIED_MAX;
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.state = State::Draining { in_haste };
        }
        self.timers.clear(Timer::Idle(id));
        self.timers.clear(Timer::Expire(id));
        let Config { drain_timeout, lifetime, .. } = self.config;
        let within = if in_haste { drain_timeout } else { lifetime.max(drain_timeout) };
        self.timers.set(Timer::Drain(id), now + within);
        self.choose(peer);
    }

    /// It has little time from now on.
    pub(super) fn hasten(&mut self, now: Instant, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.is_draining(false)) {
            conn.state = State::Draining { in_haste: true };
            self.timers.set(Timer::Drain(id), now + self.config.drain_timeout);
        }
    }

    /// It is closed at once.
    pub(super) fn close(&mut self, id: ConnId, why: Why) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.state == State::Closing {
            return;
        }
        conn.state = State::Closing;
        let peer = conn.peer;
        self.clear(id);
        self.out.push_back(Output::Close { conn: id, why });
        self.choose(peer);
    }

    fn clear(&mut self, id: ConnId) {
        self.waiting.retain(|waiting| *waiting != Waiting::Newcomer(id));
        let timers = [Timer::Newcomer, Timer::Idle, Timer::Expire, Timer::Drain];
        timers.into_iter().for_each(|timer| self.timers.clear(timer(id)));
    }

    pub(super) fn closed(&mut self, now: Instant, id: ConnId, clean: bool) {
        let Some(conn) = self.conns.remove(&id) else { return };
        self.clear(id);
        if !clean && self.has(Bug::GrantsTheLost) {
            return;
        }
        let was_up = conn.is_up();
        let lived = now.saturating_duration_since(conn.since);
        let grown = lived >= self.config.backoff_reset;
        let peer = self.peer(now, conn.peer);
        peer.conns.retain(|other| *other != id);
        if grown {
            peer.losses = 0;
            peer.feels(true);
        }
        if was_up && !clean {
            self.stats.lost += 1;
            if let Some(peer) = self.peers.get_mut(&conn.peer) {
                peer.feels(false);
                if !grown {
                    peer.lost(now, &self.config, &mut self.entropy);
                }
            }
        }
        self.choose(conn.peer);
        self.keep(now, conn.peer);
        self.seek_direct(now, conn.peer);
        self.admit(now);
    }

    pub(super) fn retired(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.state == State::Asked) else {
            return;
        };
        let evicting = conn.evicting;
        if evicting {
            self.stats.evicted += 1;
        } else {
            self.stats.idle += 1;
        }
        self.drains(now, id, evicting);
    }

    pub(super) fn busy(&mut self, now: Instant, id: ConnId, last_used: Instant) {
        let idle_ttl = self.config.idle_ttl;
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.state == State::Asked) else {
            return;
        };
        conn.state = State::Up;
        conn.last_used = conn.last_used.max(last_used.min(now));
        conn.spared_until = now + SPARED;
        let next = (conn.last_used + idle_ttl).max(now + SPARED);
        let evicting = std::mem::take(&mut conn.evicting);
        self.timers.set(Timer::Idle(id), next);
        if evicting {
            self.admit(now);
        }
    }

    pub(super) fn leaving(&mut self, now: Instant, id: ConnId) {
        match self.conns.get(&id).map(|conn| conn.state) {
            Some(State::Up | State::Asked) => self.drains(now, id, false),
            // It had no room yet, and needs none any more.
            Some(State::Newcomer) => self.close(id, Why::Duplicate),
            Some(State::Draining { .. } | State::Closing) | None => {}
        }
    }

    pub(super) fn idle(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.state == State::Up) else {
            return;
        };
        let last_used = conn.last_used;
        if self.peers.get(&conn.peer).is_some_and(super::peer::Peer::is_protected) {
            self.timers.set(Timer::Idle(id), now + self.config.idle_ttl);
            return;
        }
        self.ask(id, last_used, false);
    }

    pub(super) fn expired(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.is_up()) else { return };
        let (peer, dialled) = (conn.peer, conn.dialled);
        self.stats.aged += 1;
        let Some(state) = self.peers.get(&peer) else { return };
        let renews = state.is_protected() && dialled && !state.addresses.is_empty();
        if !renews {
            return self.drain(now, id, Why::Lifetime);
        }
        // The next one is there before this one goes; if it cannot be had, this one stays.
        if state.dial.is_none() {
            self.dial(now, peer);
        }
        let again = spread(self.config.lifetime, LIFETIME_JITTER, &mut self.entropy);
        self.timers.set(Timer::Expire(id), now + again);
    }
}
