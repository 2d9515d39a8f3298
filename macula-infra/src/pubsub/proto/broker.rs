//! All of a node's pub/sub, as one machine.

mod broadcasting;
mod finding;
mod gone;
mod publishing;
mod receiving;
mod rerouting;
mod sending;
mod subscribing;
mod taking_part;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine;
use parking_lot::Mutex;

use super::super::message::{Outcome, Reason, Report};
use super::archive::Archive;
use super::crowd::{CROWD, Crowds};
use super::flow::Copy;
use super::grove::{Grown, Planted};
use super::inlet::Inlet;
use super::orphans::Orphans;
use super::outlet::Outlet;
use super::subscribers::Subscribers;
use super::topics::Topics;
use super::word::{FlowId, Life, SessionId, TreeId, Word};
use super::{Bug, Config, Input, Output, TopicId, Weight};

/// What a node of another realm is told, and why it is audited.
pub(crate) const OTHER_REALM: &str = "it is of another realm";

/// How many sessions a node has at each end.
pub(crate) const SESSIONS_MAX: usize = 8_192;

/// How many nodes with a connection are remembered.
const MET_MAX: usize = 65_536;

/// What a broker is made of.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// That of the node: it signs what the node broadcasts.
    pub(crate) key: Keypair,
    pub(crate) life: Life,
    pub(crate) realm: [u8; 32],
    /// The number of the last message of an earlier life of the actor.
    pub(crate) sequence: u64,
    pub(crate) config: Config,
}

/// What has a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A node is greeted again, or asked again.
    Retry(NodeId),
    /// What was sent to a node has not arrived.
    Probe(NodeId),
    /// A publisher is told what has arrived.
    Report(NodeId),
    /// A topic's subscribers are looked for again.
    Seek(TopicId),
    /// A topic's subscribers are known by now.
    Know(TopicId),
    /// What waits may be over.
    Sweep,
    /// A broadcast has something to do.
    Tree(TreeId),
    /// Parts of a broadcast may have to be invited again.
    Tend(u64),
}

/// What is done when there are no more inputs for now.
#[derive(Debug, Default)]
struct Pending {
    /// It is due, and since when.
    at: Option<Instant>,
    /// The nodes to which something may be sent.
    outlets: BTreeSet<NodeId>,
    /// The publishers to which something is to be told.
    inlets: BTreeSet<NodeId>,
    tallies: BTreeMap<TopicId, (Report, Weight)>,
    /// The prefixes that have their first subscription.
    prefixes: BTreeSet<Arc<str>>,
    /// Somebody has room again.
    room: bool,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Broker {
    me: Identity,
    entropy: Entropy,
    archive: Arc<Mutex<Archive>>,
    topics: Topics,
    crowds: Crowds,
    outlets: BTreeMap<NodeId, Outlet>,
    inlets: BTreeMap<NodeId, Inlet>,
    subscribers: Subscribers,
    /// The broadcasts of this node.
    planted: BTreeMap<(TopicId, FlowId), Planted>,
    /// Those that have messages which are not signed.
    unsigned: BTreeSet<(TopicId, FlowId)>,
    /// Their numbers.
    numbers: BTreeMap<u64, (TopicId, FlowId)>,
    /// Those in which it takes part.
    grown: BTreeMap<TreeId, Grown>,
    /// How many bytes all of both hold.
    trees_len: usize,
    /// Those of them whose messages wait for room.
    stalled: BTreeSet<TreeId>,
    /// What waits for another member of a queue group.
    orphans: Orphans,
    /// The publishers whose messages wait for room.
    blocked: BTreeSet<NodeId>,
    /// How many connections there are with each node.
    met: BTreeMap<NodeId, usize>,
    pending: Pending,
    /// Who gets a message: empty between two.
    chosen: publishing::Chosen,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
}

impl Broker {
    pub(crate) fn new(me: Identity, archive: Arc<Mutex<Archive>>, mut entropy: Entropy) -> Self {
        Self {
            crowds: Crowds::new(me.node, entropy.fork()),
            me,
            entropy,
            archive,
            topics: Topics::default(),
            outlets: BTreeMap::new(),
            inlets: BTreeMap::new(),
            subscribers: Subscribers::default(),
            planted: BTreeMap::new(),
            unsigned: BTreeSet::new(),
            numbers: BTreeMap::new(),
            grown: BTreeMap::new(),
            trees_len: 0,
            stalled: BTreeSet::new(),
            orphans: Orphans::default(),
            blocked: BTreeSet::new(),
            met: BTreeMap::new(),
            pending: Pending::default(),
            chosen: <_>::default(),
            timers: Deadlines::default(),
            out: VecDeque::new(),
        }
    }

