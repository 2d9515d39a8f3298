//! What has happened in a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_infra::pubsub::Report;
use macula_tests::world::{Entry, Part, What};

use super::load::{Cast, TOPICS};
use super::seen::{End, Op, Seen, Told};

/// A life of a node.
pub(crate) type Living = (usize, u64);

/// A message that somebody has got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Got {
    pub(crate) by: Living,
    pub(crate) op: Op,
    pub(crate) topic: usize,
    pub(crate) sequence: u64,
    pub(crate) priority: u8,
    pub(crate) at: Duration,
}

/// A message, and what was said when it was published.
#[derive(Debug, Clone)]
pub(crate) struct Sent<'a> {
    pub(crate) topic: usize,
    pub(crate) at: Duration,
    pub(crate) end: Option<&'a End>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History<'a> {
    pub(crate) cast: Cast,
    pub(crate) sent: BTreeMap<Op, Sent<'a>>,
    pub(crate) got: Vec<Got>,
    pub(crate) crashed: BTreeMap<Living, Duration>,
    pub(crate) killed: Vec<(Living, Part, Duration)>,
    /// The newest life of each node.
    pub(crate) lives: BTreeMap<usize, u64>,
    /// What each life has told last, and when.
    pub(crate) settled: BTreeMap<Living, (Duration, &'a Told)>,
    /// What has not ended, and should have.
    pub(crate) stuck: Vec<(Living, Duration, &'a Report)>,
}

impl<'a> History<'a> {
    pub(crate) fn of(entries: &'a [Entry<Seen>], cast: Cast) -> Self {
        let mut history = Self { cast, ..Self::default() };
        for entry in entries {
            history.entry(entry);
        }
        history
    }

    fn entry(&mut self, Entry { at, node, life, what }: &'a Entry<Seen>) {
        let by = (*node, *life);
        match what {
            What::Born => drop(self.lives.insert(*node, *life)),
            What::Crashed => drop(self.crashed.insert(by, *at)),
            What::Killed(part) => self.killed.push((by, *part, *at)),
            What::Seen(Seen::Asked { op, topic }) => {
                self.sent.insert(*op, Sent { topic: *topic, at: *at, end: None });
            }
            What::Seen(Seen::Ended { op, end }) => {
                if let Some(sent) = self.sent.get_mut(op) {
                    sent.end = Some(end);
                }
            }
            What::Seen(Seen::Got { op, topic, sequence, priority }) => {
                let (op, topic, sequence, priority) = (*op, *topic, *sequence, *priority);
                self.got.push(Got { by, op, topic, sequence, priority, at: *at });
            }
            What::Seen(Seen::Settled(told)) => drop(self.settled.insert(by, (*at, told))),
            What::Seen(Seen::Stuck(report)) => self.stuck.push((by, *at, report)),
            What::Seen(Seen::Missed { .. } | Seen::Relayed { .. })
            | What::Up
            | What::Parted(_)
            | What::Held(_)
            | What::Mended(_)
            | What::Calm
            | What::Healed => {}
        }
    }

    /// Whether a life is the last one of its node, and has not crashed.
    pub(crate) fn lives_on(&self, living: Living) -> bool {
        !self.crashed.contains_key(&living) && self.lives.get(&living.0) == Some(&living.1)
    }

    /// Whether each node has said that all has ended since then, and each subscriber has got
    /// something of each topic from each node that was published since then. If something never
    /// ends there is nothing to wait for.
    pub(crate) fn is_settled(&self, since: Duration) -> bool {
        if !self.stuck.is_empty() {
            return true;
        }
        let takes_part = |node: &usize| self.cast.takes_part(*node);
        let has_settled = |(node, life): (&usize, &u64)| {
            self.settled.get(&(*node, *life)).is_some_and(|(at, _)| *at > since)
        };
        let fresh = |got: &&Got| {
            self.lives_on(got.by) && self.sent.get(&got.op).is_some_and(|sent| sent.at >= since)
        };
        let way = |got: &Got| (self.cast.subscriber(got.by.0), got.op.by().0, got.topic);
        let ways: BTreeSet<(usize, usize, usize)> =
            self.got.iter().filter(fresh).map(way).collect();
        let nodes = || self.lives.keys().copied().filter(takes_part);
        let all = nodes().flat_map(|to| {
            let topics = (0..TOPICS.len()).filter(move |topic| self.cast.wants(to, *topic));
            topics.flat_map(move |topic| {
                nodes().map(move |from| (self.cast.subscriber(to), from, topic))
            })
        });
        let mut lives = self.lives.iter().filter(|(node, _)| takes_part(node));
        lives.all(has_settled) && all.into_iter().all(|way| ways.contains(&way))
    }
}
