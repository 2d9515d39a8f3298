//! The iterative lookup: one machine for each.
//!
//! It keeps the nodes that it has heard of in the order of their distance from the target, and asks
//! the closest ones for closer ones, [`alpha`](Config::alpha) at one time. Once their answers bring
//! nobody closer, it asks all that are left of the k closest at once (section 2.3 of the paper). It
//! ends when the k closest that did not fail have all answered. Nobody is asked twice.
//!
//! # Disjoint paths
//!
//! A node that lies can lead a lookup among its accomplices. So a lookup can go on several paths,
//! and what a node says is believed on the path on which it was asked, and on no other (Baumgart and
//! Mies, *S/Kademlia*, ICPADS 2007, "lookup over disjoint paths"). A node that two paths have heard
//! of is asked on one of them; for the other it counts as done when it has answered. So all paths
//! but the first come at the price of their first few steps.
//!
//! # Density
//!
//! Accomplices who only name one another are fewer than all nodes, and so they lie farther apart.
//! When the k closest that answered are [sparser](super::density) than the population makes likely,
//! the lookup goes on with those that were passed over, until they are dense enough or twice as many
//! again have been asked.
//!
//! # Slow nodes
//!
//! A parent that has waited for longer than usual says [`Slow`](Input::Slow); a further node is
//! asked beside, and the slow one can still answer.

mod path;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::machine::Machine;

use super::density::{Density, advise};
use super::peer::Peer;
use crate::bounds::{Invalid, number, span};
use crate::dht::key::{Distance, Key};

use path::{Path, Place};

/// How many peers of one answer are looked at.
pub const PEERS_MAX: usize = 20;

/// How many nodes a path remembers; those that are farthest are forgotten first.
pub const SEEN_MAX: usize = 512;

/// To how many times k nodes a lookup is widened that finds too few.
const WIDEN_MAX: usize = 3;

/// How a lookup goes about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How many nodes are wanted. 1 to 80.
    pub k: usize,
    /// How many are asked at one time, on all paths together; at least one on each. 1 to 16.
    pub alpha: usize,
    /// On how many disjoint paths. 1 to 8.
    pub paths: usize,
    /// How many nodes are asked at most, a fair share on each path. 1 to 1,024.
    pub asks_max: usize,
    /// When it ends with what it has, after it began. 100 ms to 10 min.
    pub deadline: Duration,
    /// After how many answers with the value it ends; none for one that looks for nodes.
    pub quorum: Option<usize>,
    /// How many nodes there are, if that is known: what is found is judged by it.
    pub population: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            k: 20,
            alpha: 3,
            paths: 1,
            asks_max: 192,
            deadline: Duration::from_secs(30),
            quorum: None,
            population: None,
        }
    }
}

impl Config {
    /// Four disjoint paths, and as many more to ask: for a mesh in which anybody can be a node. Of
    /// 1,000 lookups among 10,000 nodes, a quarter of them hostile, 984 found exactly the closest;
    /// on three paths with 192 nodes to ask 947, and on one path of 5,000 nodes 886.
    #[must_use]
    pub fn guarded() -> Self {
        Self { paths: 4, alpha: 4, asks_max: 256, ..Self::default() }
    }

    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let ms = Duration::from_millis;
        number("k", self.k, 1, 80)?;
        number("alpha", self.alpha, 1, 16)?;
        number("paths", self.paths, 1, 8)?;
        number("asks_max", self.asks_max, 1, 1_024)?;
        span("deadline", self.deadline, ms(100), ms(600_000))
    }
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A node has answered.
    Answered {
        /// Which.
        node: NodeId,
        /// Whom it names. It is hearsay: what is not sound is dropped.
        peers: Vec<Peer>,
        /// Whether the value was with it, which the caller has taken.
        found: bool,
    },
    /// A node has not answered, and will not.
    Failed {
        /// Which.
        node: NodeId,
    },
    /// A node takes longer than nodes usually do.
    Slow {
        /// Which.
        node: NodeId,
    },
    /// The caller has what it wants.
    Enough,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask a peer for those that are closest to the target, or for the value.
    Ask {
        /// Whom.
        peer: Peer,
        /// On which path, from 0.
        path: usize,
    },
    /// The lookup is over. This is the last output.
    Done(Outcome),
}

/// Why a lookup is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The k closest have all answered.
    Converged,
    /// All that were heard of were asked, and fewer than k have answered.
    Exhausted,
    /// As many were asked as may be.
    Budget,
    /// The deadline has come.
    Deadline,
    /// The caller had enough.
    Enough,
}

