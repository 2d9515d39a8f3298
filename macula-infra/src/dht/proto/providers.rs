//! The providers that one node keeps: many for a key, for a short time each.
//!
//! The newest issue of a node counts. A withdrawal takes the place of what it withdraws, and keeps
//! it until nobody can replay an older issue any more.
//!
//! When a key has as many providers as it may, new ones are refused: those that are kept and issue
//! themselves anew keep their places. When the store is full, keys far from this node give way to
//! nearer ones, and at keys that share as many bits with it, what ends first.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::records::Bound;
use super::time::Moment;
use crate::bounds::{Invalid, number};
use crate::dht::key::Key;
use crate::dht::provider::{Signed, Verified};

/// How many deadlines one call of [`Providers::handle_timeout`] sees to.
const DUE_MAX: usize = 256;

/// How long a provider lives unless it is issued anew, by custom. It is issued anew in half the
/// time.
pub const TTL: Duration = Duration::from_secs(300);

/// The bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How many providers are kept, withdrawals among them. 1 to 10,000,000.
    pub count_max: usize,
    /// How many bytes all of them have. 128 KiB to 1 GiB.
    pub bytes_max: usize,
    /// How many of them belong to one key. 1 to `count_max`.
    pub key_count_max: usize,
    /// How many of them belong to one node. 1 to `count_max`.
    pub node_count_max: usize,
}

impl Default for Config {
    /// 65,536 providers and 64 MiB; 1,000 for a key, 4,096 of one node.
    fn default() -> Self {
        Self { count_max: 65_536, bytes_max: 64 << 20, key_count_max: 1000, node_count_max: 4096 }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        number("providers.count_max", self.count_max, 1, 10_000_000)?;
        number("providers.bytes_max", self.bytes_max, 128 << 10, 1 << 30)?;
        number("providers.key_count_max", self.key_count_max, 1, self.count_max)?;
        number("providers.node_count_max", self.node_count_max, 1, self.count_max)
    }
}

/// What became of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ProvideOutcome {
    /// It is kept.
    Stored,
    /// It was kept already.
    Same,
    /// It is withdrawn.
    Withdrawn,
    /// Refused: the node has issued a newer one, or another at the same time, at this moment.
    Older {
        /// When, since the Unix epoch.
        stored: Duration,
    },
    /// Refused: there is no room.
    Full(Bound),
    /// Refused: it has ended since it was verified.
    Expired,
}

/// Which provider: of which key, and which node.
type Place = (Key, NodeId);

/// How little a provider belongs here, the least first: bits in common with this node, and its end.
type Rank = (usize, Instant, Place);

#[derive(Debug)]
struct Stored {
    signed: Signed,
    issued_at: Duration,
    digest: [u8; 32],
    withdrawn: bool,
    len: usize,
    rank: Rank,
}

/// The store.
#[derive(Debug)]
pub struct Providers {
    own: Key,
    config: Config,
    entropy: Entropy,
    providers: BTreeMap<Place, Stored>,
    bytes: usize,
    order: BTreeSet<Rank>,
    by_key: BTreeMap<Key, BTreeSet<NodeId>>,
    by_node: BTreeMap<NodeId, usize>,
    timers: Deadlines<Place>,
}

impl Providers {
    /// An empty store of the node at `own`.
    #[must_use]
    pub fn new(own: Key, config: Config, entropy: Entropy) -> Self {
        Self {
            own,
            config,
            entropy,
            providers: BTreeMap::new(),
            bytes: 0,
            order: BTreeSet::new(),
            by_key: BTreeMap::new(),
            by_node: BTreeMap::new(),
            timers: Deadlines::default(),
        }
    }

    /// How many entries there are, withdrawals among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.providers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a provider, or says why not. A withdrawal takes out what its node has provided.
    pub fn put(&mut self, at: Moment, provider: &Verified) -> ProvideOutcome {
        let place = (provider.key(), provider.provider().node());
        let Some(deadline) = at.deadline(provider.kept_until()) else {
            return ProvideOutcome::Expired;
        };
        if self.providers.get(&place).is_some_and(|stored| stored.rank.1 <= at.now) {
            self.remove(place);
        }
        let issued_at = provider.provider().issued_at;
        if let Some(stored) = self.providers.get(&place) {
            if stored.digest == *provider.digest() {
                return ProvideOutcome::Same;
            }
            if issued_at <= stored.issued_at {
                return ProvideOutcome::Older { stored: stored.issued_at };
            }
        }
        let rank = (self.own.common_prefix(&place.0), deadline, place);
        let victims = match self.make_room(rank, provider.stored_len()) {
            Ok(victims) => victims,
            Err(bound) => return ProvideOutcome::Full(bound),
        };
        for (_, _, victim) in victims {
            self.remove(victim);
        }
        self.remove(place);
        self.insert(rank, provider);
        if provider.provider().is_withdrawal() {
            ProvideOutcome::Withdrawn
        } else {
            ProvideOutcome::Stored
        }
    }

