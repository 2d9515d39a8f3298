//! What the two ends of a session say to each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::topic::{Pattern, Topic};
use serde::{Deserialize, Serialize};

use super::super::message::{Missed, Priority, Qos, Reason};
use super::tree::Said;

/// How many flows a session has: one for each priority and promise, which do not wait for one
/// another.
pub(crate) const FLOWS: usize = 8;

/// How many prefixes are named in one message at most.
pub(crate) const PREFIXES_MAX: usize = 200;

/// How many entries one message of interest has at most. More come in several.
pub(crate) const ENTRIES_MAX: usize = 4_096;

/// How many entries a batch has at most.
pub(crate) const BATCH_ENTRIES_MAX: usize = 512;

/// How many queue groups one message can be for.
pub(crate) const GROUPS_MAX: usize = 64;

/// How many failures one report of a flow has at most, and so how many messages are under way in it.
pub(crate) const FAILURES_MAX: usize = 8_192;

/// The longest name of a queue group, in bytes.
pub const GROUP_LEN_MAX: usize = 64;

/// A life of a node's pub/sub: a restart of either begins another. Later ones are greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct Life {
    /// Which life of the node.
    pub(crate) node: u64,
    /// Which life of the actor in it.
    pub(crate) broker: u64,
}

/// A session, as its publisher's end names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// A subscription of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SubId(pub(crate) u64);

/// A flow of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FlowId(u8);

impl FlowId {
    /// All of them, the first to go first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(FLOWS)
    }

    pub(crate) fn of(priority: Priority, qos: Qos) -> Self {
        let priority = match priority {
            Priority::Urgent => 0,
            Priority::High => 2,
            Priority::Normal => 4,
            Priority::Low => 6,
        };
        Self(priority + u8::from(qos == Qos::AtLeastOnce))
    }

    /// The flow of a number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < FLOWS).then_some(Self(number))
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) const fn qos(self) -> Qos {
        if self.0.is_multiple_of(2) { Qos::AtMostOnce } else { Qos::AtLeastOnce }
    }

    pub(crate) const fn priority(self) -> Priority {
        match self.0 / 2 {
            0 => Priority::Urgent,
            1 => Priority::High,
            2 => Priority::Normal,
            _ => Priority::Low,
        }
    }
}

/// How much may be under way in a flow that its subscriber's node has not handed on: its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Window {
    /// How many entries.
    pub(crate) messages: u32,
    /// How many bytes; the last message may go beyond it.
    pub(crate) bytes: u32,
}

/// For whom on a node a message is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Route {
    /// For all subscriptions that are in no queue group.
    pub(crate) plain: bool,
    /// For one of each of these queue groups.
    pub(crate) groups: Vec<Arc<str>>,
    /// For this one subscription, and no other.
    pub(crate) only: Option<SubId>,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Carried {
    pub(crate) topic: Topic,
    pub(crate) sequence: u64,
    pub(crate) payload: Bytes,
    pub(crate) route: Route,
    /// Whether its publisher may publish it. It is judged where it arrives.
    pub(crate) is_allowed: bool,
}

/// Messages of one topic that do not come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Missing {
    pub(crate) topic: Topic,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
    pub(crate) why: Missed,
}

impl Missing {
    pub(crate) fn one(topic: &Topic, sequence: u64, why: Missed) -> Self {
        Self { topic: topic.clone(), from: sequence, to: sequence, count: 1, why }
    }

    /// Adds later ones of the same topic.
    pub(crate) fn and(&mut self, later: &Self) {
        self.from = self.from.min(later.from);
        self.to = self.to.max(later.to);
        self.count = self.count.saturating_add(later.count);
        self.why = later.why;
    }
}

/// What has a place in a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A message.
    Message(Carried),
    /// What was never in the flow does not come.
    Missing(Missing),
    /// The message that had this place does not come, because its time is over.
    Void(Missing),
    /// From here on a subscription gets what is published now; all before has been replayed to it.
    Cut(SubId),
}

/// Consecutive entries of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) flow: FlowId,
    /// The place of the first entry.
    pub(crate) first: u64,
    /// Up to where the publisher knows what has become of the entries.
    pub(crate) known: u64,
    pub(crate) entries: Vec<Entry>,
}

/// How far a flow is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlowReport {
    pub(crate) flow: FlowId,
    /// The place that is expected next.
    pub(crate) received: u64,
    /// The place that is handed on next.
    pub(crate) done: u64,
    /// Which of those before it were not delivered, as far as the publisher may not know it yet.
    pub(crate) failures: Vec<(u64, Failure)>,
    /// Something is missing from `received` on.
    pub(crate) again: bool,
}

/// Why an entry was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// It came as void.
    Expired,
    /// Somebody had no room for it.
    Slow,
    /// Nobody wanted it.
    Unsubscribed,
    /// Its publisher may not publish it.
    Forbidden,
}

