//! What peers may ask of this node, and which of them are not listened to.
//!
//! Each peer has a bucket of tokens, which fills with time, and pays for each operation with its
//! [cost](crate::dht::wire::Op::cost). Who lies, or asks more than is left again and again, gathers
//! demerits. They go with time; with too many of them a peer is ignored for a while, and longer each
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::requests::Misbehaviour;
use crate::bounds::{Invalid, number, span};
use crate::dht::signed::Refusal;
use crate::tokens::{Bucket, Rate};

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How much a peer may ask each second, in lookups in the table. 1 to 1,000,000.
    pub rate_per_s: u32,
    /// How much it may ask at once, likewise. 1 to 10,000,000.
    pub burst: u32,
    /// Of how many peers this is remembered. 1 to 1,000,000.
    pub peers_max: usize,
    /// With how many demerits a peer is ignored. 1 to 1,000,000.
    pub demerits_max: u32,
    /// In which time one demerit goes. 1 ms to 1 h.
    pub pardon_every: Duration,
    /// How long a peer is ignored at first; each time twice as long. 1 s to `ignored_max`.
    pub ignored_for: Duration,
    /// How long a peer is ignored at most. Up to 30 d.
    pub ignored_max: Duration,
}

impl Default for Config {
    /// 20,000 lookups a second and 40,000 at once, for 4,096 peers; 100 demerits, of which one goes
    /// every 6 seconds; ignored for 10 minutes to a day.
    fn default() -> Self {
        Self {
            rate_per_s: 20_000,
            burst: 40_000,
            peers_max: 4096,
            demerits_max: 100,
            pardon_every: Duration::from_secs(6),
            ignored_for: Duration::from_secs(600),
            ignored_max: Duration::from_secs(86_400),
        }
    }
}

impl Config {
    const fn rate(&self) -> Rate {
        Rate { per_s: self.rate_per_s, burst: self.burst }
    }

    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        number("limits.rate_per_s", self.rate_per_s, 1, 1_000_000)?;
        number("limits.burst", self.burst, 1, 10_000_000)?;
        number("limits.peers_max", self.peers_max, 1, 1_000_000)?;
        number("limits.demerits_max", self.demerits_max, 1, 1_000_000)?;
        span("limits.pardon_every", self.pardon_every, ms(1), secs(3_600))?;
        span("limits.ignored_max", self.ignored_max, secs(1), secs(30 * 86_400))?;
        span("limits.ignored_for", self.ignored_for, secs(1), self.ignored_max)
    }
}

/// What is held against a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It has asked more than it may.
    Flood,
    /// It has sent what could not be read.
    Malformed,
    /// It has answered what it was not asked, or otherwise than it was asked.
    WrongAnswer,
    /// It has handed over what its author has not signed, or what belongs elsewhere.
    Forged,
    /// It has answered with what is over, or older than what others have. That happens to those who
    /// were away for a while, too.
    Stale,
}

impl Offence {
    /// Whether no honest node does it. One that was away may be behind.
    #[must_use]
    pub const fn is_deliberate(self) -> bool {
        !matches!(self, Self::Stale)
    }

    /// How many demerits it brings.
    #[must_use]
    pub const fn demerits(self) -> u32 {
        match self {
            Self::Flood | Self::Stale => 1,
            Self::Malformed => 20,
            Self::WrongAnswer => 25,
            Self::Forged => 50,
        }
    }

    /// What it means that a peer has handed over what was refused: clocks may differ, and a record
    /// may be outrun by a newer one, but nobody hands over what is no good at any time.
    #[must_use]
    pub const fn of(refusal: &Refusal) -> Option<Self> {
        match refusal {
            Refusal::Forged | Refusal::WrongKey { .. } => Some(Self::Forged),
            Refusal::Malformed(_)
            | Refusal::OtherRealm
            | Refusal::Oversized(_)
            | Refusal::TooManyAddresses { .. } => Some(Self::Malformed),
            Refusal::FromTheFuture { .. }
            | Refusal::Expired { .. }
            | Refusal::LivesTooLong { .. }
            | Refusal::Invalid(_) => None,
        }
    }

    /// Likewise for an answer: nobody has to keep what is over.
    #[must_use]
    pub const fn of_answered(refusal: &Refusal) -> Option<Self> {
        match refusal {
            Refusal::Expired { .. } => Some(Self::Stale),
            other => Self::of(other),
        }
    }

    /// What it means that a peer has not answered as it was asked.
    #[must_use]
    pub const fn of_answer(what: Misbehaviour) -> Self {
        match what {
            Misbehaviour::Malformed => Self::Malformed,
            Misbehaviour::UnknownRequest
            | Misbehaviour::WrongPeer
            | Misbehaviour::WrongCount { .. }
            | Misbehaviour::WrongKind => Self::WrongAnswer,
        }
    }
}

