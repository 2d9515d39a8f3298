//! Nodes that take part in one election, in a world of voters; and a judge of what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Call, CallError};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::election::proto::Bug;
use crate::election::{Candidacy, Elections, Event, Leadership, Options, Parts, Token};
use crate::kv::tests::world::{Skewed, World};
use crate::kv::{self, Kv};
use crate::raft;
use crate::raft::tests::harness::Lane;
use crate::raft::tests::harness::{From, node};
use crate::raft::timer::{self, Timer};

pub(crate) const NAME: &str = "game/match";

pub(crate) const TTL: Duration = Duration::from_secs(2);

/// Until another one is elected: the lease has to end, by whatever clocks, and the group may have to
/// find a leader of its own.
pub(crate) const FAILOVER: Duration = Duration::from_millis(2_000 * 121 / 100 + 2_000);

pub(crate) fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap())
}

/// The nodes that take part.
pub(crate) const CANDIDATES: [u8; 3] = [11, 12, 13];

/// What leaders write in storms. Each looks whether it leads, and what it writes then is on its way for a
/// while, in which its node may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Writes {
    #[default]
    Nothing,
    /// On condition that they lead still.
    Guarded,
    /// Whatever has happened since they looked, which is wrong.
    Unguarded,
}

/// All that was told and done, in the order of true time.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Who was told last that it is elected.
    pub(crate) elected: Vec<(Instant, u8, Token)>,
    /// The highest token that somebody was told of, or acted under.
    highest: Token,
    /// Who was told of its election and not of its end yet.
    told: BTreeMap<u8, Token>,
    pub(crate) acts: u64,
    /// What was written, by its revision, and under which token.
    written: BTreeMap<u64, Token>,
    /// Which leaders do not run, and since when.
    stopped: BTreeMap<u8, Instant>,
    /// How often a leader did not run for so long that another one was elected meanwhile.
    pub(crate) overslept: u64,
    pub(crate) wrong: Option<String>,
}

impl Log {
    fn fail(&mut self, why: String) {
        self.wrong.get_or_insert(why);
    }

    pub(crate) fn elected(&mut self, number: u8, token: Token) {
        if token <= self.highest {
            self.fail(format!("{number} is elected with {token} after {}", self.highest));
        }
        if let Some(before) = self.told.insert(number, token) {
            self.fail(format!("{number} is elected with {token} and was with {before}"));
        }
        self.highest = self.highest.max(token);
        self.elected.push((timer::now(), number, token));
    }

    pub(crate) fn deposed(&mut self, number: u8, token: Token) {
        if self.told.remove(&number) != Some(token) {
            self.fail(format!("{number} is deposed with {token}, and was not elected"));
        }
    }

    pub(crate) fn acts(&mut self, number: u8, token: Token) {
        if token < self.highest {
            self.fail(format!("{number} acts under {token} after {}", self.highest));
        }
        self.highest = self.highest.max(token);
        self.acts += 1;
    }

    /// What has changed at a revision was changed by who led then: a token is the revision at which its
    /// holder began.
    pub(crate) fn wrote(&mut self, number: u8, token: Token, at: u64) {
        if let Some(other) =
            self.elected.iter().find(|(_, _, other)| token < *other && other.0 < at)
        {
            self.fail(format!("{number} writes at {at} under {token}, and {} led", other.2));
        }
        self.written.insert(at, token);
    }

    /// Whether what was written is under tokens that only grow. One who led may have heard of its election
    /// later than another one's write was acknowledged.
    pub(crate) fn judge_writes(&mut self) {
        let mut tokens = self.written.iter().zip(self.written.iter().skip(1));
        let turned = tokens.find(|((_, before), (_, after))| before > after);
        if let Some(why) = turned.map(|(before, after)| format!("{after:?} is after {before:?}")) {
            self.fail(why);
        }
    }

    pub(crate) fn writes(&self) -> usize {
        self.written.len()
    }

    fn stops(&mut self, number: u8) {
        if self.told.contains_key(&number) {
            self.stopped.entry(number).or_insert_with(timer::now);
        }
    }