impl Failure {
    pub(crate) const fn outcome(self) -> super::super::message::Outcome {
        use super::super::message::Outcome;
        match self {
            Self::Expired => Outcome::Expired,
            Self::Slow => Outcome::Dropped(Reason::SlowSubscriber),
            Self::Unsubscribed => Outcome::Dropped(Reason::Unsubscribed),
            Self::Forbidden => Outcome::Dropped(Reason::Forbidden),
        }
    }
}

/// How an interest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Somebody has room for messages.
    Open,
    /// There are subscribers, and none has room.
    Paused,
    /// There are no subscribers.
    Gone,
}

/// What a node's subscriptions have in common: all with the same pattern and group are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wanted {
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<Arc<str>>,
}

/// What a node wants to get.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Interest {
    /// Grows by one with each.
    pub(crate) version: u64,
    /// Nothing of what was said of these prefixes before holds.
    pub(crate) anew: Vec<Arc<str>>,
    pub(crate) entries: Vec<(Wanted, Standing)>,
    /// What of that it may not want, and so is not wanted. It is judged where it arrives.
    pub(crate) forbidden: Vec<Pattern>,
}

/// What a subscription wants to have of what was published before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Replay {
    /// The last so many of those that are kept of each topic.
    pub last: Option<u32>,
    /// Those that are kept and not older than this.
    pub within: Option<Duration>,
    /// The retained message of each topic.
    pub retained: bool,
}

impl Replay {
    /// Whether it wants anything.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.last.is_some() || self.within.is_some() || self.retained
    }
}

/// Whatever one end of a session says to the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// The publisher begins the session, or goes on with one that was begun.
    Hello { realm: [u8; 32], life: Life, is_new: bool },
    /// It asks what is wanted of what it publishes: all patterns that have one of these prefixes.
    Ask { prefixes: Vec<Arc<str>> },
    /// It sends messages.
    Batch(Batch),
    /// It publishes nothing any more.
    Bye,
    /// Its rules forbid that the other gets what these match: it does not send that.
    Forbidden { patterns: Vec<Pattern> },
    /// The subscriber takes part, has received each flow up to here, and has said so much of what it
    /// wants.
    Welcome { life: Life, window: Window, version: u64, received: Vec<u64> },
    /// It says what it wants.
    Interest(Interest),
    /// One subscription asks for what was before it.
    Replay { sub: SubId, pattern: Pattern, replay: Replay, max: u32 },
    /// It says what it has got.
    Report { life: Life, flows: Vec<FlowReport> },
    /// It does not know the session.
    Reset,
    /// It does not take part.
    Refused { why: String },
    /// There are new subscriptions whose patterns have these prefixes. It belongs to no session.
    News { prefixes: Vec<Arc<str>> },
    /// Its sender publishes to a topic by broadcast, of which the other is to be a part.
    Plant(Plant),
    /// Parts of a broadcast speak to each other. Whether the other may be a part of it is judged where it
    /// arrives.
    Branch { tree: TreeId, said: Said, is_allowed: bool },
    /// The sender is no part of a broadcast, or the other need not be any more.
    Fell { tree: TreeId },
    /// The sender takes no part in a broadcast.
    Declined { tree: TreeId, why: Decline },
}

/// Why a node takes no part in a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decline {
    /// Its publisher may not publish that here.
    Forbidden,
    /// It takes part in as many as may be. Its publisher can send to it directly.
    Full,
}

/// A broadcast: whose it is, and how that node numbers it. The lowest bits of the number say the
/// priority and the promise of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct TreeId {
    pub(crate) publisher: NodeId,
    pub(crate) number: u64,
}

/// The bits of a broadcast's number that say its flow.
const FLOW_MASK: u64 = 7;

impl TreeId {
    /// A number for a broadcast of the messages of a flow, made of a random one.
    pub(crate) fn number(random: u64, flow: FlowId) -> u64 {
        (random & !FLOW_MASK) | u64::from(flow.number())
    }

    /// Of which priority and promise its messages are.
    pub(crate) fn flow(self) -> FlowId {
        // There are as many flows as such bits say.
        FlowId(u8::try_from(self.number & FLOW_MASK).unwrap_or_default())
    }
}

/// What a part of a broadcast has to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Plant {
    pub(crate) number: u64,
    /// The publisher's.
    pub(crate) life: Life,
    pub(crate) topic: Topic,
    /// The first message that is for it.
    pub(crate) from: u64,
    /// How many before that were lost with an earlier life of its pub/sub.
    #[serde(default)]
    pub(crate) lost: u64,
    /// Other parts.
    pub(crate) contacts: Vec<NodeId>,
    /// Whether its publisher may publish that here. No node says that of itself.
    #[serde(skip, default = "allowed")]
    pub(crate) is_allowed: bool,
}

const fn allowed() -> bool {
    true
}
