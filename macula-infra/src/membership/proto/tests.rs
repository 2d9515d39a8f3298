//! The machine alone, and many of them on a faulty network.

mod directed;
mod healing;
mod mesh;
mod model;
mod storm;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine as _;
use macula_core::sim::{self, Address, Birth, Effect, Faults, Moment, Sim};

use super::super::config::Config;
use super::super::event::Event;
use super::super::update::{Belief, Presence, Role, Seen, Stamp};
use super::super::wire::{Seal, estimate, unsigned};
use super::table::Member;
use super::{Bug, Identity, Input, Message, Offence, Output, Swim};
use crate::contact::Contact;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The node ids of a simulation, made as they are needed.
#[derive(Default)]
struct Names {
    nodes: Vec<NodeId>,
    numbers: BTreeMap<NodeId, u32>,
}

fn names() -> &'static Mutex<Names> {
    static NAMES: OnceLock<Mutex<Names>> = OnceLock::new();
    NAMES.get_or_init(Mutex::default)
}

/// The node at an address.
fn node(Address(number): Address) -> NodeId {
    let mut names = names().lock().unwrap();
    for next in u32::try_from(names.nodes.len()).unwrap()..=number {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&next.to_be_bytes());
        let node = Keypair::from_seed(seed).node_id();
        names.nodes.push(node);
        names.numbers.insert(node, next);
    }
    names.nodes[usize::try_from(number).unwrap()]
}

/// The address of a node.
fn place(node: NodeId) -> Address {
    Address(names().lock().unwrap().numbers[&node])
}

fn contact(address: Address) -> Contact {
    let ip = (10 << 24) | address.0;
    Contact::new(node(address), [SocketAddr::from((ip.to_be_bytes(), 4_433))])
}

fn presence(address: Address, life: u64, version: u64) -> Presence {
    let stamp = Stamp { life, version };
    Presence { contact: contact(address), stamp, role: Role::Server, leaving: false }
}

fn seen(address: Address, life: u64, version: u64) -> Arc<Seen> {
    Arc::new(unsigned(presence(address, life, version)))
}

/// Signs nothing.
#[derive(Debug)]
struct Unsigned;

impl Seal for Unsigned {
    fn seal(&self, presence: Presence) -> Seen {
        unsigned(presence)
    }
}

fn machine(address: Address, life: u64, config: Config, entropy: Entropy) -> Swim {
    let stamp = Stamp { life, version: 0 };
    let identity = Identity { contact: contact(address), stamp, role: Role::Server };
    Swim::new(identity, Box::new(Unsigned), config, entropy)
}

/// Makes members of those who are known to be there, without a word to anybody.
fn acquaint(swim: &mut Swim, all: &[Arc<Seen>]) {
    for seen in all.iter().filter(|seen| seen.node() != swim.me.node()) {
        let belief = Belief::of(Arc::clone(seen));
        swim.members.insert(seen.node(), Member { belief, suspicion: None });
        swim.ring.insert(seen.node(), &mut swim.entropy);
        swim.sums.toggle(seen.node(), seen.stamp());
    }
}

/// What a test sees of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Saw {
    Event(Event),
    Misbehaved(NodeId, Offence),
    Superseded(u64),
    Departed,
}

/// How the machine meets the simulated network.
struct Mesh;

impl sim::Node for Mesh {
    type Machine = Swim;
    type Message = Message;
    type Seen = Saw;

    fn received(from: Address, message: Message, _moment: Moment) -> Input {
        Input::Message { from: node(from), message }
    }

    fn bytes(message: &Message) -> usize {
        estimate(message)
    }

    fn effect(output: Output) -> Effect<Message, Saw> {
        match output {
            Output::Send { to, message } => Effect::Send(place(to.node), message),
            Output::Event(event) => Effect::Seen(Saw::Event(event)),
            Output::Misbehaved { peer, why } => Effect::Seen(Saw::Misbehaved(peer, why)),
            Output::Superseded { life } => Effect::Seen(Saw::Superseded(life)),
            Output::Departed => Effect::Seen(Saw::Departed),
        }
    }
}

/// How a mesh is made.
#[derive(Clone)]
struct Plan {
    seed: u64,
    nodes: u32,
    faults: Faults,
    config: Config,
    bug: Option<Bug>,
    /// Whether all know all from the beginning, or have to join.
    acquainted: bool,
    /// Gets the beginnings of all lives.
    births: Rc<RefCell<Vec<(Address, Instant)>>>,
}

impl Plan {
    fn new(seed: u64, nodes: u32) -> Self {
        let faults = Faults { delay_max: ms(50), ..Faults::NONE };
        let config = Config::default();
        Self { seed, nodes, faults, config, bug: None, acquainted: true, births: Rc::default() }
    }

    /// All nodes begin at once; the first is the seed of the others.
    fn begin(self) -> Sim<Mesh> {
        let known: Vec<Arc<Seen>> = if self.acquainted {
            (0..self.nodes).map(|number| seen(Address(number), 1, 0)).collect()
        } else {
            Vec::new()
        };
        let make = move |birth: Birth<Swim>| {
            let Birth { address, life, moment, entropy, .. } = birth;
            self.births.borrow_mut().push((address, moment.now));
            let config = Config { bug: self.bug, ..self.config.clone() };
            let mut swim = machine(address, life, config, entropy);
            if life == 1 {
                acquaint(&mut swim, &known);
            }
            let seeds = vec![contact(Address(0)), contact(Address(1))];
            swim.handle(moment.now, Input::Join { seeds });
            swim
        };
        Sim::new(self.seed, self.nodes, self.faults, make)
    }
}

/// Whether all that run hold exactly those who run to be alive, in their present life.
fn is_whole(sim: &Sim<Mesh>) -> bool {
    let running: BTreeMap<NodeId, Stamp> =
        sim.machines().map(|(_, swim)| (swim.me.node(), swim.me.stamp())).collect();
    sim.machines().all(|(_, swim)| {
        swim.members.len() + 1 == running.len()
            && swim.members.iter().all(|(node, member)| {
                member.suspicion.is_none() && running.get(node) == Some(&member.belief.seen.stamp())
            })
    })
}

/// The value below which a part of the sorted values is.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is an index")]
    let index = (f64::from(u32::try_from(sorted.len() - 1).unwrap()) * part).round() as usize;
    sorted[index]
}

impl Swim {
    /// When a suspect's time is over.
    fn timers_at(&self, suspect: NodeId) -> Instant {
        let timer = super::timer::Timer::Suspicion(suspect);
        self.timers.get(timer).unwrap()
    }
}