    fn goes_on(&mut self, number: u8) {
        let Some(since) = self.stopped.remove(&number) else { return };
        let is_long = timer::now() - since > TTL;
        let other =
            self.elected.last().is_some_and(|(at, other, _)| *other != number && *at > since);
        self.overslept += u64::from(is_long && other);
    }

    pub(crate) fn dies(&mut self, number: u8) {
        self.told.remove(&number);
        self.stopped.remove(&number);
    }
}

/// A way on which answers take their time.
#[derive(Debug)]
struct Slow {
    way: From,
    dice: Mutex<Entropy>,
    most: Duration,
}

impl Call for Slow {
    fn call<'a>(
        &'a self,
        node: NodeId,
        question: Bytes,
        within: Duration,
    ) -> Answer<'a, Result<Bytes, CallError>> {
        Box::pin(async move {
            let answer = self.way.call(node, question, within).await;
            let most = u64::try_from(self.most.as_millis()).unwrap();
            let ms = self.dice.lock().below(most + 1);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            answer
        })
    }
}

/// A node that takes part.
pub(crate) struct Node {
    pub(crate) elections: Elections,
    pub(crate) tasks: JoinSet<()>,
}

pub(crate) struct Nodes {
    pub(crate) world: World,
    pub(crate) nodes: BTreeMap<u8, Node>,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) dice: Entropy,
    pub(crate) bug: Option<Bug>,
    /// How long answers take at most.
    pub(crate) slowness: Duration,
    /// For how long a candidate does something else at most, before it asks whether it is elected.
    pub(crate) busy_ms_max: u64,
    pub(crate) writes: Writes,
    rates: BTreeMap<u8, u32>,
    lives: u64,
}

