//! The supervised actor of pub/sub, and its sessions with other nodes.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use macula_core::clock::TokioClock;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use macula_core::topic::{Pattern, Topic};
use macula_core::wire::{Frame, Kind, Limits, from_body};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{PubSub, Shared};
use super::inbox::LinkSpace;
use super::message::{Event, Priority, Report};
use super::proto::broker::{Broker, Identity, OTHER_REALM};
use super::proto::crowd::CROWD;
#[cfg(test)]
use super::proto::word::TreeId;
use super::proto::word::{Entry, FlowId, Life, SessionId, Standing, SubId, Word};
use super::proto::{Input, Output};
use super::subscription::Subscribed;
use super::{metrics, wire};
use crate::access::{Action, Name, Subject};
use crate::contact::Contact;
use crate::desk::Seat;
use crate::link::{Link, Service, Session, unsupported};
use crate::pool::Pool;
use crate::post::{Long, Parcel, Post};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};

/// The first of the kinds of frames that belong to pub/sub.
pub(crate) const FIRST_KIND: u8 = 0x50;

/// What the ends of a session say to each other.
const WORD: Kind = Kind(FIRST_KIND);

/// Messages.
const BATCH: Kind = Kind(FIRST_KIND + 1);

/// How many inputs wait for the machine. Publishers wait then; what comes from others is lost, as
/// the network might lose it.
const INBOX_LEN_MAX: usize = 65_536;

/// More messages than the actor numbers in one turn.
const TURN_MESSAGES_MAX: u64 = 1 << 32;

/// How long a long message may take to come.
const LONG_WITHIN: Duration = Duration::from_secs(10);

/// How many prefixes are looked for at one time.
const FINDS_MAX: usize = 64;

/// At how many of its own keys a node looks at one time for how many others there are. No publisher
/// waits for that.
const LOOKS_MAX: usize = 4;

/// How long the directory may take.
const FIND_WITHIN: Duration = Duration::from_secs(10);

/// The broker in its shell.
pub(crate) type PubSubActor = Shell<Broker, Deeds, TokioClock>;

/// Makes the sessions of pub/sub.
#[derive(Debug, Clone)]
pub(crate) struct PubSubService(pub(crate) PubSub);

impl Service for PubSubService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        let takes_part = takes_part(&self.0.0, link);
        if takes_part {
            self.0.0.desk.offer(Input::Met { node: link.node() });
        }
        let (shared, space) = (Arc::clone(&self.0.0), self.0.0.heard.of_link());
        Arc::new(Hearing { shared, space, takes_part })
    }
}

/// What comes over one connection.
#[derive(Debug)]
struct Hearing {
    shared: Arc<Shared>,
    space: LinkSpace,
    /// A peer that is only reported says nothing that counts, nor does one of another realm.
    takes_part: bool,
}

/// Reads what a frame says.
fn read(kind: Kind, body: &[u8], limits: &Limits) -> Result<Word, wire::Invalid> {
    match kind {
        BATCH => wire::decode_batch(body, limits).map(Word::Batch),
        _ => wire::decode(body, limits),
    }
}

impl Hearing {
    /// A node of another realm says something: it is put into the audit, with what it is about.
    fn crosses(&self, link: &Arc<Link>, kind: Kind, body: &[u8]) {
        let word = read(kind, body, link.limits());
        let (action, name) = word.as_ref().map_or((Action::Publish, ""), about);
        self.shared.access.refused(link.node(), action, name, OTHER_REALM);
    }

    fn heard(&self, link: &Arc<Link>, (kind, id): (Kind, u64), body: &[u8], limits: &Limits) {
        match read(kind, body, limits) {
            Ok(mut word) => {
                let Some(ticket) = self.space.take(&word, body.len()) else {
                    return refused("no_room");
                };
                judge(&self.shared, link, &mut word);
                let (from, session, ticket) = (link.node(), SessionId(id), Some(ticket));
                self.shared.desk.offer(Input::Word { from, session, word, ticket });
            }
            Err(error) => {
                refused("malformed");
                tracing::warn!(peer = link.node().short(), %error, "a message of pub/sub");
            }
        }
    }
}

/// Whether a peer is one to which and from which anything is published.
fn takes_part(shared: &Shared, link: &Link) -> bool {
    link.peer().trusted && shared.access.is_of_this_realm(link.peer())
}

