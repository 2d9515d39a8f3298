//! The table as one node has it: all parts of it in one machine.
//!
//! Whoever wants something gives a [`Command`] and gets one [`Answer`] or one [`Failure`], by its
//! deadline. A command becomes a search: a [lookup](super::lookup) whose steps are
//! [requests](super::requests) to other nodes. A put then stores with the nodes that were found, and
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
mod bug;
mod config;
mod machine;
mod searches;
mod serving;
mod storing;
mod votes;
mod welcome;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::cache::Cache;
use super::density::Estimator;
use super::limits::{self, Limits};
use super::peer::Peer;
use super::providers::Providers;
use super::published::Published;
use super::records::Records;
use super::requests::{Requests, Ticket};
use super::table::{self, Table};
use super::time::Moment;
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::rules::Rules;
use crate::dht::wire::Refusal;

pub use api::{
    Answer, Command, CommandId, Failure, Got, Input, Mode, Output, Providing, Quorum, Side, Stats,
    Stored, Told,
};
pub use config::Config;

pub use bug::Bug;

use searches::{Search, SearchId};

/// How many searches are under way at most; more are refused as busy.
pub const SEARCHES_MAX: usize = 4_096;

/// How many outputs wait at most before outputs for others' sake are left out.
const OUTPUTS_MAX: usize = 65_536;

/// How long a search may take that nobody has asked for.
const UPKEEP_WITHIN: Duration = Duration::from_secs(30);

/// How long a node takes at most to fill its table once it knows one other.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// After how long something is issued anew that fewer nodes have taken than were to.
const REISSUE_AFTER: Duration = Duration::from_secs(15);

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
    /// What a liar of a test answers instead of the truth.
    #[cfg(test)]
    lies: tests::Lies,
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
            #[cfg(test)]
            lies: tests::Lies::default(),
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

    /// Goes on after the requests of an earlier life: the first has this number.
    pub const fn resume(&mut self, next: super::requests::RequestId) {
        self.requests.resume(next);
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

    /// A peer has taken part in an exchange that proves who it is. Whoever enters the table by it is
    /// welcomed, and so is one whose life has `begun`.
    fn met(&mut self, now: Instant, peer: &Peer, begun: bool) {
        if self.limits.ignored(now, peer.node()).is_some() {
            return;
        }
        let entered = self.table.seen(now, peer) == table::Standing::Entered;
        if entered || begun {
            self.welcome(now, peer);
        }
        if entered && !self.joined {
            self.joined = true;
            self.refresh(now, self.own.key());
            self.table.refresh_all(now);
            // What was published by a node alone is kept by nobody else.
            self.published.hurry_all(now, SETTLED_WITHIN);
        }
    }

    fn blame(&mut self, now: Instant, peer: NodeId, offence: limits::Offence) {
        self.stats.blamed += u64::from(offence.is_deliberate());
        if self.limits.blame(now, peer, offence) {
            self.table.forget(&Peer::new(Contact::new(peer, [])));
        }
        self.say(Output::Misbehaved { peer, offence });
    }

    /// Does not take what a peer has handed over.
    fn refuse(&mut self, peer: NodeId, side: Side, refusal: Refusal) {
        self.stats.refused += 1;
        self.say(Output::Refused { peer, side, refusal });
    }

    fn say(&mut self, output: Output) {
        self.out.push_back(output);
    }
}