impl Nodes {
    /// Voters, whose clocks and those of candidates differ by a tenth at most.
    pub(crate) async fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Entropy::from_seed(seed);
        let mut world = World::empty(raft::Config::default());
        world.config.within_ms = 4_000;
        world.config.attempt_ms = 1_500;
        world.config.watch_wait_ms = 2_000;
        let mut rates = BTreeMap::new();
        for number in (1..=3).chain(CANDIDATES) {
            let rate = u32::try_from(955 + dice.below(91)).unwrap();
            rates.insert(number, rate);
            world.group.timers.insert(number, Skewed::new(rate));
        }
        let world = world.grown(3).await;
        let (nodes, log) = Default::default();
        let (slowness, busy_ms_max, writes, lives) = Default::default();
        Self { world, nodes, log, dice, bug, slowness, busy_ms_max, writes, rates, lives }
    }

    /// A process of a candidate's node that takes part in nothing yet.
    pub(crate) fn boot(&mut self, number: u8) -> Elections {
        let elections = self.elections(number);
        let mut tasks = JoinSet::new();
        let looked_after = elections.clone();
        tasks.spawn(async move { looked_after.look_after().await });
        self.nodes.insert(number, Node { elections: elections.clone(), tasks });
        elections
    }

    /// Elections of a process that nobody looks after yet.
    pub(crate) fn elections(&mut self, number: u8) -> Elections {
        self.lives += 1;
        let seed = self.lives << 8 | u64::from(number);
        let way = |lane| From(Arc::clone(&self.world.group.wires), node(number), lane);
        let dice = Mutex::new(self.dice.fork());
        // Some are slow, and others are not.
        let most = if self.dice.chance(0.5) { self.slowness } else { Duration::ZERO };
        let parts = kv::Parts {
            node: node(number),
            call: Arc::new(Slow { way: way(Lane::Kv), dice, most }),
            change: Arc::new(way(Lane::Change)),
            directory: self.world.board.at(node(number)),
            local: None,
            seed,
        };
        let kv = Kv::new(self.world.config, parts).unwrap();
        let timer: Arc<dyn Timer> = Skewed::new(self.rates.get(&number).copied().unwrap_or(1_000));
        let parts = Parts { node: node(number), kv, timer, seed };
        Elections::planted(parts, self.bug)
    }

    /// A process of a candidate's node that takes part.
    pub(crate) fn start(&mut self, number: u8) {
        let elections = self.boot(number);
        let candidacy = elections.campaign(NAME, options()).unwrap();
        let consumer = Consumer {
            number,
            log: Arc::clone(&self.log),
            dice: self.dice.fork(),
            busy_ms_max: self.busy_ms_max,
            elections: elections.clone(),
            writes: self.writes,
        };
        let part = elections.part(consumer.run(candidacy));
        self.nodes.get_mut(&number).unwrap().tasks.spawn(part);
    }

    /// A process ends, and says nothing.
    pub(crate) async fn kill(&mut self, number: u8) {
        if let Some(mut node) = self.nodes.remove(&number) {
            node.tasks.shutdown().await;
            self.log.lock().dies(number);
        }
    }

    pub(crate) fn cut(&self, number: u8) {
        self.world.cut(number);
    }

    pub(crate) fn stop(&self, number: u8) {
        if let Some(node) = self.nodes.get(&number) {
            node.elections.gate().stop();
            self.log.lock().stops(number);
        }
    }

    pub(crate) fn go_on(&self, number: u8) {
        if let Some(node) = self.nodes.get(&number) {
            node.elections.gate().go_on();
            self.log.lock().goes_on(number);
        }
    }

    /// Who was elected last, and when, if that was after a time.
    pub(crate) fn elected_after(&self, after: Instant) -> Option<(Instant, u8, Token)> {
        self.log.lock().elected.last().copied().filter(|(at, _, _)| *at > after)
    }

    /// Waits until somebody is elected after a time.
    pub(crate) async fn next_elected(
        &self,
        after: Instant,
        within: Duration,
    ) -> Option<(u8, Duration)> {
        let until = after + within;
        loop {
            if let Some((at, number, _)) = self.elected_after(after) {
                return Some((number, at - after));
            }
            if timer::now() >= until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn options() -> Options {
    Options { ttl_ms: u64::try_from(TTL.as_millis()).unwrap() }
}

/// Acts as long as it leads, and asks each time whether it does.
struct Consumer {
    number: u8,
    log: Arc<Mutex<Log>>,
    dice: Entropy,
    busy_ms_max: u64,
    elections: Elections,
    writes: Writes,
}

impl Consumer {
    async fn run(mut self, mut candidacy: Candidacy) {
        // What is on its way is not called back by its writer's end.
        let mut writing = JoinSet::new();
        self.busy().await;
        while let Some(event) = candidacy.next().await {
            match event {
                Event::Elected(leadership) => {
                    self.log.lock().elected(self.number, leadership.token());
                    if self.writes != Writes::Nothing {
                        let write = self.write(leadership.clone());
                        writing.spawn(self.elections.part(write));
                    }
                    while let Ok(token) = leadership.check() {
                        self.log.lock().acts(self.number, token);
                        tokio::select! {
                            _ = leadership.over() => {}
                            () = tokio::time::sleep(Duration::from_millis(20)) => {}
                        }
                    }
                }
                Event::Deposed { token, .. } => {
                    self.log.lock().deposed(self.number, token);
                    self.busy().await;
                }
            }
        }
    }

    /// Writes again and again as long as it leads.
    fn write(&mut self, leadership: Leadership) -> impl Future<Output = ()> + Send + use<> {
        let (mut dice, log) = (self.dice.fork(), Arc::clone(&self.log));
        let (number, writes) = (self.number, self.writes);
        let kv = self.elections.kv().clone();
        async move {
            while let Ok(token) = leadership.check() {
                tokio::time::sleep(Duration::from_millis(dice.below(200))).await;
                let written = if writes == Writes::Guarded {
                    kv.guarded(NAME, token).put("resource", "written").await.ok()
                } else {
                    kv.put("resource", "written").await.ok()
                };
                if let Some(at) = written {
                    log.lock().wrote(number, token, at);
                }
            }
        }
    }

    async fn busy(&mut self) {
        let ms = self.dice.below(self.busy_ms_max + 1);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

pub(crate) fn in_virtual_time<T>(what: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(what)
}
