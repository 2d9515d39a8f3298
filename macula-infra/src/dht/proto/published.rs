//! What this node has put into the table itself, and sees to for as long as it is to last.
//!
//! Nodes come and go, so a record is stored anew now and then, as it is: the closest nodes of today
//! may not be those of yesterday. A provider is issued anew, before its short time is over, and
//! withdrawn when it stops. Signing is the caller's affair, and so is whether a put has reached
//! enough nodes; if not, it may [hurry](Published::hurry) the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;

use super::time::{Moment, jittered};
use crate::bounds::{Invalid, number, span};
use crate::dht::key::Key;
use crate::dht::provider::{self, Provider};
use crate::dht::record::{Signed, Verified};

/// How many deadlines one call of [`Published::handle_timeout`] sees to.
const DUE_MAX: usize = 64;

/// The bounds and times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// How many records and providers there may be together. 1 to 1,000,000.
    pub count_max: usize,
    /// How often a record is stored anew. 1 min to 7 d.
    pub record_every: Duration,
    /// After which part of its time a provider is issued anew. 0.1 to 0.75.
    pub provider_part: f64,
    /// By which part both are longer or shorter, by chance. 0.0 to 0.25, so that no provider is
    /// issued too late.
    pub jitter: f64,
}

impl Default for Config {
    /// 4,096; records every 12 hours, providers after half of their time; give or take a tenth.
    fn default() -> Self {
        Self {
            count_max: 4096,
            record_every: Duration::from_secs(12 * 3600),
            provider_part: 0.5,
            jitter: 0.1,
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
        number("published.count_max", self.count_max, 1, 1_000_000)?;
        span("published.record_every", self.record_every, second, week)?;
        number("published.provider_part", self.provider_part, 0.1, 0.75)?;
        number("published.jitter", self.jitter, 0.0, 0.25)
    }
}

/// There are as many as there may be. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} records and providers are published, and there may be no more")]
pub struct Full {
    /// How many there may be.
    pub max: usize,
}

/// What is published under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A record.
    Record(Key),
    /// This node, as a provider.
    Provider(Key),
}

#[derive(Debug)]
enum Item {
    Record { signed: Signed, until: Instant },
    Provider { provider: Provider, ttl: Duration, signed: Option<provider::Signed> },
}

/// Something that is published, as it was signed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issued {
    /// A record.
    Record(Signed),
    /// This node, as a provider.
    Provider(provider::Signed),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Store a record anew.
    Store {
        /// Under which key.
        key: Key,
        /// The record.
        record: Signed,
    },
    /// Sign a provider and issue it.
    Issue {
        /// Under which key.
        key: Key,
        /// The provider, with its new times.
        provider: Provider,
    },
}

/// What this node has published.
#[derive(Debug)]
pub struct Published {
    config: Config,
    entropy: Entropy,
    items: BTreeMap<Place, Item>,
    timers: Deadlines<Place>,
    out: VecDeque<Output>,
}

impl Published {
    /// Nothing yet.
    #[must_use]
    pub const fn new(config: Config, entropy: Entropy) -> Self {
        Self {
            config,
            entropy,
            items: BTreeMap::new(),
            timers: Deadlines::new(),
            out: VecDeque::new(),
        }
    }

