//! Publishing and subscribing, as users of the node have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::port::Directory;
use macula_core::supervision::{Handle, SendError};
use macula_core::topic::{Pattern, Topic};
use parking_lot::Mutex;

use super::error::{PublishError, SubscribeError};
use super::gate::{Gate, Gates, Shut, TOPICS_MAX};
use super::inbox::Space;
use super::message::{Event, PAYLOAD_LEN_MAX, PublishOptions, Report};
use super::metrics;
use super::proto::archive::Archive;
use super::proto::crowd;
use super::proto::word::{GROUP_LEN_MAX, SubId, TreeId};
use super::proto::{Config, Input};
use super::subscription::{QUEUE_LEN_MAX, SubscribeOptions, Subscribed, Subscription};
use crate::access::{Access, Action, Name};
use crate::announcing::{Announced, Change};
use crate::desk::Desk;

/// How many subscriptions a node has at most.
pub const SUBSCRIPTIONS_MAX: usize = 1_000_000;

/// Under how many prefixes a node's subscriptions are announced. If there are more, the rest are
/// announced under the empty one, where every publisher looks. They are a quarter of what a node may
/// publish in the table, so that there is room for the rest.
const PREFIXES_MAX: usize = 1_024;

/// How long a queue of a subscription may be, in bytes.
const QUEUE_BYTES_MAX: usize = 1 << 30;

/// What has become of a message that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a message that nobody was there for is not told to anybody"]
pub enum Published {
    /// It is on its way.
    Accepted {
        /// To how many nodes and queue groups.
        subscribers: usize,
    },
    /// There is no room for it now, or it is not known yet who subscribes. It is not on its way.
    WouldBlock,
    /// Nobody subscribes. It is kept, if it was to be kept or retained.
    NoSubscribers,
}

/// Publish and subscribe, from one node. Clones are the same.
#[derive(Debug, Clone)]
pub struct PubSub(pub(super) Arc<Shared>);

/// Where subscriptions are announced: under which prefixes.
type Prefixes = Arc<Mutex<BTreeMap<Arc<str>, Announcement>>>;

/// How a prefix is announced.
#[derive(Debug, Default)]
struct Announcement {
    /// For how many subscriptions.
    count: usize,
    /// At how many keys beside the first.
    depth: u8,
}

/// What outlives the actor.
pub(super) struct Shared {
    pub(super) me: NodeId,
    pub(super) realm: [u8; 32],
    pub(super) access: Access,
    pub(super) config: Config,
    pub(super) desk: Desk<Input>,
    pub(super) gates: Gates,
    /// The room for what others say.
    pub(super) heard: Space,
    pub(super) subscribed: Mutex<BTreeMap<SubId, Arc<Subscribed>>>,
    pub(super) archive: Arc<Mutex<Archive>>,
    /// The number of the last message.
    pub(super) sequence: AtomicU64,
    /// How many lives of the actor there were.
    pub(super) lives: AtomicU64,
    /// The broadcasts in which this node takes part, by which others are judged that do.
    pub(super) trees: Mutex<BTreeMap<TreeId, Topic>>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) announced: Announced,
    prefixes: Prefixes,
    ids: AtomicU64,
}

impl Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubSub").field("node", &self.me).finish_non_exhaustive()
    }
}

/// Where the directory has a prefix.
fn place(prefix: &str) -> String {
    prefix.to_owned()
}

/// What the node's own parts use.
impl PubSub {
    /// `directory` is where subscriptions are found.
    pub(crate) fn new(
        me: NodeId,
        realm: [u8; 32],
        access: Access,
        directory: Arc<dyn Directory>,
        config: Config,
    ) -> Self {
        let desk = Desk::default();
        let prefixes = Prefixes::default();
        let current = Arc::clone(&prefixes);
        let current = move || {
            let current = current.lock();
            let names = |(prefix, of): (&Arc<str>, &Announcement)| {
                let prefix = Arc::clone(prefix);
                (0..=of.depth).map(move |depth| crowd::name(&prefix, me, depth))
            };
            current.iter().flat_map(names).collect::<BTreeSet<_>>()
        };
        let announced =
            Announced::new(Arc::clone(&directory), place, metrics::UNANNOUNCED, current, |_| {
                Bytes::new()
            });
        Self(Arc::new(Shared {
            me,
            realm,
            access,
            config,
            gates: Gates::new(desk.clone(), config),
            desk,
            heard: Space::default(),
            subscribed: Mutex::default(),
            archive: Arc::new(Mutex::new(Archive::new(config.kept))),
            sequence: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            trees: Mutex::default(),
            directory,
            announced,
            prefixes,
            ids: AtomicU64::new(1),
        }))
    }

