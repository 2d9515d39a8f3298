//! Worlds: several whole nodes, with QUIC, ractor and supervision, on a simulated network in
//! virtual time, all from one seed.
//!
//! A [`Scenario`] says what each life of a node does, and when the mesh counts as healed. The
//! [`World`] runs it in three phases. In the storm the [`Faults`] come as the seed has them: links
//! break or stall, datagrams are lost and overtake, nodes crash and start again. Then all faults
//! end, and the mesh has to heal within a bound. Then it has to stay healed for a while. What
//! happens stands in a [`Log`] with virtual times, and the scenario checks its invariants on that.
//!
//! ```
//! use std::time::Duration;
//!
//! use macula_tests::world::{Faults, Life, Log, Look, Scenario, World};
//!
//! /// Each node connects to all others.
//! #[derive(Clone)]
//! struct Meets;
//!
//! impl Scenario for Meets {
//!     type Seen = (&'static str, usize);
//!
//!     async fn live(&self, life: Life<Self::Seen>) {
//!         for (index, id) in life.others() {
//!             let met = life.node.mesh().connect(id).await.is_ok();
//!             life.saw((if met { "met" } else { "missed" }, index));
//!         }
//!     }
//!
//!     fn healed(&self, look: &Look<'_, Self::Seen>) -> bool {
//!         look.is_whole()
//!     }
//!
//!     fn check(&self, log: &Log<Self::Seen>) -> Result<(), String> {
//!         if log.lines(100).contains("missed") { Err(log.lines(100)) } else { Ok(()) }
//!     }
//! }
//!
//! # fn main() -> Result<(), macula_tests::world::Broken> {
//! let world = World::builder(7).nodes(2).storm(Duration::ZERO).faults(Faults::NONE);
//! let run = world.run(&Meets)?;
//! assert!(run.healed_after < Duration::from_secs(1));
//! # Ok(())
//! # }
//! ```
//!
//! # What a seed replays
//!
//! The log and the datagrams, if the scenario takes its dice from [`Life::entropy`] and its time
//! from tokio. Keys of TLS are drawn from the system, so what datagrams hold is not replayed; how
//! long they are and when they are sent is.

mod faults;
mod guard;
mod host;
mod log;
mod many;

pub use faults::{Faults, Part};
pub use host::Life;
pub use log::{Entry, Log, What, first_difference};
pub use many::check_all;

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_workload::{Config, Node};
use parking_lot::Mutex;

use faults::{Change, Weather};
use guard::Guarded;
use host::{Host, Identities, address};

/// How often the scenario is asked whether the mesh has healed, in virtual time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For how long the mesh has to be healed to count as such: longer than a dial that was under way
/// takes.
const SETTLED_FOR: Duration = Duration::from_secs(2);

/// How many of the last entries a failure tells.
const LINES_MAX: usize = 60;

/// How many datagrams wait at a socket. QUIC's event loop on this network takes up to 1,024 at
/// once, and spins for ever if there are more.
const UDP_CAPACITY: usize = 512;

/// How much longer than they should faults come, for the sake of actors that could not be killed.
const STORM_LATE_MAX: Duration = Duration::from_secs(10);

/// The most nodes of a world.
const NODES_MAX: usize = 200;

/// What happens in a world.
pub trait Scenario: Clone + 'static {
    /// What the log is told.
    type Seen: Clone + Hash + Debug + Send + 'static;

    /// What a life of a node does, from when its tree is up. It is dropped when the node crashes.
    /// Tasks of its own begin with [`Life::spawn`].
    fn live(&self, life: Life<Self::Seen>) -> impl Future<Output = ()>;

    /// Whether the mesh has healed. Asked once faults have ended.
    fn healed(&self, look: &Look<'_, Self::Seen>) -> bool;

    /// The invariants.
    ///
    /// # Errors
    ///
    /// The first that is violated, in words.
    fn check(&self, log: &Log<Self::Seen>) -> Result<(), String>;
}

/// Builds a world, and runs it.
#[derive(Debug, Clone)]
pub struct World {
    seed: u64,
    nodes: usize,
    storm: Duration,
    healing_max: Duration,
    calm: Duration,
    faults: Faults,
    kills: &'static [Part],
    joins: bool,
    apart: &'static [(usize, usize)],
    met_at_last: bool,
    crashing: usize,
    vanishes: Option<(usize, Duration)>,
    config: Config,
    of_each: fn(usize, &mut Config),
}

/// A run that has gone well.
#[derive(Debug)]
pub struct Run<S> {
    /// What happened.
    pub log: Log<S>,
    /// How long the mesh took to heal once faults had ended.
    pub healed_after: Duration,
}

