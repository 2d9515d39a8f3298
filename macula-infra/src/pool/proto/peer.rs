//! What the policy knows of one peer, and of one connection.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::super::config::Config;
use super::{AttemptId, Class, ConnId, Fault, Ticket};

/// How much one result moves a peer's health.
const HEALTH_STEP: f64 = 0.2;

/// Below this health a peer fails more often than not.
const HEALTHY_MIN: f64 = 0.5;

/// How long a peer whose connections are lost young is left alone at most, in first waits.
const LOSS_WAITS_MAX: u32 = 10;

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its connections, in the order in which they came.
    pub(super) conns: Vec<ConnId>,
    /// The one that new work goes over.
    pub(super) used: Option<ConnId>,
    /// Who waits for one.
    pub(super) wants: Vec<Ticket>,
    pub(super) dial: Option<Dial>,
    pub(super) protected: BTreeSet<Class>,
    pub(super) addresses: Vec<SocketAddr>,
    /// How many dials have failed in a row.
    pub(super) failures: u32,
    /// How often in a row it was not reached directly while others carry its connection.
    pub(super) upgrades: u32,
    /// How many connections were lost young in a row.
    pub(super) losses: u32,
    /// Until when it is left alone.
    pub(super) until: Option<Instant>,
    /// 1.0 for a peer that never fails, towards 0.0 for one that always does.
    pub(super) health: f64,
    /// When it was last of any interest.
    pub(super) touched: Instant,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            conns: Vec::new(),
            used: None,
            wants: Vec::new(),
            dial: None,
            protected: BTreeSet::new(),
            addresses: Vec::new(),
            failures: 0,
            upgrades: 0,
            losses: 0,
            until: None,
            health: 1.0,
            touched: now,
        }
    }

    pub(super) fn is_protected(&self) -> bool {
        !self.protected.is_empty()
    }

    /// Whether nothing would be lost with it but a memory of failures.
    pub(super) fn is_idle(&self) -> bool {
        self.conns.is_empty()
            && self.wants.is_empty()
            && self.dial.is_none()
            && !self.is_protected()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.health >= HEALTHY_MIN
    }

    pub(super) fn feels(&mut self, good: bool) {
        let result = if good { 1.0 } else { 0.0 };
        self.health += HEALTH_STEP * (result - self.health);
    }

    /// A failure: it is left alone, longer after each, give or take the jitter.
    pub(super) fn failed(&mut self, now: Instant, config: &Config, entropy: &mut Entropy) {
        let wait = doubled(config.backoff_initial, self.failures).min(config.backoff_max);
        self.failures = self.failures.saturating_add(1);
        self.feels(false);
        self.until = Some(now + spread(wait, config.jitter, entropy));
    }

    /// A connection was lost before it was of any age. The peer is there, so it is dialled anew at
    /// once, and after that soon.
    pub(super) fn lost(&mut self, now: Instant, config: &Config, entropy: &mut Entropy) {
        if let Some(before) = self.losses.checked_sub(1) {
            let most = (config.backoff_initial * LOSS_WAITS_MAX).min(config.backoff_max);
            let wait = doubled(config.backoff_initial, before).min(most);
            self.until = Some(now + spread(wait, config.jitter, entropy));
        }
        self.losses = self.losses.saturating_add(1);
    }
}

pub(super) fn doubled(span: Duration, times: u32) -> Duration {
    span.saturating_mul(1_u32 << times.min(30))
}

/// A span, give or take a part of it.
pub(super) fn spread(span: Duration, part: f64, entropy: &mut Entropy) -> Duration {
    let factor = 1.0 + part * (2.0 * entropy.unit() - 1.0);
    span.mul_f64(factor.max(0.0))
}

/// A dial of a peer, at one or more of its addresses.
#[derive(Debug)]
pub(super) struct Dial {
    /// Addresses that have not been dialled.
    pub(super) todo: VecDeque<SocketAddr>,
    /// Attempts that are under way.
    pub(super) live: BTreeSet<AttemptId>,
    /// Whether it has got room.
    pub(super) begun: bool,
    /// Whether it needs none.
    pub(super) exempt: bool,
    /// Whether it is for a direct connection in place of a relayed one.
    pub(super) upgrades: bool,
    /// How the last attempt failed.
    pub(super) fault: Fault,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A peer has dialled it, and there is no room yet.
    Newcomer,
    /// New work may go over it.
    Up,
    /// It was asked whether it can retire.
    Asked,
    /// It takes no new work.
    Draining {
        /// Whether its place is needed, or the node stops.
        in_haste: bool,
    },
    /// It was told to close.
    Closing,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: NodeId,
    /// Whether this node has dialled it.
    pub(super) dialled: bool,
    pub(super) incarnation: u64,
    /// Whether others carry it.
    pub(super) relayed: bool,
    pub(super) since: Instant,
    /// As far as is known.
    pub(super) last_used: Instant,
    /// It was busy when it was asked, and is not asked again before this.
    pub(super) spared_until: Instant,
    pub(super) state: State,
    /// Whether it needs no room.
    pub(super) exempt: bool,
    /// Whether it was asked for its place, and not for want of use.
    pub(super) evicting: bool,
}

impl Conn {
    /// Whether it takes up room.
    pub(super) const fn has_room(&self) -> bool {
        matches!(self.state, State::Up | State::Asked | State::Draining { .. })
    }

    /// Whether it is being let go, in this way.
    pub(super) fn is_draining(&self, in_haste: bool) -> bool {
        self.state == State::Draining { in_haste }
    }

    /// Whether new work may go over it.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::Asked)
    }
}
