//! The parts of the machine, and the way of inputs to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine;

use super::super::config::Config;
use super::super::event::Event;
use super::super::update::{Presence, Role, Seen, Stamp, Status};
use super::super::wire::Seal;
use super::health::Health;
use super::probing::{Probe, Relay};
use super::ring::Ring;
use super::rumours::Rumours;
use super::table::{Departed, Member, Sums};
use super::timer::Timer;
use super::{Body, Input, Message, Offence, Output, UPDATES_MAX};
use crate::contact::Contact;
use crate::round_trip::RoundTrip;

/// Who a machine's node is when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its node id, and where it can be reached.
    pub contact: Contact,
    /// Its life: greater than any before, also after a crash.
    pub stamp: Stamp,
    /// What it is for.
    pub role: Role,
}

/// Where the machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It only listens.
    Idle,
    /// It probes and is probed.
    Active,
    /// It says farewell, so many times more.
    Leaving(u32),
    /// It says nothing.
    Departed,
}

/// What was counted, and how things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Probes that were begun.
    pub probes: u64,
    /// Of those, how many needed the help of others.
    pub indirect: u64,
    /// Of those, how many were of no avail.
    pub failed: u64,
    /// Suspicions of this node's own, in consequence.
    pub suspicions: u64,
    /// Suspicions that were refuted, whoever had them first.
    pub cleared: u64,
    /// How often this node had to refute what was said of it.
    pub refutations: u64,
    /// Nodes that were not let in because there were too many.
    pub refused: u64,
    /// How many members there are now, this node aside.
    pub members: usize,
    /// How many of them are suspect now.
    pub suspects: usize,
    /// How many departed are remembered now.
    pub departed: usize,
    /// How many updates still ride on messages.
    pub rumours: usize,
    /// What the node thinks of itself: 0 is good, 8 is the worst.
    pub health: u32,
}

/// The membership of one node. See the [module](super) for its parts.
#[derive(Debug)]
pub struct Swim {
    pub(super) config: Config,
    pub(super) entropy: Entropy,
    pub(super) signer: Box<dyn Seal>,
    /// What this node says of itself.
    pub(super) me: Arc<Seen>,
    pub(super) stage: Stage,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) departed: Departed,
    pub(super) ring: Ring,
    pub(super) sums: Sums,
    pub(super) rumours: Rumours,
    pub(super) probes: BTreeMap<u64, Probe>,
    /// Whom the probes under way are of.
    pub(super) probed: BTreeSet<NodeId>,
    pub(super) relays: BTreeMap<u64, Relay>,
    pub(super) health: Health,
    pub(super) round_trip: RoundTrip,
    pub(super) pushed_at: Option<Instant>,
    pub(super) refuted_at: Option<Instant>,
    /// Who waits for the next refutation.
    pub(super) accusers: Vec<NodeId>,
    pub(super) superseded: u64,
    pub(super) seeds: Vec<Contact>,
    pub(super) join_attempts: u32,
    /// Whether most of what others tell is news to this node alone.
    pub(super) fresh: bool,
    /// Whether the last exchanges have taught anybody anything.
    pub(super) learned: bool,
    pub(super) synced_at: Option<Instant>,
    pub(super) timers: Deadlines<Timer>,
    pub(super) out: VecDeque<Output>,
    pub(super) stats: Stats,
}

impl Swim {
    /// The membership of a node that knows nobody.
    #[must_use]
    pub fn new(
        identity: Identity,
        signer: Box<dyn Seal>,
        config: Config,
        entropy: Entropy,
    ) -> Self {
        let Identity { contact, stamp, role } = identity;
        let me = signer.seal(Presence { contact, stamp, role, leaving: false });
        let mut sums = Sums::default();
        sums.toggle(me.node(), stamp);
        Self {
            config,
            entropy,
            signer,
            me: Arc::new(me),
            stage: Stage::Idle,
            members: BTreeMap::new(),
            departed: Departed::default(),
            ring: Ring::default(),
            sums,
            rumours: Rumours::default(),
            probes: BTreeMap::new(),
            probed: BTreeSet::new(),
            relays: BTreeMap::new(),
            health: Health::default(),
            round_trip: RoundTrip::default(),
            pushed_at: None,
            refuted_at: None,
            accusers: Vec::new(),
            superseded: stamp.life,
            seeds: Vec::new(),
            join_attempts: 0,
            fresh: false,
            learned: false,
            synced_at: None,
            timers: Deadlines::new(),
            out: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// What this node says of itself.
    #[must_use]
    pub const fn me(&self) -> &Arc<Seen> {
        &self.me
    }

    /// What is held of a node, this one and the departed among them.
    #[must_use]
    pub fn seen(&self, node: NodeId) -> Option<&Arc<Seen>> {
        if node == self.me.node() {
            return Some(&self.me);
        }
        let gone = || self.departed.get(&node).map(|gone| &gone.belief.seen);
        self.members.get(&node).map(|member| &member.belief.seen).or_else(gone)
    }

    /// What is held of a member, and how it stands; none of this node and of those that are gone.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<(&Arc<Seen>, Status)> {
        let member = self.members.get(&node)?;
        Some((&member.belief.seen, member.belief.status))
    }

    /// The members, this node aside, suspects among them, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (&Presence, Status)> {
        self.members.values().map(|member| (member.belief.seen.presence(), member.belief.status))
    }

