//! Some nodes in virtual time, and a model of what outlives their actors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine as _;
use macula_core::sim::{self, Address, Birth, Effect, Faults, Moment, Sim};
use parking_lot::Mutex;

use super::super::archive::{Archive, Limits};
use super::super::broker::{Broker, Identity};
use super::super::seen::Seen;
use super::super::subscribers::{Room, Wish, weight};
use super::super::word::{Life, SessionId, SubId, Wanted, Word};
use super::super::{Bug, Config, Input, Output, Posted, TopicId, Weight};
use crate::pubsub::message::{Event, Message, Missed, PublishOptions, Qos, Reason, Report};
use crate::pubsub::proto::word::Replay;

pub(super) const REALM: [u8; 32] = [7; 32];

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How many nodes a world has at most.
const NODES_MAX: u32 = 1_200;

fn nodes() -> &'static [NodeId] {
    static NODES: OnceLock<Vec<NodeId>> = OnceLock::new();
    NODES.get_or_init(|| (0..NODES_MAX).map(|number| key(Address(number)).node_id()).collect())
}

pub(super) fn key(Address(number): Address) -> Keypair {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Keypair::from_seed(seed)
}

pub(super) fn node(Address(number): Address) -> NodeId {
    nodes()[usize::try_from(number).unwrap()]
}

/// What outlives a node's actor.
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) life: Life,
    pub(super) archive: Arc<Mutex<Archive>>,
    pub(super) sequence: u64,
    pub(super) subs: BTreeMap<SubId, Sub>,
    pub(super) topics: BTreeMap<String, TopicId>,
    pub(super) known: BTreeMap<TopicId, usize>,
    pub(super) report: Report,
    pub(super) waiting: u64,
}

pub(super) struct Sub {
    pub(super) wish: Wish,
    pub(super) unread: Vec<Event>,
    pub(super) had: Seen,
    /// What came again, and was passed over.
    pub(super) again: Vec<Message>,
    pub(super) seen: Vec<Message>,
    pub(super) gaps: u64,
    pub(super) missed: BTreeMap<Missed, u64>,
}

impl Place {
    fn new(address: Address) -> Self {
        Self {
            node: node(address),
            life: Life { node: 1, broker: 0 },
            archive: Arc::new(Mutex::new(Archive::new(Limits::default()))),
            sequence: 0,
            subs: BTreeMap::new(),
            topics: BTreeMap::new(),
            known: BTreeMap::new(),
            report: Report::default(),
            waiting: 0,
        }
    }

    pub(super) fn total(&self) -> Report {
        let mut report = self.report.clone();
        report.accepted += self.waiting;
        report
    }

    /// The actor has ended: whatever was with it is lost.
    fn settle(&mut self) {
        self.report.accepted += std::mem::take(&mut self.waiting);
        let lost = self.report.pending();
        *self.report.dropped.entry(Reason::Restarted).or_default() += lost;
        self.topics.clear();
        self.known.clear();
    }
}

pub(super) type Places = Rc<RefCell<BTreeMap<Address, Place>>>;

/// How the machine meets the simulated network.
pub(super) struct Mesh;

impl sim::Node for Mesh {
    type Machine = Broker;
    type Message = (SessionId, Word);
    type Seen = Output;

    fn received(from: Address, (session, word): Self::Message, _moment: Moment) -> Input {
        Input::Word { from: node(from), session, word, ticket: None }
    }

    fn effect(output: Output) -> Effect<Self::Message, Output> {
        match output {
            Output::Send { to, session, word } => Effect::Send(address(to), (session, word)),
            output => Effect::Seen(output),
        }
    }
}

fn address(of: NodeId) -> Address {
    static ADDRESSES: OnceLock<BTreeMap<NodeId, Address>> = OnceLock::new();
    let addresses =
        ADDRESSES.get_or_init(|| nodes().iter().copied().zip((0..).map(Address)).collect());
    addresses[&of]
}

