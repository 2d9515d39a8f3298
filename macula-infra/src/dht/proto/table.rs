//! The routing table: many nodes near this one, and few far away.
//!
//! A peer's bucket is the length of the prefix that its key has in common with the table's own. A
//! bucket has up to [`k`](Config::k) entries in the order in which they were last seen. Only a node
//! that took part in a verified exchange enters ([`Table::seen`]); of what others say of a node, no
//! more comes than a [`Question`](Output::Question) to it.
//!
//! Who has long been there is likely to stay (section 2.2 of the paper). So a newcomer to a full
//! bucket waits in the replacement cache while the entry that was seen longest ago is questioned,
//! and enters only if that fails [twice](Config::failures_max). An entry that failed and has nobody
//! to take its place stays as *questionable*: it is not told to others, and whoever comes next takes
//! its place.
//!
//! A bucket in whose range nothing was looked up for an hour asks for a lookup of a random key in
//! it ([`Refresh`](Output::Refresh)). That goes for the buckets down to the depth at which the k
//! nearest begin; what lies deeper is refreshed together, by a lookup of the own key, every ten minutes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Entry};
use super::diversity::{Limits, Prefix};
use super::peer::Peer;
use crate::bounds::{Invalid, number, span};
use crate::contact::Contact;
use crate::dht::key::{BITS, Key};

/// How many outputs wait at most; what would be beyond is left out until it is due again.
pub const OUTPUTS_MAX: usize = 64;

/// With how many times k peers a lookup begins at most.
const SEEDS_FACTOR: usize = 3;

/// How long after one refresh the next begins at the earliest.
const REFRESH_PACE: Duration = Duration::from_secs(1);

/// By which part of itself the time between refreshes is spread to either side.
const REFRESH_JITTER: f64 = 0.1;

/// How many questionable entries are tried anew with one refresh of their bucket.
const RETRIES_MAX: usize = 4;

/// How large the table is, and how it treats its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How many entries a bucket has, and how many peers an answer. 1 to 64.
    pub k: usize,
    /// How many peers wait for a place in a bucket. 0 to 64.
    pub cache_len: usize,
    /// After how many failures in a row an entry is questionable. 1 to 16.
    pub failures_max: u8,
    /// How long a bucket goes without a lookup, give or take a tenth. 1 min to 1 d.
    pub refresh_after: Duration,
    /// How long the own neighbourhood goes without one. It is where records are kept, so nodes that
    /// come and go there have to be noticed sooner. 10 s to 1 d.
    pub refresh_own_after: Duration,
    /// An entry that was seen within this time is not questioned. Up to 1 h.
    pub fresh: Duration,
    /// How long an answer to a question is waited for, and how long a node that did not give one is
    /// not questioned again on hearsay. 1 s to 1 h.
    pub question_ttl: Duration,
    /// How many nodes are questioned on hearsay at one time. 0 to 1,024.
    pub candidates_max: usize,
    /// How many nodes of one network it takes.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            k: 20,
            cache_len: 8,
            failures_max: 2,
            refresh_after: Duration::from_secs(3_600),
            refresh_own_after: Duration::from_secs(600),
            fresh: Duration::from_secs(60),
            question_ttl: Duration::from_secs(60),
            candidates_max: 64,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let secs = Duration::from_secs;
        number("table.k", self.k, 1, 64)?;
        number("table.cache_len", self.cache_len, 0, 64)?;
        number("table.failures_max", self.failures_max, 1, 16)?;
        span("table.refresh_after", self.refresh_after, secs(60), secs(86_400))?;
        span("table.refresh_own_after", self.refresh_own_after, secs(10), secs(86_400))?;
        span("table.fresh", self.fresh, secs(0), secs(3_600))?;
        span("table.question_ttl", self.question_ttl, secs(1), secs(3_600))?;
        number("table.candidates_max", self.candidates_max, 0, 1_024)?;
        self.limits.check()
    }
}

