//! A mesh of many nodes in one process and in virtual time, for tests and benches.
//!
//! Each node has a [`Table`](super::proto::table::Table) and makes
//! [`Lookup`](super::proto::lookup::Lookup)s; what goes between them is one request with one answer.
//! All come from one seed. An [`Oracle`] knows the truth, and every lookup is compared with it.

mod node;
mod oracle;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::sim::{Address, Faults, Misconduct, Sent, Sim};

use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::proto::peer::Peer;

pub use node::{Behaviour, Found, Input, Message, Node, Output, Settings, Wiring};
pub use oracle::Oracle;

/// The network: 5 to 40 ms each way. Messages of one link need no order here, and without one
/// the simulator has nothing to remember of it.
pub const NETWORK: Faults = Faults {
    delay_min: Duration::from_millis(5),
    delay_max: Duration::from_millis(40),
    reordering: 1.0,
    ..Faults::NONE
};

/// How long a lookup may take in virtual time.
const LOOKUP_WITHIN: Duration = Duration::from_secs(60);

/// How many nodes join at one time at most, as a part of those that have.
const JOIN_PART: usize = 4;

/// How long a wave of nodes takes to join and to fill its buckets.
const JOIN_WAVE: Duration = Duration::from_secs(20);

/// A mesh.
pub struct Mesh {
    sim: Sim<Wiring>,
    /// The first of its nodes, which all others join through.
    bootstrap: Peer,
    hostile: BTreeSet<Address>,
    entropy: Entropy,
}

/// What is to be simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything that is left to chance.
    pub seed: u64,
    /// How many nodes. 1 to 1,000,000.
    pub nodes: u32,
    /// Which part of them is hostile, from 0.0 to 1.0; never the first.
    pub hostile: f64,
    /// How nodes are made.
    pub settings: Settings,
    /// What goes wrong on the network.
    pub faults: Faults,
}

impl Plan {
    /// A mesh without enemies.
    #[must_use]
    pub fn honest(seed: u64, nodes: u32) -> Self {
        Self { seed, nodes, hostile: 0.0, settings: Settings::default(), faults: NETWORK }
    }
}

/// What became of some lookups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many lookups there were.
    pub lookups: usize,
    /// How many found exactly the k closest nodes.
    pub exact: usize,
    /// How many of the k closest were found in all, of how many.
    pub found: (usize, usize),
    /// Steps of each lookup, in ascending order.
    pub hops: Vec<usize>,
    /// Messages of each lookup, in ascending order.
    pub messages: Vec<usize>,
    /// Bytes of each lookup, in ascending order.
    pub bytes: Vec<usize>,
    /// Virtual time of each lookup, in ascending order.
    pub times: Vec<Duration>,
}

impl Figures {
    /// How many of 100 lookups were exact.
    #[must_use]
    pub fn exact_percent(&self) -> f64 {
        percent(self.exact, self.lookups)
    }

    /// How many of 100 of the closest nodes were found.
    #[must_use]
    pub fn found_percent(&self) -> f64 {
        percent(self.found.0, self.found.1)
    }

    fn add(&mut self, truth: &[Peer], Found { outcome, bytes }: &Found, time: Duration) {
        let closest: BTreeSet<NodeId> = outcome.closest.iter().map(Peer::node).collect();
        let found = truth.iter().filter(|peer| closest.contains(&peer.node())).count();
        self.lookups += 1;
        self.exact += usize::from(found == truth.len());
        self.found.0 += found;
        self.found.1 += truth.len();
        self.hops.push(outcome.hops);
        self.messages.push(outcome.messages);
        self.bytes.push(*bytes);
        self.times.push(time);
    }

    fn sort(&mut self) {
        self.hops.sort_unstable();
        self.messages.sort_unstable();
        self.bytes.sort_unstable();
        self.times.sort_unstable();
    }
}

/// A value of a sorted list, below which a part of the others is: 0.5 for the median.
#[must_use]
pub fn quantile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let last = u32::try_from(sorted.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let at = Duration::from_secs(last.into()).mul_f64(part.clamp(0.0, 1.0)).as_secs();
    sorted.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or_default()
}