pub(super) struct World {
    pub(super) sim: Sim<Mesh>,
    pub(super) places: Places,
    ids: u64,
    bug: Rc<RefCell<Option<Bug>>>,
    /// What nodes are found to do wrong, if that is expected.
    pub(super) offences: Option<Vec<&'static str>>,
}

impl World {
    /// Each node has a connection with each other.
    pub(super) fn new(seed: u64, nodes: u32, faults: Faults) -> Self {
        Self::meeting(seed, nodes, faults, |_, _| true)
    }

    /// Those nodes have connections that `meet`.
    pub(super) fn meeting(
        seed: u64,
        nodes: u32,
        faults: Faults,
        meet: fn(Address, Address) -> bool,
    ) -> Self {
        let places: Places = Rc::new(RefCell::new(
            (0..nodes).map(Address).map(|address| (address, Place::new(address))).collect(),
        ));
        let bug: Rc<RefCell<Option<Bug>>> = Rc::default();
        let (known, planted) = (Rc::clone(&places), Rc::clone(&bug));
        let make = move |birth: Birth<Broker>| {
            let mut places = known.borrow_mut();
            let here = birth.address;
            let others =
                places.keys().copied().filter(|other| *other != here && meet(here, *other));
            let met: Vec<NodeId> = others.map(node).collect();
            let place = places.get_mut(&birth.address).unwrap();
            place.life.broker += 1;
            let identity = Identity {
                node: place.node,
                key: key(birth.address),
                life: place.life,
                realm: REALM,
                sequence: place.sequence,
                config: Config { bug: *planted.borrow(), ..Config::default() },
            };
            let archive = Arc::clone(&place.archive);
            let mut broker = Broker::new(identity, archive, birth.entropy);
            for (id, sub) in &mut place.subs {
                let held = sub.unread.iter().map(weight);
                let held = held.fold((0, 0), |(m, b), room| (m + room.messages, b + room.bytes));
                sub.wish.room.messages = sub.wish.capacity.messages.saturating_sub(held.0);
                sub.wish.room.bytes = sub.wish.capacity.bytes.saturating_sub(held.1);
                let wish = Box::new(sub.wish.clone());
                broker.handle(birth.moment.now, Input::Subscribe { id: *id, wish });
            }
            for node in met {
                broker.handle(birth.moment.now, Input::Met { node });
            }
            broker
        };
        Self { sim: Sim::new(seed, nodes, faults, make), places, ids: 1, bug, offences: None }
    }

    pub(super) fn plant(&mut self, bug: Bug) {
        *self.bug.borrow_mut() = Some(bug);
        for address in self.sim.addresses() {
            self.restart(address, false);
        }
    }

    /// Ends an actor, or the whole node, and begins another.
    pub(super) fn restart(&mut self, address: Address, whole_node: bool) {
        self.look();
        self.sim.crash(address);
        {
            let mut places = self.places.borrow_mut();
            let place = places.get_mut(&address).unwrap();
            if let Some(remains) = self.sim.machine(address) {
                place.sequence = remains.sequence();
            }
            place.settle();
            // The next life goes on after all that the last one may have used.
            place.sequence += 1_000_000;
            if whole_node {
                let life = Life { node: place.life.node + 1, broker: 0 };
                let mut fresh = Place::new(address);
                (fresh.life, fresh.report) = (life, place.report.clone());
                fresh.sequence = place.sequence;
                *place = fresh;
            }
        }
        self.sim.start(address);
        if whole_node {
            let gone = node(address);
            for other in self.sim.addresses().into_iter().filter(|other| *other != address) {
                self.sim.input(other, |_| Input::Gone { node: gone });
            }
        }
    }

    /// A connection between two nodes is lost.
    pub(super) fn part(&mut self, one: Address, other: Address) {
        for (here, there) in [(one, other), (other, one)] {
            self.sim.input(here, |_| Input::Lost { node: node(there) });
            self.sim.input(here, |_| Input::Met { node: node(there) });
        }
    }