/// What a lookup has found, and what it took.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The k closest nodes that answered, the closest first.
    pub closest: Vec<Peer>,
    /// How many nodes were asked.
    pub asked: usize,
    /// How many of them failed.
    pub failed: usize,
    /// How many of them had the value.
    pub found: usize,
    /// How many steps led to the farthest of the closest: 1 if the own table knew them all.
    pub hops: usize,
    /// How many requests and answers there were.
    pub messages: usize,
    /// How many peers were named that cannot be.
    pub refused: usize,
    /// Whether what was found is as dense as it should be.
    pub density: Density,
    /// Why it is over.
    pub end: End,
}

/// How it stands with a node that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Slow,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Asked {
    peer: Peer,
    distance: Distance,
    path: usize,
    hop: usize,
    state: State,
}

/// One lookup. See the [module](self).
#[derive(Debug)]
pub struct Lookup {
    own: Key,
    target: Key,
    config: Config,
    paths: Vec<Path>,
    asked: BTreeMap<NodeId, Asked>,
    /// How many of the closest have to answer: k, and more if they are too sparse.
    width: usize,
    deadline: Instant,
    answers: usize,
    found: usize,
    refused: usize,
    is_done: bool,
    out: VecDeque<Output>,
    #[cfg(test)]
    pub(in crate::dht) bug: Option<super::tests::Bug>,
}

impl Lookup {
    /// A lookup of `target` by the node with the key `own`, which begins with `seeds`: the closest
    /// peers of its table, the closest first.
    #[must_use]
    pub fn new(now: Instant, own: Key, target: Key, seeds: &[Peer], config: Config) -> Self {
        let mut lookup = Self::idle(now, own, target, config);
        lookup.seed(seeds);
        lookup.step();
        lookup
    }

    /// What it looks for.
    #[must_use]
    pub const fn target(&self) -> Key {
        self.target
    }

    /// A lookup that has not begun.
    pub(in crate::dht) fn idle(now: Instant, own: Key, target: Key, config: Config) -> Self {
        let paths = config.paths.max(1);
        Self {
            own,
            target,
            paths: (0..paths).map(|_| Path::default()).collect(),
            asked: BTreeMap::new(),
            width: config.k,
            deadline: now + config.deadline,
            config,
            answers: 0,
            found: 0,
            refused: 0,
            is_done: false,
            out: VecDeque::new(),
            #[cfg(test)]
            bug: None,
        }
    }

    /// Deals the seeds out to the paths.
    pub(in crate::dht) fn seed(&mut self, seeds: &[Peer]) {
        let paths = self.paths.len();
        for (at, peer) in seeds.iter().enumerate() {
            self.learn(at % paths, peer, 1);
        }
    }

    /// A path has heard of a peer.
    fn learn(&mut self, path: usize, peer: &Peer, hop: usize) {
        if !peer.is_sound() || peer.key() == self.own {
            self.refused += 1;
        } else if let Some(path) = self.paths.get_mut(path) {
            path.learn(self.target.distance(&peer.key()), peer, hop);
        }
    }

    fn answered(&mut self, node: NodeId, peers: &[Peer], found: bool) {
        let Some(asked) = self.asked.get_mut(&node).filter(|asked| asked.is_open()) else { return };
        let was = std::mem::replace(&mut asked.state, State::Answered);
        let (at, hop) = (asked.path, asked.hop + 1);
        if let Some(path) = self.paths.get_mut(at) {
            path.waiting -= usize::from(was == State::Waiting);
        }
        self.answers += 1;
        self.found += usize::from(found);
        let before = self.paths.get(at).and_then(Path::nearest);
        self.refused += peers.len().saturating_sub(PEERS_MAX);
        for peer in peers.iter().take(PEERS_MAX) {
            self.learn(at, peer, hop);
        }
        if let Some(path) = self.paths.get_mut(at) {
            path.note_progress(before);
        }
        if self.config.quorum.is_some_and(|quorum| self.found >= quorum) {
            self.finish(End::Enough);
        }
    }

    fn becomes(&mut self, node: NodeId, state: State) {
        let Some(asked) = self.asked.get_mut(&node).filter(|asked| asked.is_open()) else { return };
        let was = std::mem::replace(&mut asked.state, state);
        if let Some(path) = self.paths.get_mut(asked.path) {
            path.waiting -= usize::from(was == State::Waiting);
        }
    }

    /// Asks whom there is to ask, and ends if there is nobody and nothing is under way.
    pub(in crate::dht) fn step(&mut self) {
        while !self.is_done {
            let mut is_settled = true;
            for path in 0..self.paths.len() {
                is_settled &= self.step_path(path);
            }
            if !is_settled {
                return;
            }
            let widest = WIDEN_MAX * self.config.k;
            if self.width >= widest || self.density() != Density::Sparse || !self.has_more() {
                let end = self.how_it_ends();
                return self.finish(end);
            }
            self.width = (self.width + self.config.k).min(widest);
        }
    }