/// Holds against a peer what it may do: what it may not publish is marked, and what it may not
/// subscribe to is not wanted, of which it is told.
fn judge(shared: &Shared, link: &Arc<Link>, word: &mut Word) {
    let access = &shared.access;
    let subject = Subject::peer(link.peer());
    let is_forbidden = |action, pattern: &str| {
        let is_forbidden = access.may(subject, action, Name::Dotted(pattern)).is_err();
        if is_forbidden {
            refused("forbidden");
        }
        is_forbidden
    };
    match word {
        Word::Batch(batch) => {
            // Most messages of a batch are of one topic, which is judged once.
            let mut judged: Option<(Topic, bool)> = None;
            for entry in &mut batch.entries {
                let Entry::Message(carried) = entry else { continue };
                let known = judged.as_ref().filter(|(topic, _)| *topic == carried.topic);
                carried.is_allowed = known.map_or_else(
                    || !is_forbidden(Action::Publish, carried.topic.as_str()),
                    |(_, is_allowed)| *is_allowed,
                );
                if known.is_none() {
                    judged = Some((carried.topic.clone(), carried.is_allowed));
                }
            }
        }
        Word::Interest(interest) => {
            let there = interest.entries.iter_mut();
            for (wanted, standing) in there.filter(|(_, standing)| *standing != Standing::Gone) {
                if is_forbidden(Action::Subscribe, wanted.pattern.as_str()) {
                    *standing = Standing::Gone;
                    interest.forbidden.push(wanted.pattern.clone());
                }
            }
        }
        Word::Plant(plant) => {
            plant.is_allowed = !is_forbidden(Action::Publish, plant.topic.as_str());
        }
        Word::Branch { tree, is_allowed, .. } => {
            // A part of a broadcast gets its messages, and its publisher need not. Of one that is not
            // known by its topic nobody is a part yet.
            let topic = shared.trees.lock().get(tree).cloned();
            let may = |topic: Topic| !is_forbidden(Action::Subscribe, topic.as_str());
            *is_allowed = link.node() == tree.publisher || topic.is_some_and(may);
        }
        Word::Replay { pattern, replay, .. }
            if is_forbidden(Action::Subscribe, pattern.as_str()) =>
        {
            *replay = <_>::default();
        }
        _ => {}
    }
}

/// What whoever says this wants to do, and with the name of what, as far as it says that.
fn about(word: &Word) -> (Action, &str) {
    fn first(prefixes: &[Arc<str>]) -> &str {
        prefixes.first().map(|prefix| &**prefix).unwrap_or_default()
    }
    match word {
        Word::Ask { prefixes } => (Action::Publish, first(prefixes)),
        Word::Plant(plant) => (Action::Publish, plant.topic.as_str()),
        Word::Batch(batch) => {
            let topic = batch.entries.iter().find_map(|entry| match entry {
                Entry::Message(carried) => Some(carried.topic.as_str()),
                _ => None,
            });
            (Action::Publish, topic.unwrap_or_default())
        }
        Word::Hello { .. }
        | Word::Bye
        | Word::Branch { .. }
        | Word::Fell { .. }
        | Word::Declined { .. } => (Action::Publish, ""),
        Word::News { prefixes } => (Action::Subscribe, first(prefixes)),
        Word::Interest(interest) => {
            let wanted = interest.entries.first().map(|(wanted, _)| wanted.pattern.as_str());
            (Action::Subscribe, wanted.unwrap_or_default())
        }
        Word::Replay { pattern, .. } => (Action::Subscribe, pattern.as_str()),
        Word::Forbidden { patterns } => {
            (Action::Publish, patterns.first().map(Pattern::as_str).unwrap_or_default())
        }
        Word::Welcome { .. } | Word::Report { .. } | Word::Reset | Word::Refused { .. } => {
            (Action::Subscribe, "")
        }
    }
}

fn refused(reason: &'static str) {
    ::metrics::counter!(metrics::REFUSED, "reason" => reason).increment(1);
}

#[cfg(test)]
impl PubSub {
    /// Leaves an input for the actor, as if something had happened.
    pub(crate) fn tell(&self, input: Input) {
        self.0.desk.tell(input);
    }

    /// The broadcasts in which this node takes part.
    pub(crate) fn trees(&self) -> Vec<TreeId> {
        self.0.trees.lock().keys().copied().collect()
    }
}

