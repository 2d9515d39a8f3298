//! The records that one node keeps.
//!
//! It takes only records that were [verified](Verified), and says of each what became of it. At one
//! key there is one record: the one with the greatest sequence number. The same record may come any
//! number of times, under whatever condition, so that a put may be repeated when its answer was
//! lost. Of two records with one sequence number the first one stays, so that of two who compare and
//! set, one is told that it was too late.
//!
//! When there is no room, records far from this node give way to nearer ones, and of those that
//! share as many bits with it, the ones that end first. One author's records never take more than
//! the author's part.
//!
//! A record that another has replaced may still be signed and valid for a while. Its successor's
//! sequence number is remembered for as long, even after the successor has ended or given way, so that
//! nobody brings the old one back. A successor that has given way may itself be brought back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::time::{Moment, jittered};
use crate::bounds::{Invalid, number, span};
use crate::dht::key::Key;
use crate::dht::record::{Signed, Verified};

/// How many deadlines one call of [`Records::handle_timeout`] sees to.
const DUE_MAX: usize = 256;

/// The bounds and times of a store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// How many records are kept. 1 to 10,000,000.
    pub count_max: usize,
    /// How many bytes all of them have. 128 KiB to 1 GiB.
    pub bytes_max: usize,
    /// How many of them one author has. 1 to `count_max`.
    pub author_count_max: usize,
    /// How many bytes those of one author have. 128 KiB to `bytes_max`.
    pub author_bytes_max: usize,
    /// How many sequence numbers of records that are here no more are remembered. 0 to 10,000,000.
    pub remembered_max: usize,
    /// How often a record is handed to the nodes that are closest to it now, unless one of them has
    /// handed it to this node meanwhile. 1 min to 7 d.
    pub replicate_every: Duration,
    /// By which part (0.0 to 1.0) that time is longer or shorter, by chance.
    pub replicate_jitter: f64,
}

impl Default for Config {
    /// 16,384 records and 64 MiB, an eighth of both for one author; replicated every hour, give or
    /// take a quarter.
    fn default() -> Self {
        Self {
            count_max: 16_384,
            bytes_max: 64 << 20,
            author_count_max: 2048,
            author_bytes_max: 8 << 20,
            remembered_max: 16_384,
            replicate_every: Duration::from_secs(3600),
            replicate_jitter: 0.25,
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
        let (second, week) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));
        number("records.count_max", self.count_max, 1, 10_000_000)?;
        number("records.bytes_max", self.bytes_max, 128 << 10, 1 << 30)?;
        number("records.author_count_max", self.author_count_max, 1, self.count_max)?;
        number("records.author_bytes_max", self.author_bytes_max, 128 << 10, self.bytes_max)?;
        number("records.remembered_max", self.remembered_max, 0, 10_000_000)?;
        span("records.replicate_every", self.replicate_every, second, week)?;
        number("records.replicate_jitter", self.replicate_jitter, 0.0, 1.0)
    }
}

/// What has to hold of what is stored for a put to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// There is no record.
    Absent,
    /// There is one with this sequence number.
    Sequence(u64),
}

/// Which bound was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// That of all records or providers.
    All,
    /// That of one author's.
    Author,
    /// That of one key's.
    Key,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// It is kept.
    Stored,
    /// It was kept already.
    Same,
    /// Refused: a newer one is or was here, with this sequence number.
    Older {
        /// That of the newer one.
        stored: u64,
    },
    /// Refused: the condition does not hold.
    ConditionFailed {
        /// The sequence number of what is kept, if anything is.
        stored: Option<u64>,
    },
    /// Refused: another record with this sequence number came first.
    Conflict {
        /// The sequence number of both.
        stored: u64,
    },
    /// Refused: there is no room, and what is kept is nearer or lasts longer.
    Full(Bound),
    /// Refused: it has ended since it was verified.
    Expired,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Hand a record to the nodes that are closest to it now.
    Replicate {
        /// Its key.
        key: Key,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A record is over.
    Expire(Key),
    /// The sequence number of one that is here no more need not be remembered any longer.
    Forget(Key),
    /// A record is to be handed on.
    Replicate(Key),
}

/// How little a record belongs here, the least first: bits in common with this node, and its end.
type Rank = (usize, Instant, Key);

#[derive(Debug)]
struct Stored {
    signed: Signed,
    author: NodeId,
    sequence: u64,
    digest: [u8; 32],
    len: usize,
    rank: Rank,
    /// Until when one that it has replaced is valid.
    replayable_until: Instant,
}

/// What was the newest at its key when it went.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    sequence: u64,
    author: NodeId,
    digest: [u8; 32],
}

/// How many records there are, and their bytes, and in which order they give way.
#[derive(Debug, Default)]
struct Book {
    bytes: usize,
    order: BTreeSet<Rank>,
}

impl Book {
    fn add(&mut self, rank: Rank, len: usize) {
        self.order.insert(rank);
        self.bytes += len;
    }

