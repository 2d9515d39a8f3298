//! What a node does in elections: takes part, looks on, asks others to resign.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::candidacy::Candidacy;
use super::config::Options;
use super::driver::{Ground, drive};
use super::error::Error;
use super::leadership::Token;
use super::limits::{CANDIDACIES_MAX, PREFIX};
use super::metrics;
use super::name::{self, Claim};
use super::observation::{Observation, Page};
use super::proto::{Bug, Config};
use super::seat::Seat;
use crate::kv::command::{Condition, Holds, Op, Txn};
use crate::kv::state::after_prefix;
use crate::kv::{Kv, Level};
use crate::raft::timer::Timer;

/// How many elections one page has at most.
const PAGE_MAX: usize = 1_000;

/// What elections are made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// The keys and values of the group.
    pub kv: Kv,
    /// The clock by which this node leads.
    pub timer: Arc<dyn Timer>,
    /// What waits are drawn from.
    pub seed: u64,
}

/// The elections of the group, from one node. Clones are the same.
///
/// Candidacies are looked after by the [actor](super::actor) `election`: without one that runs, nobody is
/// elected here.
#[derive(Debug, Clone)]
pub struct Elections(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ground: Ground,
    bug: Option<Bug>,
    entropy: Mutex<Entropy>,
    seats: Mutex<BTreeMap<u64, Arc<Seat>>>,
    /// The number of the last candidacy.
    newest: watch::Sender<u64>,
    #[cfg(test)]
    gate: super::tests::pause::Gate,
}

