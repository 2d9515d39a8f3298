//! Broadcasts to large audiences: what their publisher's node has of them, and what each part has.
//!
//! Up to [`direct_max`](super::Config::direct_max) nodes get a topic's messages from its publisher. If there are more, they are
//! made parts of a [tree](super::tree), and the publisher sends to a few of them only. There is a
//! tree for each topic, priority and promise, and it stays until the topic is let go. A node that
//! takes part in as many as may be is sent to directly.
//!
//! What is held is bounded in bytes: what a part keeps for others, what waits there for its
//! subscribers, and how much its publisher has under way to it; and all trees of a node together. A
//! node that has no room for more takes nothing more in, and asks for it later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::super::message::{Missed, PAYLOAD_LEN_MAX, Qos, Reason, Report};
use super::flow::Stored;
use super::seal::Seals;
use super::tree::{Failed, KEPT_LEN_MAX, Tree};
use super::word::{Carried, Life, Missing, Route};

/// How many broadcasts a node has of its own, and in how many of others it takes part.
pub(crate) const TREES_MAX: usize = 1_024;

/// How many messages of a broadcast one of its parts may not have done with. The tree keeps more.
pub(crate) const WINDOW: u64 = 512;

/// How many bytes those may have that one of its parts has not done with, except that the last one may
/// be longer: 2 MiB. With that the tree keeps all of them.
pub(crate) const WINDOW_LEN: usize = KEPT_LEN_MAX - 2 * PAYLOAD_LEN_MAX;

/// How many messages wait for room at a part. Its publisher does not send so many.
pub(crate) const WAITING_MAX: usize = 2_048;

/// How many bytes those have. Its publisher does not send so many.
pub(crate) const WAITING_LEN_MAX: usize = KEPT_LEN_MAX;

/// How many bytes all broadcasts of a node hold together, its own and others', before it takes no
/// more in than one message for each: 256 MiB.
pub(crate) const TREES_LEN_MAX: usize = 256 << 20;

/// What a message that waits costs beside its payload, in bytes.
const MESSAGE_LEN: usize = 64;

/// How many other parts a new one is told of.
pub(crate) const CONTACTS_MAX: usize = 3;

/// As long as fewer parts are there the publisher is a contact of each that comes. That becomes its
/// neighbour, and is sent what there is: if all of a thousand came so, it would send to all of them.
pub(crate) const BY_PUBLISHER_MAX: usize = 64;

/// How a part of a broadcast stands, as its publisher knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// The first message that is for it.
    pub(crate) from: u64,
    acked: u64,
    failed: Failed,
    /// How many messages were lost with an earlier life of its pub/sub, of which it is to be told.
    pub(crate) lost: u64,
    /// It was heard of since it was invited last.
    pub(crate) is_there: bool,
}

impl Member {
    /// One that gets what comes after `published`.
    pub(crate) const fn after(published: u64) -> Self {
        let (from, acked, failed) = (published + 1, published, Failed::NONE);
        Self { from, acked, failed, lost: 0, is_there: false }
    }

    /// It has to begin anew, from this number on.
    pub(crate) const fn again(&mut self, from: u64) {
        (self.from, self.acked, self.failed) = (from, from - 1, Failed::NONE);
        self.is_there = false;
    }

    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// It says how far it is with what is for it `from` a message on. Gives what that is news of.
    pub(crate) fn heard(&mut self, from: u64, upto: u64, failed: Failed) -> Report {
        let mut report = Report::default();
        if from != self.from {
            return report;
        }
        (self.is_there, self.lost) = (true, 0);
        if upto < self.acked {
            return report;
        }
        let mut ended = upto - self.acked;
        let mut of = |now: u64, before: u64| {
            let count = now.saturating_sub(before).min(ended);
            ended -= count;
            count
        };
        let before = self.failed;
        report.expired = of(failed.expired, before.expired);
        let dropped = [
            (Reason::SlowSubscriber, of(failed.slow, before.slow)),
            (Reason::Unsubscribed, of(failed.unsubscribed, before.unsubscribed)),
            (Reason::Forbidden, of(failed.forbidden, before.forbidden)),
            (Reason::OutOfReach, of(failed.unreached, before.unreached)),
        ];
        report.dropped.extend(dropped.into_iter().filter(|(_, count)| *count > 0));
        report.delivered = ended;
        (self.acked, self.failed) = (upto, failed);
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
    /// Those that take no part because they have no room for one: they are sent to directly.
    pub(crate) direct: BTreeSet<NodeId>,
    pub(crate) published: u64,
    /// Those of these that are not in the tree yet, and are going to be signed together.
    pub(crate) run: Vec<(Bytes, Option<Instant>)>,
    /// How many bytes were published up to each of the last messages.
    lens: VecDeque<u64>,
    /// How many bytes it holds, as was last counted.
    pub(crate) held: usize,
}

impl Planted {
    pub(crate) fn new(number: u64, tree: Tree) -> Self {
        Self {
            number,
            tree,
            members: BTreeMap::new(),
            declined: BTreeSet::new(),
            direct: BTreeSet::new(),
            published: 0,
            run: Vec::new(),
            lens: VecDeque::from([0]),
            held: 0,
        }
    }

    /// Whether one more message may be published: if it is promised all parts have to be near
    /// enough, and else one of them.
    pub(crate) fn has_room(&self, qos: Qos) -> bool {
        let is_near = |member: &Member| {
            let behind = self.published - member.acked;
            behind < WINDOW && self.len_of_last(behind) < WINDOW_LEN
        };
        match qos {
            Qos::AtLeastOnce => self.members.values().all(is_near),
            Qos::AtMostOnce => self.members.is_empty() || self.members.values().any(is_near),
        }
    }

