//! Who may begin a handshake, and who may go on after it.
//!
//! The library asks its limiter ([`Gate`]) about each first packet, before anything is paid for, but
//! not about one that brings a retry token (RFC 9000, section 8.1). So the same limits hold where
//! tokens are checked ([`Tokens`]), and once more after the handshake, when connections count
//! ([`Census::enter`]). All sockets of an endpoint share one [`Census`].
//!
//! A first packet's address may be forged, so too many of one address do not shut it out: whoever is
//! there proves it with a token, and those that did are counted by themselves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use macula_core::clock::{Clock as _, TokioClock};
use parking_lot::Mutex;
use s2n_quic::provider::address_token::{self, Context, Format, Provider};
use s2n_quic::provider::endpoint_limits::{ConnectionAttempt, Limiter, Outcome};
use s2n_quic::provider::event::events::SocketAddress;
use s2n_quic_core::connection::{InitialId, LocalId};

use super::config::Admission;
use super::metrics;

/// The span in which attempts of one address are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How many addresses are counted in one window. In a flood from more, all have to prove their
/// address.
const ADDRESSES_MAX: usize = 16_384;

/// What an endpoint has let in, on all of its sockets. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Census(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: Admission,
    /// Connections whose handshake is done.
    all: AtomicUsize,
    of_address: DashMap<IpAddr, usize>,
    /// Handshakes that are under way.
    unfinished: AtomicUsize,
    rates: Mutex<Rates>,
}

/// Attempts in the present window, of addresses that may be forged and of those that are proved.
#[derive(Debug, Default)]
struct Rates {
    since: Option<Instant>,
    claimed: BTreeMap<IpAddr, u32>,
    proved: BTreeMap<IpAddr, u32>,
}

/// One connection in the census, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Census, IpAddr);

/// One handshake in the census, until it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished(Census);

/// What becomes of a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It has to prove its address first.
    Prove,
    /// There is no room.
    Close,
}

impl Rates {
    fn at(&mut self, now: Instant) -> &mut Self {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self
    }
}

/// Counts an attempt of an address; none if there are too many addresses.
fn count(attempts: &mut BTreeMap<IpAddr, u32>, address: IpAddr) -> Option<u32> {
    if attempts.len() >= ADDRESSES_MAX && !attempts.contains_key(&address) {
        return None;
    }
    let seen = attempts.entry(address).or_default();
    *seen = seen.saturating_add(1);
    Some(*seen)
}

impl Census {
    pub(super) fn new(limits: Admission) -> Self {
        Self(Arc::new(Counts {
            limits,
            all: AtomicUsize::new(0),
            of_address: DashMap::new(),
            unfinished: AtomicUsize::new(0),
            rates: Mutex::default(),
        }))
    }

    /// A handshake begins.
    pub(super) fn begin(&self) -> Unfinished {
        self.0.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished(self.clone())
    }