/// What is to be done. The parent answers a question with [`Table::seen`] or [`Table::failed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask a peer for a sign of life.
    Question {
        /// Whom.
        peer: Peer,
    },
    /// Look a key up, for the sake of the nodes that will be met on the way.
    Refresh {
        /// Which.
        key: Key,
    },
}

/// What became of a peer that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was in the table already.
    Known,
    /// It is now.
    Entered,
    /// It waits for a place.
    Cached,
    /// It is this node, cannot be dialled, or its network has its share already.
    Refused,
}

/// An entry of the table as a file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The node and its addresses.
    pub contact: Contact,
    /// How long before the snapshot it was seen, in seconds.
    pub seen_ago_s: u64,
}

/// All entries of the table, those seen longest ago first in each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The entries, the farthest buckets first.
    pub entries: Vec<Saved>,
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many entries there are.
    pub entries: usize,
    /// Of those, how many are questionable.
    pub questionable: usize,
    /// How many peers wait for a place.
    pub cached: usize,
    /// How many buckets have an entry.
    pub buckets: usize,
    /// How many peers were refused so far because their network had its share.
    pub crowded: u64,
    /// How many entries lost their place to another so far.
    pub replaced: u64,
}

/// The table of one node. See the [module](self).
#[derive(Debug)]
pub struct Table {
    own: Key,
    config: Config,
    entropy: Entropy,
    /// By the length of the common prefix, as far as there are entries.
    buckets: Vec<Bucket>,
    /// When the own key is to be looked up.
    refresh_own_at: Instant,
    /// Before this, no refresh begins.
    refresh_gate: Instant,
    /// Who was questioned on hearsay, and until when nothing is asked again.
    candidates: BTreeMap<NodeId, Instant>,
    out: VecDeque<Output>,
    crowded: u64,
    replaced: u64,
    #[cfg(test)]
    pub(in crate::dht) bug: Option<super::tests::Bug>,
}

impl Table {
    /// An empty table of the node with this key.
    #[must_use]
    pub fn new(now: Instant, own: Key, config: Config, entropy: Entropy) -> Self {
        let refresh_own_at = now + config.refresh_own_after;
        Self {
            own,
            config,
            entropy,
            buckets: Vec::new(),
            refresh_own_at,
            refresh_gate: now,
            candidates: BTreeMap::new(),
            out: VecDeque::new(),
            crowded: 0,
            replaced: 0,
            #[cfg(test)]
            bug: None,
        }
    }

    /// The key of the node whose table it is.
    #[must_use]
    pub const fn own(&self) -> Key {
        self.own
    }

    /// A peer has taken part in a verified exchange; its first address is where it was reached.
    pub fn seen(&mut self, now: Instant, peer: &Peer) -> Standing {
        let Some(index) = self.index(peer.key()).filter(|_| peer.is_sound()) else {
            return Standing::Refused;
        };
        self.candidates.remove(&peer.node());
        self.reach(now, index);
        if self.renew(now, index, peer) {
            return Standing::Known;
        }
        let prefix = self.config.limits.prefix(peer);
        let entry = Entry { peer: peer.clone(), prefix, last_seen: now, failures: 0 };
        if prefix.is_some_and(|prefix| self.has_its_share_of_bucket(index, prefix)) {
            self.crowded += 1;
            return Standing::Refused;
        }
        let Some(bucket) = self.buckets.get_mut(index) else { return Standing::Refused };
        let is_full = bucket.entries.len() >= self.config.k;
        let leaving = bucket.questionable(self.config.failures_max).filter(|_| is_full);
        if is_full && leaving.is_none() {
            // Whether the whole table has room for it is seen when its turn comes.
            let kept = bucket.keep(entry, self.config.cache_len, &self.config.limits);
            self.question_oldest(now, index);
            return if kept { Standing::Cached } else { Standing::Refused };
        }
        if prefix.is_some_and(|prefix| self.has_its_share_of_table(prefix)) {
            self.crowded += 1;
            return Standing::Refused;
        }
        let Some(bucket) = self.buckets.get_mut(index) else { return Standing::Refused };
        if let Some(at) = leaving {
            bucket.entries.remove(at);
            self.replaced += 1;
        }
        bucket.uncache(peer);
        bucket.insert(entry);
        Standing::Entered
    }

