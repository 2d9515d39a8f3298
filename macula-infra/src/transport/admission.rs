//! Who may begin a handshake: decided for each first packet, before anything is paid for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use s2n_quic::provider::endpoint_limits::{ConnectionAttempt, Limiter, Outcome};
use s2n_quic::provider::event::Timestamp;

use super::config::Admission;
use super::metrics;

/// The span in which attempts of one address are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How many addresses are counted in one window. In a flood from more, all have to prove their
/// address.
const ADDRESSES_MAX: usize = 16_384;

/// How many live connections there are for each address of a peer that dialled.
#[derive(Debug, Clone, Default)]
pub(super) struct Census(Arc<DashMap<IpAddr, usize>>);

/// One connection in the census, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Census, IpAddr);

impl Census {
    pub(super) fn enter(&self, address: IpAddr) -> Counted {
        *self.0.entry(address).or_default() += 1;
        Counted(self.clone(), address)
    }

    fn of(&self, address: IpAddr) -> usize {
        self.0.get(&address).map_or(0, |count| *count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.alter(&self.1, |_, count| count.saturating_sub(1));
        self.0.0.remove_if(&self.1, |_, count| *count == 0);
    }
}

/// Decides about first packets.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Admission,
    census: Census,
    window: Option<Timestamp>,
    attempts: BTreeMap<IpAddr, u32>,
}

impl Gate {
    pub(super) fn new(limits: Admission, census: Census) -> Self {
        Self { limits, census, window: None, attempts: BTreeMap::new() }
    }

    fn decide(&mut self, attempt: &ConnectionAttempt<'_>) -> Outcome {
        let limits = &self.limits;
        if attempt.connection_count >= limits.connections_max
            || attempt.inflight_handshakes >= limits.handshakes_max
        {
            return Outcome::close();
        }
        let now = attempt.timestamp;
        let fresh = self.window.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW);
        if fresh {
            self.window = Some(now);
            self.attempts.clear();
        }
        let address = match std::net::SocketAddr::from(&attempt.remote_address).ip() {
            IpAddr::V6(address) => address.to_canonical(),
            address @ IpAddr::V4(_) => address,
        };
        if self.census.of(address) >= limits.connections_per_address_max {
            return Outcome::close();
        }
        if self.attempts.len() < ADDRESSES_MAX || self.attempts.contains_key(&address) {
            let seen = self.attempts.entry(address).or_default();
            *seen += 1;
            if *seen > limits.attempts_per_address_per_s {
                return Outcome::drop();
            }
        } else {
            return Outcome::retry();
        }
        if attempt.inflight_handshakes >= limits.handshakes_retry {
            return Outcome::retry();
        }
        Outcome::allow()
    }
}

impl Limiter for Gate {
    fn on_connection_attempt(&mut self, attempt: &ConnectionAttempt<'_>) -> Outcome {
        let outcome = self.decide(attempt);
        let name = match outcome {
            Outcome::Allow { .. } => return outcome,
            Outcome::Retry { .. } => "retry",
            Outcome::Drop { .. } => "drop",
            _ => "close",
        };
        ::metrics::counter!(metrics::TURNED_AWAY, "outcome" => name).increment(1);
        outcome
    }
}
