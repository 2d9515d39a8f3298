//! A node of the simulated mesh: a table, its lookups, and the simplest of protocols.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::machine::Machine;
use macula_core::sim::{self, Address, Effect, Moment};
use macula_core::wire::{EncodeError, HEADER_LEN};

use super::oracle::Oracle;
use crate::dht::key::Key;
use crate::dht::proto::density::Estimator;
use crate::dht::proto::lookup::{self, Lookup, Outcome};
use crate::dht::proto::node;
use crate::dht::proto::peer::Peer;
use crate::dht::proto::table::{self, Table};
use crate::dht::wire::{Op, OpResult, Reply, Request};

/// After which time a request counts as slow.
const SLOW_AFTER: Duration = Duration::from_millis(200);

/// After which time it has failed.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How many peers an answer names.
const K: usize = 20;

/// What a node does when it is asked for closer ones.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// It names the closest ones that it knows.
    Honest,
    /// It names the closest of its accomplices, and nobody else.
    Colludes(Arc<Oracle>),
    /// It names anybody.
    Scatters(Arc<Oracle>),
}

/// What travels between nodes.
#[derive(Debug, Clone, Hash)]
pub enum Message {
    /// A request: who are the closest to a key? Without a key, it asks for a sign of life only.
    Find {
        /// Which request.
        id: u64,
        /// Whose.
        sender: Peer,
        /// Who is meant: nobody else answers, as nobody else could be dialled.
        receiver: Peer,
        /// The key.
        target: Option<Key>,
    },
    /// The answer.
    Nodes {
        /// To which request.
        id: u64,
        /// Whom it names.
        peers: Vec<Peer>,
    },
}

/// What can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// It joins through another.
    Join(Peer),
    /// It looks a key up.
    Lookup(Key),
    /// A message has arrived.
    Received(Address, Message),
}

/// What a node does.
#[derive(Debug)]
pub enum Output {
    /// A message leaves.
    Send(Address, Message),
    /// A lookup of [`Input::Lookup`] is over.
    Done(Found),
}

/// What a lookup has found, and what it sent and received for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// What it has found.
    pub outcome: Outcome,
    /// The bytes of its requests and their answers, as frames: what QUIC adds is not among them.
    pub bytes: usize,
}

/// How nodes of a mesh are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Their tables.
    pub table: table::Config,
    /// Their lookups.
    pub lookup: lookup::Config,
    /// Whether lookups are judged by the estimated population.
    pub judges: bool,
    /// Whether a node that joins refreshes all buckets at once, as the paper has it.
    pub refreshes: bool,
}

impl Default for Settings {
    /// Those of a real node.
    fn default() -> Self {
        let node::Config { table, lookup, .. } = node::Config::default();
        Self { table, lookup, judges: true, refreshes: true }
    }
}

/// Why a lookup is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Joining,
    Refresh,
    Asked,
}

/// A lookup that is under way.
#[derive(Debug)]
struct Search {
    why: Why,
    lookup: Lookup,
    /// Its bytes, if somebody asked for it.
    bytes: usize,
}

impl Search {
    /// Counts a frame. Only who asked wants to know, and encoding takes time.
    fn count(&mut self, body: impl FnOnce() -> Result<Bytes, EncodeError>) {
        if self.why == Why::Asked {
            self.bytes += HEADER_LEN + body().map_or(0, |body| body.len());
        }
    }
}

/// A request that is under way.
#[derive(Debug)]
struct Pending {
    peer: Peer,
    /// For which lookup; none for a question of the table.
    lookup: Option<u64>,
    /// When something is to be done about it.
    due: Instant,
    is_slow: bool,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    own: Peer,
    settings: Arc<Settings>,
    behaviour: Behaviour,
    entropy: Entropy,
    table: Table,
    estimator: Estimator,
    lookups: BTreeMap<u64, Search>,
    pending: BTreeMap<u64, Pending>,
    numbers: u64,
    has_joined: bool,
    out: VecDeque<Output>,
    #[cfg(test)]
    pub(in crate::dht) bug: Option<crate::dht::proto::tests::Bug>,
}

impl Node {
    /// A node that has not joined.
    #[must_use]
    pub fn new(
        now: Instant,
        own: Peer,
        settings: Arc<Settings>,
        behaviour: Behaviour,
        mut entropy: Entropy,
    ) -> Self {
        let table = Table::new(now, own.key(), settings.table.clone(), entropy.fork());
        Self {
            own,
            settings,
            behaviour,
            entropy,
            table,
            estimator: Estimator::default(),
            lookups: BTreeMap::new(),
            pending: BTreeMap::new(),
            numbers: 0,
            has_joined: false,
            out: VecDeque::new(),
            #[cfg(test)]
            bug: None,
        }
    }