    fn remove(&mut self, rank: &Rank, len: usize) {
        self.order.remove(rank);
        self.bytes = self.bytes.saturating_sub(len);
    }
}

/// The store.
#[derive(Debug)]
pub struct Records {
    own: Key,
    config: Config,
    entropy: Entropy,
    records: BTreeMap<Key, Stored>,
    all: Book,
    authors: BTreeMap<NodeId, Book>,
    /// Records that are here no more, for as long as an older one is valid.
    remembered: BTreeMap<Key, Remembered>,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
    #[cfg(test)]
    bug: Option<tests::Bug>,
}

impl Records {
    /// An empty store of the node at `own`.
    #[must_use]
    pub fn new(own: Key, config: Config, entropy: Entropy) -> Self {
        Self {
            own,
            config,
            entropy,
            records: BTreeMap::new(),
            all: Book::default(),
            authors: BTreeMap::new(),
            remembered: BTreeMap::new(),
            timers: Deadlines::default(),
            out: VecDeque::new(),
            #[cfg(test)]
            bug: None,
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.all.bytes
    }

    /// The keys, in order, of all records that are not over.
    pub fn keys(&self, now: Instant) -> impl Iterator<Item = Key> + '_ {
        self.records.iter().filter(move |(_, stored)| stored.rank.1 > now).map(|(key, _)| *key)
    }

    /// The record at a key.
    #[must_use]
    pub fn get(&self, now: Instant, key: &Key) -> Option<&Signed> {
        let stored = self.records.get(key)?;
        (stored.rank.1 > now || self.never_expires()).then_some(&stored.signed)
    }

    /// Keeps a record, or says why not.
    pub fn put(&mut self, at: Moment, record: &Verified, condition: Condition) -> PutOutcome {
        let key = record.key();
        let Some(deadline) = at.deadline(record.record().expires_at) else {
            return PutOutcome::Expired;
        };
        if self.records.get(&key).is_some_and(|stored| stored.rank.1 <= at.now) {
            self.expire(at.now, key);
        }
        if self.timers.get(Timer::Forget(key)).is_some_and(|until| until <= at.now) {
            self.remembered.remove(&key);
            self.timers.clear(Timer::Forget(key));
        }
        match self.judge(record, condition) {
            Err(outcome) => {
                if outcome == PutOutcome::Same {
                    self.schedule_replication(at.now, key);
                }
                outcome
            }
            Ok(()) => self.keep(at.now, record, deadline),
        }
    }

