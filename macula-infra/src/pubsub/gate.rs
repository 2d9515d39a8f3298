//! The topics that this node publishes to, as publishers see them: how many subscribers there are,
//! whether there is room, and what has become of their messages.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dashmap::DashMap;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::topic::Topic;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::message::{PublishOptions, Reason, Report};
use super::posts::Posts;
use super::proto::{Bug, Config, Input, Posted, TopicId, Weight};
use crate::desk::Desk;

/// How much room a topic has for messages that wait for their turn: as many as this if they are
/// short. A long one takes more.
const ROOM: u32 = 1_024;

/// How many bytes of a payload take as much room as a message.
const COST_LEN: usize = 4_096;

/// How often subscribers are looked for, if there are none and somebody publishes.
const SEEK_AFTER: Duration = Duration::from_secs(1);

/// How many topics are published to.
pub(super) const TOPICS_MAX: usize = 65_536;

/// It is not known yet how many subscribers there are.
const UNKNOWN: usize = usize::MAX;

/// How many idle topics are let go at one time.
const LET_GO_MAX: usize = 1_024;

/// One topic.
pub(super) struct Gate {
    id: TopicId,
    room: Semaphore,
    subscribers: watch::Sender<Option<usize>>,
    /// The same, for those who do not wait: [`UNKNOWN`] as long as it is.
    count: AtomicUsize,
    /// When it was last asked for subscribers, because there are none.
    sought: Mutex<Option<Instant>>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    report: Report,
    /// What waits for its turn: so many messages one after the other, and for how many subscribers each
    /// was taken.
    waiting: VecDeque<(u64, u64)>,
    /// The place of the last message that was only to be kept, among all that were posted.
    kept: u64,
    /// Its life is over: publishers ask for the topic anew.
    is_over: bool,
}

impl Tally {
    fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.accepted += self.waiting.iter().map(|(messages, each)| messages * each).sum::<u64>();
        report
    }

    /// A message waits.
    fn wait(&mut self, subscribers: usize) {
        let each = u64::try_from(subscribers).unwrap_or(u64::MAX);
        match self.waiting.back_mut() {
            Some((messages, same)) if *same == each => *messages += 1,
            _ => self.waiting.push_back((1, each)),
        }
    }

    /// So many have had their turn.
    fn taken(&mut self, mut messages: u64) {
        while let Some((waiting, _)) = self.waiting.front_mut().filter(|_| messages > 0) {
            let taken = messages.min(*waiting);
            (*waiting, messages) = (*waiting - taken, messages - taken);
            if *waiting == 0 {
                self.waiting.pop_front();
            }
        }
    }

    /// Nothing waits, and the actor has all that was to be kept.
    fn is_idle(&self, posts: &Posts) -> bool {
        self.waiting.is_empty() && self.report.pending() == 0 && posts.is_taken(self.kept)
    }
}

impl Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a message does not get in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// There is no room.
    Full,
    /// It is for another life of the topic, which has to be opened first.
    Over,
    /// Nobody takes it: the actor is being restarted, or has more to do than it can.
    Busy,
}

impl Gate {
    /// How many subscribers there are, if that is known.
    pub(super) fn subscribers(&self) -> Option<usize> {
        let count = self.count.load(Ordering::Acquire);
        (count != UNKNOWN).then_some(count)
    }

    /// How many subscribers there are is known, or has changed.
    fn found(&self, subscribers: usize) {
        self.count.store(subscribers.min(UNKNOWN - 1), Ordering::Release);
        self.subscribers.send_replace(Some(subscribers));
    }

    /// Waits until that is known, or this life of the topic is over.
    pub(super) async fn known(&self) -> Result<usize, Shut> {
        if let Some(subscribers) = self.subscribers() {
            return Ok(subscribers);
        }
        let mut subscribers = self.subscribers.subscribe();
        let known = async {
            let known = subscribers.wait_for(Option::is_some).await;
            known.ok().and_then(|known| *known).ok_or(Shut::Over)
        };
        tokio::select! {
            known = known => known,
            // A semaphore that nobody closes has fewer permits than this.
            _ = self.room.acquire_many(ROOM + 1) => Err(Shut::Over),
        }
    }