    /// Where it is, and who it is.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.own
    }

    /// Its table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// How many nodes it believes there are.
    #[must_use]
    pub fn population(&self) -> Option<f64> {
        self.estimator.population()
    }

    /// Whether its first lookup is over.
    #[must_use]
    pub const fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// The memory that it holds, in bytes, with its own contact.
    #[must_use]
    pub fn memory(&self) -> usize {
        let lookups = self.lookups.len() * size_of::<(u64, Search)>();
        let pending = self.pending.len() * size_of::<(u64, Pending)>();
        // The contact: key, id and the list of addresses, which all tables share.
        let addresses = size_of_val(self.own.contact().addresses.as_slice());
        let own = size_of::<Key>() + size_of::<crate::contact::Contact>() + addresses;
        size_of::<Self>() - size_of::<Table>() + self.table.memory() + lookups + pending + own
    }

    fn next(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn start(&mut self, now: Instant, why: Why, target: Key, seeds: &[Peer]) {
        self.table.looked_up(now, target);
        let mut config = self.settings.lookup.clone();
        config.population = self.estimator.population().filter(|_| self.settings.judges);
        let lookup = self.make(now, target, seeds, config);
        let id = self.next();
        self.lookups.insert(id, Search { why, lookup, bytes: 0 });
        self.serve(now, id);
    }

    #[cfg(not(test))]
    fn make(&self, now: Instant, target: Key, seeds: &[Peer], config: lookup::Config) -> Lookup {
        Lookup::new(now, self.own.key(), target, seeds, config)
    }

    #[cfg(test)]
    fn make(
        &mut self,
        now: Instant,
        target: Key,
        seeds: &[Peer],
        config: lookup::Config,
    ) -> Lookup {
        self.table.bug = self.bug;
        let mut lookup = Lookup::idle(now, self.own.key(), target, config);
        lookup.bug = self.bug;
        lookup.seed(seeds);
        lookup.step();
        lookup
    }

    /// Does what a lookup wants done.
    fn serve(&mut self, now: Instant, id: u64) {
        loop {
            let Some(search) = self.lookups.get_mut(&id) else { return };
            let target = search.lookup.target();
            match search.lookup.poll_output() {
                None => return,
                Some(lookup::Output::Ask { peer, .. }) => {
                    search.count(|| Request { ops: vec![Op::FindNode { target }] }.encode());
                    self.ask(now, peer, Some(id), Some(target));
                }
                Some(lookup::Output::Done(outcome)) => {
                    let (why, bytes) = (search.why, search.bytes);
                    self.lookups.remove(&id);
                    return self.done(now, why, target, Found { outcome, bytes });
                }
            }
        }
    }

    fn done(&mut self, now: Instant, why: Why, target: Key, found: Found) {
        self.estimator.add(&target, &found.outcome.closest, self.settings.lookup.k);
        match why {
            Why::Asked => self.out.push_back(Output::Done(found)),
            Why::Refresh => {}
            Why::Joining => {
                self.has_joined = true;
                if self.settings.refreshes {
                    self.table.refresh_all(now);
                }
            }
        }
    }

    fn ask(&mut self, now: Instant, peer: Peer, lookup: Option<u64>, target: Option<Key>) {
        let Some(to) = address_of(&peer) else { return };
        let id = self.next();
        let find = Message::Find { id, sender: self.own.clone(), receiver: peer.clone(), target };
        self.out.push_back(Output::Send(to, find));
        let due = now + SLOW_AFTER;
        self.pending.insert(id, Pending { peer, lookup, due, is_slow: false });
    }

    /// Does what the table wants done.
    fn serve_table(&mut self, now: Instant) {
        while let Some(output) = self.table.poll_output() {
            match output {
                table::Output::Question { peer } => self.ask(now, peer, None, None),
                table::Output::Refresh { key } => {
                    let seeds = self.table.seeds(key, self.settings.lookup.k);
                    self.start(now, Why::Refresh, key, &seeds);
                }
            }
        }
    }

    fn tell(&mut self, now: Instant, lookup: Option<u64>, input: lookup::Input) {
        let Some(id) = lookup else { return };
        if let Some(search) = self.lookups.get_mut(&id) {
            if let lookup::Input::Answered { peers, .. } = &input {
                search.count(|| reply(peers).encode());
            }
            search.lookup.handle(now, input);
            self.serve(now, id);
        }
    }

    fn received(&mut self, now: Instant, from: Address, message: Message) {
        match message {
            Message::Find { receiver, .. } if receiver.node() != self.own.node() => {}
            Message::Find { id, sender, target, .. } => {
                // The transport has proved who the sender is; this checks where.
                if address_of(&sender) == Some(from) {
                    self.table.seen(now, &sender);
                }
                let peers = target.map_or_else(Vec::new, |target| self.name(target));
                self.out.push_back(Output::Send(from, Message::Nodes { id, peers }));
            }
            Message::Nodes { id, peers } => {
                let Some(pending) = self.pending.remove(&id) else { return };
                self.table.seen(now, &pending.peer);
                let node = pending.peer.node();
                let answered = lookup::Input::Answered { node, peers, found: false };
                self.tell(now, pending.lookup, answered);
            }
        }
    }

    /// Whom it names when it is asked.
    fn name(&mut self, target: Key) -> Vec<Peer> {
        match &self.behaviour {
            Behaviour::Honest => self.table.closest(target, K),
            Behaviour::Colludes(with) => with.closest(target, K),
            Behaviour::Scatters(among) => {
                let count = u64::try_from(among.peers().len()).unwrap_or(u64::MAX);
                let mut any = || usize::try_from(self.entropy.below(count)).unwrap_or(0);
                (0..K).filter_map(|_| among.peers().get(any()).cloned()).collect()
            }
        }
    }

    /// One request is slow, or has failed.
    fn overdue(&mut self, now: Instant, id: u64) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let (lookup, node) = (pending.lookup, pending.peer.node());
        if !pending.is_slow {
            pending.is_slow = true;
            pending.due += TIMEOUT.saturating_sub(SLOW_AFTER);
            return self.tell(now, lookup, lookup::Input::Slow { node });
        }
        if let Some(pending) = self.pending.remove(&id) {
            self.table.failed(now, &pending.peer);
            self.tell(now, lookup, lookup::Input::Failed { node });
        }
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Join(peer) => self.start(now, Why::Joining, self.own.key(), &[peer]),
            Input::Lookup(key) => {
                let seeds = self.table.seeds(key, self.settings.lookup.k);
                self.start(now, Why::Asked, key, &seeds);
            }
            Input::Received(from, message) => self.received(now, from, message),
        }
        self.serve_table(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due = |(id, pending): (&u64, &Pending)| (pending.due <= now).then_some(*id);
        let overdue: Vec<u64> = self.pending.iter().filter_map(due).collect();
        for id in overdue {
            self.overdue(now, id);
        }
        let ids: Vec<u64> = self.lookups.keys().copied().collect();
        for id in ids {
            if let Some(search) = self.lookups.get_mut(&id) {
                search.lookup.handle_timeout(now);
                self.serve(now, id);
            }
        }
        self.table.handle_timeout(now);
        self.serve_table(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let request = self.pending.values().map(|pending| (pending.due, "request")).min();
        let lookups = self.lookups.values().filter_map(|search| search.lookup.poll_timeout()).min();
        [request, lookups, self.table.poll_timeout()].into_iter().flatten().min()
    }
}

/// How nodes meet the simulated network.
#[derive(Debug)]
pub struct Wiring;

impl sim::Node for Wiring {
    type Machine = Node;
    type Message = Message;
    type Seen = Found;

    fn received(from: Address, message: Message, _moment: Moment) -> Input {
        Input::Received(from, message)
    }

    fn effect(output: Output) -> Effect<Message, Found> {
        match output {
            Output::Send(to, message) => Effect::Send(to, message),
            Output::Done(found) => Effect::Seen(found),
        }
    }
}

/// The answer that names these, as a real node sends it.
fn reply(peers: &[Peer]) -> Reply {
    let contacts = peers.iter().map(|peer| peer.contact().clone()).collect();
    Reply { results: vec![OpResult::Nodes { contacts }] }
}

/// Where a peer is in the simulation: its network is its number.
pub(super) fn address_of(peer: &Peer) -> Option<Address> {
    match peer.address()?.ip() {
        std::net::IpAddr::V4(ip) => Some(Address(u32::from(ip) >> 8)),
        std::net::IpAddr::V6(_) => None,
    }
}