    /// The prefixes of subscriptions.
    pub(crate) fn announced_prefixes(&self) -> &Announced {
        &self.0.announced
    }

    /// The node has ended, and so do its subscriptions.
    pub(crate) fn end(&self) {
        self.0.subscribed.lock().values().for_each(|subscribed| subscribed.end());
    }

    /// A node is gone from the mesh, and its subscriptions with it.
    pub(crate) fn gone(&self, node: NodeId) {
        self.0.desk.tell(Input::Gone { node });
    }
}

impl PubSub {
    /// Publishes a message, as soon as there is room for it. It waits for that, and until it is
    /// known who subscribes: for as long as the message is good for, if that is bounded.
    ///
    /// A message that is promised to arrive waits until there is room for it on its way to each of
    /// its subscribers' nodes. Any other one waits until there is room on the way to one of them; for
    /// the others it is dropped, and counted as such in the [report](Self::delivery_report).
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nobody gets it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nobody gets the message.
    pub async fn publish(
        &self,
        topic: &Topic,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let payload = self.check(topic, payload.into())?;
        let put = self.put_in(topic, payload, options);
        match options.expiry {
            None => put.await,
            Some(within) => tokio::time::timeout(within, put)
                .await
                .unwrap_or(Err(PublishError::Expired { within })),
        }
    }