    pub(super) fn subscribe(
        &mut self,
        address: Address,
        pattern: &str,
        group: Option<&str>,
        room: usize,
    ) -> SubId {
        self.subscribe_with(address, pattern, group, (room, Replay::default()))
    }

    pub(super) fn subscribe_with(
        &mut self,
        address: Address,
        pattern: &str,
        group: Option<&str>,
        (room, replay): (usize, Replay),
    ) -> SubId {
        self.ids += 1;
        let id = SubId(self.ids);
        let room = Room { messages: room, bytes: room * 1_000 };
        let wish = Wish {
            wanted: Wanted::new(pattern.parse().unwrap(), group.map(Arc::from)),
            qos: Qos::AtLeastOnce,
            replay,
            capacity: room,
            room,
            replayed: BTreeMap::new(),
            gaps: Vec::new(),
        };
        let (unread, again, seen, missed) = <_>::default();
        let had = Seen::new(Config::default().credit_messages);
        let sub = Sub { wish: wish.clone(), unread, had, again, seen, gaps: 0, missed };
        self.places.borrow_mut().get_mut(&address).unwrap().subs.insert(id, sub);
        self.sim.input(address, |_| Input::Subscribe { id, wish: Box::new(wish) });
        id
    }

    /// A subscription ends.
    pub(super) fn unsubscribe(&mut self, address: Address, id: SubId) {
        self.places.borrow_mut().get_mut(&address).unwrap().subs.remove(&id);
        self.sim.input(address, |_| Input::Unsubscribe { id });
    }

    pub(super) fn open(&mut self, address: Address, topic: &str) -> TopicId {
        let known = self.places.borrow()[&address].topics.get(topic).copied();
        known.unwrap_or_else(|| {
            self.ids += 1;
            let id = TopicId(self.ids);
            let mut places = self.places.borrow_mut();
            places.get_mut(&address).unwrap().topics.insert(topic.to_owned(), id);
            drop(places);
            let topic = topic.parse().unwrap();
            self.sim.input(address, |_| Input::Open { id, topic });
            id
        })
    }

    /// Publishes something, if anybody is known to subscribe; says whether it did.
    pub(super) fn publish(
        &mut self,
        address: Address,
        topic: &str,
        options: PublishOptions,
    ) -> bool {
        self.publish_long(address, topic, options, &Bytes::from_static(b"hello"))
    }

    /// Publishes something that is long.
    pub(super) fn publish_long(
        &mut self,
        address: Address,
        topic: &str,
        options: PublishOptions,
        payload: &Bytes,
    ) -> bool {
        let id = self.open(address, topic);
        let subscribers = self.places.borrow()[&address].known.get(&id).copied();
        let is_kept = options.keep || options.retain;
        let weight = match subscribers {
            Some(1..) => Weight { messages: 1, cost: 1 },
            Some(0) if is_kept => Weight::default(),
            _ => return false,
        };
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(&address).unwrap();
        // A gate has no room for more.
        if weight.messages > 0 && place.waiting >= 1_024 {
            return false;
        }
        place.waiting += weight.messages;
        drop(places);
        let payload = payload.clone();
        let messages = vec![Posted { topic: id, payload, options, weight }];
        self.sim.input(address, |_| Input::Publish { messages });
        true
    }

    /// Reads up to so many events of each subscription of a node.
    pub(super) fn read(&mut self, address: Address, max: usize) {
        self.look();
        let mut consumed = Vec::new();
        let mut places = self.places.borrow_mut();
        for (id, sub) in &mut places.get_mut(&address).unwrap().subs {
            let read: Vec<Event> = sub.unread.drain(..max.min(sub.unread.len())).collect();
            if read.is_empty() {
                continue;
            }
            let rooms = read.iter().map(weight);
            let (messages, bytes) =
                rooms.fold((0, 0), |(m, b), room| (m + room.messages, b + room.bytes));
            consumed.push((*id, Room { messages, bytes }));
            for event in read {
                match event {
                    Event::Message(message) => sub.seen.push(message),
                    Event::Gap(gap) => {
                        sub.gaps += gap.count;
                        *sub.missed.entry(gap.why).or_default() += gap.count;
                    }
                    Event::Refused { publisher } => panic!("{publisher:?} refuses it"),
                }
            }
        }
        drop(places);
        for (id, read) in consumed {
            self.sim.input(address, |_| Input::Consumed { id, read });
        }
    }