    /// Asks whom a path wants asked; says whether the closest of the path have all answered.
    fn step_path(&mut self, at: usize) -> bool {
        let Some(path) = self.paths.get(at) else { return true };
        let share = (self.config.alpha / self.paths.len()).max(1);
        let is_closing = path.is_closing(share);
        if is_closing && self.ends_early() {
            return true;
        }
        let parallel = if is_closing { self.width } else { share };
        let mut waiting = path.waiting;
        let budget = (self.config.asks_max / self.paths.len()).max(1);
        let mut left = budget.saturating_sub(path.asked);
        let (mut is_settled, mut live, mut wanted) = (true, 0, Vec::new());
        for (distance, place) in path.places() {
            if live >= self.width {
                break;
            }
            match self.asked.get(&place.peer.node()).map(|asked| asked.state) {
                Some(State::Failed) => {}
                // Somebody farther is asked in its stead, but its answer still counts.
                Some(State::Slow) => is_settled = false,
                Some(State::Answered) => live += 1,
                Some(State::Waiting) => {
                    live += 1;
                    is_settled = false;
                }
                None if left == 0 => live += 1,
                None => {
                    live += 1;
                    is_settled = false;
                    if waiting < parallel {
                        waiting += 1;
                        left -= 1;
                        wanted.push((*distance, place.clone()));
                    }
                }
            }
        }
        for (distance, place) in wanted {
            self.ask(at, distance, &place);
        }
        is_settled
    }

    /// Asks a node on one path, at the addresses that any path has heard of.
    fn ask(&mut self, path: usize, distance: Distance, place: &Place) {
        let others = self.paths.iter().filter_map(|path| path.get(&distance));
        let peer = others.fold(place.peer.clone(), |peer, other| peer.merged(&other.peer));
        let asked =
            Asked { peer: peer.clone(), distance, path, hop: place.hop, state: State::Waiting };
        self.asked.insert(peer.node(), asked);
        if let Some(path) = self.paths.get_mut(path) {
            path.asked += 1;
            path.waiting += 1;
        }
        self.out.push_back(Output::Ask { peer, path });
    }

    /// Whether there is somebody who could still be asked.
    fn has_more(&self) -> bool {
        let budget = self.asked.len() < self.config.asks_max;
        let is_new = |(_, place): (_, &Place)| !self.asked.contains_key(&place.peer.node());
        budget && self.paths.iter().any(|path| path.places().any(is_new))
    }

    fn how_it_ends(&self) -> End {
        let answered = self.asked.values().filter(|asked| asked.state == State::Answered).count();
        if answered >= self.config.k {
            End::Converged
        } else if self.has_more() || self.asked.len() >= self.config.asks_max {
            End::Budget
        } else {
            End::Exhausted
        }
    }

    /// The k closest that answered, the closest first.
    fn closest(&self) -> Vec<&Asked> {
        let answered = self.asked.values().filter(|asked| asked.state == State::Answered);
        let mut sorted: Vec<&Asked> = answered.collect();
        sorted.sort_unstable_by_key(|asked| asked.distance);
        sorted.truncate(self.config.k);
        sorted
    }

    fn density(&self) -> Density {
        let closest: Vec<Peer> = self.closest().iter().map(|asked| asked.peer.clone()).collect();
        advise(&self.target, &closest, self.config.k, self.config.population).density
    }

    fn finish(&mut self, end: End) {
        if self.is_done {
            return;
        }
        self.is_done = true;
        self.out.clear();
        let closest = self.closest();
        let hops = closest.iter().map(|asked| asked.hop).max().unwrap_or(0);
        let closest = closest.iter().map(|asked| asked.peer.clone()).collect();
        let failed = self.asked.values().filter(|asked| asked.state == State::Failed).count();
        self.out.push_back(Output::Done(Outcome {
            closest,
            asked: self.asked.len(),
            failed,
            found: self.found,
            hops,
            messages: self.asked.len() + self.answers,
            refused: self.refused,
            density: self.density(),
            end,
        }));
    }

    /// Whether the last round is left out on purpose.
    #[cfg(test)]
    fn ends_early(&self) -> bool {
        self.bug == Some(super::tests::Bug::EndsOneRoundEarly)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    const fn ends_early(&self) -> bool {
        false
    }
}

impl Asked {
    /// Whether an answer is still taken.
    const fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Slow)
    }
}

impl Machine for Lookup {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, _now: Instant, input: Input) {
        if self.is_done {
            return;
        }
        match input {
            Input::Answered { node, peers, found } => self.answered(node, &peers, found),
            Input::Failed { node } => self.becomes(node, State::Failed),
            Input::Slow { node } => self.becomes(node, State::Slow),
            Input::Enough => self.finish(End::Enough),
        }
        self.step();
    }

    fn handle_timeout(&mut self, now: Instant) {
        if !self.is_done && now >= self.deadline {
            self.finish(End::Deadline);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        (!self.is_done).then_some((self.deadline, "lookup deadline"))
    }
}