    /// Whether a record is newer than what is here, or else what becomes of it.
    fn judge(&self, record: &Verified, condition: Condition) -> Result<(), PutOutcome> {
        let (key, sequence) = (record.key(), record.record().sequence);
        let stored = self.records.get(&key);
        let is_it = |author, digest| (author, digest) == (record.record().author, *record.digest());
        if stored.is_some_and(|old| is_it(old.author, old.digest)) {
            return Err(PutOutcome::Same);
        }
        let found = stored.map(|old| old.sequence);
        let holds = match condition {
            Condition::Any => true,
            Condition::Absent => found.is_none(),
            Condition::Sequence(wanted) => found == Some(wanted),
        };
        if !holds {
            return Err(PutOutcome::ConditionFailed { stored: found });
        }
        let remembered = self.remembered.get(&key).filter(|old| !is_it(old.author, old.digest));
        match found.or_else(|| remembered.map(|old| old.sequence)) {
            Some(stored) if sequence < stored && !self.takes_older() => {
                Err(PutOutcome::Older { stored })
            }
            Some(stored) if sequence == stored => Err(PutOutcome::Conflict { stored }),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, now: Instant, record: &Verified, deadline: Instant) -> PutOutcome {
        let (key, author, len) = (record.key(), record.record().author, record.stored_len());
        let rank = (self.own.common_prefix(&key), deadline, key);
        let victims = match self.make_room(rank, author, len) {
            Ok(victims) => victims,
            Err(bound) => return PutOutcome::Full(bound),
        };
        for (_, _, victim) in victims {
            self.give_way(now, victim);
        }
        let old = self.remove(key).map(|old| old.replayable_until.max(old.rank.1));
        // What it follows on may be here no more, and what that had replaced valid still.
        let remembered = self.timers.get(Timer::Forget(key));
        let replayable_until = old.max(remembered).unwrap_or(now);
        self.remembered.remove(&key);
        self.timers.clear(Timer::Forget(key));
        self.all.add(rank, len);
        self.authors.entry(author).or_default().add(rank, len);
        self.timers.set(Timer::Expire(key), deadline);
        let stored = Stored {
            signed: record.signed().clone(),
            author,
            sequence: record.record().sequence,
            digest: *record.digest(),
            len,
            rank,
            replayable_until,
        };
        self.records.insert(key, stored);
        self.schedule_replication(now, key);
        PutOutcome::Stored
    }

    /// Which records have to give way to a new one.
    fn make_room(&self, rank: Rank, author: NodeId, len: usize) -> Result<Vec<Rank>, Bound> {
        let mut going = Vec::new();
        if let Some(book) = self.authors.get(&author) {
            let bounds = (self.config.author_count_max, self.config.author_bytes_max);
            self.choose(book, bounds, (rank, len), &mut going).ok_or(Bound::Author)?;
        } else if self.config.author_count_max == 0 || len > self.config.author_bytes_max {
            return Err(Bound::Author);
        }
        let bounds = (self.config.count_max, self.config.bytes_max);
        self.choose(&self.all, bounds, (rank, len), &mut going).ok_or(Bound::All)?;
        Ok(going)
    }

    /// Adds to those that give way as many as one book needs; none if even that makes no room.
    fn choose(
        &self,
        book: &Book,
        (count_max, bytes_max): (usize, usize),
        (rank, len): (Rank, usize),
        going: &mut Vec<Rank>,
    ) -> Option<()> {
        let len_of = |rank: &Rank| self.records.get(&rank.2).map_or(0, |stored| stored.len);
        let replaced = self.records.get(&rank.2).map(|stored| stored.rank);
        let (mut count, mut bytes) = (book.order.len() + 1, book.bytes + len);
        for gone in going.iter().chain(&replaced).filter(|gone| book.order.contains(gone)) {
            count -= 1;
            bytes = bytes.saturating_sub(len_of(gone));
        }
        let mut candidates = book.order.iter();
        while count > count_max || bytes > bytes_max {
            let worst =
                candidates.find(|rank| replaced != Some(**rank) && !going.contains(rank))?;
            if *worst >= rank {
                return None;
            }
            count -= 1;
            bytes = bytes.saturating_sub(len_of(worst));
            going.push(*worst);
        }
        Some(())
    }

    fn remove(&mut self, key: Key) -> Option<Stored> {
        let stored = self.records.remove(&key)?;
        self.timers.clear(Timer::Expire(key));
        self.timers.clear(Timer::Replicate(key));
        if self.leaks_room() {
            return Some(stored);
        }
        self.all.remove(&stored.rank, stored.len);
        if let Entry::Occupied(mut book) = self.authors.entry(stored.author) {
            book.get_mut().remove(&stored.rank, stored.len);
            if book.get().order.is_empty() {
                book.remove();
            }
        }
        Some(stored)
    }

    fn expire(&mut self, now: Instant, key: Key) {
        let Some(stored) = self.remove(key) else { return };
        self.remember(now, key, &stored, stored.replayable_until);
    }

    /// Takes a record out for which there is no room. It is valid still: if what it has replaced is
    /// too, its successor has both to outlast.
    fn give_way(&mut self, now: Instant, key: Key) {
        let Some(stored) = self.remove(key) else { return };
        if stored.replayable_until > now {
            self.remember(now, key, &stored, stored.replayable_until.max(stored.rank.1));
        }
    }

    fn remember(&mut self, now: Instant, key: Key, stored: &Stored, until: Instant) {
        if until > now && self.remembered.len() < self.config.remembered_max {
            let &Stored { sequence, author, digest, .. } = stored;
            self.remembered.insert(key, Remembered { sequence, author, digest });
            self.timers.set(Timer::Forget(key), until);
        }
    }

    fn schedule_replication(&mut self, now: Instant, key: Key) {
        let Config { replicate_every, replicate_jitter, .. } = self.config;
        let wait = jittered(replicate_every, replicate_jitter, &mut self.entropy);
        self.timers.set(Timer::Replicate(key), now + wait);
    }

    /// Does what was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..DUE_MAX {
            match self.timers.due(now) {
                Some(Timer::Expire(key)) if self.never_expires() => {
                    self.timers.clear(Timer::Replicate(key));
                }
                Some(Timer::Expire(key)) => self.expire(now, key),
                Some(Timer::Forget(key)) => drop(self.remembered.remove(&key)),
                Some(Timer::Replicate(key)) => {
                    self.out.push_back(Output::Replicate { key });
                    self.schedule_replication(now, key);
                }
                None => return,
            }
        }
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, timer) = self.timers.next()?;
        let reason = match timer {
            Timer::Expire(_) => "expire",
            Timer::Forget(_) => "forget",
            Timer::Replicate(_) => "replicate",
        };
        Some((at, reason))
    }
}

/// What goes wrong on purpose in tests.
#[cfg(test)]
impl Records {
    fn takes_older(&self) -> bool {
        self.bug == Some(tests::Bug::TakesOlder)
    }

    fn never_expires(&self) -> bool {
        self.bug == Some(tests::Bug::NeverExpires)
    }

    fn leaks_room(&self) -> bool {
        self.bug == Some(tests::Bug::LeaksRoom)
    }
}

#[cfg(not(test))]
#[expect(clippy::unused_self, reason = "its twin for tests needs it")]
impl Records {
    const fn takes_older(&self) -> bool {
        false
    }

    const fn never_expires(&self) -> bool {
        false
    }

    const fn leaks_room(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