/// Whether an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is.
    Admitted,
    /// Not now.
    Busy {
        /// When there are enough tokens again.
        retry_in: Duration,
    },
    /// Not from this peer.
    Ignored {
        /// For how long.
        left: Duration,
    },
}

#[derive(Debug)]
struct Peer {
    bucket: Bucket,
    demerits: u32,
    pardoned_at: Instant,
    ignored_until: Option<Instant>,
    times_ignored: u32,
    seen_at: Instant,
}

/// What is known of the peers.
#[derive(Debug)]
pub struct Limits {
    config: Config,
    peers: BTreeMap<NodeId, Peer>,
    /// Those not seen for longest first.
    order: BTreeSet<(Instant, NodeId)>,
}

impl Limits {
    /// Nothing is known.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, peers: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Lets a peer pay for an operation.
    pub fn admit(&mut self, now: Instant, id: NodeId, cost: u32) -> Verdict {
        let left = self.ignored(now, id);
        if let Some(left) = left {
            return Verdict::Ignored { left };
        }
        let rate = self.config.rate();
        match self.look_up(now, id).bucket.take(now, rate, cost) {
            Ok(()) => Verdict::Admitted,
            Err(retry_in) => {
                self.blame(now, id, Offence::Flood);
                Verdict::Busy { retry_in }
            }
        }
    }

    /// Holds something against a peer. True if it is ignored from now on.
    pub fn blame(&mut self, now: Instant, id: NodeId, offence: Offence) -> bool {
        let config = self.config;
        let peer = self.look_up(now, id);
        peer.demerits = peer.demerits.saturating_add(offence.demerits());
        if peer.demerits < config.demerits_max || peer.ignored_until.is_some() {
            return false;
        }
        let times = 1_u32.checked_shl(peer.times_ignored).unwrap_or(u32::MAX);
        let wait = config.ignored_for.saturating_mul(times).min(config.ignored_max);
        peer.times_ignored = peer.times_ignored.saturating_add(1);
        peer.ignored_until = Some(now + wait);
        peer.demerits = 0;
        true
    }

    /// For how long a peer is still ignored; none if it is not.
    #[must_use]
    pub fn ignored(&self, now: Instant, id: NodeId) -> Option<Duration> {
        let until = self.peers.get(&id)?.ignored_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// How many demerits a peer has now.
    #[must_use]
    pub fn demerits(&self, now: Instant, id: NodeId) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.demerits.saturating_sub(self.pardons(now, peer)))
    }

    /// Of how many peers something is known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nothing is known of anyone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn pardons(&self, now: Instant, peer: &Peer) -> u32 {
        let every = self.config.pardon_every.as_millis().max(1);
        let past = now.saturating_duration_since(peer.pardoned_at).as_millis();
        u32::try_from(past / every).unwrap_or(u32::MAX)
    }

    /// What is known of a peer, at this time.
    fn look_up(&mut self, now: Instant, id: NodeId) -> &mut Peer {
        let (rate, pardon_every) = (self.config.rate(), self.config.pardon_every);
        match self.peers.get(&id) {
            Some(peer) => {
                self.order.remove(&(peer.seen_at, id));
            }
            None => self.make_room(now),
        }
        self.order.insert((now, id));
        let pardons = self.peers.get(&id).map_or(0, |peer| self.pardons(now, peer));
        let peer = self.peers.entry(id).or_insert_with(|| Peer {
            bucket: Bucket::full(now, rate),
            demerits: 0,
            pardoned_at: now,
            ignored_until: None,
            times_ignored: 0,
            seen_at: now,
        });
        peer.demerits = peer.demerits.saturating_sub(pardons);
        peer.pardoned_at += pardon_every.saturating_mul(pardons);
        peer.ignored_until = peer.ignored_until.filter(|until| *until > now);
        peer.seen_at = now;
        peer
    }

    /// Forgets the peer not seen for longest, if possible one that is not ignored.
    fn make_room(&mut self, now: Instant) {
        if self.peers.len() < self.config.peers_max.max(1) {
            return;
        }
        let harmless = |id: &NodeId| self.ignored(now, *id).is_none();
        let longest = self.order.iter().find(|(_, id)| harmless(id)).or_else(|| self.order.first());
        if let Some(entry) = longest.copied() {
            self.order.remove(&entry);
            self.peers.remove(&entry.1);
        }
    }
}

#[cfg(test)]
mod tests;