    /// Publishes a message if there is room for it now, and says so.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn try_publish(
        &self,
        topic: &Topic,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let mut payload = self.check(topic, payload.into())?;
        let gate = match self.0.gates.open(topic) {
            Ok(gate) => gate,
            Err(Shut::Full) => return Err(PublishError::TooManyTopics { max: TOPICS_MAX }),
            Err(Shut::Over | Shut::Busy) => return Ok(Published::WouldBlock),
        };
        let Some(subscribers) = gate.subscribers() else { return Ok(Published::WouldBlock) };
        Ok(match self.put_now(&gate, subscribers, &mut payload, options) {
            Ok(published) => published,
            Err(_shut) => Published::WouldBlock,
        })
    }

    fn check(&self, topic: &Topic, payload: Bytes) -> Result<Bytes, PublishError> {
        let len = payload.len();
        if len > PAYLOAD_LEN_MAX {
            return Err(PublishError::TooLarge { len });
        }
        let may = self.0.access.may_i(Action::Publish, Name::Dotted(topic.as_str()));
        may.map_err(|error| PublishError::Forbidden(error.to_string()))?;
        Ok(payload)
    }

    fn put_now(
        &self,
        gate: &Gate,
        subscribers: usize,
        payload: &mut Bytes,
        options: PublishOptions,
    ) -> Result<Published, Shut> {
        if subscribers > 0 {
            gate.put(&self.0.gates.posts, payload, options, subscribers)?;
            return Ok(Published::Accepted { subscribers });
        }
        gate.seek(&self.0.desk);
        let is_kept = options.retain || options.keep;
        if is_kept && !gate.keep(&self.0.gates.posts, payload.clone(), options) {
            return Err(Shut::Busy);
        }
        Ok(Published::NoSubscribers)
    }

    async fn put_in(
        &self,
        topic: &Topic,
        mut payload: Bytes,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        let gates = &self.0.gates;
        // Most get in at once.
        if let Ok(gate) = gates.open(topic)
            && let Some(subscribers) = gate.subscribers()
            && let Ok(published) = self.put_now(&gate, subscribers, &mut payload, options)
        {
            return Ok(published);
        }
        loop {
            // Asked for before looking, so that no turn of the actor is missed.
            let turn = gates.turn.notified();
            tokio::pin!(turn);
            turn.as_mut().enable();
            let shut = match gates.open(topic) {
                Ok(gate) => match gate.known().await {
                    Ok(subscribers) => {
                        match self.put_now(&gate, subscribers, &mut payload, options) {
                            Ok(published) => return Ok(published),
                            Err(Shut::Full) => match gate.room(payload.len()).await {
                                Ok(()) => continue,
                                Err(shut) => shut,
                            },
                            Err(shut) => shut,
                        }
                    }
                    Err(shut) => shut,
                },
                Err(Shut::Full) => {
                    return Err(PublishError::TooManyTopics { max: TOPICS_MAX });
                }
                Err(shut) => shut,
            };
            if shut == Shut::Busy {
                turn.await;
            }
        }
    }

    /// How many subscribers a topic has, as far as this node knows: nodes, and queue groups. It waits
    /// until they have been looked for.
    ///
    /// # Errors
    ///
    /// [`PublishError::TooManyTopics`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn subscribers(&self, topic: &Topic) -> Result<usize, PublishError> {
        loop {
            let turn = self.0.gates.turn.notified();
            tokio::pin!(turn);
            turn.as_mut().enable();
            match self.0.gates.open(topic) {
                Ok(gate) => {
                    if let Ok(subscribers) = gate.known().await {
                        if subscribers == 0 {
                            gate.seek(&self.0.desk);
                        }
                        return Ok(subscribers);
                    }
                }
                Err(Shut::Full) => {
                    return Err(PublishError::TooManyTopics { max: TOPICS_MAX });
                }
                Err(Shut::Over | Shut::Busy) => turn.await,
            }
        }
    }

    /// What has become of what this node has published to a topic. It is remembered for the last
    /// 65,536 topics.
    #[must_use]
    pub fn delivery_report(&self, topic: &Topic) -> Report {
        self.0.gates.report(topic)
    }

    /// Waits until all that this node has published to a topic has ended, in one way or another, and
    /// says what has become of it. It may never do, as long as more is published.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn settled(&self, topic: &Topic) -> Report {
        loop {
            let turn = self.0.gates.turn.notified();
            tokio::pin!(turn);
            turn.as_mut().enable();
            let report = self.delivery_report(topic);
            if report.pending() == 0 {
                return report;
            }
            turn.await;
        }
    }

    /// What has become of all that this node has published.
    #[must_use]
    pub fn delivery_report_of_all(&self) -> Report {
        self.0.gates.report_of_all()
    }

    /// Subscribes to all topics that a pattern matches.
    ///
    /// Publishers that are connected to this node hear of it at once, and others when they next look:
    /// within half a minute. Those whose rules forbid it say so, which the subscription is told as
    /// [`Event::Refused`].
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; nothing changed.
    pub fn subscribe(
        &self,
        pattern: &Pattern,
        options: &SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        self.check_subscription(pattern, options)?;
        let shared = &self.0;
        let id = SubId(shared.ids.fetch_add(1, Ordering::Relaxed));
        let mut all = shared.subscribed.lock();
        if all.len() >= SUBSCRIPTIONS_MAX {
            return Err(SubscribeError::Full { max: SUBSCRIPTIONS_MAX });
        }
        let prefix = shared.announce(pattern.prefix());
        let subscribed =
            Arc::new(Subscribed::new(id, pattern.clone(), options, (prefix, &shared.config)));
        all.insert(id, Arc::clone(&subscribed));
        // Under the lock, so that each life of the actor hears of it once.
        shared.desk.tell(Input::Subscribe { id, wish: Box::new(subscribed.wish()) });
        drop(all);
        Ok(Subscription { shared: Arc::clone(shared), subscribed, taken: <_>::default() })
    }

    fn check_subscription(
        &self,
        pattern: &Pattern,
        options: &SubscribeOptions,
    ) -> Result<(), SubscribeError> {
        let SubscribeOptions { group, queue_len, queue_bytes, .. } = options;
        if let Some(len) = group.as_ref().map(String::len)
            && !(1..=GROUP_LEN_MAX).contains(&len)
        {
            return Err(SubscribeError::Group { len });
        }
        let queue = |what, found, max| {
            let is_legal = (1..=max).contains(&found);
            if is_legal { Ok(()) } else { Err(SubscribeError::Queue { what, found, max }) }
        };
        queue("messages", *queue_len, QUEUE_LEN_MAX)?;
        queue("bytes", *queue_bytes, QUEUE_BYTES_MAX)?;
        let may = self.0.access.may_i(Action::Subscribe, Name::Dotted(pattern.as_str()));
        may.map_err(|error| SubscribeError::Forbidden(error.to_string()))
    }

    /// Subscribes an actor: `message` makes its own message of each event. While its mailbox is full
    /// or it is being restarted, events wait for it as they do in a subscription.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_actor<M: Send + 'static>(
        &self,
        pattern: &Pattern,
        options: &SubscribeOptions,
        handle: &Handle<M>,
        message: impl Fn(Event) -> M + Send + Sync + 'static,
    ) -> Result<Subscribing, SubscribeError> {
        let mut subscription = self.subscribe(pattern, options)?;
        let handle = handle.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                // What is the user's runs here.
                let made = catch_unwind(AssertUnwindSafe(|| message(event)));
                match made {
                    Ok(message) => tell(&handle, message).await,
                    Err(_panic) => {
                        tracing::error!("a closure panics that makes an actor's message");
                    }
                }
            }
        });
        Ok(Subscribing(task.abort_handle()))
    }

    /// How many subscriptions this node has.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.0.subscribed.lock().len()
    }

    /// Waits until the directory knows of all subscriptions that there are now. It may never do.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn announced(&self) {
        self.0.announced.announced().await;
    }
}