    /// Somebody says that there is a peer. It is questioned if it could enter.
    pub fn heard(&mut self, now: Instant, peer: &Peer) {
        let Some(index) = self.index(peer.key()).filter(|_| peer.is_sound()) else { return };
        let bucket = self.buckets.get(index);
        let known = bucket.is_some_and(|bucket| bucket.position(peer).is_some());
        let full = bucket.is_some_and(|bucket| {
            bucket.entries.len() >= self.config.k
                && bucket.questionable(self.config.failures_max).is_none()
        });
        if known || full || self.is_crowded(index, peer) {
            return;
        }
        if self.candidates.len() >= self.config.candidates_max {
            self.candidates.retain(|_, until| *until > now);
        }
        let asked = self.candidates.get(&peer.node()).is_some_and(|until| *until > now);
        if !asked
            && self.candidates.len() < self.config.candidates_max
            && self.question(peer.clone())
        {
            self.candidates.insert(peer.node(), now + self.config.question_ttl);
        }
    }

    /// A peer did not answer.
    pub fn failed(&mut self, now: Instant, peer: &Peer) {
        let (k_failures, ttl) = (self.config.failures_max, self.config.question_ttl);
        let Some(index) = self.index(peer.key()) else { return };
        let Some(bucket) = self.buckets.get_mut(index) else { return };
        bucket.uncache(peer);
        bucket.question.take_if(|(asked, _)| *asked == peer.node());
        let Some(entry) = bucket.entry_mut(peer) else { return };
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= k_failures {
            self.replace(index, peer);
        } else {
            // It is tried until it is known what it is worth, or others would be told of the dead.
            bucket.question = Some((peer.node(), now + ttl));
            self.question(peer.clone());
        }
    }

    /// A peer is not to be in the table, whatever it answers: it was caught lying.
    pub fn forget(&mut self, peer: &Peer) {
        let Some(index) = self.index(peer.key()) else { return };
        let Some(bucket) = self.buckets.get_mut(index) else { return };
        bucket.uncache(peer);
        if bucket.remove(peer).is_some() {
            self.promote(index);
        }
    }

    /// A lookup of a key begins, for whatever reason: its bucket needs none for a while.
    pub fn looked_up(&mut self, now: Instant, key: Key) {
        match self.index(key) {
            None => self.refresh_own_at = self.next(now, self.config.refresh_own_after),
            Some(index) => {
                let at = self.next_refresh(now);
                if let Some(bucket) = self.buckets.get_mut(index) {
                    bucket.refresh_at = at;
                }
            }
        }
    }

    /// Asks for a refresh of every bucket, one after the other: this node has just joined.
    pub fn refresh_all(&mut self, now: Instant) {
        self.buckets.iter_mut().for_each(|bucket| bucket.refresh_at = now);
    }

    /// The entries that are closest to a key, the closest first: as many as asked for, and k at
    /// most. Those that are questionable are not among them.
    #[must_use]
    pub fn closest(&self, key: Key, count: usize) -> Vec<Peer> {
        let failures_max = self.config.failures_max;
        self.nearest(key, count.min(self.config.k), |entry| entry.failures < failures_max)
    }

    /// The entries that are closest to a key, the closest first, with those that are questionable:
    /// as many as asked for. They are for this node's own lookups, and not for others.
    #[must_use]
    pub fn closest_known(&self, key: Key, count: usize) -> Vec<Peer> {
        self.nearest(key, count, |_| true)
    }