/// A run that has not. Its `Debug` is its `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    /// What was violated.
    pub why: String,
    /// The last lines of the log.
    pub lines: String,
}

impl Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nthe last of the log:\n{}", self.why, self.lines)
    }
}

impl Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}

impl World {
    /// Three nodes, ten seconds of storm, ten to heal, and one of calm.
    #[must_use]
    pub fn builder(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            storm: Duration::from_secs(10),
            healing_max: Duration::from_secs(10),
            calm: Duration::from_secs(1),
            faults: Faults::STORM,
            kills: &[],
            joins: false,
            apart: &[],
            met_at_last: false,
            crashing: NODES_MAX,
            vanishes: None,
            config: quick(),
            of_each: |_, _| {},
        }
    }

    /// How many nodes there are: 1 to 200.
    #[must_use]
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes: nodes.clamp(1, NODES_MAX), ..self }
    }

    /// For how long faults come.
    #[must_use]
    pub fn storm(self, storm: Duration) -> Self {
        Self { storm, ..self }
    }

    /// How long the mesh may take to heal.
    #[must_use]
    pub fn healing_max(self, healing_max: Duration) -> Self {
        Self { healing_max, ..self }
    }

    /// For how long it has to stay healed.
    #[must_use]
    pub fn calm(self, calm: Duration) -> Self {
        Self { calm, ..self }
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Which actors are killed while faults come: each of them on each node, one after the other.
    #[must_use]
    pub fn kills(self, kills: &'static [Part]) -> Self {
        Self { kills, ..self }
    }

    /// The nodes know one address, that of the first, and find one another from there. Else they
    /// know all.
    #[must_use]
    pub fn joins(self) -> Self {
        Self { joins: true, ..self }
    }

    /// Nothing gets from one of each pair to the other, directly: from the beginning on, and for ever.
    #[must_use]
    pub fn apart(self, apart: &'static [(usize, usize)]) -> Self {
        Self { apart, ..self }
    }

    /// What is [`apart`](Self::apart) is so in the storm only.
    #[must_use]
    pub fn met_at_last(self) -> Self {
        Self { met_at_last: true, ..self }
    }

    /// Only so many of the first nodes crash by chance: none, if it is 0.
    #[must_use]
    pub fn crashing(self, crashing: usize) -> Self {
        Self { crashing, ..self }
    }

    /// What is different for each node, by its index.
    #[must_use]
    pub fn of_each(self, of_each: fn(usize, &mut Config)) -> Self {
        Self { of_each, ..self }
    }

    /// A node crashes at this time of the storm, and does not come back.
    #[must_use]
    pub fn vanishes(self, node: usize, at: Duration) -> Self {
        Self { vanishes: Some((node, at)), ..self }
    }

    /// The configuration of all nodes, but for addresses and peers: it begins as one with short
    /// times, so that virtual seconds suffice.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Runs a scenario, through all phases.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the mesh does not heal in time or does not stay healed, a node does not start,
    /// or an invariant is violated.
    pub fn run<S: Scenario>(self, scenario: &S) -> Result<Run<S::Seen>, Broken> {
        let log = Log::default();
        let broken = |why: String| Broken { why, lines: log.lines(LINES_MAX) };
        let healed_after = self.phases(scenario, &log).map_err(broken)?;
        scenario.check(&log).map_err(broken)?;
        Ok(Run { log, healed_after })
    }

    fn phases<S: Scenario>(&self, scenario: &S, log: &Log<S::Seen>) -> Result<Duration, String> {
        let mut entropy = Entropy::from_seed(self.seed);
        let mut running = Running::new(self, scenario, &mut entropy, log)
            .map_err(|error| format!("the world cannot be made: {error}"))?;
        let mut weather = Weather::new(entropy.fork(), self.faults, self.nodes);
        weather.crash_only(self.crashing);
        for (a, b) in self.apart {
            weather.part_for_good(*a, *b);
            running.change(Change::Part(*a, *b), &mut weather);
        }
        weather.kill_each(self.kills, self.storm);
        if let Some((node, at)) = self.vanishes {
            weather.crash_at(node, at);
        }
        while running.sim.elapsed() < self.storm || weather.has_kills() {
            if running.sim.elapsed() > self.storm + STORM_LATE_MAX {
                return Err("an actor is never there to be killed".to_owned());
            }
            while let Some(change) = weather.next(running.sim.elapsed()) {
                running.change(change, &mut weather);
            }
            running.step()?;
        }
        running.heal(&mut weather, if self.met_at_last { &[] } else { self.apart });
        let since = running.sim.elapsed();
        let healed_after = self.healing(scenario, &mut running)?;
        running.tell_all(&What::Healed);
        self.calm_phase(scenario, &mut running, since)?;
        Ok(healed_after)
    }

    /// Runs until the mesh has been healed for a while.
    fn healing<S: Scenario>(
        &self,
        scenario: &S,
        running: &mut Running<'_, S>,
    ) -> Result<Duration, String> {
        let begin = running.sim.elapsed();
        let mut healed_at = None;
        loop {
            running.step_until(running.sim.elapsed() + LOOK_EVERY)?;
            let (now, look) = (running.sim.elapsed(), running.look(begin));
            if !scenario.healed(&look) {
                healed_at = None;
                if now - begin > self.healing_max {
                    return Err(format!("it has not healed: {look:?}"));
                }
                continue;
            }
            let healed_at = *healed_at.get_or_insert(now);
            if now - healed_at >= SETTLED_FOR {
                return Ok(healed_at - begin);
            }
        }
    }

    /// Runs on, and holds the mesh to what it is.
    fn calm_phase<S: Scenario>(
        &self,
        scenario: &S,
        running: &mut Running<'_, S>,
        since: Duration,
    ) -> Result<(), String> {
        let begin = running.sim.elapsed();
        while running.sim.elapsed() - begin < self.calm {
            running.step_until(running.sim.elapsed() + LOOK_EVERY)?;
            let look = running.look(since);
            if !scenario.healed(&look) {
                return Err(format!("it has not stayed healed: {look:?}"));
            }
        }
        Ok(())
    }
}