/// Tells an actor, as soon as it can be told.
async fn tell<M: Send + 'static>(handle: &Handle<M>, message: M) {
    let mut message = message;
    loop {
        message = match handle.send(message).await {
            Ok(()) => return,
            Err(SendError::Full { message, .. }) => {
                handle.room().await;
                message
            }
            Err(error) => {
                if handle.ready().await.is_none() {
                    return;
                }
                error.into_message()
            }
        };
    }
}

/// An actor that is subscribed until this is dropped.
#[derive(Debug)]
#[must_use = "an actor is subscribed only as long as this is held; `keep` keeps it for ever"]
pub struct Subscribing(tokio::task::AbortHandle);

impl Subscribing {
    /// Keeps it subscribed for as long as the node runs.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Subscribing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    /// Announces a subscription, and says under which prefix.
    fn announce(&self, prefix: &str) -> Arc<str> {
        let mut prefixes = self.prefixes.lock();
        let is_room = prefixes.len() < PREFIXES_MAX || prefixes.contains_key(prefix);
        let prefix: Arc<str> = if is_room { prefix } else { "" }.into();
        let of = prefixes.entry(Arc::clone(&prefix)).or_default();
        of.count += 1;
        if of.count == 1 {
            self.announced.change(Change::Served(Arc::clone(&prefix)));
            let depth = Some(0);
            self.desk.tell(Input::Announced { prefix: Arc::clone(&prefix), depth });
        }
        prefix
    }

    /// A subscription is over.
    pub(super) fn unsubscribe(&self, subscribed: &Subscribed) {
        let mut all = self.subscribed.lock();
        if all.remove(&subscribed.id).is_none() {
            return;
        }
        self.desk.tell(Input::Unsubscribe { id: subscribed.id });
        drop(all);
        let prefix = &subscribed.announced;
        let mut prefixes = self.prefixes.lock();
        let Some(of) = prefixes.get_mut(prefix) else { return };
        of.count -= 1;
        if of.count > 0 {
            return;
        }
        for depth in 0..=of.depth {
            self.announced.change(Change::Ended(crowd::name(prefix, self.me, depth)));
        }
        prefixes.remove(prefix);
        self.desk.tell(Input::Announced { prefix: Arc::clone(prefix), depth: None });
    }

    /// Announces a prefix at so many keys beside the first.
    pub(super) fn deepen(&self, prefix: &str, depth: u8) {
        let mut prefixes = self.prefixes.lock();
        let Some(of) = prefixes.get_mut(prefix) else { return };
        let before = std::mem::replace(&mut of.depth, depth);
        for deeper in before + 1..=depth {
            self.announced.change(Change::Served(crowd::name(prefix, self.me, deeper)));
        }
        for no_more in depth + 1..=before {
            self.announced.change(Change::Ended(crowd::name(prefix, self.me, no_more)));
        }
    }

    /// The prefixes that are announced, and how deep.
    pub(super) fn depths(&self) -> Vec<(Arc<str>, u8)> {
        let prefixes = self.prefixes.lock();
        prefixes.iter().map(|(prefix, of)| (Arc::clone(prefix), of.depth)).collect()
    }
}
