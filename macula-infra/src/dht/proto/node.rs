//! The table as one node has it: all parts of it in one machine.
//!
//! Whoever wants something gives a [`Command`] and gets one [`Answer`] or one [`Failure`], by its
//! deadline. A command becomes a search: a [lookup] whose steps are
//! [requests] to other nodes. A put then stores with the nodes that were found, and
//! says of each what became of it. Nothing is sent without waiting for its answer, not even what
//! nobody asked for: replication, repair and refresh are searches and requests like all others.
//!
//! # Reading
//!
//! Of the records that are found the one with the greatest sequence number counts; among those with
//! one sequence number the one that most nodes have. The answer says how many agree on it. Those of
//! the closest nodes that have an older one, or none, are given it.
//!
//! # Storing
//!
//! A record goes to the k closest nodes, this one among them if it is, and to more of them where
//! somebody seems to have [made nodes](super::density) for the place.

mod api;
mod machine;
mod searches;
mod serving;
mod storing;
mod votes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::cache::{self, Cache};
use super::density::Estimator;
use super::limits::{self, Limits};
use super::lookup;
use super::peer::Peer;
use super::providers::{self, Providers};
use super::published::{self, Published};
use super::records::{self, Records};
use super::requests::{self, Requests, Ticket};
use super::table::{self, Table};
use super::time::Moment;
use crate::contact::Contact;
use crate::dht::key::{Distance, Key};
use crate::dht::rules::Rules;

pub use api::{
    Answer, Command, CommandId, Failure, Got, Input, Mode, Output, Providing, Quorum, Stats,
    Stored, Told,
};

use searches::{Search, SearchId};

/// How many searches are under way at most; more are refused as busy.
pub const SEARCHES_MAX: usize = 4_096;

/// How many outputs wait at most before outputs for others' sake are left out.
const OUTPUTS_MAX: usize = 65_536;

/// How long a search may take that nobody has asked for.
const UPKEEP_WITHIN: Duration = Duration::from_secs(30);

/// How many pages of records a newcomer is given at most.
const PAGES_MAX: usize = 16;

/// The settings of the parts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The routing table.
    pub table: table::Config,
    /// Lookups.
    pub lookup: lookup::Config,
    /// Requests to others.
    pub requests: requests::Config,
    /// The records that are kept for others.
    pub records: records::Config,
    /// The providers that are kept for others.
    pub providers: providers::Config,
    /// What this node publishes.
    pub published: published::Config,
    /// What others may ask.
    pub limits: limits::Config,
    /// Answers that are remembered.
    pub cache: cache::Config,
    /// How many nodes have to agree on a value before a search for it ends early. 1 to 20.
    pub agree: usize,
}

impl Default for Config {
    /// The defaults of the parts, but that lookups are [guarded](lookup::Config::guarded). One node
    /// is enough to agree on a value.
    fn default() -> Self {
        Self {
            table: table::Config::default(),
            lookup: lookup::Config::guarded(),
            requests: requests::Config::default(),
            records: records::Config::default(),
            providers: providers::Config::default(),
            published: published::Config::default(),
            limits: limits::Config::default(),
            cache: cache::Config::default(),
            agree: 1,
        }
    }
}

/// What an operation under way is for.
#[derive(Debug)]
enum Purpose {
    /// A step of a search's lookup.
    Step(SearchId),
    /// The second half of a search that stores.
    Store(SearchId),
    /// A sign of life, for the table.
    Question,
    /// A record for a node that should have it.
    Repair,
}

#[derive(Debug)]
struct UnderWay {
    peer: Peer,
    purpose: Purpose,
}

/// The table of one node.
#[derive(Debug)]
pub struct Node {
    own: Peer,
    mode: Mode,
    rules: Arc<Rules>,
    config: Config,
    /// One moment on both clocks, from which the others follow.
    calendar: Moment,
    table: Table,
    requests: Requests,
    records: Records,
    providers: Providers,
    published: Published,
    limits: Limits,
    cache: Cache<Got>,
    estimator: Estimator,
    searches: BTreeMap<SearchId, Search>,
    /// When the lookups of searches have to be woken.
    alarms: Deadlines<SearchId>,
    under_way: BTreeMap<Ticket, UnderWay>,
    /// Which search a command waits for.
    commands: BTreeMap<CommandId, SearchId>,
    /// Who waits for the first issue of a provider, by its key.
    issues: BTreeMap<Key, Issue>,
    next_search: u64,
    /// Whether the own key was looked up since there was somebody to ask.
    joined: bool,
    out: VecDeque<Output>,
    stats: Stats,
}