    /// Those who were members and are remembered, in no order of note.
    pub fn departed(&self) -> impl Iterator<Item = (&Presence, Status)> {
        self.departed.iter().map(|(_, gone)| (gone.belief.seen.presence(), gone.belief.status))
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let suspects = self.members.values().filter(|member| member.suspicion.is_some()).count();
        Stats {
            members: self.members.len(),
            suspects,
            departed: self.departed.len(),
            rumours: self.rumours.len(),
            health: self.health.score(),
            ..self.stats
        }
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Message) {
        if from == self.me.node() {
            return;
        }
        let Message { updates, body } = message;
        if updates.len() > UPDATES_MAX {
            return self.misbehaved(from, Offence::TooMany);
        }
        let mut asked = Vec::new();
        for update in updates {
            self.hear(now, from, update, &mut asked);
        }
        let introduces = matches!(
            body,
            Body::Ping { .. } | Body::PingReq { .. } | Body::Gossip | Body::Digest { .. }
        );
        let answered = matches!(body, Body::Ping { .. });
        match body {
            Body::Ping { nonce } => self.send(from, Body::Ack { nonce }),
            Body::Ack { nonce } => self.acked(now, from, nonce),
            Body::PingReq { nonce, target, wait } => {
                self.ping_for(now, from, (nonce, target, wait));
            }
            Body::Nack { nonce } => self.nacked(from, nonce),
            Body::Gossip => {}
            Body::Digest { sums } => self.compare(from, &sums),
            Body::Page(page) => self.read_page(now, from, &page, &mut asked),
            Body::Ask { nodes } => self.answer(from, &nodes),
            Body::Tell { updates } => self.told(now, from, updates),
        }
        self.spoke(from);
        if !answered {
            self.accuse(now, from);
        }
        self.answer_accusers();
        if introduces && self.seen(from).is_none() && !asked.contains(&from) {
            asked.push(from);
        }
        self.ask(from, asked);
    }

    pub(super) fn misbehaved(&mut self, peer: NodeId, why: Offence) {
        self.out.push_back(Output::Misbehaved { peer, why });
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// A span, a fifth of it more or less.
    pub(super) fn jittered(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.8 + 0.4 * self.entropy.unit())
    }

    /// A random part of a span.
    pub(super) fn part_of(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.entropy.unit())
    }

    fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Tick => self.tick(now),
            Timer::Probe(nonce) => self.probe_due(now, nonce),
            Timer::Relay(nonce) => self.relay_due(nonce),
            Timer::Suspicion(node) => self.suspicion_due(now, node),
            Timer::Push => self.push(now),
            Timer::Sync => self.sync(now),
            Timer::Reconnect => self.reconnect(now),
            Timer::Join => self.try_join(now),
            Timer::Refute => self.refute(now),
            Timer::Leave => self.farewell(now),
        }
    }
}

impl Machine for Swim {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if self.stage == Stage::Departed {
            return;
        }
        match input {
            Input::Join { seeds } => self.join(now, seeds),
            Input::Message { from, message } => self.receive(now, from, message),
            Input::Undelivered { to: node } | Input::Lost { node } => self.lost(now, node),
            Input::Met { node } => self.met(now, node),
            Input::Present { addresses, role } => self.present(now, addresses, role),
            Input::Reconfigure(config) => self.reconfigure(now, config),
            Input::Leave => self.leave(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            self.fire(now, timer);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, timer)| (at, timer.reason()))
    }
}
