//! What was found lately, what was not, and what is being looked for.
//!
//! Whoever asks for a key that somebody looks for already waits for that [search](Lookup::Joined)
//! and starts none. An answer that proved wrong is [forgotten](Cache::forget), and so is one that is
//! under way then: it is given to those who wait for it, and not kept for those who ask after it has
//! ended. Whoever must not miss what was put a moment ago does not ask here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::bounds::{Invalid, number, span};
use crate::dht::key::Key;

/// The bounds and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a value is believed. Up to 1 h.
    pub ttl: Duration,
    /// How long it is believed that there is none. Up to 1 h.
    pub negative_ttl: Duration,
    /// How many answers are kept. 0 to 1,000,000.
    pub count_max: usize,
    /// How many bytes they have. Up to 1 GiB.
    pub bytes_max: usize,
    /// How many searches are under way. 1 to 65,536.
    pub searches_max: usize,
    /// How many wait for one of them. 1 to 65,536.
    pub waiters_max: usize,
    /// After how long a search counts as lost, so that the next who asks starts another. 1 s to
    /// 10 min.
    pub search_max: Duration,
}

impl Default for Config {
    /// Values for 60 s, their absence for 5 s; 4,096 answers and 16 MiB; 4,096 searches with 256
    /// waiting for each, lost after 30 s.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(5),
            count_max: 4096,
            bytes_max: 16 << 20,
            searches_max: 4096,
            waiters_max: 256,
            search_max: Duration::from_secs(30),
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
        span("cache.ttl", self.ttl, secs(0), secs(3_600))?;
        span("cache.negative_ttl", self.negative_ttl, secs(0), secs(3_600))?;
        number("cache.count_max", self.count_max, 0, 1_000_000)?;
        number("cache.bytes_max", self.bytes_max, 0, 1 << 30)?;
        number("cache.searches_max", self.searches_max, 1, 65_536)?;
        number("cache.waiters_max", self.waiters_max, 1, 65_536)?;
        span("cache.search_max", self.search_max, secs(1), secs(600))
    }
}

/// Somebody who asks, by a number that is the asker's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// What the cache has to say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Lookup<V> {
    /// This value was found lately.
    Hit(V),
    /// Nothing was found lately.
    Absent,
    /// Somebody looks for it already: wait.
    Joined,
    /// Nobody does: look for it, and [say](Cache::found) what was found.
    Search,
    /// Too many searches are under way, or too many wait for this one.
    Busy,
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<V> {
    /// A value of about `len` bytes, good for no longer than `ttl`.
    Value {
        /// The value.
        value: V,
        /// Its bytes.
        len: usize,
        /// How long it is good.
        ttl: Duration,
    },
    /// That there is none.
    Nothing,
    /// Not even that: the search has failed.
    Failed,
}

#[derive(Debug)]
struct Answer<V> {
    value: Option<V>,
    len: usize,
    until: Instant,
}

#[derive(Debug)]
struct Search {
    waiters: Vec<Waiter>,
    begun: Instant,
    /// What it finds is not kept.
    forgotten: bool,
}

/// The cache.
#[derive(Debug)]
pub struct Cache<V> {
    config: Config,
    answers: BTreeMap<Key, Answer<V>>,
    /// Those that end first come first.
    order: BTreeSet<(Instant, Key)>,
    bytes: usize,
    searches: BTreeMap<Key, Search>,
}

impl<V: Clone> Cache<V> {
    /// An empty one.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            answers: BTreeMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            searches: BTreeMap::new(),
        }
    }

    /// How many answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for a key.
    pub fn get(&mut self, now: Instant, key: Key, waiter: Waiter) -> Lookup<V> {
        self.handle_timeout(now);
        if let Some(answer) = self.answers.get(&key) {
            return answer.value.clone().map_or(Lookup::Absent, Lookup::Hit);
        }
        let room = self.searches.len() < self.config.searches_max;
        match self.searches.entry(key) {
            Entry::Vacant(_) if !room => Lookup::Busy,
            Entry::Vacant(search) => {
                search.insert(Search { waiters: vec![waiter], begun: now, forgotten: false });
                Lookup::Search
            }
            Entry::Occupied(mut search) => {
                let search = search.get_mut();
                if search.waiters.len() >= self.config.waiters_max {
                    return Lookup::Busy;
                }
                search.waiters.push(waiter);
                if now.saturating_duration_since(search.begun) < self.config.search_max {
                    return Lookup::Joined;
                }
                search.begun = now;
                Lookup::Search
            }
        }
    }

    /// Somebody who did not ask here has found something. It is of use to those who ask later.
    pub fn learn(&mut self, now: Instant, key: Key, found: Found<V>) {
        self.keep(now, key, found);
    }

    /// A search has ended. Gives those who wait for it, in the order in which they came.
    pub fn found(&mut self, now: Instant, key: Key, found: Found<V>) -> Vec<Waiter> {
        let search = self.searches.remove(&key);
        let forgotten = search.as_ref().is_some_and(|search| search.forgotten);
        if !forgotten {
            self.keep(now, key, found);
        }
        search.map_or_else(Vec::new, |search| search.waiters)
    }

    /// Keeps what is known from elsewhere: a value that this node has just written, for instance.
    pub fn keep(&mut self, now: Instant, key: Key, found: Found<V>) {
        let (value, len, ttl) = match found {
            Found::Value { value, len, ttl } => (Some(value), len, ttl.min(self.config.ttl)),
            Found::Nothing => (None, 0, self.config.negative_ttl),
            Found::Failed => return,
        };
        self.remove(&key);
        if len > self.config.bytes_max || self.config.count_max == 0 || ttl.is_zero() {
            return;
        }
        while self.answers.len() >= self.config.count_max
            || self.bytes + len > self.config.bytes_max
        {
            let Some((_, soonest)) = self.order.first().copied() else { break };
            self.remove(&soonest);
        }
        let until = now + ttl;
        self.order.insert((until, key));
        self.bytes += len;
        self.answers.insert(key, Answer { value, len, until });
    }

    /// Forgets what is known of a key, and what a search that is under way finds.
    pub fn forget(&mut self, key: &Key) {
        self.remove(key);
        if let Some(search) = self.searches.get_mut(key) {
            search.forgotten = true;
        }
    }

    /// Somebody does not wait any more. The search goes on.
    pub fn leave(&mut self, key: &Key, waiter: Waiter) {
        if let Some(search) = self.searches.get_mut(key) {
            search.waiters.retain(|waiting| *waiting != waiter);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(answer) = self.answers.remove(key) {
            self.order.remove(&(answer.until, *key));
            self.bytes = self.bytes.saturating_sub(answer.len);
        }
    }

    /// Lets go of what is not believed any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.first().copied() {
            if until > now {
                return;
            }
            self.remove(&key);
        }
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.order.first().map(|(until, _)| (*until, "expire"))
    }
}

#[cfg(test)]
mod tests;