    /// With whom a lookup for the k closest to a key begins: the k closest, and behind them some
    /// that are farther, in case that none of the k is there any more.
    #[must_use]
    pub fn seeds(&self, key: Key, k: usize) -> Vec<Peer> {
        let mut seeds = self.closest(key, k);
        let mut others = self.closest_known(key, SEEDS_FACTOR * k);
        others.retain(|other| !seeds.iter().any(|seed| seed.node() == other.node()));
        seeds.append(&mut others);
        seeds
    }

    /// Whether a peer is an entry.
    #[must_use]
    pub fn contains(&self, peer: &Peer) -> bool {
        let bucket = self.index(peer.key()).and_then(|index| self.buckets.get(index));
        bucket.is_some_and(|bucket| bucket.position(peer).is_some())
    }

    /// All entries, the farthest buckets first.
    pub fn entries(&self) -> impl Iterator<Item = &Peer> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries).map(|entry| &entry.peer)
    }

    /// How things stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let entries = || self.buckets.iter().flat_map(|bucket| &bucket.entries);
        let questionable = |entry: &&Entry| entry.failures >= self.config.failures_max;
        Stats {
            entries: entries().count(),
            questionable: entries().filter(questionable).count(),
            cached: self.buckets.iter().map(|bucket| bucket.cache.len()).sum(),
            buckets: self.buckets.iter().filter(|bucket| !bucket.entries.is_empty()).count(),
            crowded: self.crowded,
            replaced: self.replaced,
        }
    }

    /// The memory that it holds, in bytes, peers that others share with it aside.
    #[must_use]
    pub fn memory(&self) -> usize {
        let buckets: usize = self.buckets.iter().map(Bucket::heap_len).sum();
        let out = self.out.capacity() * size_of::<Output>();
        size_of::<Self>() + self.buckets.capacity() * size_of::<Bucket>() + buckets + out
    }

    /// What a file has to keep, so that the node finds the mesh again.
    #[must_use]
    pub fn save(&self, now: Instant) -> Snapshot {
        let entries = self.buckets.iter().flat_map(|bucket| &bucket.entries);
        let saved = entries.map(|entry| Saved {
            contact: entry.peer.contact().clone(),
            seen_ago_s: now.saturating_duration_since(entry.last_seen).as_secs(),
        });
        Snapshot { entries: saved.collect() }
    }

    /// Takes back what was saved, as far as there is room. An entry is questionable after one more
    /// failure, since much can have happened meanwhile.
    pub fn restore(&mut self, now: Instant, snapshot: &Snapshot) {
        let most = BITS * self.config.k;
        for saved in snapshot.entries.iter().take(most) {
            let peer = Peer::new(saved.contact.clone());
            let Some(index) = self.index(peer.key()).filter(|_| peer.is_sound()) else { continue };
            self.reach(now, index);
            let crowded = self.is_crowded(index, &peer);
            let Some(bucket) = self.buckets.get_mut(index) else { continue };
            let known = bucket.position(&peer).is_some();
            if !crowded && !known && bucket.entries.len() < self.config.k {
                let ago = Duration::from_secs(saved.seen_ago_s);
                let last_seen = now.checked_sub(ago).unwrap_or(now);
                let failures = self.config.failures_max.saturating_sub(1);
                let prefix = self.config.limits.prefix(&peer);
                bucket.insert(Entry { peer, prefix, last_seen, failures });
            }
        }
    }

    /// Begins the refresh that is due, if one is.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|(at, _)| at > now) {
            return;
        }
        self.refresh_gate = now + REFRESH_PACE;
        if self.refresh_own_at <= now {
            self.refresh_own_at = self.next(now, self.config.refresh_own_after);
            self.refresh(self.own);
            return;
        }
        let next = self.next_refresh(now);
        let horizon = self.horizon();
        let due = |(_, bucket): &(usize, &mut Bucket)| bucket.refresh_at <= now;
        let mut buckets = self.buckets.iter_mut().take(horizon + 1).enumerate();
        let Some((index, bucket)) = buckets.find(due) else { return };
        bucket.refresh_at = next;
        let failures_max = self.config.failures_max;
        let doubtful = bucket.entries.iter().filter(|entry| entry.failures >= failures_max);
        let again: Vec<Peer> = doubtful.take(RETRIES_MAX).map(|entry| entry.peer.clone()).collect();
        let key = self.random_key(index);
        self.refresh(key);
        for peer in again {
            self.question(peer);
        }
    }

    /// Takes the next output, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When the next refresh is due. An empty table has nobody to ask.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let buckets = self.buckets.iter().take(self.horizon() + 1);
        let first = buckets.map(|bucket| bucket.refresh_at).min()?;
        Some((first.min(self.refresh_own_at).max(self.refresh_gate), "refresh"))
    }
}

