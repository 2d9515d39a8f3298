//! A few whole nodes on the simulated network, with real keys and real bytes between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::sim::{Address, Birth, Effect, Faults, Moment as At, Sim};

use super::super::{
    Answer, Command, CommandId, Config, Failure, Input, Mode, Node, Output, Quorum, Side,
};
use super::liars::Lies;
use crate::contact::Contact;
use crate::dht::key::{Key, RealmId};
use crate::dht::proto::limits::Offence;
use crate::dht::proto::records::Condition;
use crate::dht::proto::requests::RequestId;
use crate::dht::proto::time::Moment;
use crate::dht::provider::{self, Provider};
use crate::dht::record::{Record, Signed};
use crate::dht::rules::{Rules, space};
use crate::dht::wire::{OpResult, Refusal, Reply, Request};

/// How many nodes a mesh has at most.
pub(crate) const NODES_MAX: u32 = 2_600;

/// How many of them can be dialled, and keep what others put. The rest only ask.
pub(crate) const SERVERS_MAX: u32 = 64;

/// How long a command may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

static KEYS: LazyLock<Vec<Keypair>> = LazyLock::new(|| {
    let seed = |number: u32| match u8::try_from(number) {
        Ok(number) => [number; 32],
        Err(_) => std::array::from_fn(|at| number.to_be_bytes()[at % 4]),
    };
    (0..NODES_MAX).map(|number| Keypair::from_seed(seed(number))).collect()
});

static PLACES: LazyLock<BTreeMap<NodeId, Address>> = LazyLock::new(|| {
    (0..).map(Address).zip(KEYS.iter()).map(|(address, key)| (key.node_id(), address)).collect()
});

pub(crate) fn keypair(Address(number): Address) -> &'static Keypair {
    KEYS.get(usize::try_from(number).unwrap()).unwrap()
}

pub(crate) fn place(node: NodeId) -> Address {
    PLACES[&node]
}

pub(crate) fn contact(address: Address) -> Contact {
    let Address(number) = address;
    let ip = (10 << 24 | number << 8 | 1).to_be_bytes();
    Contact::new(keypair(address).node_id(), [SocketAddr::from((ip, 4_433))])
}

fn is_server(Address(number): Address) -> bool {
    number < SERVERS_MAX
}

pub(crate) fn realm() -> RealmId {
    RealmId::named("home")
}

/// What travels: a number, whether it is an answer, and the bytes.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Message {
    id: u64,
    is_reply: bool,
    body: Bytes,
}

/// What a test hears.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Done(CommandId, Result<Answer, Failure>),
    Sign(Key, Provider),
    Refused(NodeId, Side, Refusal),
    Misbehaved(NodeId, Offence),
}

impl std::hash::Hash for Heard {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

pub(crate) struct Wiring;

impl macula_core::sim::Node for Wiring {
    type Machine = Node;
    type Message = Message;
    type Seen = Heard;

    fn received(from: Address, message: Message, _at: At) -> Input {
        let Message { id, is_reply, body } = message;
        if is_reply {
            let results = Reply::decode(&body).ok().map(|reply| reply.results);
            Input::Reply { from: contact(from).node, id: RequestId(id), results }
        } else {
            let ops = Request::decode(&body).ok().map(|request| request.ops);
            let known = contact(from);
            let from = if is_server(from) { known } else { Contact::new(known.node, []) };
            Input::Request { from, is_foreign: false, id, ops }
        }
    }

    fn effect(output: Output) -> Effect<Message, Heard> {
        match output {
            Output::Send { id: RequestId(id), to, ops } => {
                let body = Request { ops }.encode().unwrap();
                Effect::Send(PLACES[&to.node], Message { id, is_reply: false, body })
            }
            Output::Reply { to, id, reply } => {
                let body = reply.encode().unwrap();
                Effect::Send(PLACES[&to], Message { id, is_reply: true, body })
            }
            Output::Sign { key, provider } => Effect::Seen(Heard::Sign(key, provider)),
            Output::Done { id, answer } => Effect::Seen(Heard::Done(id, answer)),
            Output::Refused { peer, side, refusal } => {
                Effect::Seen(Heard::Refused(peer, side, refusal))
            }
            Output::Misbehaved { peer, offence } => Effect::Seen(Heard::Misbehaved(peer, offence)),
        }
    }
}

/// A mesh of nodes, all of which know the first.
pub(crate) struct Mesh {
    pub(crate) sim: Sim<Wiring>,
    next: u64,
    pub(crate) done: BTreeMap<CommandId, Vec<Result<Answer, Failure>>>,
    /// Who has blamed whom for what.
    pub(crate) blamed: Vec<(Address, NodeId, Offence)>,
    /// Who has not taken what of whom.
    pub(crate) refused: Vec<(Address, NodeId, Side, Refusal)>,
    lies: BTreeMap<Address, Lies>,
}

impl Mesh {
    pub(crate) fn new(seed: u64, nodes: u32, faults: Faults) -> Self {
        Self::with(seed, nodes, faults, |_| Config::default())
    }