    fn insert(&mut self, rank: Rank, provider: &Verified) {
        let (_, deadline, place) = rank;
        let stored = Stored {
            signed: provider.signed().clone(),
            issued_at: provider.provider().issued_at,
            digest: *provider.digest(),
            withdrawn: provider.provider().is_withdrawal(),
            len: provider.stored_len(),
            rank,
        };
        self.bytes += stored.len;
        self.order.insert(rank);
        self.by_key.entry(place.0).or_default().insert(place.1);
        *self.by_node.entry(place.1).or_default() += 1;
        self.timers.set(place, deadline);
        self.providers.insert(place, stored);
    }

    /// Which entries have to give way to a new one.
    fn make_room(&self, rank: Rank, len: usize) -> Result<Vec<Rank>, Bound> {
        let (_, _, place) = rank;
        let replaced = self.providers.get(&place);
        let mut count = self.providers.len() + 1;
        let mut bytes = self.bytes + len;
        if let Some(replaced) = replaced {
            count -= 1;
            bytes = bytes.saturating_sub(replaced.len);
        } else {
            let of_key = self.by_key.get(&place.0).map_or(0, BTreeSet::len);
            let of_node = self.by_node.get(&place.1).copied().unwrap_or(0);
            if of_key >= self.config.key_count_max {
                return Err(Bound::Key);
            }
            if of_node >= self.config.node_count_max {
                return Err(Bound::Author);
            }
        }
        let mut victims = Vec::new();
        let mut candidates = self.order.iter().filter(|worst| worst.2 != place);
        while count > self.config.count_max || bytes > self.config.bytes_max {
            let worst = candidates.next().filter(|worst| **worst < rank).ok_or(Bound::All)?;
            let freed = self.providers.get(&worst.2).map_or(0, |stored| stored.len);
            count -= 1;
            bytes = bytes.saturating_sub(freed);
            victims.push(*worst);
        }
        Ok(victims)
    }

    fn remove(&mut self, place: Place) {
        let Some(stored) = self.providers.remove(&place) else { return };
        self.bytes = self.bytes.saturating_sub(stored.len);
        self.order.remove(&stored.rank);
        self.timers.clear(place);
        if let Entry::Occupied(mut nodes) = self.by_key.entry(place.0) {
            nodes.get_mut().remove(&place.1);
            if nodes.get().is_empty() {
                nodes.remove();
            }
        }
        if let Entry::Occupied(mut count) = self.by_node.entry(place.1) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Up to `max` providers of a key, by chance if there are more.
    pub fn find(&mut self, now: Instant, key: &Key, max: usize) -> Vec<Signed> {
        let count = self.count(now, key);
        let entropy = &mut self.entropy;
        let mut choose = |place: usize| {
            let left = u64::try_from(count - place).unwrap_or(0);
            place + usize::try_from(entropy.below(left)).unwrap_or(0)
        };
        let chosen: Vec<usize> = (0..max.min(count)).map(&mut choose).collect();
        let mut found: Vec<&Signed> = self.of(now, key).collect();
        for (place, chosen) in chosen.into_iter().enumerate() {
            found.swap(place, chosen);
        }
        found.into_iter().take(max).cloned().collect()
    }

    /// The keys, in order, that have providers or withdrawals.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.by_key.keys().copied()
    }

    /// All that is kept under a key, withdrawals among them, which whoever is given the others
    /// needs just as much.
    pub fn kept(&self, now: Instant, key: &Key) -> impl Iterator<Item = &Signed> + use<'_> {
        self.stored(now, key).map(|stored| &stored.signed)
    }

    /// How many providers a key has.
    #[must_use]
    pub fn count(&self, now: Instant, key: &Key) -> usize {
        self.of(now, key).count()
    }

    fn of(&self, now: Instant, key: &Key) -> impl Iterator<Item = &Signed> + use<'_> {
        self.stored(now, key).filter(|stored| !stored.withdrawn).map(|stored| &stored.signed)
    }

    fn stored(&self, now: Instant, key: &Key) -> impl Iterator<Item = &Stored> + use<'_> {
        let key = *key;
        let nodes = self.by_key.get(&key).into_iter().flatten();
        nodes
            .filter_map(move |node| self.providers.get(&(key, *node)))
            .filter(move |stored| stored.rank.1 > now)
    }

    /// Does what was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..DUE_MAX {
            let Some(place) = self.timers.due(now) else { return };
            self.remove(place);
        }
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, _)| (at, "expire"))
    }
}

#[cfg(test)]
mod tests;