/// What the methods above are made of.
impl Table {
    /// The bucket of a key; none for the own one.
    fn index(&self, key: Key) -> Option<usize> {
        Some(self.own.common_prefix(&key)).filter(|index| *index < BITS)
    }

    /// Makes the buckets down to one.
    fn reach(&mut self, now: Instant, index: usize) {
        while self.buckets.len() <= index {
            let refresh_at = self.next_refresh(now);
            self.buckets.push(Bucket::new(refresh_at));
        }
    }

    /// Notes that an entry was seen; says whether it is one.
    fn renew(&mut self, now: Instant, index: usize, peer: &Peer) -> bool {
        let limits = &self.config.limits;
        let Some(bucket) = self.buckets.get_mut(index) else { return false };
        bucket.question.take_if(|(asked, _)| *asked == peer.node());
        let Some(mut entry) = bucket.remove(peer) else { return false };
        let prefix = limits.prefix(peer);
        if entry.prefix == prefix || !self.is_crowded(index, peer) {
            (entry.peer, entry.prefix) = (peer.clone(), prefix);
        }
        (entry.last_seen, entry.failures) = (now, 0);
        if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.insert(entry);
        }
        true
    }

    /// Whether the network of a peer has its share of a bucket or of the table.
    fn is_crowded(&self, index: usize, peer: &Peer) -> bool {
        self.config.limits.prefix(peer).is_some_and(|prefix| {
            self.has_its_share_of_bucket(index, prefix) || self.has_its_share_of_table(prefix)
        })
    }

    fn has_its_share_of_bucket(&self, index: usize, prefix: Prefix) -> bool {
        let count = self.buckets.get(index).map_or(0, |bucket| bucket.count(prefix));
        count >= self.config.limits.bucket_max
    }

    fn has_its_share_of_table(&self, prefix: Prefix) -> bool {
        let count: usize = self.buckets.iter().map(|bucket| bucket.count(prefix)).sum();
        count >= self.config.limits.table_max
    }

    /// Questions the entry that was seen longest ago, if it is in doubt and nobody is questioned.
    fn question_oldest(&mut self, now: Instant, index: usize) {
        let Some(bucket) = self.buckets.get_mut(index) else { return };
        let Some(oldest) = bucket.entries.first() else { return };
        let asking = bucket.question.is_some_and(|(_, until)| until > now);
        if asking || now.saturating_duration_since(oldest.last_seen) < self.config.fresh {
            return;
        }
        let peer = oldest.peer.clone();
        bucket.question = Some((peer.node(), now + self.config.question_ttl));
        self.question(peer);
    }

    /// An entry that is questionable makes way for who waits, if somebody may enter.
    fn replace(&mut self, index: usize, peer: &Peer) {
        let Some(entry) = self.buckets.get_mut(index).and_then(|bucket| bucket.remove(peer)) else {
            return;
        };
        if self.promote(index) {
            self.replaced += 1;
        } else if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.insert(entry);
        }
    }

    /// Lets in the peer that was seen last of those who wait and may enter.
    fn promote(&mut self, index: usize) -> bool {
        let cache = self.buckets.get(index).map_or(&[][..], |bucket| &bucket.cache);
        let Some(at) = cache.iter().rposition(|entry| !self.is_crowded(index, &entry.peer)) else {
            return false;
        };
        if let Some(bucket) = self.buckets.get_mut(index) {
            let entry = bucket.cache.remove(at);
            bucket.insert(entry);
        }
        true
    }

    fn question(&mut self, peer: Peer) -> bool {
        let asks = self.out.len() < OUTPUTS_MAX;
        if asks {
            self.out.push_back(Output::Question { peer });
        }
        asks
    }

    fn refresh(&mut self, key: Key) {
        if !self.never_refreshes() && self.out.len() < OUTPUTS_MAX {
            self.out.push_back(Output::Refresh { key });
        }
    }

    fn next_refresh(&mut self, now: Instant) -> Instant {
        self.next(now, self.config.refresh_after)
    }

    fn next(&mut self, now: Instant, after: Duration) -> Instant {
        let part = 1.0 + REFRESH_JITTER * (2.0 * self.entropy.unit() - 1.0);
        now + after.mul_f64(part)
    }

    /// The deepest bucket that is refreshed by itself: those beyond have less than k entries.
    fn horizon(&self) -> usize {
        let mut entries = 0;
        let full = self.buckets.iter().rposition(|bucket| {
            entries += bucket.entries.len();
            entries >= self.config.k
        });
        full.unwrap_or(0)
    }

    /// A key of which only the bucket is known.
    fn random_key(&mut self, index: usize) -> Key {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.entropy.next_u64().to_be_bytes());
        }
        let mut key = Key::from_bytes(bytes);
        for bit in 0..=index {
            if has_bit(&self.own, bit) != has_bit(&key, bit) {
                key = key.with_flipped(bit);
            }
        }
        key.with_flipped(index)
    }

    /// The buckets in the order of their distance from a key. The keys of one bucket lie together:
    /// where the key differs from the own one the bucket is near, the sooner the nearer, and where
    /// it does not the bucket is far, the sooner the farther.
    fn by_distance(&self, key: Key) -> impl Iterator<Item = &Bucket> {
        let differs = move |index: &usize| has_bit(&self.own, *index) != has_bit(&key, *index);
        let near = (0..self.buckets.len()).filter(differs);
        let far = (0..self.buckets.len()).rev().filter(move |index| !differs(index));
        near.chain(far).filter_map(|index| self.buckets.get(index))
    }

    fn nearest(&self, key: Key, count: usize, filter: impl Fn(&Entry) -> bool) -> Vec<Peer> {
        let mut found: Vec<Peer> = Vec::new();
        for bucket in self.by_distance(key) {
            let entries = bucket.entries.iter().filter(|entry| filter(entry));
            let mut sorted: Vec<([u128; 2], &Peer)> =
                entries.map(|entry| (gap(&key, &entry.peer.key()), &entry.peer)).collect();
            sorted.sort_unstable_by_key(|(gap, _)| *gap);
            let wanted = count - found.len();
            found.extend(sorted.into_iter().take(wanted).map(|(_, peer)| peer.clone()));
            if found.len() >= count {
                break;
            }
        }
        found
    }

    /// Whether refreshes are left out on purpose.
    #[cfg(test)]
    fn never_refreshes(&self) -> bool {
        self.bug == Some(super::tests::Bug::NeverRefreshes)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    const fn never_refreshes(&self) -> bool {
        false
    }
}

/// The distance of two keys as two numbers, which are quicker to compare than bytes.
fn gap(one: &Key, other: &Key) -> [u128; 2] {
    let halves = |key: &Key| {
        let (high, low) = key.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
        let low = low.first_chunk().unwrap_or(&[0; 16]);
        [u128::from_be_bytes(*high), u128::from_be_bytes(*low)]
    };
    let ([a, b], [c, d]) = (halves(one), halves(other));
    [a ^ c, b ^ d]
}

/// Whether a bit of a key is set, counted from the first.
fn has_bit(key: &Key, bit: usize) -> bool {
    key.as_bytes().get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
}
