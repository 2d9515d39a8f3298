//! A subscription, as whoever has it sees it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::topic::Pattern;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::Shared;
use super::message::{Event, Gap, Qos};
use super::proto::seen::Seen;
use super::proto::subscribers::{REPLAYED_MAX, Replayed, Room, Wish, weight};
use super::proto::word::{Replay, SubId, Wanted};
use super::proto::{Bug, Config, Input};

/// The longest queue, in messages.
pub const QUEUE_LEN_MAX: usize = 1 << 20;

/// With so many events before them, short payloads are copied when they are queued: else each could
/// keep all of the batch that it came in.
const COPY_AT: usize = 256;

/// A payload of more bytes is not: it is most of its batch.
const COPY_LEN_MAX: usize = 4_096;

/// How many payloads that are copied share one piece of memory, more or less in bytes.
const COPIES_LEN: usize = 32 * 1024;

/// How somebody subscribes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// What is promised of messages that are published with the same promise.
    pub qos: Qos,
    /// The queue group: each message is for one member of it, on whatever node.
    pub group: Option<String>,
    /// What it wants of what was published before.
    pub replay: Replay,
    /// How many messages wait for it at most.
    pub queue_len: usize,
    /// How many bytes they have at most, except that the last one may be longer.
    pub queue_bytes: usize,
}

impl Default for SubscribeOptions {
    /// At least once for messages that are published so; no group; nothing of what was before; room
    /// for 8,192 messages and 16 MiB.
    fn default() -> Self {
        Self {
            qos: Qos::AtLeastOnce,
            group: None,
            replay: Replay::default(),
            queue_len: 8_192,
            queue_bytes: 16 << 20,
        }
    }
}

impl SubscribeOptions {
    /// As a member of a queue group.
    #[must_use]
    pub fn in_group(name: &str) -> Self {
        Self { group: Some(name.to_owned()), ..Self::default() }
    }

    /// With the last so many messages of each topic that were kept.
    #[must_use]
    pub fn with_last(mut self, messages: u32) -> Self {
        self.replay.last = Some(messages);
        self
    }

    /// With the retained message of each topic.
    #[must_use]
    pub const fn with_retained(mut self) -> Self {
        self.replay.retained = true;
        self
    }
}

/// What waits for a subscriber.
#[derive(Debug)]
struct Queue {
    events: VecDeque<Event>,
    /// What takes of its room: all that waits, here or at whoever reads, and what was read without
    /// the actor's being told.
    held: Held,
    /// What it has had.
    seen: Seen,
    is_over: bool,
}

/// Messages, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    messages: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, event: &Event) {
        let Room { messages, bytes } = weight(event);
        self.messages += messages;
        self.bytes += bytes;
    }
}

/// What whoever reads has taken out of the queue, all at one time.
#[derive(Debug, Default)]
pub(super) struct Taken {
    events: VecDeque<Event>,
    /// What was read since the actor was told of it.
    read: Held,
}

/// A subscription, as its node has it. It outlives the actor.
pub(super) struct Subscribed {
    pub(super) id: SubId,
    wanted: Wanted,
    qos: Qos,
    replay: Replay,
    capacity: Room,
    /// The prefix under which it is announced.
    pub(super) announced: Arc<str>,
    /// Whose kept messages it has got, and how far.
    replayed: Mutex<BTreeMap<NodeId, Replayed>>,
    /// What it has missed, and is told when it has room.
    gaps: Mutex<Vec<Gap>>,
    queue: Mutex<Queue>,
    /// A planted bug is to be seen.
    takes_all: bool,
    news: Notify,
}

