//! What a relay has promised to whom, and what goes through it: pure.
//!
//! A node that cannot be dialled *reserves* a place at a relay. Others may then send datagrams to
//! it: a first one opens a *circuit* between the two, over which both send, until nothing has gone
//! over it for a while. Each sender has its share of bytes. Everything has bounds, so that a relay
//! gives what it can spare and no more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::identity::NodeId;

use crate::bounds::{Invalid, number, span};
use crate::tokens::{Bucket, Rate};

/// What a relay gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Whether the node relays for others.
    pub serve: bool,
    /// How many nodes have a place. 1 to 100,000.
    pub reservations_max: usize,
    /// How long a place is kept unless it is reserved anew. 10 s to 24 h.
    pub lifetime: Duration,
    /// How many pairs of nodes send to each other. 1 to 1,000,000.
    pub circuits_max: usize,
    /// Of how many of these one node is a part. 1 to `circuits_max`.
    pub circuits_per_node_max: usize,
    /// After how long a circuit over which nothing has gone is closed. 5 s to 1 h.
    pub circuit_idle: Duration,
    /// How many KiB one node sends in a second: 1 to 4,194,303. Twice as much at once.
    pub kib_per_s: u32,
}

impl Default for Config {
    /// A node that does not relay. One that does gives 1,024 nodes a place for 10 minutes, with
    /// 4,096 circuits, 256 for a node, closed after a minute, and 4 MiB a second for each sender.
    fn default() -> Self {
        Self {
            serve: false,
            reservations_max: 1_024,
            lifetime: Duration::from_secs(600),
            circuits_max: 4_096,
            circuits_per_node_max: 256,
            circuit_idle: Duration::from_secs(60),
            kib_per_s: 4_096,
        }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let s = Duration::from_secs;
        number("reservations_max", self.reservations_max, 1, 100_000)?;
        span("lifetime", self.lifetime, s(10), s(86_400))?;
        number("circuits_max", self.circuits_max, 1, 1_000_000)?;
        number("circuits_per_node_max", self.circuits_per_node_max, 1, self.circuits_max)?;
        span("circuit_idle", self.circuit_idle, s(5), s(3_600))?;
        let per_s = usize::try_from(self.kib_per_s).unwrap_or(usize::MAX);
        number("kib_per_s", per_s, 1, 4_194_303)
    }

    /// In bytes.
    const fn rate(&self) -> Rate {
        let per_s = self.kib_per_s.saturating_mul(1_024);
        Rate { per_s, burst: per_s.saturating_mul(2) }
    }
}

/// Why a node has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// This node does not relay.
    #[error("this node does not relay")]
    Off,
    /// All places are taken.
    #[error("all {0} places are taken")]
    Full(usize),
}

/// Why a datagram was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCarried {
    /// The node that it is for has no place here.
    #[error("the node has no place here")]
    Absent,
    /// There are as many circuits as may be.
    #[error("as many circuits as may be are open")]
    Circuits,
    /// The sender has had its share.
    #[error("the sender has had its share")]
    Quota,
}

impl NotCarried {
    /// A word for it: the label of counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Circuits => "circuits",
            Self::Quota => "quota",
        }
    }
}

/// Two nodes, the lesser first.
type Pair = (NodeId, NodeId);

fn pair(one: NodeId, other: NodeId) -> Pair {
    (one.min(other), one.max(other))
}

/// When something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Reservation(NodeId),
    Circuit(Pair),
}