/// A configuration with short times.
fn quick() -> Config {
    let mut config = Config::default();
    let ms = Duration::from_millis;
    config.transport.handshake_timeout = ms(1_500);
    config.transport.idle_timeout = ms(2_000);
    config.transport.keep_alive = ms(500);
    config.pool.backoff_max = ms(1_000);
    config.pool.drain_timeout = ms(1_000);
    config
}

/// Short times for meshes whose nodes find one another, beside those that all worlds have.
pub fn meet_quickly(config: &mut Config) {
    let ms = Duration::from_millis;
    let bootstrap = &mut config.mesh.bootstrap;
    (bootstrap.retry_initial, bootstrap.retry_max) = (ms(200), ms(1_000));
    config.membership.reconnect_interval = ms(1_000);
    config.membership.sync_interval = ms(2_000);
    config.membership.join_backoff_max = ms(1_000);
    config.dht.node.table.refresh_own_after = ms(10_000);
    config.dht.node.records.replicate_every = ms(5_000);
    config.dht.node.published.record_every = ms(5_000);
}

/// A world that runs.
struct Running<'a, S: Scenario> {
    sim: turmoil::Sim<'a>,
    hosts: Vec<Arc<Host<S::Seen>>>,
    log: Log<S::Seen>,
}

impl<S: Scenario> Running<'_, S> {
    fn new(
        world: &World,
        scenario: &S,
        entropy: &mut Entropy,
        log: &Log<S::Seen>,
    ) -> Result<Self, macula_core::identity::IssueError> {
        let identities = Identities::new(world.nodes)?;
        let (ids, showings) = (identities.ids(), identities.showings()?);
        let mut sim = turmoil::Builder::new()
            .rng_seed(entropy.next_u64())
            .enable_random_order()
            .simulation_duration(Duration::MAX)
            .udp_capacity(UDP_CAPACITY)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(world.faults.latency_max.max(Duration::from_millis(1)))
            .fail_rate(world.faults.loss)
            .repair_rate(1.0)
            .build();
        let mut hosts = Vec::new();
        for (index, shown) in showings.into_iter().enumerate() {
            let host = Arc::new(Host {
                index,
                seed: entropy.next_u64(),
                config: {
                    let mut config = world.config.clone();
                    (world.of_each)(index, &mut config);
                    config
                },
                joins: world.joins,
                ids: Arc::clone(&ids),
                shown,
                log: log.clone(),
                lives: AtomicU64::new(0),
                cuts: AtomicU64::new(0),
                running: Mutex::new(None),
            });
            hosts.push(Arc::clone(&host));
            let scenario = scenario.clone();
            sim.host(address(index), move || {
                let (host, scenario) = (Arc::clone(&host), scenario.clone());
                async move {
                    let life = host.begin().await?;
                    let (log, node) = (host.log.clone(), host.index);
                    Guarded::new(scenario.live(life), log, node).await;
                    // The node goes on after all that its scenario does.
                    std::future::pending().await
                }
            });
        }
        Ok(Self { sim, hosts, log: log.clone() })
    }

    fn step(&mut self) -> Result<(), String> {
        self.log.set_now(self.sim.elapsed());
        self.sim.step().map_err(|error| format!("a node has failed: {error}"))?;
        self.log.set_now(self.sim.elapsed());
        if let Some(spins) = self.log.spinning() {
            return Err(spins);
        }
        self.sim.links(|links| {
            for link in links {
                for sent in link {
                    if let turmoil::Protocol::Udp(datagram) = sent.protocol() {
                        self.log.stir((sent.pair(), datagram.0.len()));
                    }
                }
            }
        });
        Ok(())
    }

    fn step_until(&mut self, end: Duration) -> Result<(), String> {
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn change(&mut self, change: Change, weather: &mut Weather) {
        match change {
            Change::Part(a, b) => {
                self.sim.partition(address(a), address(b));
                self.tell(a, What::Parted(b));
            }
            Change::Hold(a, b) => {
                self.sim.hold(address(a), address(b));
                self.tell(a, What::Held(b));
            }
            Change::Mend(a, b) => {
                self.sim.release(address(a), address(b));
                self.tell(a, What::Mended(b));
            }
            Change::Crash(node) => {
                self.tell(node, What::Crashed);
                if let Some(host) = self.hosts.get(node) {
                    *host.running.lock() = None;
                }
                self.sim.crash(address(node));
            }
            Change::Start(node) => self.sim.bounce(address(node)),
            Change::Kill(node, part) => {
                if self.hosts.get(node).is_some_and(|host| host.kill(part)) {
                    self.tell(node, What::Killed(part));
                } else {
                    weather.kill_again(self.sim.elapsed(), node, part);
                }
            }
        }
    }

    fn heal(&mut self, weather: &mut Weather, apart: &[(usize, usize)]) {
        self.sim.set_fail_rate(0.0);
        self.sim.set_max_message_latency(Faults::NONE.latency_max);
        self.tell_all(&What::Calm);
        for change in weather.clear() {
            if !matches!(change, Change::Mend(a, b) if apart.contains(&(a, b))) {
                self.change(change, weather);
            }
        }
        // A link may also be broken by loss.
        for a in 0..self.hosts.len() {
            for b in 0..a {
                if !apart.contains(&(b, a)) {
                    self.sim.release(address(a), address(b));
                }
            }
        }
    }

    fn look(&self, since: Duration) -> Look<'_, S::Seen> {
        let nodes = self.hosts.iter().map(|host| host.running.lock().clone()).collect();
        Look { nodes, log: &self.log, since }
    }

    fn tell(&self, node: usize, what: What<S::Seen>) {
        let life = self.hosts.get(node).map_or(0, |host| host.life());
        self.log.push(node, life, what);
    }

    fn tell_all(&self, what: &What<S::Seen>) {
        for node in 0..self.hosts.len() {
            self.tell(node, what.clone());
        }
    }
}