    /// How many records and providers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sees to a record that was just put, in the place of an older one; until it ends.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn record(&mut self, at: Moment, record: &Verified) -> Result<(), Full> {
        let place = Place::Record(record.key());
        let Some(until) = at.deadline(record.record().expires_at) else { return Ok(()) };
        self.insert(place, Item::Record { signed: record.signed().clone(), until })?;
        self.schedule(at.now, place);
        Ok(())
    }

    /// Provides something for as long as it is not [withdrawn](Self::withdraw); the first issue is
    /// to be made at once, and lasts for `ttl` like each.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn provide(&mut self, at: Moment, provider: Provider, ttl: Duration) -> Result<(), Full> {
        let place = Place::Provider(provider.key());
        self.insert(place, Item::Provider { provider, ttl, signed: None })?;
        self.again(at, place);
        Ok(())
    }

    fn insert(&mut self, place: Place, item: Item) -> Result<(), Full> {
        let max = self.config.count_max;
        if self.items.len() >= max && !self.items.contains_key(&place) {
            return Err(Full { max });
        }
        // A newer issue than the last one, if the calendar was put back.
        let item = match (item, self.items.get(&place)) {
            (
                Item::Provider { mut provider, ttl, signed },
                Some(Item::Provider { provider: old, .. }),
            ) => {
                provider.issued_at = old.issued_at;
                Item::Provider { provider, ttl, signed }
            }
            (item, _) => item,
        };
        self.items.insert(place, item);
        Ok(())
    }

    /// A provider was signed, with the times that were asked for last.
    pub fn signed(&mut self, key: Key, issued: &provider::Signed) {
        if let Some(Item::Provider { signed, .. }) = self.items.get_mut(&Place::Provider(key)) {
            *signed = Some(issued.clone());
        }
    }

    /// All that is published and lasts, as it was signed last.
    pub fn issued(&self, now: Instant) -> impl Iterator<Item = (Key, Issued)> {
        self.items.iter().filter_map(move |(place, item)| match (place, item) {
            (Place::Record(key), Item::Record { signed, until }) if *until > now => {
                Some((*key, Issued::Record(signed.clone())))
            }
            (Place::Provider(key), Item::Provider { signed, .. }) => {
                Some((*key, Issued::Provider(signed.clone()?)))
            }
            (Place::Record(_) | Place::Provider(_), _) => None,
        })
    }

    /// Does not see to a record any more. The nodes that keep it do so until it ends.
    pub fn forget(&mut self, key: Key) {
        self.items.remove(&Place::Record(key));
        self.timers.clear(Place::Record(key));
    }

    /// Stops providing. Gives the withdrawal, for the caller to sign and to issue.
    pub fn withdraw(&mut self, at: Moment, key: Key) -> Option<Provider> {
        let place = Place::Provider(key);
        self.timers.clear(place);
        match self.items.remove(&place)? {
            Item::Provider { provider, .. } => Some(provider.withdrawal(whole(at.since_epoch))),
            Item::Record { .. } => None,
        }
    }

    /// Stores or issues something anew after `wait` at the latest: the last time has failed.
    pub fn hurry(&mut self, now: Instant, place: Place, wait: Duration) {
        let at = now + wait;
        if self.timers.get(place).is_some_and(|due| due > at) {
            self.timers.set(place, at);
        }
    }

    /// Stores and issues everything anew after `wait` at the latest, one thing after the other.
    pub fn hurry_all(&mut self, now: Instant, wait: Duration) {
        let places: Vec<Place> = self.items.keys().copied().collect();
        for place in places {
            let share = 0.5 + 0.5 * self.entropy.unit();
            self.hurry(now, place, wait.mul_f64(share));
        }
    }

    fn again(&mut self, at: Moment, place: Place) {
        let output = match (place, self.items.get_mut(&place)) {
            (Place::Record(key), Some(Item::Record { signed, until })) if *until > at.now => {
                Output::Store { key, record: signed.clone() }
            }
            (Place::Provider(key), Some(Item::Provider { provider, ttl, .. })) => {
                let newer = provider.issued_at + Duration::from_millis(1);
                provider.issued_at = whole(at.since_epoch).max(newer);
                provider.expires_at = provider.issued_at + *ttl;
                Output::Issue { key, provider: provider.clone() }
            }
            _ => {
                self.items.remove(&place);
                return;
            }
        };
        self.out.push_back(output);
        self.schedule(at.now, place);
    }

    fn schedule(&mut self, now: Instant, place: Place) {
        let wait = match self.items.get(&place) {
            Some(Item::Record { .. }) => self.config.record_every,
            Some(Item::Provider { ttl, .. }) => {
                ttl.mul_f64(self.config.provider_part.clamp(0.0, 1.0))
            }
            None => return,
        };
        let wait = jittered(wait, self.config.jitter, &mut self.entropy);
        self.timers.set(place, now + wait.max(Duration::from_millis(1)));
    }

    /// Does what was due.
    pub fn handle_timeout(&mut self, at: Moment) {
        for _ in 0..DUE_MAX {
            let Some(place) = self.timers.due(at.now) else { return };
            self.again(at, place);
        }
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, _)| (at, "republish"))
    }
}

/// A moment in whole milliseconds, as it travels.
fn whole(since_epoch: Duration) -> Duration {
    Duration::from_millis(crate::dht::rules::millis(since_epoch))
}

#[cfg(test)]
mod tests;