    /// Whether all parts have done with all messages.
    pub(crate) fn is_idle(&self) -> bool {
        self.acked() == self.published
    }

    /// Up to where all parts have done with its messages.
    pub(crate) fn acked(&self) -> u64 {
        self.members.values().map(|member| member.acked).min().unwrap_or(self.published)
    }

    /// How many bytes the last so many messages have.
    fn len_of_last(&self, count: u64) -> usize {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let before = self.lens.len().checked_sub(count.saturating_add(1));
        let before = before.and_then(|place| self.lens.get(place));
        let all = self.lens.back().zip(before).map(|(all, before)| all - before);
        all.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX)
    }

    /// One more message of so many bytes is published.
    pub(crate) fn publish(&mut self, len: usize) {
        self.published += 1;
        let all = self.lens.back().copied().unwrap_or_default();
        self.lens.push_back(all.saturating_add(u64::try_from(len).unwrap_or(u64::MAX)));
        if u64::try_from(self.lens.len()).is_ok_and(|len| len > WINDOW + 1) {
            self.lens.pop_front();
        }
    }
}

/// What waits at a part for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A message, and until when it is good for something.
    Message(Carried, Option<Instant>),
    Missing(Missing),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Message(carried, _) => carried.payload.len() + MESSAGE_LEN,
            Self::Missing(_) => MESSAGE_LEN,
        }
    }
}

/// A broadcast, at one of its parts.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) life: Life,
    pub(crate) topic: Topic,
    pub(crate) tree: Tree,
    pub(crate) seals: Seals,
    waiting: VecDeque<Waiting>,
    /// How many bytes those have.
    waiting_len: usize,
    /// The first message that is for this node.
    pub(crate) from: u64,
    /// The last message that was handed on, or passed over.
    pub(crate) done: u64,
    /// How many of those from the first on went to nobody.
    pub(crate) failed: Failed,
    /// The number of the last one among all of its publisher.
    pub(crate) last: u64,
    /// How many bytes it holds, as was last counted.
    pub(crate) held: usize,
}

impl Grown {
    /// One that gets the messages of a topic `from` one on.
    pub(crate) fn new(life: Life, topic: Topic, tree: Tree, from: u64) -> Self {
        Self {
            life,
            topic,
            tree,
            seals: Seals::default(),
            waiting: VecDeque::new(),
            waiting_len: 0,
            from,
            done: from.saturating_sub(1),
            failed: Failed::NONE,
            last: 0,
            held: 0,
        }
    }

    /// How many bytes it holds for others, and how many for its own subscribers.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.tree.kept_len(), self.waiting_len)
    }

    /// What comes next. It is to be passed, or put back.
    pub(crate) fn next(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.waiting_len -= next.len();
        Some(next)
    }

    /// It has to wait.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        self.waiting_len += waiting.len();
        self.waiting.push_front(waiting);
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting_len += waiting.len();
        self.waiting.push_back(waiting);
    }

    /// So many messages, of which the last has this number among all of its publisher, have been handed
    /// on, or have failed in a way that `of` names.
    pub(crate) fn pass(&mut self, count: u64, last: u64, of: Option<fn(&mut Failed) -> &mut u64>) {
        // Whatever was before the first is not counted any more.
        let counted = (self.done + count + 1).saturating_sub(self.from).min(count);
        if let Some(of) = of {
            *of(&mut self.failed) += counted;
        }
        self.done += count;
        self.last = self.last.max(last);
    }

    /// Some messages do not come. What numbers they have among all of their publisher is not known.
    pub(crate) fn lack(&mut self, count: u64, why: Missed) {
        let (from, to) = (self.last + 1, self.last.saturating_add(count));
        let topic = self.topic.clone();
        self.wait(Waiting::Missing(Missing { topic, from, to, count, why }));
    }

    /// A message comes. Says whether it is one, and its publisher may have sent it.
    pub(crate) fn take(&mut self, now: Instant, payload: Bytes, until: Option<Instant>) -> bool {
        if until.is_some_and(|until| until <= now) {
            self.lack(1, Missed::Expired);
            return true;
        }
        let is_room = self.waiting.len() < WAITING_MAX
            && (self.waiting.is_empty() || self.waiting_len + payload.len() <= WAITING_LEN_MAX);
        let read = if is_room { read(payload) } else { None };
        let is_one = read.is_some();
        match read {
            Some((sequence, payload)) => {
                let route = Route { plain: true, ..Route::default() };
                let topic = self.topic.clone();
                let carried = Carried { topic, sequence, payload, route, is_allowed: true };
                self.wait(Waiting::Message(carried, until));
            }
            None => self.lack(1, Missed::OutOfReach),
        }
        is_one
    }
}

/// A message as broadcasts have it: its number among all of its publisher, and what it says.
pub(crate) fn written(stored: &Stored) -> Bytes {
    let mut written = BytesMut::with_capacity(stored.payload.len() + 8);
    written.put_u64(stored.sequence);
    written.extend_from_slice(&stored.payload);
    written.freeze()
}

/// Reads a message; none if it is not one.
pub(crate) fn read(mut payload: Bytes) -> Option<(u64, Bytes)> {
    let sequence = payload.try_get_u64().ok()?;
    Some((sequence, payload))
}
