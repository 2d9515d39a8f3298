//! Broadcasts to large audiences: what their publisher's node has of them, and what each part has.
//!
//! Up to [`direct_max`](super::Config::direct_max) nodes get a topic's messages from its publisher. If there are more, they are
//! made parts of a [tree](super::tree), and the publisher sends to a few of them only. There is a
//! tree for each topic and promise, and it stays until the topic is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::super::message::{Missed, Reason};
use super::super::message::{Qos, Report};
use super::flow::Stored;
use super::tree::Tree;
use super::word::{Carried, FlowId, Life, Missing, Route};

/// How many broadcasts a node has of its own, and in how many of others it takes part.
pub(crate) const TREES_MAX: usize = 1_024;

/// How many messages of a broadcast one of its parts may not have done with. The tree keeps more.
pub(crate) const WINDOW: u64 = 512;

/// How many messages wait for room at a part. Its publisher does not send so many.
pub(crate) const WAITING_MAX: usize = 2_048;

/// How many other parts a new one is told of.
pub(crate) const CONTACTS_MAX: usize = 3;

/// How a part of a broadcast stands, as its publisher knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// The first message that is for it.
    pub(crate) from: u64,
    acked: u64,
    missed: u64,
    /// It was heard of since it was invited last.
    pub(crate) is_there: bool,
}

impl Member {
    /// One that gets what comes after `published`.
    pub(crate) const fn after(published: u64) -> Self {
        Self { from: published + 1, acked: published, missed: 0, is_there: false }
    }

    /// It has to begin anew, from this number on.
    pub(crate) const fn again(&mut self, from: u64) {
        (self.from, self.acked, self.missed) = (from, from - 1, 0);
        self.is_there = false;
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// It says how far it is. Gives what that is news of.
    pub(crate) fn heard(&mut self, upto: u64, missed: u64) -> Report {
        let mut report = Report::default();
        if upto < self.acked || missed < self.missed {
            return report;
        }
        self.is_there = true;
        let ended = upto - self.acked;
        let dropped = (missed - self.missed).min(ended);
        (self.acked, self.missed) = (upto, missed);
        report.delivered = ended - dropped;
        if dropped > 0 {
            report.dropped.insert(Reason::SlowSubscriber, dropped);
        }
        report
    }
}

/// A broadcast, at its publisher's node.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) number: u64,
    pub(crate) tree: Tree,
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// Subscribers that take no part, because this node may not publish the topic there.
    pub(crate) declined: BTreeSet<NodeId>,
    pub(crate) published: u64,
}

impl Planted {
    /// Whether one more message may be published: if it is promised all parts have to be near
    /// enough, and else one of them.
    pub(crate) fn has_room(&self, qos: Qos) -> bool {
        let is_near = |member: &Member| self.published - member.acked < WINDOW;
        match qos {
            Qos::AtLeastOnce => self.members.values().all(is_near),
            Qos::AtMostOnce => self.members.values().any(is_near),
        }
    }
}

/// What waits at a part for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    Message(Carried, FlowId),
    Missing(Missing),
}

/// A broadcast, at one of its parts.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) life: Life,
    pub(crate) topic: Topic,
    pub(crate) qos: Qos,
    pub(crate) tree: Tree,
    pub(crate) waiting: VecDeque<Waiting>,
    /// The last message that was handed on, or passed over.
    pub(crate) done: u64,
    pub(crate) missed: u64,
    /// Its number among all of its publisher.
    pub(crate) last: u64,
}

impl Grown {
    /// Some messages do not come. What numbers they have among all of their publisher is not known.
    pub(crate) fn missing(&self, count: u64) -> Missing {
        let (from, to) = (self.last + 1, self.last + count);
        let (topic, why) = (self.topic.clone(), Missed::SlowSubscriber);
        Missing { topic, from, to, count, why }
    }

    /// Reads a message; none if it is not one.
    pub(crate) fn read(&self, mut payload: Bytes) -> Option<(Carried, FlowId)> {
        let sequence = payload.try_get_u64().ok()?;
        let flow = FlowId::from_number(payload.try_get_u8().ok()?)?;
        let route = Route { plain: true, ..Route::default() };
        let topic = self.topic.clone();
        let carried = Carried { topic, sequence, payload, route, is_allowed: true };
        (flow.qos() == self.qos).then_some((carried, flow))
    }
}

/// A message as broadcasts have it: its number, its flow, and what it says.
pub(crate) fn written(stored: &Stored) -> Bytes {
    let mut written = BytesMut::with_capacity(stored.payload.len() + 9);
    written.put_u64(stored.sequence);
    written.put_u8(stored.flow().number());
    written.extend_from_slice(&stored.payload);
    written.freeze()
}