    pub(crate) fn with(
        seed: u64,
        nodes: u32,
        faults: Faults,
        config: impl Fn(Address) -> Config + 'static,
    ) -> Self {
        let lies: BTreeMap<Address, Lies> =
            (0..nodes).map(|number| (Address(number), Lies::default())).collect();
        let told = lies.clone();
        let make = move |birth: Birth<Node>| {
            let Birth { address, moment, entropy, .. } = birth;
            let at = Moment { now: moment.now, since_epoch: moment.since_epoch };
            let rules = Arc::new(Rules::new(realm()));
            let mode = if is_server(address) { Mode::Server } else { Mode::Client };
            let mut node = Node::new(at, contact(address), mode, rules, config(address), entropy);
            node.lies = told[&address].clone();
            node
        };
        let mut mesh = Self {
            sim: Sim::new(seed, nodes, faults, make),
            next: 0,
            done: BTreeMap::new(),
            blamed: Vec::new(),
            refused: Vec::new(),
            lies,
        };
        for address in mesh.sim.addresses().into_iter().skip(1) {
            if is_server(address) {
                mesh.meet(address, Address(0));
                mesh.run(Duration::from_millis(200));
            } else {
                // A server does not come to know whoever only asks.
                let server = contact(Address(address.0 % SERVERS_MAX));
                mesh.sim.input(address, |_| Input::Met(server));
                mesh.run(Duration::from_millis(10));
            }
        }
        mesh.run(Duration::from_secs(5));
        mesh
    }

    /// One node has dialled another.
    pub(crate) fn meet(&mut self, one: Address, other: Address) {
        self.sim.input(one, |_| Input::Met(contact(other)));
        self.sim.input(other, |_| Input::Met(contact(one)));
    }

    /// From now on a node answers so when it is asked for a key.
    pub(crate) fn tell_to_lie(&self, liar: Address, key: Key, answer: OpResult) {
        self.lies[&liar].tell(key, answer);
    }

    /// All hear that a life of a node has begun.
    pub(crate) fn begun(&mut self, one: Address) {
        for other in self.sim.addresses().into_iter().filter(|other| *other != one) {
            self.sim.input(other, |_| Input::Begun(contact(one)));
        }
    }

    /// Lets time pass, and signs what is to be signed.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.sim.now() + span;
        while self.sim.now() < end {
            let step = (self.sim.now() + Duration::from_millis(10)).min(end);
            self.sim.run_until(step).unwrap();
            for seen in self.sim.take_seen() {
                match seen.what {
                    Heard::Done(id, answer) => self.done.entry(id).or_default().push(answer),
                    Heard::Refused(peer, side, refusal) => {
                        self.refused.push((seen.address, peer, side, refusal));
                    }
                    Heard::Misbehaved(peer, offence) => {
                        self.blamed.push((seen.address, peer, offence));
                    }
                    Heard::Sign(key, provider) => {
                        let provider = provider.sign(keypair(seen.address)).unwrap();
                        self.sim.input(seen.address, |_| Input::Signed { key, provider });
                    }
                }
            }
        }
    }

    /// Gives a command, and does not wait.
    pub(crate) fn command(&mut self, at: Address, command: Command) -> CommandId {
        self.next += 1;
        let id = CommandId(self.next);
        let input = |moment: At| Input::Command { id, command, deadline: moment.now + WITHIN };
        assert!(self.sim.input(at, input), "{at:?} is down");
        id
    }

    /// Gives a command, and waits for its answer, which comes once.
    pub(crate) fn ask(&mut self, at: Address, command: Command) -> Result<Answer, Failure> {
        let id = self.command(at, command);
        let end = self.sim.now() + WITHIN + Duration::from_secs(1);
        while !self.done.contains_key(&id) && self.sim.now() < end {
            self.run(Duration::from_millis(10));
        }
        let mut answers = self.done.remove(&id).expect("a command ends by its deadline");
        assert_eq!(answers.len(), 1);
        answers.pop().unwrap()
    }

    pub(crate) fn put(
        &mut self,
        at: Address,
        record: Signed,
        condition: Condition,
    ) -> super::super::Stored {
        let command = Command::Put { record, condition, quorum: Quorum::Majority };
        match self.ask(at, command) {
            Ok(Answer::Stored(stored)) => stored,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn get(&mut self, at: Address, key: Key) -> super::super::Got {
        match self.ask(at, Command::Get { key, fresh: true }) {
            Ok(Answer::Value(got)) => got,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn find(&mut self, at: Address, key: Key) -> Vec<provider::Verified> {
        match self.ask(at, Command::Find { key, max: 10 }) {
            Ok(Answer::Providers(providing)) => providing.providers,
            other => panic!("{other:?}"),
        }
    }

    /// What the calendars say.
    pub(crate) fn since_epoch(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.sim.now()
    }

    /// A record of a node.
    pub(crate) fn record(&self, by: Address, name: &str, sequence: u64, value: &str) -> Signed {
        self.unsigned(by, name, sequence, value).sign(keypair(by)).unwrap()
    }

    pub(crate) fn unsigned(&self, by: Address, name: &str, sequence: u64, value: &str) -> Record {
        Record {
            realm: realm(),
            space: space::ANY.to_owned(),
            name: name.as_bytes().to_vec(),
            author: keypair(by).node_id(),
            sequence,
            expires_at: self.since_epoch() + Duration::from_secs(24 * 3_600),
            value: Bytes::copy_from_slice(value.as_bytes()),
        }
    }

    /// Those that keep a record.
    pub(crate) fn keepers(&self, key: Key) -> Vec<Address> {
        let now = self.now();
        let keeps = |node: &Node| node.records.get(now, &key).is_some();
        self.sim.machines().filter(|(_, node)| keeps(node)).map(|(address, _)| address).collect()
    }

    /// How many providers of a key a node keeps.
    pub(crate) fn provided(&self, at: Address, key: Key) -> usize {
        let node = self.sim.machines().find(|(address, _)| *address == at);
        node.map_or(0, |(_, node)| node.providers.count(self.now(), &key))
    }

    pub(crate) fn now(&self) -> Instant {
        let (_, node) = self.sim.machines().next().unwrap();
        // All lives begin on one clock.
        let since = self.since_epoch().saturating_sub(node.calendar.since_epoch);
        node.calendar.now + since
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::of_name(realm(), space::ANY, name.as_bytes())
}