impl Elections {
    /// All elections.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self::with(parts, None)
    }

    /// As [`new`](Self::new), with something wrong on purpose.
    fn with(parts: Parts, bug: Option<Bug>) -> Self {
        let Parts { node, kv, timer, seed } = parts;
        let ground = Ground { kv, timer, claim: Claim::of(node) };
        let entropy = Mutex::new(Entropy::from_seed(seed));
        let (seats, newest) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Inner {
            ground,
            bug,
            entropy,
            seats,
            newest,
            #[cfg(test)]
            gate: super::tests::pause::Gate::default(),
        }))
    }

    /// Takes part in an election, until what is given is dropped or resigns. A node may take part in one
    /// election more than once.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], [`Error::Ttl`], [`Error::TooMany`].
    pub fn campaign(&self, name: &str, options: Options) -> Result<Candidacy, Error> {
        self.check(name, options)?;
        let seat = Arc::new(Seat::new(name.into(), options));
        let mut seats = self.0.seats.lock();
        if seats.len() >= CANDIDACIES_MAX {
            return Err(Error::TooMany(seats.len()));
        }
        let id = *self.0.newest.borrow() + 1;
        seats.insert(id, Arc::clone(&seat));
        ::metrics::gauge!(metrics::CANDIDACIES).increment(1.0);
        drop(seats);
        self.0.newest.send_modify(|newest| *newest = id.max(*newest));
        Ok(Candidacy::new(seat, self.0.config(options)))
    }

    /// Who leads an election, as it changes.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    pub fn observe(&self, name: &str) -> Result<Observation, Error> {
        name::check(name)?;
        Ok(Observation::new(self.0.ground.kv.clone(), name::key(name)))
    }

    /// The elections in which somebody leads, in the order of their names, from after one on.
    ///
    /// # Errors
    ///
    /// [`Error::Kv`].
    pub async fn list(&self, after: Option<&str>) -> Result<Page, Error> {
        let from = after.map_or_else(
            || Bytes::from_static(PREFIX.as_bytes()),
            |name| Bytes::from([PREFIX.as_bytes(), name.as_bytes(), &[0]].concat()),
        );
        let to = after_prefix(PREFIX.as_bytes());
        let page = self.0.ground.kv.range(from, to, PAGE_MAX, Level::Linearizable).await?;
        let named = page.items.iter().filter_map(|(key, item)| {
            let name = key.strip_prefix(PREFIX.as_bytes())?;
            Some((String::from_utf8(name.to_vec()).ok()?, name::leader(item)?))
        });
        Ok(Page { elections: named.collect(), has_more: page.has_more })
    }

    /// Asks whoever leads an election to resign, on whatever node it is. Gives the token that was asked;
    /// none if nobody leads. It resigns in its own time, and [observers](Self::observe) see it.
    ///
    /// # Errors
    ///
    /// [`Error::Name`], [`Error::Kv`].
    pub async fn resign(&self, name: &str) -> Result<Option<Token>, Error> {
        name::check(name)?;
        let key = name::key(name);
        let Some(item) = self.0.ground.kv.get(key.clone()).await? else { return Ok(None) };
        let Some(claim) = Claim::read(&item.value) else { return Ok(None) };
        let value = claim.asked_to_resign().write();
        let holds = Holds::CreatedAt(item.created);
        let conditions = vec![Condition { key: key.clone(), holds }];
        let then = vec![Op::Put { key, value, lease: item.lease }];
        let done = self.0.ground.kv.txn(Txn { conditions, then, otherwise: Vec::new() }).await?;
        Ok(done.held.then_some(Token(item.created)))
    }

    /// Looks after all candidacies, until one of those who do so fails. The caller's drop deposes all.
    pub(super) async fn look_after(&self) {
        let mut newest = self.0.newest.subscribe();
        newest.mark_changed();
        let mut looked_after = 0;
        let mut drivers = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                changed = newest.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(ended) = drivers.join_next() => match ended {
                    Ok(id) => {
                        drop(self.0.seats.lock().remove(&id));
                        ::metrics::gauge!(metrics::CANDIDACIES).decrement(1.0);
                    }
                    Err(_panic) => return,
                },
            }
            let new: Vec<(u64, Arc<Seat>)> = {
                let seats = self.0.seats.lock();
                let new = seats.range(looked_after + 1..);
                new.map(|(id, seat)| (*id, Arc::clone(seat))).collect()
            };
            for (id, seat) in new {
                looked_after = id;
                drop(drivers.spawn(self.driver(id, seat)));
            }
        }
    }

    /// Whether a candidacy could be had.
    pub(crate) fn check(&self, name: &str, options: Options) -> Result<(), Error> {
        name::check(name)?;
        options.check()
    }

    /// A part of what runs on this node. Tests stop the node with all its parts.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(crate) fn part<F: Future>(&self, part: F) -> F {
        part
    }

    #[cfg(test)]
    pub(crate) fn part<F: Future + Send>(
        &self,
        part: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        self.0.gate.part(part)
    }

    /// What stops this node with all its parts.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> &super::tests::pause::Gate {
        &self.0.gate
    }

    /// Under which tokens it leads now, whatever.
    #[cfg(test)]
    pub(crate) fn leads(&self) -> Vec<Token> {
        let seats = self.0.seats.lock();
        seats.values().filter_map(|seat| seat.check()?.ok()).collect()
    }

    /// The keys and values of its group.
    #[cfg(test)]
    pub(crate) fn kv(&self) -> &Kv {
        &self.0.ground.kv
    }

    /// With something wrong on purpose.
    #[cfg(test)]
    pub(super) fn planted(parts: Parts, bug: Option<Bug>) -> Self {
        Self::with(parts, bug)
    }

    fn driver(&self, id: u64, seat: Arc<Seat>) -> impl Future<Output = u64> + Send + use<> {
        let (config, entropy) = (self.0.config(seat.options), self.0.entropy.lock().fork());
        let ground = self.0.ground.clone();
        let driven = drive(seat, ground, config, entropy);
        let driven = self.part(driven);
        async move {
            driven.await;
            id
        }
    }
}

impl Inner {
    const fn config(&self, options: Options) -> Config {
        Config { ttl: options.ttl(), bug: self.bug }
    }
}