impl Session for Hearing {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        if !matches!(frame.kind, WORD | BATCH) {
            return unsupported(link, &frame);
        }
        if self.takes_part {
            self.heard(link, (frame.kind, frame.id), &frame.body, link.limits());
        } else if !self.shared.access.is_of_this_realm(link.peer()) {
            self.crosses(link, frame.kind, &frame.body);
        }
    }

    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, body: Body) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if !matches!(about.kind, WORD | BATCH) {
                return;
            }
            if !self.takes_part {
                if !self.shared.access.is_of_this_realm(link.peer()) {
                    self.crosses(&link, about.kind, &[]);
                }
                return;
            }
            let Ok(Long { len }) = from_body(&about.body, link.limits()) else { return };
            let read = tokio::time::timeout(LONG_WITHIN, body.read(len, wire::LEN_MAX)).await;
            if let Ok(Ok(body)) = read {
                let limits = Limits::for_body(wire::LEN_MAX);
                self.heard(&link, (about.kind, about.id), &body, &limits);
            }
        })
    }

    fn unsupported(&self, _link: &Arc<Link>, _kind: Kind, _id: u64) {}

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        self.shared.desk.offer(Input::Lost { node: link.node() });
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What the actor is made of.
pub(crate) struct Parts {
    pub(crate) pubsub: PubSub,
    pub(crate) pool: Pool,
    pub(crate) post: Post,
    /// Which life of the node.
    pub(crate) life: u64,
}

/// The worker of pub/sub. `entropy` makes the dice of each of its lives.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    parts: Parts,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<PubSubActor>, InvalidId> {
    Worker::with("pubsub", move |_: &_| {
        let Parts { pubsub, pool, post, life } = &parts;
        let shared = Arc::clone(&pubsub.0);
        let inbox = Inbox::new(INBOX_LEN_MAX);
        let broker = shared.lives.fetch_add(1, Ordering::Relaxed) + 1;
        // What a life that was cut off has numbered in its last turn has other numbers.
        let skip = if broker > 1 { TURN_MESSAGES_MAX } else { 0 };
        let sequence = shared.sequence.fetch_add(skip, Ordering::Relaxed) + skip;
        let me = Identity {
            node: shared.me,
            key: shared.access.keypair().clone(),
            life: Life { node: *life, broker },
            realm: shared.realm,
            sequence,
            config: shared.config,
        };
        // Another life of the actor has to name its sessions otherwise.
        let mut entropy = entropy();
        let entropy = Entropy::from_seed(entropy.next_u64().wrapping_add(broker));
        shared.trees.lock().clear();
        let machine = Broker::new(me, Arc::clone(&shared.archive), entropy);
        let subscribed = shared.subscribed.lock();
        let seat = shared.gates.restart(|| shared.desk.begin(&inbox));
        for of in subscribed.values() {
            inbox.push(Input::Subscribe { id: of.id, wish: Box::new(of.wish()) });
        }
        drop(subscribed);
        for (prefix, depth) in shared.depths() {
            inbox.push(Input::Announced { prefix, depth: Some(depth) });
        }
        for link in pool.links().iter().filter(|link| takes_part(&shared, link)) {
            inbox.push(Input::Met { node: link.node() });
        }
        let deeds = Deeds {
            shared,
            post: post.clone(),
            told: BTreeMap::new(),
            finds: JoinSet::new(),
            turns: Arc::new(Semaphore::new(FINDS_MAX)),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            _seat: seat,
        };
        deeds.shared.gates.turn.notify_waiters();
        Ok(Start::Run(Shell::default(), Driver::new(machine, deeds, TokioClock, inbox)))
    })
}

/// What the broker wants done.
pub(crate) struct Deeds {
    shared: Arc<Shared>,
    post: Post,
    /// What is told to subscriptions when a turn is over.
    told: BTreeMap<SubId, (Arc<Subscribed>, Vec<Event>)>,
    /// They end with the actor's life.
    finds: JoinSet<()>,
    turns: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    _seat: Seat<Input>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// On which lane messages go.
const fn lane_of(flow: FlowId) -> Lane {
    match flow.priority() {
        Priority::Urgent | Priority::High => Lane::PubsubHigh,
        Priority::Normal => Lane::PubsubNormal,
        Priority::Low => Lane::PubsubLow,
    }
}

/// On which lane something goes.
fn lane(word: &Word) -> Lane {
    match word {
        Word::Batch(batch) => lane_of(batch.flow),
        Word::Report { .. } | Word::Interest(_) | Word::Replay { .. } => Lane::PubsubHigh,
        Word::Branch { tree, .. } => lane_of(tree.flow()),
        _ => Lane::Control,
    }
}

impl Deeds {
    fn send(&self, to: NodeId, session: SessionId, word: &Word) {
        match wire::encode(word) {
            Ok(body) => {
                let (desk, what) = (self.shared.desk.clone(), word.unsent());
                let unsent = Box::new(move || desk.tell(Input::Unsent { to, session, what }));
                let kind = if matches!(word, Word::Batch(_)) { BATCH } else { WORD };
                let parcel = Parcel { lane: lane(word), kind, id: session.0, body, unsent };
                self.post.send(&Contact::new(to, []), parcel);
            }
            Err(error) => tracing::error!(%error, "a message of pub/sub"),
        }
    }