impl Debug for Subscribed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscribed").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Subscribed {
    pub(super) fn new(
        id: SubId,
        pattern: Pattern,
        options: &SubscribeOptions,
        (announced, config): (Arc<str>, &Config),
    ) -> Self {
        let seen = Seen::new(config.credit_messages);
        let queue = Queue { events: <_>::default(), held: <_>::default(), seen, is_over: false };
        let group = options.group.as_deref().map(Arc::from);
        Self {
            id,
            wanted: Wanted::new(pattern, group),
            qos: options.qos,
            replay: options.replay,
            capacity: Room { messages: options.queue_len, bytes: options.queue_bytes },
            announced,
            replayed: Mutex::default(),
            gaps: Mutex::default(),
            queue: Mutex::new(queue),
            takes_all: config.has(Bug::ResendsWhatMayBeThere),
            news: Notify::new(),
        }
    }

    /// What a life of the actor has to know of it.
    pub(super) fn wish(&self) -> Wish {
        let Held { messages, bytes } = self.queue.lock().held;
        let room = Room {
            messages: self.capacity.messages.saturating_sub(messages),
            bytes: self.capacity.bytes.saturating_sub(bytes),
        };
        Wish {
            wanted: self.wanted.clone(),
            qos: self.qos,
            replay: self.replay,
            capacity: self.capacity,
            room,
            replayed: self.replayed.lock().clone(),
            gaps: self.gaps.lock().clone(),
        }
    }

    /// Something comes for it. There is room: the actor counts that. What it has had before it passes
    /// over, and gives the room of that back, if there is any.
    pub(super) fn tell(&self, events: &mut Vec<Event>) -> Option<Room> {
        let mut queue = self.queue.lock();
        let mut had = Held::default();
        events.retain(|event| {
            let Event::Message(message) = event else { return true };
            let is_new = queue.seen.is_new(message) || self.takes_all;
            if !is_new {
                had.add(event);
            }
            is_new
        });
        let Held { messages, bytes } = had;
        let passed = (messages > 0).then_some(Room { messages, bytes });
        if events.is_empty() {
            return passed;
        }
        if queue.events.len() >= COPY_AT {
            alone(events);
        }
        events.iter().for_each(|event| queue.held.add(event));
        if queue.events.is_empty() {
            queue.events = std::mem::take(events).into();
        } else {
            queue.events.extend(events.drain(..));
        }
        drop(queue);
        self.news.notify_one();
        passed
    }

    /// So far is the replay of a publisher's node.
    pub(super) fn replayed(&self, publisher: NodeId, replayed: Replayed) {
        let mut all = self.replayed.lock();
        if all.len() >= REPLAYED_MAX && !all.contains_key(&publisher) {
            all.pop_first();
        }
        all.insert(publisher, replayed);
    }

    /// It has missed this, and was not told yet.
    pub(super) fn owed(&self, gaps: Vec<Gap>) {
        *self.gaps.lock() = gaps;
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.queue.lock().is_over = true;
        self.news.notify_one();
    }

    /// The next thing that waits, and what the actor is to be told then.
    fn take(&self, taken: &mut Taken) -> Option<(Event, Option<Room>)> {
        if taken.events.is_empty() {
            std::mem::swap(&mut taken.events, &mut self.queue.lock().events);
        }
        let event = taken.events.pop_front()?;
        taken.read.add(&event);
        let is_much = taken.read.messages >= self.capacity.messages.div_ceil(4)
            || taken.read.bytes >= self.capacity.bytes.div_ceil(4);
        if !is_much && !taken.events.is_empty() {
            return Some((event, None));
        }
        let mut queue = self.queue.lock();
        if !is_much && !queue.events.is_empty() {
            return Some((event, None));
        }
        let Held { messages, bytes } = std::mem::take(&mut taken.read);
        queue.held.messages -= messages;
        queue.held.bytes -= bytes;
        Some((event, Some(Room { messages, bytes })))
    }
}

/// Puts short payloads into memory that keeps nothing else, a piece for many.
fn alone(events: &mut [Event]) {
    let mut rest = events;
    while !rest.is_empty() {
        let mut copied = BytesMut::new();
        let mut many = 0;
        for event in rest.iter() {
            if copied.len() >= COPIES_LEN {
                break;
            }
            many += 1;
            copied.extend_from_slice(short(event).map_or(&[], |payload| payload));
        }
        let mut copied = copied.freeze();
        let (now, later) = rest.split_at_mut(many);
        for event in now {
            let len = short(event).map(Bytes::len);
            if let (Event::Message(message), Some(len)) = (event, len) {
                message.payload = copied.split_to(len);
            }
        }
        rest = later;
    }
}

/// The payload of a message, if it is short.
fn short(event: &Event) -> Option<&Bytes> {
    match event {
        Event::Message(message) if message.payload.len() <= COPY_LEN_MAX => Some(&message.payload),
        _ => None,
    }
}

/// A subscription. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "a subscription ends when this is dropped"]
pub struct Subscription {
    pub(super) shared: Arc<Shared>,
    pub(super) subscribed: Arc<Subscribed>,
    pub(super) taken: Taken,
}

impl Subscription {
    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.subscribed.wanted.pattern
    }

    /// The next message, or what else there is to tell; none when the node's pub/sub has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if self.subscribed.queue.lock().is_over {
                return None;
            }
            self.subscribed.news.notified().await;
        }
    }

    /// The next message, if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        let (event, read) = self.subscribed.take(&mut self.taken)?;
        if let Some(read) = read {
            self.shared.desk.tell(Input::Consumed { id: self.subscribed.id, read });
        }
        Some(event)
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.events.len() + self.subscribed.queue.lock().events.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.unsubscribe(&self.subscribed);
    }
}
