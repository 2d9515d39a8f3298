//! What goes wrong in a world, and the weather that a seed makes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use macula_core::entropy::Entropy;

/// What goes wrong. A mean of none is never.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// How likely a datagram breaks its link for itself and for all that is under way there, both
    /// ways: loss comes in bursts.
    pub loss: f64,
    /// The longest that a datagram is under way. Each takes its own time, so they overtake.
    pub latency_max: Duration,
    /// How often two nodes are parted, in the mean.
    pub part_every: Option<Duration>,
    /// For how long at most.
    pub part_max: Duration,
    /// How often all between two nodes is held, in the mean.
    pub hold_every: Option<Duration>,
    /// For how long at most.
    pub hold_max: Duration,
    /// How often the nodes fall into two parts that do not reach one another, in the mean.
    pub split_every: Option<Duration>,
    /// For how long at most.
    pub split_max: Duration,
    /// How often a node crashes, in the mean.
    pub crash_every: Option<Duration>,
    /// For how long it is down at most.
    pub down_max: Duration,
}

impl Faults {
    /// A network that is fast and whole, and nodes that do not crash.
    pub const NONE: Self = Self {
        loss: 0.0,
        latency_max: Duration::from_millis(10),
        part_every: None,
        part_max: Duration::ZERO,
        hold_every: None,
        hold_max: Duration::ZERO,
        split_every: None,
        split_max: Duration::ZERO,
        crash_every: None,
        down_max: Duration::ZERO,
    };

    /// All at once but for splits, and often.
    pub const STORM: Self = Self {
        loss: 0.05,
        latency_max: Duration::from_millis(50),
        part_every: Some(Duration::from_secs(3)),
        part_max: Duration::from_secs(3),
        hold_every: Some(Duration::from_secs(4)),
        hold_max: Duration::from_secs(2),
        split_every: None,
        split_max: Duration::ZERO,
        crash_every: Some(Duration::from_secs(4)),
        down_max: Duration::from_secs(2),
    };
}

/// What can be killed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The one that knows who is in the mesh.
    Membership,
    /// The one of the distributed hash table.
    Dht,
    /// The one that publishes and subscribes.
    PubSub,
    /// The one that keeps places at relays and offers its own. Of a node that does neither it
    /// cannot be killed, and the run fails.
    Relay,
    /// The one that carries what replicas of replicated types say.
    Replicator,
    /// A connection, whichever is its turn.
    Connection,
}

/// How long after a kill that found no actor the next attempt follows.
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// What the weather does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Part(usize, usize),
    Hold(usize, usize),
    Mend(usize, usize),
    Crash(usize),
    Start(usize),
    Kill(usize, Part),
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Part,
    Hold,
    Split,
    Crash,
    Change(Change),
}

/// The weather: which faults come when. It knows which nodes and links are well.
#[derive(Debug)]
pub(super) struct Weather {
    entropy: Entropy,
    faults: Faults,
    nodes: usize,
    /// How many of them crash.
    crashing: usize,
    down: Vec<bool>,
    broken: Vec<(usize, usize)>,
    queue: BTreeMap<(Duration, u64), Due>,
    numbers: u64,
    /// How many actors are still to be killed.
    kills: usize,
}

impl Weather {
    pub(super) fn new(mut entropy: Entropy, faults: Faults, nodes: usize) -> Self {
        let queue = BTreeMap::new();
        let (down, broken) = (vec![false; nodes], Vec::new());
        let entropy = entropy.fork();
        let mut weather = Self {
            entropy,
            faults,
            nodes,
            crashing: nodes,
            down,
            broken,
            queue,
            numbers: 0,
            kills: 0,
        };
        weather.forecast(Duration::ZERO, faults.part_every, Due::Part);
        weather.forecast(Duration::ZERO, faults.hold_every, Due::Hold);
        weather.forecast(Duration::ZERO, faults.crash_every, Due::Crash);
        weather.forecast(Duration::ZERO, faults.split_every, Due::Split);
        weather
    }

    /// Only so many of the first nodes crash, by chance: none, if it is 0.
    pub(super) fn crash_only(&mut self, crashing: usize) {
        self.crashing = crashing.min(self.nodes);
    }

    /// Two nodes, the lesser first, are parted, and nothing changes that before the end of all faults.
    pub(super) fn part_for_good(&mut self, a: usize, b: usize) {
        self.broken.push((a, b));
    }

    /// Has each of these parts killed on each node, one after the other until `end`.
    pub(super) fn kill_each(&mut self, parts: &[Part], end: Duration) {
        let of = |node| parts.iter().map(move |part| (node, *part));
        let mut kills: Vec<(usize, Part)> = (0..self.nodes).flat_map(of).collect();
        self.kills = kills.len();
        let places = u32::try_from(kills.len() + 1).unwrap_or(u32::MAX);
        for place in 1..places {
            let (node, part) = kills.swap_remove(self.pick(kills.len()));
            self.schedule(end / places * place, Due::Change(Change::Kill(node, part)));
        }
    }