/// A provider that is being signed.
#[derive(Debug, Clone, Copy)]
struct Issue {
    command: CommandId,
    quorum: Quorum,
    deadline: Instant,
}

impl Node {
    /// A node that knows nobody.
    #[must_use]
    pub fn new(
        at: Moment,
        own: Contact,
        mode: Mode,
        rules: Arc<Rules>,
        config: Config,
        mut entropy: Entropy,
    ) -> Self {
        let own = Peer::new(own);
        let key = own.key();
        Self {
            own,
            mode,
            rules,
            calendar: at,
            table: Table::new(at.now, key, config.table.clone(), entropy.fork()),
            requests: Requests::new(config.requests),
            records: Records::new(key, config.records, entropy.fork()),
            providers: Providers::new(key, config.providers, entropy.fork()),
            published: Published::new(config.published, entropy.fork()),
            limits: Limits::new(config.limits),
            cache: Cache::new(config.cache),
            estimator: Estimator::default(),
            searches: BTreeMap::new(),
            alarms: Deadlines::new(),
            under_way: BTreeMap::new(),
            commands: BTreeMap::new(),
            issues: BTreeMap::new(),
            next_search: 0,
            joined: false,
            out: VecDeque::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// The routing table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Takes back the table that an earlier life has saved.
    pub fn restore(&mut self, now: Instant, snapshot: &table::Snapshot) {
        self.table.restore(now, snapshot);
    }

    /// How things stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            table: self.table.stats(),
            requests: self.requests.stats(),
            records: self.records.len(),
            record_bytes: self.records.bytes(),
            providers: self.providers.len(),
            searches: self.searches.len(),
            cached: self.cache.len(),
            population: self.estimator.population(),
            ..self.stats
        }
    }

    fn moment(&self, now: Instant) -> Moment {
        let passed = now.saturating_duration_since(self.calendar.now);
        Moment { now, since_epoch: self.calendar.since_epoch + passed }
    }

    /// A peer has taken part in an exchange that proves who it is.
    fn met(&mut self, now: Instant, peer: &Peer) {
        if self.limits.ignored(now, peer.node()).is_some() {
            return;
        }
        if self.table.seen(now, peer) == table::Standing::Entered {
            self.welcome(now, peer);
            if !self.joined {
                self.joined = true;
                self.refresh(now, self.own.key());
                self.table.refresh_all(now);
            }
        }
    }

    /// Gives a newcomer the records that belong to it now, if this node is the closest of those who
    /// have them.
    fn welcome(&mut self, now: Instant, newcomer: &Peer) {
        let (k, own, table) = (self.config.table.k, self.own.key(), &self.table);
        let mut keys = Vec::new();
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.records.replicate_to(now, &newcomer.key(), after, |key| {
                let closest = table.closest(*key, k + 1);
                let mut others = closest.iter().filter(|peer| peer.node() != newcomer.node());
                let nearer = others.clone().next();
                let mine = key.distance(&own);
                let is_mine = nearer.is_none_or(|peer| mine < key.distance(&peer.key()));
                // This node is one of the k.
                let kth = others.nth(k.saturating_sub(2)).map(|peer| key.distance(&peer.key()));
                if is_mine { kth } else { Some(Distance::ZERO) }
            });
            keys.extend(page.keys);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for key in keys {
            self.repair(now, newcomer, key);
        }
    }

    fn blame(&mut self, now: Instant, peer: NodeId, offence: limits::Offence) {
        self.stats.blamed += 1;
        if self.limits.blame(now, peer, offence) {
            self.table.forget(&Peer::new(Contact::new(peer, [])));
        }
        self.say(Output::Misbehaved { peer, offence });
    }

    fn say(&mut self, output: Output) {
        self.out.push_back(output);
    }
}