    /// Carries out what the machines want done.
    pub(super) fn look(&mut self) {
        let (mut found, mut passed) = (Vec::new(), Vec::new());
        for sighting in self.sim.take_seen() {
            let mut places = self.places.borrow_mut();
            let nodes: BTreeSet<NodeId> = match &sighting.what {
                Output::Find { prefix, .. } => {
                    let has = |place: &Place| {
                        let mut wanted = place.subs.values().map(|sub| &sub.wish.wanted.pattern);
                        wanted.any(|pattern| pattern.prefix() == &**prefix)
                    };
                    places.values().filter(|place| has(place)).map(|place| place.node).collect()
                }
                _ => BTreeSet::new(),
            };
            let place = places.get_mut(&sighting.address).unwrap();
            match sighting.what {
                Output::Send { .. } => unreachable!("it is an effect"),
                Output::Take => unreachable!("nothing is left anywhere"),
                Output::Tell { to, events } => {
                    if let Some(sub) = place.subs.get_mut(&to) {
                        let is_again = |event: &Event| match event {
                            Event::Message(message) => !sub.had.is_new(message),
                            _ => false,
                        };
                        let (again, new): (Vec<_>, Vec<_>) = events.into_iter().partition(is_again);
                        for event in again {
                            passed.push((sighting.address, to, weight(&event)));
                            let Event::Message(message) = event else { continue };
                            sub.again.push(message);
                        }
                        sub.unread.extend(new);
                        let capacity = sub.wish.capacity.messages;
                        assert!(sub.unread.len() <= capacity, "a queue is longer than it may be");
                    }
                }
                Output::Find { prefix, .. } => found.push((sighting.address, prefix, nodes)),
                Output::Depth { .. } | Output::Tree { .. } => {}
                Output::Audience { topic, subscribers } => {
                    place.known.insert(topic, subscribers);
                }
                Output::Tally { report, freed, .. } => {
                    place.report.add(&report);
                    place.waiting -= freed.messages;
                }
                Output::Replayed { to, publisher, replayed } => {
                    if let Some(sub) = place.subs.get_mut(&to) {
                        sub.wish.replayed.insert(publisher, replayed);
                    }
                }
                Output::Owed { to, gaps } => {
                    if let Some(sub) = place.subs.get_mut(&to) {
                        sub.wish.gaps = gaps;
                    }
                }
                Output::Misbehaved { why, .. } => match &mut self.offences {
                    Some(offences) => offences.push(why),
                    None => panic!("somebody misbehaves: {why}"),
                },
            }
        }
        for (address, id, read) in passed {
            self.sim.input(address, |_| Input::Consumed { id, read });
        }
        for (address, prefix, nodes) in found {
            let nodes = Some(nodes.into_iter().collect());
            self.sim.input(address, |_| Input::Found { prefix, nodes });
        }
    }

    /// Runs for a while, in which everybody reads all there is.
    pub(super) fn run(&mut self, lasts: Duration) {
        let end = self.sim.now() + lasts;
        while self.sim.now() < end {
            self.sim.run_until(self.sim.now() + ms(10)).unwrap();
            for address in self.sim.addresses() {
                self.read(address, usize::MAX);
            }
        }
    }

    pub(super) fn seen(&self, address: Address, id: SubId) -> Vec<Message> {
        self.places.borrow()[&address].subs[&id].seen.clone()
    }

    pub(super) fn report(&self, address: Address) -> Report {
        self.places.borrow()[&address].total()
    }
}