    fn tell(&mut self, to: SubId, tell: impl FnOnce(&Subscribed, &mut Vec<Event>)) {
        if !self.told.contains_key(&to) {
            let subscribed = self.shared.subscribed.lock().get(&to).cloned();
            // Whoever has unsubscribed meanwhile needs nothing more.
            let Some(subscribed) = subscribed else { return };
            self.told.insert(to, (subscribed, Vec::new()));
        }
        if let Some((subscribed, events)) = self.told.get_mut(&to) {
            tell(subscribed, events);
        }
    }

    /// Hands over what was told in this turn.
    fn tell_all(&mut self) {
        for (subscribed, mut events) in std::mem::take(&mut self.told).into_values() {
            if !events.is_empty()
                && let Some(read) = subscribed.tell(&mut events)
            {
                self.shared.desk.tell(Input::Consumed { id: subscribed.id, read });
            }
        }
    }

    fn find(&mut self, prefix: Arc<str>, max: usize, inbox: &Inbox<Input>) {
        while self.finds.try_join_next().is_some() {}
        let (directory, inbox) = (Arc::clone(&self.shared.directory), inbox.clone());
        let turns = Arc::clone(if max > CROWD { &self.turns } else { &self.looks });
        self.finds.spawn(async move {
            // Nobody closes it.
            let _turn = turns.acquire().await;
            let finding = directory.find(&prefix, max);
            let found = tokio::time::timeout(FIND_WITHIN, finding).await.ok();
            let nodes = found.and_then(|found| match found {
                Ok(found) => Some(found.into_iter().map(|provider| provider.node).collect()),
                Err(error) => {
                    tracing::debug!(%prefix, %error, "the directory of subscriptions");
                    None
                }
            });
            inbox.push(Input::Found { prefix, nodes });
        });
    }
}

impl Drop for Deeds {
    fn drop(&mut self) {
        // A turn that was cut off by a panic has reported them as delivered.
        self.tell_all();
    }
}

impl Effects<Broker> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        match output {
            Output::Send { to, session, word } => self.send(to, session, &word),
            Output::Take => {
                let posts = &self.shared.gates.posts;
                if posts.take(|messages| inbox.push(Input::Publish { messages })) {
                    inbox.push(Input::Waiting);
                }
            }
            Output::Tell { to, events: told } => self.tell(to, |_, events| match events.len() {
                0 => *events = told,
                _ => events.extend(told),
            }),
            Output::Find { prefix, max } => self.find(prefix, max, inbox),
            Output::Depth { prefix, depth } => self.shared.deepen(&prefix, depth),
            Output::Audience { topic, subscribers } => {
                self.shared.gates.audience(topic, subscribers);
            }
            Output::Tally { topic, report, freed } => {
                count(&report);
                self.shared.gates.tally(topic, &report, freed);
            }
            Output::Replayed { to, publisher, replayed } => {
                self.tell(to, |subscribed, _| subscribed.replayed(publisher, replayed));
            }
            Output::Tree { id, topic } => {
                let mut trees = self.shared.trees.lock();
                match topic {
                    Some(topic) => drop(trees.insert(id, topic)),
                    None => drop(trees.remove(&id)),
                }
            }
            Output::Owed { to, gaps } => self.tell(to, |subscribed, _| subscribed.owed(gaps)),
            Output::Misbehaved { peer, why } => {
                refused("offence");
                tracing::warn!(peer = peer.short(), why, "a node breaks the protocol of pub/sub");
            }
        }
    }

    fn observe(&mut self, broker: &Broker) {
        self.tell_all();
        self.shared.sequence.store(broker.sequence(), Ordering::Relaxed);
        self.shared.gates.turn.notify_waiters();
        let gauge = |name: &'static str, count: usize| {
            ::metrics::gauge!(name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        };
        gauge(metrics::SUBSCRIPTIONS, broker.subscriptions());
        gauge(metrics::KEPT, self.shared.archive.lock().len());
        let (outlets, inlets) = broker.sessions();
        for (end, count) in [("publisher", outlets), ("subscriber", inlets)] {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            ::metrics::gauge!(metrics::SESSIONS, "end" => end).set(count);
        }
    }
}

/// Counts what has ended.
fn count(report: &Report) {
    let count = |outcome: &'static str, copies: u64| {
        if copies > 0 {
            ::metrics::counter!(metrics::COPIES, "outcome" => outcome).increment(copies);
        }
    };
    count("delivered", report.delivered);
    count("expired", report.expired);
    for (reason, copies) in &report.dropped {
        count(reason.word(), *copies);
    }
}