    /// Nobody is known to subscribe: it is looked again, now and then.
    pub(super) fn seek(&self, desk: &Desk<Input>) {
        let now = TokioClock.now();
        let mut sought = self.sought.lock();
        if sought.is_none_or(|at| now >= at + SEEK_AFTER) {
            *sought = Some(now);
            desk.offer(Input::Seek { id: self.id });
        }
    }

    /// Waits for room for so many bytes.
    pub(super) async fn room(&self, len: usize) -> Result<(), Shut> {
        let room = self.room.acquire_many(cost(len)).await;
        drop(room.map_err(|_closed| Shut::Over)?);
        Ok(())
    }

    /// Puts a message for so many subscribers in, if there is room for it. Else `payload` is what it was.
    pub(super) fn put(
        &self,
        posts: &Posts,
        payload: &mut Bytes,
        options: PublishOptions,
        subscribers: usize,
    ) -> Result<(), Shut> {
        let cost = cost(payload.len());
        // Whoever ends this life of the topic does it while nobody is in here.
        let mut tally = self.tally.lock();
        if tally.is_over {
            return Err(Shut::Over);
        }
        let Ok(room) = self.room.try_acquire_many(cost) else { return Err(Shut::Full) };
        let (topic, weight) = (self.id, Weight { messages: 1, cost });
        let message = || Posted { topic, payload: std::mem::take(payload), options, weight };
        posts.leave(message).ok_or(Shut::Busy)?;
        room.forget();
        tally.wait(subscribers);
        Ok(())
    }

    /// Puts a message in that is only kept, because nobody subscribes.
    pub(super) fn keep(&self, posts: &Posts, payload: Bytes, options: PublishOptions) -> bool {
        let mut tally = self.tally.lock();
        let (topic, weight) = (self.id, Weight::default());
        let place = match tally.is_over {
            true => None,
            false => posts.leave(|| Posted { topic, payload, options, weight }),
        };
        tally.kept = place.unwrap_or(tally.kept);
        place.is_some()
    }
}

fn cost(len: usize) -> u32 {
    u32::try_from(len / COST_LEN).unwrap_or(ROOM - 1).saturating_add(1).min(ROOM)
}

/// All topics.
pub(super) struct Gates {
    config: Config,
    desk: Desk<Input>,
    pub(super) posts: Posts,
    gates: DashMap<Topic, Arc<Gate>>,
    by_id: DashMap<TopicId, Arc<Gate>>,
    ids: AtomicU64,
    /// What has become of the messages of topics that are not published to any more, or were in an
    /// earlier life of the actor.
    past: Mutex<BTreeMap<Topic, Report>>,
    /// Those of which nothing more is remembered.
    others: Mutex<Report>,
    /// Held by whoever opens a topic or begins a life of the actor.
    opening: Mutex<()>,
    /// Rung when the actor has done what there was to do.
    pub(super) turn: Notify,
}

impl Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gates").field("topics", &self.gates.len()).finish_non_exhaustive()
    }
}

impl Gates {
    pub(super) fn new(desk: Desk<Input>, config: Config) -> Self {
        Self {
            config,
            posts: Posts::new(desk.clone()),
            desk,
            gates: DashMap::new(),
            by_id: DashMap::new(),
            ids: AtomicU64::new(1),
            past: Mutex::default(),
            others: Mutex::default(),
            opening: Mutex::default(),
            turn: Notify::new(),
        }
    }

    /// The gate of a topic, which is opened if it has to be.
    ///
    /// # Errors
    ///
    /// [`Shut::Busy`] if the actor takes nothing now, [`Shut::Full`] if there are as many topics as
    /// may be.
    pub(super) fn open(&self, topic: &Topic) -> Result<Arc<Gate>, Shut> {
        if let Some(gate) = self.gates.get(topic) {
            return Ok(Arc::clone(gate.value()));
        }
        let _opening = self.opening.lock();
        if let Some(gate) = self.gates.get(topic) {
            return Ok(Arc::clone(gate.value()));
        }
        if self.gates.len() >= TOPICS_MAX {
            self.let_go();
        }
        if self.gates.len() >= TOPICS_MAX {
            return Err(Shut::Full);
        }
        let id = TopicId(self.ids.fetch_add(1, Ordering::Relaxed));
        let report = self.past.lock().remove(topic).unwrap_or_default();
        let gate = Arc::new(Gate {
            id,
            room: Semaphore::new(usize::try_from(ROOM).unwrap_or(usize::MAX)),
            subscribers: watch::Sender::new(None),
            count: AtomicUsize::new(UNKNOWN),
            sought: Mutex::default(),
            tally: Mutex::new(Tally { report, ..Tally::default() }),
        });
        // It is there before the actor hears of it, which may tell at once who subscribes.
        self.by_id.insert(id, Arc::clone(&gate));
        if !self.desk.offer(Input::Open { id, topic: topic.clone() }) {
            self.by_id.remove(&id);
            let report = std::mem::take(&mut *gate.tally.lock()).report;
            self.remember(topic.clone(), &report);
            return Err(Shut::Busy);
        }
        self.gates.insert(topic.clone(), Arc::clone(&gate));
        Ok(gate)
    }

