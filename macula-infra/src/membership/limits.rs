//! How much one peer may say, and what was not listened to.
//!
//! What a message costs follows from its length, so that it is known before anything of it is read:
//! a flood costs this node no signature.

use std::collections::BTreeMap;
use std::time::Instant;

use macula_core::identity::NodeId;

use super::config::Config;
use super::wire::{InvalidMessage, InvalidPresence};
use crate::tokens::{Bucket, Rate};

/// Of how many peers something is remembered.
const PEERS_MAX: usize = 16_384;

/// How many bytes cost as much as a message: about those of a presence.
const UNIT_LEN: usize = 256;

/// Why a message was not listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Its sender says more than it may.
    #[error("its sender says more than it may")]
    Flood,
    /// It cannot be read, or holds what nobody has signed.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
}

/// How many messages were not listened to, since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Their senders said more than they may.
    pub flood: u64,
    /// A presence in them was not signed by its node.
    pub forged: u64,
    /// They could not be read, or had more in them than may be.
    pub malformed: u64,
}

/// What peers have left of what they may say. Those that have all of it left are not kept.
#[derive(Debug)]
pub(super) struct Limits {
    rate: Rate,
    peers: BTreeMap<NodeId, Bucket>,
    refused: Refused,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let rate = Rate { per_s: config.peer_rate_per_s, burst: config.peer_burst };
        Self { rate, peers: BTreeMap::new(), refused: Refused::default() }
    }

    /// Lets a peer pay for a message of so many bytes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Flood`].
    pub(super) fn admit(&mut self, now: Instant, peer: NodeId, len: usize) -> Result<(), Refusal> {
        if !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        let rate = self.rate;
        let bucket = self.peers.entry(peer).or_insert_with(|| Bucket::full(now, rate));
        let cost = u32::try_from(1 + len / UNIT_LEN).unwrap_or(u32::MAX);
        bucket.take(now, rate, cost).map_err(|_later| Refusal::Flood)
    }

    /// Nothing is lost with a bucket that is full; if none is, one peer is forgiven.
    fn make_room(&mut self, now: Instant) {
        if self.peers.len() >= PEERS_MAX {
            let rate = self.rate;
            self.peers.retain(|_, bucket| !bucket.is_full(now, rate));
        }
        if self.peers.len() >= PEERS_MAX {
            self.peers.pop_first();
        }
    }

    /// Counts one, and says under which name.
    pub(super) const fn count(&mut self, refusal: &Refusal) -> &'static str {
        match refusal {
            Refusal::Flood => {
                self.refused.flood += 1;
                "flood"
            }
            Refusal::Invalid(InvalidMessage::Presence(InvalidPresence::Signature(_))) => {
                self.refused.forged += 1;
                "forged"
            }
            Refusal::Invalid(_) => {
                self.refused.malformed += 1;
                "malformed"
            }
        }
    }

    pub(super) const fn refused(&self) -> Refused {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, PEERS_MAX, Refusal};
    use crate::membership::Config;
    use macula_core::clock::{Clock as _, TokioClock};
    use macula_core::identity::{Keypair, NodeId};
    use std::time::Duration;

    fn node(number: u32) -> NodeId {
        let mut seed = [3; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        Keypair::from_seed(seed).node_id()
    }

    #[test]
    fn a_flooder_is_not_listened_to_and_others_are() {
        let config = Config { peer_rate_per_s: 10, peer_burst: 100, ..Config::default() };
        let (mut limits, now) = (Limits::new(&config), TokioClock.now());
        let taken = (0..1_000).filter(|_| limits.admit(now, node(1), 40).is_ok()).count();
        assert_eq!(taken, 100);
        assert_eq!(limits.admit(now, node(2), 40), Ok(()));
        // It may speak again, at its rate; what is long costs more.
        let later = now + Duration::from_secs(1);
        assert_eq!(limits.admit(later, node(1), 2_303), Ok(()));
        assert_eq!(limits.admit(later, node(1), 256), Err(Refusal::Flood));
    }

    #[test]
    fn the_number_of_peers_is_bounded_and_a_flooder_is_not_forgiven_for_others() {
        let config = Config { peer_rate_per_s: 1, peer_burst: 2, ..Config::default() };
        let (mut limits, now) = (Limits::new(&config), TokioClock.now());
        let (flooder, late) = (node(0), now + Duration::from_secs(2));
        for number in 1..=u32::try_from(PEERS_MAX).unwrap() {
            limits.admit(now, node(number), 0).unwrap();
        }
        while limits.admit(late, flooder, 0).is_ok() {}
        for number in 0..9 {
            limits.admit(late, node(1_000_000 + number), 0).unwrap();
            assert!(limits.peers.len() <= PEERS_MAX);
        }
        assert_eq!(limits.admit(late, flooder, 0), Err(Refusal::Flood));
    }
}
