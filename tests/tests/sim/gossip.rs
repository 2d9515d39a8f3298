//! A small replicator around the table of registers: pushes each local change, and compares tables
//! with a random peer every so often. It can be given a bug.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::hlc::Stamp;
use macula_core::machine::Machine;
use macula_core::replica::ReplicaId;
use macula_core::sim::{Address, Birth, Effect, Moment, Node};
use macula_platform::registers::proto::{Input, Output, Reply, Request, Store, Ticket};
use macula_platform::registers::{Config, Register};

/// How often a node compares its table with a peer's.
const ROUND: Duration = Duration::from_millis(200);

/// A bug put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Of two registers of one timestamp, each node keeps its own.
    NoTieBreak,
    /// What a push did not bring is never looked for.
    NoRounds,
    /// A crash forgets the table.
    Volatile,
}

/// A key and its register.
pub(crate) type Entry = (Arc<str>, Register);

#[derive(Debug, Clone, Hash)]
pub(crate) enum Message {
    /// Registers to merge.
    Push(Vec<Entry>),
    /// What the sender has, so that the receiver sends what is newer, and asks back once for what
    /// is older.
    Digest { stamps: Vec<(Arc<str>, Stamp)>, back: bool },
}

#[derive(Debug)]
pub(crate) enum Told {
    Write { key: Arc<str>, value: Arc<[u8]>, wall: Duration },
    Received { from: Address, message: Message, wall: Duration },
}

#[derive(Debug)]
pub(crate) enum Wanted {
    Send(Address, Message),
    Acknowledge(Entry),
}

#[derive(Debug)]
pub(crate) struct Gossip {
    store: Store,
    peers: Vec<Address>,
    entropy: Entropy,
    next_round: Instant,
    wanted: VecDeque<Wanted>,
    bug: Option<Bug>,
}

impl Gossip {
    pub(crate) fn new(birth: Birth<Self>, nodes: u32, bug: Option<Bug>) -> Self {
        let Birth { address, life, moment, entropy, remains } = birth;
        let replica = ReplicaId { node: address.0.into(), incarnation: life };
        let store = match remains {
            Some(Self { mut store, .. }) if bug != Some(Bug::Volatile) => {
                store.begin_life();
                store
            }
            _ => Store::new(Config::default(), replica),
        };
        assert_eq!(store.replica(), replica);
        let peers = (0..nodes).map(Address).filter(|&peer| peer != address).collect();
        let (next_round, wanted) = (moment.now + ROUND, VecDeque::new());
        Self { store, peers, entropy, next_round, wanted, bug }
    }

    pub(crate) fn table(&self) -> Vec<Entry> {
        self.store.iter().map(|(key, register)| (Arc::clone(key), register.clone())).collect()
    }

    fn ask(&mut self, now: Instant, wall: Duration, request: Request) {
        self.store.handle(now, Input { ticket: Ticket(0), wall, request });
        while let Some(output) = self.store.poll_output() {
            match output {
                Output::Delta(change) => {
                    let entry = (change.key, change.register);
                    for &peer in &self.peers {
                        let push = Message::Push(vec![entry.clone()]);
                        self.wanted.push_back(Wanted::Send(peer, push));
                    }
                    self.wanted.push_back(Wanted::Acknowledge(entry));
                }
                Output::Reply { result, .. } => {
                    let fine = matches!(result, Ok(Reply::Written(_) | Reply::Merged(_)));
                    assert!(fine, "{result:?}");
                }
                Output::Tell { .. } => unreachable!("nobody subscribed"),
            }
        }
    }

    fn merge(&mut self, now: Instant, wall: Duration, (key, register): Entry) {
        let own = self.store.get(&key).map(|own| own.stamp.at);
        if self.bug == Some(Bug::NoTieBreak) && own == Some(register.stamp.at) {
            return;
        }
        self.ask(now, wall, Request::Merge { key, register });
    }

    fn digest(&self, back: bool) -> Message {
        let stamps = self.store.iter().map(|(key, register)| (Arc::clone(key), register.stamp));
        Message::Digest { stamps: stamps.collect(), back }
    }

    fn compare(&mut self, from: Address, stamps: &[(Arc<str>, Stamp)], back: bool) {
        let theirs = |key: &Arc<str>| {
            let place = stamps.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            stamps.get(place).map(|(_, stamp)| *stamp)
        };
        let newer = self.store.iter().filter(|(key, own)| Some(own.stamp) > theirs(key));
        let newer: Vec<Entry> = newer.map(|(key, own)| (Arc::clone(key), own.clone())).collect();
        if !newer.is_empty() {
            self.wanted.push_back(Wanted::Send(from, Message::Push(newer)));
        }
        let held = |key: &str| self.store.get(key).map(|own| own.stamp);
        if back && stamps.iter().any(|(key, stamp)| held(key) < Some(*stamp)) {
            self.wanted.push_back(Wanted::Send(from, self.digest(false)));
        }
    }
}

impl Machine for Gossip {
    type Input = Told;
    type Output = Wanted;

    fn handle(&mut self, now: Instant, input: Told) {
        match input {
            Told::Write { key, value, wall } => {
                self.ask(now, wall, Request::Write { key, value });
            }
            Told::Received { message: Message::Push(entries), wall, .. } => {
                for entry in entries {
                    self.merge(now, wall, entry);
                }
            }
            Told::Received { from, message: Message::Digest { stamps, back }, .. } => {
                self.compare(from, &stamps, back);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.bug == Some(Bug::NoRounds) || now < self.next_round {
            return;
        }
        self.next_round = now + ROUND;
        let count = u64::try_from(self.peers.len()).unwrap_or_default();
        let chosen = usize::try_from(self.entropy.below(count)).unwrap_or_default();
        if let Some(&peer) = self.peers.get(chosen) {
            self.wanted.push_back(Wanted::Send(peer, self.digest(true)));
        }
    }

    fn poll_output(&mut self) -> Option<Wanted> {
        self.wanted.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        (self.bug != Some(Bug::NoRounds)).then_some((self.next_round, "round"))
    }
}

/// How it meets the network.
#[derive(Debug)]
pub(crate) struct Gossiping;

impl Node for Gossiping {
    type Machine = Gossip;
    type Message = Message;
    type Seen = Entry;

    fn received(from: Address, message: Message, moment: Moment) -> Told {
        Told::Received { from, message, wall: moment.since_epoch }
    }

    fn effect(output: Wanted) -> Effect<Message, Entry> {
        match output {
            Wanted::Send(to, message) => Effect::Send(to, message),
            Wanted::Acknowledge(entry) => Effect::Seen(entry),
        }
    }
}