/// The nodes as they are at one moment after the faults.
pub struct Look<'a, S> {
    nodes: Vec<Option<Arc<Node>>>,
    log: &'a Log<S>,
    since: Duration,
}

impl<S> Debug for Look<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "\n  node {index}: ")?;
            match node {
                None => write!(f, "down")?,
                Some(node) => {
                    let (members, table) =
                        (node.mesh().membership(), node.mesh().dht().stats().table);
                    let (entries, doubtful) = (table.entries, table.questionable);
                    write!(f, "{} members, {entries} entries ", members.members().len())?;
                    write!(f, "({doubtful} questionable); ")?;
                    for link in node.mesh().links() {
                        write!(f, "{link:?}{} ", if link.is_leaving() { " leaving" } else { "" })?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl<S> Look<'_, S> {
    /// The nodes; none for one whose tree is not up.
    #[must_use]
    pub fn nodes(&self) -> &[Option<Arc<Node>>] {
        &self.nodes
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log<S> {
        self.log
    }

    /// When faults ended.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// Whether all nodes are up, and each has exactly one usable connection to each other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Some(nodes) = self.nodes.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let usable = |one: &Node, other: &Node| {
            let links = one.mesh().links();
            let to = links.iter().filter(|link| link.node() == other.id() && !link.is_leaving());
            to.count()
        };
        let pairs = nodes.iter().flat_map(|one| nodes.iter().map(move |other| (one, other)));
        pairs.filter(|(one, other)| one.id() != other.id()).all(|(a, b)| usable(a, b) == 1)
    }
}
