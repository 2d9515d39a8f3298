//! From connections that others carry to direct ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::peer::{Conn, doubled, spread};
use super::policy::Policy;
use super::timer::Timer;
use super::{Bug, ConnId, Output, Why};
use crate::transport::overlay::is_overlay;

/// How long after a relayed connection is used the peer is dialled directly, at first; twice as long
/// after each failure.
pub(super) const UPGRADE_MIN: Duration = Duration::from_secs(1);

/// The longest such time.
pub(super) const UPGRADE_MAX: Duration = Duration::from_secs(30);

/// How long after a direct connection of a peer a relayed one of the same dial may still come.
const STRAGGLER_MAX: Duration = Duration::from_secs(2);

impl Conn {
    /// Whether what is relayed and comes now may be of the same dial as this.
    pub(super) fn is_young_and_direct(&self, now: Instant) -> bool {
        !self.relayed && now.saturating_duration_since(self.since) < STRAGGLER_MAX
    }
}

impl Policy {
    /// Whether the connection that is used to a peer is relayed.
    fn is_relayed(&self, peer: NodeId) -> bool {
        let used = self.peers.get(&peer).and_then(|peer| peer.used);
        used.and_then(|conn| self.conns.get(&conn)).is_some_and(|conn| conn.relayed)
    }

    /// Sees to it that a peer is dialled directly later, if it is not connected so.
    pub(super) fn seek_direct(&mut self, now: Instant, peer: NodeId) {
        let timer = Timer::Upgrade(peer);
        if !self.is_relayed(peer) || self.stopping {
            self.timers.clear(timer);
            if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.used.is_some()) {
                peer.upgrades = 0;
            }
        } else if self.timers.get(timer).is_none() {
            let upgrades = self.peers.get(&peer).map_or(0, |peer| peer.upgrades);
            let wait = doubled(UPGRADE_MIN, upgrades).min(UPGRADE_MAX);
            let wait = spread(wait, self.config.jitter, &mut self.entropy);
            self.timers.set(timer, now + wait);
        }
    }

    pub(super) fn upgrade_due(&mut self, now: Instant, id: NodeId) {
        if !self.is_relayed(id) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.upgrades = peer.upgrades.saturating_add(1);
        }
        self.out.push_back(Output::Seek { peer: id });
        self.seek_direct(now, id);
    }

    /// Where the peer may be now: what is direct of it is dialled.
    pub(super) fn found(&mut self, now: Instant, id: NodeId, addresses: Vec<SocketAddr>) {
        let is_idle = self.peers.get(&id).is_some_and(|peer| peer.dial.is_none());
        if !is_idle || !self.is_relayed(id) || self.stopping {
            return;
        }
        let direct: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| !is_overlay(*address)).collect();
        if !direct.is_empty() {
            self.dial_at(now, id, direct, true);
        }
    }

    /// Whether the dial of a peer that has failed was for a direct connection in place of a relayed
    /// one. It is held against nobody, and if the relayed one is lost meanwhile, the peer is dialled
    /// like any other.
    pub(super) fn upgrade_has_failed(&mut self, now: Instant, id: NodeId) -> bool {
        let dial = self.peers.get(&id).and_then(|peer| peer.dial.as_ref());
        if !dial.is_some_and(|dial| dial.upgrades) {
            return false;
        }
        self.end_dial(id);
        let wanted = self.peers.get(&id).is_some_and(|peer| !peer.wants.is_empty());
        if wanted && !self.stopping {
            self.dial(now, id);
        }
        self.keep(now, id);
        self.admit(now);
        true
    }

    /// Whether there is a direct connection to a peer.
    pub(super) fn is_direct(&self, peer: NodeId) -> bool {
        let conns = self.peers.get(&peer).into_iter().flat_map(|peer| &peer.conns);
        conns.filter_map(|id| self.conns.get(id)).any(|conn| conn.is_up() && !conn.relayed)
    }

    /// If there is a direct connection, lets go of the relayed ones that this node dialled.
    pub(super) fn drain_relayed(&mut self, now: Instant, peer: NodeId) {
        if !self.is_direct(peer) {
            return;
        }
        let both = self.has(Bug::BothLetGo);
        let conns = self.peers.get(&peer).into_iter().flat_map(|peer| &peer.conns);
        let relayed: Vec<ConnId> = conns
            .filter(|id| {
                let conn = self.conns.get(id);
                conn.is_some_and(|conn| conn.is_up() && conn.relayed && (conn.dialled || both))
            })
            .copied()
            .collect();
        for id in relayed {
            self.stats.upgraded += 1;
            self.drain(now, id, Why::Duplicate);
        }
    }
}