    /// The number of the last message.
    pub(crate) const fn sequence(&self) -> u64 {
        self.me.sequence
    }

    /// How many subscriptions there are.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    /// How many sessions there are, as publisher and as subscriber.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        (self.outlets.len(), self.inlets.len())
    }

    /// How many messages it holds for others, and how many it has taken that are not handed on.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let parked = self.topics.parked.iter().filter_map(|id| self.topics.get(*id));
        let parked: usize = parked.map(|named| named.parked.len()).sum();
        let outlets: usize = self.outlets.values().map(Outlet::outstanding).sum();
        let inlets: usize = self.inlets.values().map(Inlet::buffered).sum();
        (parked + outlets + self.orphans.count() + self.out.len(), inlets)
    }

    /// How many bytes all broadcasts hold, as is counted now and as it was counted along the way.
    #[cfg(test)]
    pub(super) fn broadcasts_held(&self) -> (usize, usize) {
        let own: usize = self.planted.values().map(|planted| planted.tree.kept_len()).sum();
        let others = self.grown.values().map(Grown::len);
        let others: usize = others.map(|(kept, waiting)| kept + waiting).sum();
        (own + others, self.trees_len)
    }

    /// The broadcasts of others in which it takes part.
    #[cfg(test)]
    pub(super) fn takes_part_in(&self) -> Vec<TreeId> {
        self.grown.keys().copied().collect()
    }

    /// How many messages it has sent in its own broadcasts.
    #[cfg(test)]
    pub(super) fn broadcast_sent(&self) -> u64 {
        self.planted.values().map(|planted| planted.tree.sent_payloads()).sum()
    }

    /// Whether a bug was planted.
    fn has(&self, bug: Bug) -> bool {
        self.me.config.has(bug)
    }

    fn send(&mut self, to: NodeId, session: SessionId, word: Word) {
        self.out.push_back(Output::Send { to, session, word });
    }

    /// Something is to be done when there are no more inputs for now.
    fn flush_soon(&mut self, now: Instant) {
        self.pending.at.get_or_insert(now);
    }

    fn tally(&mut self, topic: TopicId) -> &mut Report {
        &mut self.pending.tallies.entry(topic).or_default().0
    }

    /// Copies have ended.
    fn ended(&mut self, copies: impl IntoIterator<Item = (Copy, Outcome)>) {
        // Most are of one topic and end in the same way.
        let mut run: Option<(TopicId, Outcome, u64)> = None;
        for (copy, how) in copies {
            // Of one that may have been delivered before, nothing else is known for certain.
            let how = match how {
                Outcome::Expired | Outcome::Dropped(_) if copy.may_be_there => {
                    Outcome::Dropped(Reason::NodeLost)
                }
                how => how,
            };
            let id = copy.stored.topic_id;
            match &mut run {
                Some((of, ended, copies)) if *of == id && *ended == how => *copies += 1,
                _ => {
                    let before = run.replace((id, how, 1));
                    before.into_iter().for_each(|run| self.ended_as(run));
                }
            }
        }
        run.into_iter().for_each(|run| self.ended_as(run));
    }

    fn ended_as(&mut self, (id, how, copies): (TopicId, Outcome, u64)) {
        if let Some(named) = self.topics.get_mut(id) {
            named.direct = named.direct.saturating_sub(copies);
        }
        self.tally(id).ended(how, copies);
    }

    /// A message waits no more.
    fn freed(&mut self, topic: TopicId, weight: Weight) {
        self.pending.tallies.entry(topic).or_default().1.and(weight);
    }

    fn flush(&mut self, now: Instant) {
        self.pending.at = None;
        if std::mem::take(&mut self.pending.room) {
            self.retry_orphans(now);
            self.retry_parked(now);
        }
        for node in std::mem::take(&mut self.pending.outlets) {
            self.send_batches(now, node);
        }
        for node in std::mem::take(&mut self.pending.inlets) {
            self.tell_publisher(now, node);
        }
        self.tell_news();
        for (topic, (report, freed)) in std::mem::take(&mut self.pending.tallies) {
            self.out.push_back(Output::Tally { topic, report, freed });
        }
    }

    /// What subscriptions are told, and publishers of them.
    fn pass_on(&mut self, now: Instant) {
        self.sign_all(now);
        while let Some((to, events)) = self.subscribers.poll() {
            self.out.push_back(Output::Tell { to, events });
        }
        while let Some((to, publisher, replayed)) = self.subscribers.poll_replay() {
            self.out.push_back(Output::Replayed { to, publisher, replayed });
        }
        while let Some((to, gaps)) = self.subscribers.poll_owed() {
            self.out.push_back(Output::Owed { to, gaps });
        }
        while let Some((wanted, standing)) = self.subscribers.poll_change() {
            self.wanted_changed(now, &wanted, standing);
        }
        if !self.pending.tallies.is_empty() {
            self.flush_soon(now);
        }
    }
}