impl Mesh {
    /// The nodes of a plan, none of which has joined.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self::made(plan, |_node| {})
    }

    /// All nodes have a bug.
    #[cfg(test)]
    pub(super) fn with_bug(plan: &Plan, bug: Option<super::proto::tests::Bug>) -> Self {
        Self::made(plan, move |node| node.bug = bug)
    }

    fn made(plan: &Plan, finish: impl Fn(&mut Node) + 'static) -> Self {
        let mut entropy = Entropy::from_seed(plan.seed);
        let mut ids = entropy.fork();
        let peers: Vec<Peer> =
            (0..plan.nodes).map(|number| peer_at(&mut ids, Address(number))).collect();
        let hostile: BTreeSet<Address> =
            (1..plan.nodes).map(Address).filter(|_| entropy.chance(plan.hostile)).collect();
        let pick = |wanted: bool| {
            let numbered = (0..).map(Address).zip(&peers);
            let picked = numbered.filter(|(address, _)| hostile.contains(address) == wanted);
            Arc::new(Oracle::new(picked.map(|(_, peer)| peer.clone())))
        };
        let (accomplices, all) = (pick(true), Arc::new(Oracle::new(peers.iter().cloned())));
        let bootstrap = peers.first().cloned().unwrap_or_else(|| peer_at(&mut ids, Address(0)));
        let (settings, enemies) = (Arc::new(plan.settings.clone()), hostile.clone());
        let sim = Sim::new(plan.seed, plan.nodes, plan.faults, move |mut birth| {
            let at = usize::try_from(birth.address.0).unwrap_or(usize::MAX);
            // Whoever comes after a crash is somebody else.
            let first = (birth.life == 1).then(|| peers.get(at).cloned()).flatten();
            let own = first.unwrap_or_else(|| peer_at(&mut birth.entropy, birth.address));
            let behaviour = match (enemies.contains(&birth.address), at % 4) {
                (false, _) => Behaviour::Honest,
                (true, 0) => Behaviour::Scatters(Arc::clone(&all)),
                (true, _) => Behaviour::Colludes(Arc::clone(&accomplices)),
            };
            let settings = Arc::clone(&settings);
            let mut node = Node::new(birth.moment.now, own, settings, behaviour, birth.entropy);
            finish(&mut node);
            node
        });
        Self { sim, bootstrap, hostile, entropy }
    }

    /// Lets all nodes join through the first, in growing waves.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn join_all(&mut self) -> Result<(), Misconduct> {
        let mut left = self.sim.addresses().into_iter().skip(1);
        let mut joined = 1;
        loop {
            let wave: Vec<Address> = left.by_ref().take((joined / JOIN_PART).max(1)).collect();
            if wave.is_empty() {
                return Ok(());
            }
            joined += wave.len();
            // The first few only need to meet; the others take their time.
            let lasts = if wave.len() > 1 { JOIN_WAVE } else { Duration::from_secs(1) };
            let pause = lasts / u32::try_from(wave.len()).unwrap_or(u32::MAX);
            for address in wave {
                let via = self.bootstrap.clone();
                self.sim.input(address, |_| Input::Join(via));
                self.run(pause)?;
            }
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn run(&mut self, lasts: Duration) -> Result<(), Misconduct> {
        self.sim.run_until(self.sim.now() + lasts)
    }

    /// Replaces a part of the nodes, one after the other, over some time: each crashes, and another
    /// joins in its place through one that is there. The first and hostile ones stay.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn churn(&mut self, part: f64, lasts: Duration) -> Result<(), Misconduct> {
        let all = self.honest();
        let chosen: Vec<Address> =
            all.into_iter().skip(1).filter(|_| self.entropy.chance(part)).collect();
        let pause = lasts / u32::try_from(chosen.len().max(1)).unwrap_or(u32::MAX);
        for address in self.shuffled(chosen) {
            self.sim.crash(address);
            self.sim.start(address);
            let via = self.any_honest(address);
            self.sim.input(address, |_| Input::Join(via));
            self.run(pause)?;
        }
        Ok(())
    }

    /// Parts the network into two random halves for some time.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn part(&mut self, lasts: Duration) -> Result<(), Misconduct> {
        let mut half = self.sim.addresses();
        half.retain(|_| self.entropy.chance(0.5));
        self.sim.sever(&[&half]);
        self.run(lasts)?;
        self.sim.mend();
        Ok(())
    }

    /// Looks a key up from a node, and waits for the outcome.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn lookup(&mut self, from: Address, key: Key) -> Result<Option<Found>, Misconduct> {
        self.sim.take_seen();
        self.sim.input(from, |_| Input::Lookup(key));
        let end = self.sim.now() + LOOKUP_WITHIN;
        while self.sim.now() < end {
            self.run(Duration::from_millis(10))?;
            if let Some(seen) = self.sim.take_seen().pop() {
                return Ok(Some(seen.what));
            }
        }
        Ok(None)
    }

    /// Looks random keys up from random honest nodes, one after the other, and compares the
    /// outcomes with the truth.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a node.
    pub fn measure(&mut self, lookups: usize) -> Result<Figures, Misconduct> {
        let (mut figures, honest, oracle) = (Figures::default(), self.honest(), self.oracle());
        let k = 20;
        for _ in 0..lookups {
            let (key, begin) = (random_key(&mut self.entropy), self.sim.now());
            let from = self.pick(&honest);
            // A node does not look for itself.
            let own = self.sim.machine(from).map(|node| node.peer().node());
            let mut truth = oracle.closest(key, k + 1);
            truth.retain(|peer| Some(peer.node()) != own);
            truth.truncate(k);
            if let Some(found) = self.lookup(from, key)? {
                figures.add(&truth, &found, self.sim.now() - begin);
            }
        }
        figures.sort();
        Ok(figures)
    }

    /// Everybody who is there.
    #[must_use]
    pub fn oracle(&self) -> Oracle {
        Oracle::new(self.sim.machines().map(|(_, node)| node.peer().clone()))
    }

    /// The simulation itself: to part its network, or to crash a node.
    pub const fn sim(&mut self) -> &mut Sim<Wiring> {
        &mut self.sim
    }

    /// The memory of a node in the mean, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let (sum, count) = self
            .sim
            .machines()
            .fold((0, 0), |(sum, count), (_, node)| (sum + node.memory(), count + 1));
        sum / count.max(1)
    }

    /// What was sent so far.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sim.sent()
    }

    fn honest(&self) -> Vec<Address> {
        let all = self.sim.machines().map(|(address, _)| address);
        all.filter(|address| !self.hostile.contains(address)).collect()
    }

    fn any_honest(&mut self, besides: Address) -> Peer {
        let mut honest = self.honest();
        honest.retain(|address| *address != besides);
        let address = self.pick(&honest);
        self.sim.machine(address).map_or_else(|| self.bootstrap.clone(), |node| node.peer().clone())
    }

    fn pick(&mut self, among: &[Address]) -> Address {
        let count = u64::try_from(among.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(self.entropy.below(count)).unwrap_or(0);
        among.get(at).copied().unwrap_or(Address(0))
    }

    fn shuffled(&mut self, mut addresses: Vec<Address>) -> Vec<Address> {
        for last in (1..addresses.len()).rev() {
            let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
            let other = usize::try_from(self.entropy.below(bound)).unwrap_or(0);
            addresses.swap(last, other);
        }
        addresses
    }
}

impl Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hostile = self.hostile.len();
        f.debug_struct("Mesh").field("sim", &self.sim).field("hostile", &hostile).finish()
    }
}

/// A node id that belongs to nobody: random bytes that are a point on the curve.
pub(crate) fn node_id(entropy: &mut Entropy) -> NodeId {
    loop {
        if let Ok(node) = NodeId::from_bytes(*random_key(entropy).as_bytes()) {
            return node;
        }
    }
}

/// A new peer at an address, in a network of its own.
fn peer_at(entropy: &mut Entropy, Address(number): Address) -> Peer {
    let ip = (number << 8 | 1).to_be_bytes();
    Peer::new(Contact::new(node_id(entropy), [SocketAddr::from((ip, 4_433))]))
}

fn random_key(entropy: &mut Entropy) -> Key {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&entropy.next_u64().to_be_bytes());
    }
    Key::from_bytes(bytes)
}

fn percent(part: usize, whole: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    100.0 * number(part) / number(whole.max(1))
}