    /// Has a node crash at a time, for good.
    pub(super) fn crash_at(&mut self, node: usize, at: Duration) {
        self.schedule(at, Due::Change(Change::Crash(node)));
    }

    /// An actor could not be killed, because it was not there.
    pub(super) fn kill_again(&mut self, now: Duration, node: usize, part: Part) {
        self.kills += 1;
        self.schedule(now + KILL_AGAIN, Due::Change(Change::Kill(node, part)));
    }

    /// Whether actors are still to be killed.
    pub(super) const fn has_kills(&self) -> bool {
        self.kills > 0
    }

    /// What is due, one after the other.
    pub(super) fn next(&mut self, now: Duration) -> Option<Change> {
        loop {
            let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
            let change = match entry.remove() {
                Due::Part => {
                    self.forecast(now, self.faults.part_every, Due::Part);
                    self.break_link(now, self.faults.part_max, Change::Part)
                }
                Due::Hold => {
                    self.forecast(now, self.faults.hold_every, Due::Hold);
                    self.break_link(now, self.faults.hold_max, Change::Hold)
                }
                Due::Split => {
                    self.forecast(now, self.faults.split_every, Due::Split);
                    self.split(now);
                    None
                }
                Due::Crash => {
                    self.forecast(now, self.faults.crash_every, Due::Crash);
                    self.crash(now)
                }
                Due::Change(change) => {
                    self.ended(change);
                    Some(change)
                }
            };
            if change.is_some() {
                return change;
            }
        }
    }

    /// Ends all faults: gives what has to be done for that.
    pub(super) fn clear(&mut self) -> Vec<Change> {
        self.queue.clear();
        let mends = std::mem::take(&mut self.broken).into_iter().map(|(a, b)| Change::Mend(a, b));
        let down = std::mem::replace(&mut self.down, vec![false; self.nodes]);
        let starts = down.into_iter().enumerate().filter(|(_, down)| *down);
        mends.chain(starts.map(|(node, _)| Change::Start(node))).collect()
    }

    fn break_link(
        &mut self,
        now: Duration,
        lasts_max: Duration,
        how: impl Fn(usize, usize) -> Change,
    ) -> Option<Change> {
        let (one, other) = (self.pick(self.nodes), self.pick(self.nodes.checked_sub(1)?));
        let other = if other >= one { other + 1 } else { other };
        let pair = (one.min(other), one.max(other));
        if self.broken.contains(&pair) {
            return None;
        }
        self.broken.push(pair);
        let lasts = self.up_to(lasts_max);
        self.schedule(now + lasts, Due::Change(Change::Mend(pair.0, pair.1)));
        Some(how(pair.0, pair.1))
    }

    /// Parts each node of one side from each of the other, until all is mended together.
    fn split(&mut self, now: Duration) {
        let sides: Vec<bool> = (0..self.nodes).map(|_| self.entropy.chance(0.5)).collect();
        let lasts = self.up_to(self.faults.split_max);
        for (b, one) in sides.iter().enumerate() {
            for (a, other) in sides.iter().enumerate().take(b) {
                if one != other && !self.broken.contains(&(a, b)) {
                    self.broken.push((a, b));
                    self.schedule(now, Due::Change(Change::Part(a, b)));
                    self.schedule(now + lasts, Due::Change(Change::Mend(a, b)));
                }
            }
        }
    }

    fn crash(&mut self, now: Duration) -> Option<Change> {
        if self.crashing == 0 {
            return None;
        }
        let node = self.pick(self.crashing);
        let down = self.down.get_mut(node).filter(|down| !**down)?;
        *down = true;
        let lasts = self.up_to(self.faults.down_max);
        self.schedule(now + lasts, Due::Change(Change::Start(node)));
        Some(Change::Crash(node))
    }

    fn ended(&mut self, change: Change) {
        match change {
            Change::Mend(a, b) => self.broken.retain(|pair| *pair != (a, b)),
            Change::Start(node) => {
                if let Some(down) = self.down.get_mut(node) {
                    *down = false;
                }
            }
            Change::Kill(..) => self.kills -= 1,
            Change::Part(..) | Change::Hold(..) | Change::Crash(_) => {}
        }
    }

    fn forecast(&mut self, now: Duration, every: Option<Duration>, what: Due) {
        if let Some(mean) = every {
            let wait = self.up_to(mean * 2);
            self.schedule(now + wait, what);
        }
    }

    fn schedule(&mut self, at: Duration, what: Due) {
        self.numbers += 1;
        self.queue.insert((at, self.numbers), what);
    }

    fn pick(&mut self, of: usize) -> usize {
        let drawn = self.entropy.below(u64::try_from(of).unwrap_or(u64::MAX));
        usize::try_from(drawn).unwrap_or_default()
    }

    /// From one millisecond to `max`.
    fn up_to(&mut self, max: Duration) -> Duration {
        let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.entropy.below(max_ms) + 1)
    }
}