impl Machine for Broker {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Open { id, topic } => self.open(now, id, topic),
            Input::Close { id } => self.close(now, id),
            Input::Seek { id } => self.seek(now, id),
            Input::Waiting => self.out.push_back(Output::Take),
            Input::Publish { messages } => self.publish(now, messages),
            Input::Found { prefix, nodes } => self.found(now, &prefix, nodes),
            Input::Announced { prefix, depth } => self.crowds.announced(now, prefix, depth),
            Input::Subscribe { id, wish } => self.subscribe(now, id, *wish),
            Input::Unsubscribe { id } => self.unsubscribe(now, id),
            Input::Consumed { id, read } => self.consumed(now, id, read),
            Input::Word { from, session, word, ticket } => {
                self.word(now, from, session, word);
                drop(ticket);
            }
            Input::Unsent { to, session, what } => self.unsent(now, to, session, what),
            Input::Met { node } => self.met(now, node),
            Input::Lost { node } => self.lost(now, node),
            Input::Gone { node } => self.gone(now, node),
        }
        self.pass_on(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.pending.at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
        while let Some(prefix) = self.crowds.due(now) {
            self.out.push_back(Output::Find { prefix, max: CROWD });
        }
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Retry(node) => self.greet(now, node),
                Timer::Probe(node) => self.probe(now, node),
                Timer::Report(node) => self.tell_publisher(now, node),
                Timer::Seek(id) => self.seek_again(now, id),
                Timer::Know(id) => self.know(now, id),
                Timer::Sweep => self.sweep(now),
                Timer::Tree(id) => self.tree_due(now, id),
                Timer::Tend(number) => self.tend(now, number),
            }
        }
        self.pass_on(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let flush = self.pending.at.map(|at| (at, "flush"));
        let timer = self.timers.next().map(|(at, timer)| (at, timer.reason()));
        let crowd = self.crowds.next().map(|at| (at, "look for others"));
        flush.into_iter().chain(timer).chain(crowd).min_by_key(|(at, _)| *at)
    }
}

impl Timer {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Retry(_) => "greet again",
            Self::Probe(_) => "probe",
            Self::Report(_) => "report",
            Self::Seek(_) => "seek",
            Self::Know(_) => "know",
            Self::Sweep => "sweep",
            Self::Tree(_) => "broadcast",
            Self::Tend(_) => "tend",
        }
    }
}

/// How long a publisher waits for a report of what has arrived.
const REPORT_DELAY: Duration = Duration::from_millis(2);

/// How long an answer may take, before it is asked for again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long a node may not be there, before what is for it is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// How long a topic's subscribers are waited for at first.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// How often it is looked for messages that are over while they wait.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
