//! Messages, and what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::topic::Topic;
use serde::{Deserialize, Serialize};

/// The longest payload, in bytes: 1 MiB.
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// What is promised of a message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Qos {
    /// Nobody gets it twice. A subscriber that is too slow for it goes without it.
    #[default]
    AtMostOnce,
    /// Everybody gets it, as long as both nodes live. Its publisher waits for subscribers that are
    /// slow. It may be sent again to a node whose pub/sub was restarted, and to another member of a
    /// queue group; a subscription that has had it passes over it then, if it is one of the last
    /// thousands that it has had of that publisher.
    AtLeastOnce,
}

/// Which messages go first among those that wait.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Urgent,
    /// Before most.
    High,
    /// As usual.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// All of them, the first to go first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::High, Self::Normal, Self::Low];
}

/// How a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PublishOptions {
    /// What is promised of it.
    pub qos: Qos,
    /// Whether it goes before others.
    pub priority: Priority,
    /// How long it is good for. If it has not been sent by then it is not sent at all. If it is
    /// broadcast to a large audience, it is not handed on by then either; what time it takes on its
    /// way is added.
    pub expiry: Option<Duration>,
    /// It is the value of its topic, for whoever subscribes later and asks for that.
    pub retain: bool,
    /// It is kept for those who subscribe later and ask for what they have missed.
    pub keep: bool,
}

impl PublishOptions {
    /// The usual options, with the promise of at least one delivery.
    #[must_use]
    pub fn at_least_once() -> Self {
        Self { qos: Qos::AtLeastOnce, ..Self::default() }
    }
}

/// A message, as its subscriber gets it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its topic.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// The node that has published it.
    pub publisher: NodeId,
    /// Which life of that node, which a restart of its process ends. Together with the publisher and
    /// the number it names the message.
    pub life: u64,
    /// Its number among all that this life of its node has published. The numbers of one topic
    /// grow, and are not consecutive.
    pub sequence: u64,
    /// What was promised of it.
    pub qos: Qos,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it was published before its subscriber asked for it.
    pub is_replayed: bool,
}

/// Messages of one topic that a subscriber does not get. If pub/sub of its node is restarted it may be
/// told of some twice. It is told nothing of what is lost with its publisher's node, or with pub/sub of
/// that, or while the two nodes believe each other to be gone: that is in the publisher's report. Nor is
/// a member of a queue group, since another one may have got the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Their topic.
    pub topic: Topic,
    /// Who has published them.
    pub publisher: NodeId,
    /// The number of the first.
    pub from: u64,
    /// The number of the last.
    pub to: u64,
    /// How many there are.
    pub count: u64,
    /// Why the last of them is missing.
    pub why: Missed,
}

/// Why a subscriber does not get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Its time was over before it was sent.
    Expired,
    /// The subscriber, or its node, was too slow for it.
    SlowSubscriber,
    /// It was broadcast, and nobody who keeps it was within reach of the subscriber's node.
    OutOfReach,
    /// Pub/sub of the subscriber's node was restarted while it was under way. The subscriber may have
    /// got it all the same.
    Restarted,
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages that it does not get.
    Gap(Gap),
    /// The rules of a node forbid that this one gets what the subscription wants: it gets nothing that
    /// is published there. Others may still publish for it. A subscription is told of each such node
    /// once, but of no more than 64, and again after a restart of the node's pub/sub.
    Refused {
        /// That node.
        publisher: NodeId,
    },
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// There was no room for it at its subscriber.
    SlowSubscriber,
    /// When there was room for it, or when it arrived, nobody had subscribed to it any more.
    Unsubscribed,
    /// Its subscriber's node may not get it, or may not have it from this node.
    Forbidden,
    /// Its subscriber's node was gone before it was sent.
    NodeGone,
    /// Its subscriber's node was lost while it was under way. It may have been delivered.
    NodeLost,
    /// It was broadcast, and its subscriber's node was out of reach until nobody kept it any more.
    OutOfReach,
    /// This node's pub/sub was restarted while it waited or was under way. It may have been
    /// delivered.
    Restarted,
}

impl Reason {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SlowSubscriber => "slow_subscriber",
            Self::Unsubscribed => "unsubscribed",
            Self::Forbidden => "forbidden",
            Self::NodeGone => "node_gone",
            Self::NodeLost => "node_lost",
            Self::OutOfReach => "out_of_reach",
            Self::Restarted => "restarted",
        }
    }
}

/// What has become of what this node has published. A message counts once for each node that has
/// subscribers of it, and if it is promised, once for each queue group with which another node gets
/// it: each of these copies ends delivered, expired or dropped, and exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Report {
    /// Copies that are to be delivered.
    pub accepted: u64,
    /// Those that all subscribers of their node have got.
    pub delivered: u64,
    /// Those whose time was over before they were sent, or before a part of a broadcast could hand
    /// them on.
    pub expired: u64,
    /// Those that were dropped, and why. If only some of a node's subscribers had no room, the copy
    /// counts as dropped.
    pub dropped: BTreeMap<Reason, u64>,
}

impl Report {
    /// How many have not ended yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let ended = self.delivered + self.expired + self.dropped.values().sum::<u64>();
        self.accepted.saturating_sub(ended)
    }

    /// How many were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Adds what another one says.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.expired += other.expired;
        for (reason, count) in &other.dropped {
            *self.dropped.entry(*reason).or_default() += count;
        }
    }

    pub(crate) fn end(&mut self, how: Outcome) {
        self.ended(how, 1);
    }

    /// So many copies have ended in the same way.
    pub(crate) fn ended(&mut self, how: Outcome, copies: u64) {
        match how {
            Outcome::Delivered => self.delivered += copies,
            Outcome::Expired => self.expired += copies,
            Outcome::Dropped(_) if copies == 0 => {}
            Outcome::Dropped(reason) => *self.dropped.entry(reason).or_default() += copies,
        }
    }
}

/// How a copy of a message has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Delivered,
    Expired,
    Dropped(Reason),
}