    /// Lets go of topics that nobody publishes to.
    fn let_go(&self) {
        let is_idle = |gate: &Arc<Gate>| {
            // Two tables have it, and nobody else.
            Arc::strong_count(gate) == 2 && gate.tally.lock().is_idle(&self.posts)
        };
        let idle = self.gates.iter().filter(|entry| is_idle(entry.value()));
        let idle: Vec<Topic> = idle.take(LET_GO_MAX).map(|entry| entry.key().clone()).collect();
        for topic in idle {
            if let Some((topic, gate)) = self.gates.remove_if(&topic, |_, gate| is_idle(gate)) {
                self.by_id.remove(&gate.id);
                self.desk.tell(Input::Close { id: gate.id });
                let report = std::mem::take(&mut *gate.tally.lock()).report;
                self.remember(topic, &report);
            }
        }
    }

    fn remember(&self, topic: Topic, report: &Report) {
        let mut past = self.past.lock();
        if past.len() < TOPICS_MAX || past.contains_key(&topic) {
            past.entry(topic).or_default().add(report);
        } else {
            drop(past);
            self.others.lock().add(report);
        }
    }

    /// A life of the actor begins, when `begin` says so: whatever was with the last one is lost.
    pub(super) fn restart<T>(&self, begin: impl FnOnce() -> T) -> T {
        let _opening = self.opening.lock();
        let topics: Vec<Topic> = self.gates.iter().map(|entry| entry.key().clone()).collect();
        for topic in topics {
            let Some((topic, gate)) = self.gates.remove(&topic) else { continue };
            self.by_id.remove(&gate.id);
            let mut tally = gate.tally.lock();
            tally.is_over = true;
            let mut report = tally.report();
            drop(tally);
            gate.room.close();
            let lost = report.pending();
            if lost > 0 && !self.config.has(Bug::ForgetsWhatItHad) {
                *report.dropped.entry(Reason::Restarted).or_default() += lost;
            }
            self.remember(topic, &report);
        }
        // Nobody leaves anything for the topics of before any more.
        self.posts.clear();
        begin()
    }

    /// A topic's subscribers are known, or others.
    pub(super) fn audience(&self, id: TopicId, subscribers: usize) {
        if let Some(gate) = self.by_id.get(&id) {
            gate.found(subscribers);
        }
    }

    /// What has become of messages, and what room is free again.
    pub(super) fn tally(&self, id: TopicId, report: &Report, freed: Weight) {
        let gate = self.by_id.get(&id).map(|entry| Arc::clone(entry.value()));
        let Some(gate) = gate else { return self.others.lock().add(report) };
        let mut tally = gate.tally.lock();
        tally.report.add(report);
        tally.taken(freed.messages);
        drop(tally);
        gate.room.add_permits(usize::try_from(freed.cost).unwrap_or_default());
    }

    /// What has become of the messages of a topic.
    pub(super) fn report(&self, topic: &Topic) -> Report {
        let gate = self.gates.get(topic).map(|entry| Arc::clone(entry.value()));
        if let Some(gate) = gate {
            return gate.tally.lock().report();
        }
        self.past.lock().get(topic).cloned().unwrap_or_default()
    }

    /// What has become of all messages.
    pub(super) fn report_of_all(&self) -> Report {
        let mut sum = self.others.lock().clone();
        for entry in &self.gates {
            sum.add(&entry.value().tally.lock().report());
        }
        for report in self.past.lock().values() {
            sum.add(report);
        }
        sum
    }
}