/// What a node takes part in.
#[derive(Debug, Default)]
struct Node {
    is_reserved: bool,
    circuits: usize,
    sent: Option<Bucket>,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    config: Config,
    nodes: BTreeMap<NodeId, Node>,
    reservations: usize,
    /// When something went over each circuit last. Its timer may be earlier and is then set anew.
    circuits: BTreeMap<Pair, Instant>,
    timers: Deadlines<Timer>,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            nodes: BTreeMap::new(),
            reservations: 0,
            circuits: BTreeMap::new(),
            timers: Deadlines::new(),
        }
    }

    /// How many nodes have a place.
    #[must_use]
    pub const fn reservations(&self) -> usize {
        self.reservations
    }

    /// How many circuits there are.
    #[must_use]
    pub fn circuits(&self) -> usize {
        self.circuits.len()
    }

    /// Gives a node a place, or keeps it longer, and says for how long.
    ///
    /// # Errors
    ///
    /// [`Denial`].
    pub fn reserve(&mut self, now: Instant, node: NodeId) -> Result<Duration, Denial> {
        self.expire(now);
        if !self.config.serve {
            return Err(Denial::Off);
        }
        let has_one = self.nodes.get(&node).is_some_and(|known| known.is_reserved);
        if !has_one && self.reservations >= self.config.reservations_max {
            return Err(Denial::Full(self.config.reservations_max));
        }
        self.nodes.entry(node).or_default().is_reserved = true;
        self.reservations += usize::from(!has_one);
        self.timers.set(Timer::Reservation(node), now + self.config.lifetime);
        Ok(self.config.lifetime)
    }

    /// A node has gone, or wants its place no longer.
    pub fn release(&mut self, node: NodeId) {
        self.timers.clear(Timer::Reservation(node));
        if let Some(known) = self.nodes.get_mut(&node)
            && std::mem::take(&mut known.is_reserved)
        {
            self.reservations -= 1;
        }
        self.tidy(node);
    }

    /// Whether a datagram of so many bytes is carried from one node to another.
    ///
    /// # Errors
    ///
    /// [`NotCarried`].
    pub fn carry(
        &mut self,
        now: Instant,
        from: NodeId,
        to: NodeId,
        len: usize,
    ) -> Result<(), NotCarried> {
        self.expire(now);
        let pair = pair(from, to);
        if let Some(used) = self.circuits.get_mut(&pair) {
            *used = now;
        } else {
            self.open(now, from, to)?;
        }
        let rate = self.config.rate();
        let sender = self.nodes.entry(from).or_default();
        let bucket = sender.sent.get_or_insert_with(|| Bucket::full(now, rate));
        let cost = u32::try_from(len).unwrap_or(u32::MAX);
        bucket.take(now, rate, cost).map_err(|_wait| NotCarried::Quota)
    }

    fn open(&mut self, now: Instant, from: NodeId, to: NodeId) -> Result<(), NotCarried> {
        if from == to || !self.nodes.get(&to).is_some_and(|known| known.is_reserved) {
            return Err(NotCarried::Absent);
        }
        let Config { circuits_max, circuits_per_node_max, circuit_idle, .. } = self.config;
        let of = |node| self.nodes.get(&node).map_or(0, |known| known.circuits);
        if self.circuits.len() >= circuits_max || of(from).max(of(to)) >= circuits_per_node_max {
            return Err(NotCarried::Circuits);
        }
        let pair = pair(from, to);
        self.circuits.insert(pair, now);
        self.timers.set(Timer::Circuit(pair), now + circuit_idle);
        for node in [from, to] {
            self.nodes.entry(node).or_default().circuits += 1;
        }
        Ok(())
    }

    /// Ends what is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Reservation(node) => self.release(node),
                Timer::Circuit(pair) => self.close_if_idle(now, pair),
            }
        }
    }

    fn close_if_idle(&mut self, now: Instant, pair: Pair) {
        let Some(used) = self.circuits.get(&pair) else { return };
        let over = *used + self.config.circuit_idle;
        if over > now {
            return self.timers.set(Timer::Circuit(pair), over);
        }
        self.circuits.remove(&pair);
        for node in [pair.0, pair.1] {
            if let Some(known) = self.nodes.get_mut(&node) {
                known.circuits -= 1;
            }
            self.tidy(node);
        }
    }

    /// Forgets a node that takes part in nothing.
    fn tidy(&mut self, node: NodeId) {
        if self.nodes.get(&node).is_some_and(|known| !known.is_reserved && known.circuits == 0) {
            self.nodes.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests;