    /// A handshake is done: the connection counts from now on; none if there are enough.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Counted> {
        let Counts { limits, all, of_address, .. } = &*self.0;
        let one_more = |max: usize| move |count: usize| (count < max).then_some(count + 1);
        let (order, max) = (Ordering::Relaxed, limits.connections_max);
        all.fetch_update(order, order, one_more(max)).ok()?;
        let mut count = of_address.entry(address).or_default();
        if *count >= limits.connections_per_address_max {
            all.fetch_sub(1, order);
            return None;
        }
        *count += 1;
        drop(count);
        Some(Counted(self.clone(), address))
    }

    /// Whether there is no room for a handshake with this address.
    fn is_full(&self, address: IpAddr) -> bool {
        let Counts { limits, all, of_address, unfinished, .. } = &*self.0;
        all.load(Ordering::Relaxed) >= limits.connections_max
            || unfinished.load(Ordering::Relaxed) >= limits.handshakes_max
            || of_address
                .get(&address)
                .is_some_and(|count| *count >= limits.connections_per_address_max)
    }

    /// What becomes of a first packet that claims to come from an address.
    fn claimed(&self, now: Instant, address: IpAddr) -> Verdict {
        let limits = &self.0.limits;
        if self.is_full(address) {
            return Verdict::Close;
        }
        let seen = count(&mut self.0.rates.lock().at(now).claimed, address);
        let calm = seen.is_some_and(|seen| seen <= limits.attempts_per_address_per_s);
        if calm && self.0.unfinished.load(Ordering::Relaxed) < limits.handshakes_retry {
            Verdict::Allow
        } else {
            Verdict::Prove
        }
    }

    /// Whether an address that can prove itself may begin a handshake.
    fn admits(&self, now: Instant, address: IpAddr) -> bool {
        let seen = self.0.rates.lock().at(now).proved.get(&address).copied().unwrap_or_default();
        seen < self.0.limits.attempts_per_address_per_s && !self.is_full(address)
    }

    /// It has proved itself.
    fn proved(&self, now: Instant, address: IpAddr) {
        // Beyond so many addresses there are the limits of all of them.
        let _: Option<u32> = count(&mut self.0.rates.lock().at(now).proved, address);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Counts { all, of_address, .. } = &*self.0.0;
        all.fetch_sub(1, Ordering::Relaxed);
        of_address.alter(&self.1, |_, count| count.saturating_sub(1));
        of_address.remove_if(&self.1, |_, count| *count == 0);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

fn ip(address: &SocketAddress<'_>) -> IpAddr {
    std::net::SocketAddr::from(address).ip().to_canonical()
}

fn turned_away(outcome: &'static str) {
    ::metrics::counter!(metrics::TURNED_AWAY, "outcome" => outcome).increment(1);
}

/// Decides about first packets without a token.
#[derive(Debug)]
pub(super) struct Gate(pub(super) Census);

impl Limiter for Gate {
    fn on_connection_attempt(&mut self, attempt: &ConnectionAttempt<'_>) -> Outcome {
        match self.0.claimed(TokioClock.now(), ip(&attempt.remote_address)) {
            Verdict::Allow => Outcome::allow(),
            Verdict::Prove => {
                turned_away("retry");
                Outcome::retry()
            }
            Verdict::Close => {
                turned_away("close");
                Outcome::close()
            }
        }
    }
}

/// The library's retry tokens, under the limits. Whoever is too many is not answered.
pub(super) struct Tokens {
    census: Census,
    inner: address_token::default::Format,
}

impl Tokens {
    pub(super) fn new(census: Census) -> Self {
        let Ok(inner) = address_token::Default::default().start();
        Self { census, inner }
    }
}

impl Provider for Tokens {
    type Format = Self;
    type Error = Infallible;

    fn start(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

impl Format for Tokens {
    const TOKEN_LEN: usize = <address_token::default::Format as Format>::TOKEN_LEN;

    fn generate_new_token(
        &mut self,
        context: &mut Context<'_>,
        source: &LocalId,
        output: &mut [u8],
    ) -> Option<()> {
        self.inner.generate_new_token(context, source, output)
    }

    fn generate_retry_token(
        &mut self,
        context: &mut Context<'_>,
        original: &InitialId,
        output: &mut [u8],
    ) -> Option<()> {
        self.inner.generate_retry_token(context, original, output)
    }

    fn validate_token(&mut self, context: &mut Context<'_>, token: &[u8]) -> Option<InitialId> {
        let (now, address) = (TokioClock.now(), ip(&context.remote_address));
        // A token that was looked at is used up, so one that comes too early is not.
        if !self.census.admits(now, address) {
            turned_away("drop");
            return None;
        }
        let valid = self.inner.validate_token(context, token)?;
        self.census.proved(now, address);
        Some(valid)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use macula_core::clock::{Clock as _, TokioClock};

    use super::{ADDRESSES_MAX, Census, Verdict, WINDOW};
    use crate::transport::Admission;

    const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn census(attempts_per_address_per_s: u32) -> Census {
        Census::new(Admission { attempts_per_address_per_s, ..Admission::default() })
    }

    #[test]
    fn forged_packets_do_not_shut_out_whoever_proves_its_address() {
        let (census, now) = (census(2), TokioClock.now());
        assert_eq!([(); 2].map(|()| census.claimed(now, VICTIM)), [Verdict::Allow; 2]);
        for _ in 0..10_000 {
            assert_eq!(census.claimed(now, VICTIM), Verdict::Prove);
        }
        for _ in 0..2 {
            assert!(census.admits(now, VICTIM));
            census.proved(now, VICTIM);
        }
        // A proved one has its own rate.
        assert!(!census.admits(now, VICTIM));
        assert!(census.admits(now + WINDOW, VICTIM));
        assert_eq!(census.claimed(now + WINDOW, VICTIM), Verdict::Allow);
    }

    #[test]
    fn a_flood_from_everywhere_is_counted_in_bounded_space() {
        let (census, now) = (census(2), TokioClock.now());
        for number in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 10 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(number));
            let more = usize::try_from(number).unwrap() >= ADDRESSES_MAX;
            let verdict = if more { Verdict::Prove } else { Verdict::Allow };
            assert_eq!(census.claimed(now, address), verdict);
            census.proved(now, address);
        }
        assert_eq!(census.0.rates.lock().claimed.len(), ADDRESSES_MAX);
        assert_eq!(census.0.rates.lock().proved.len(), ADDRESSES_MAX);
    }

    #[test]
    fn what_has_ended_does_not_count() {
        let limits = Admission {
            connections_max: 2,
            connections_per_address_max: 1,
            handshakes_max: 1,
            ..Admission::default()
        };
        let (census, now) = (Census::new(limits), TokioClock.now());
        let other = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let one = census.enter(VICTIM).unwrap();
        assert!(census.enter(VICTIM).is_none());
        assert_eq!(census.claimed(now, VICTIM), Verdict::Close);
        let two = census.enter(other(2)).unwrap();
        assert!(census.enter(other(3)).is_none());
        assert!(!census.admits(now, other(3)));
        drop(two);
        let begun = census.begin();
        assert!(!census.admits(now, other(3)));
        drop(begun);
        assert!(census.admits(now, other(3)));
        drop(one);
        assert!(census.0.of_address.is_empty());
        assert!(census.enter(VICTIM).is_some());
    }
}
