//! Questions to other nodes, and their answers.
//!
//! Each [submitted](Requests::submit) operation ends exactly once, with [`Output::Done`], and not
//! after its deadline; only one that was [cancelled](Requests::cancel) ends without a word.
//!
//! # Batching
//!
//! Operations to one peer share requests. To a peer that is idle the first one goes at once; while
//! [`window`](Config::window) requests are under way, further ones gather and go together as soon as
//! one of those ends. So nothing waits for a timer, and the busier a peer, the larger the requests.
//!
//! # Timeouts
//!
//! The round trip to each peer is measured (RFC 6298). A request that takes longer than the peer's
//! timeout gives its place in the window back, and its operations are sent anew, if there is a
//! budget for it: one retry for every ten operations, so that a mesh in trouble is not asked twice
//! as much. All operations can be repeated without harm. An answer to the first request still
//! counts. An operation that is slower than about 95 % of those to its peer is said to be
//! [slow](Output::Slow), so that the caller can ask another node meanwhile.
//!
//! # Lies
//!
//! An answer has to come from the node that was asked, once, with one result of the right kind for
//! each operation. Whatever else comes is an [`Output::Misbehaved`].

mod budget;
mod config;
mod peer;
mod rtt;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::time::Deadlines;
use crate::contact::Contact;
use crate::dht::wire::{Op, OpResult, Refusal};
use budget::Budget;
use peer::Peer;
use rtt::Rtt;

pub use config::Config;

/// An operation; the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request: the correlation id of its answer; the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a request has not reached its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no connection, and none could be made.
    Unreachable,
    /// This node has too much to send to it.
    Congested,
    /// The connection was lost while the answer was waited for.
    Lost,
}

/// What a peer has done that nobody does by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It has answered what was not asked, or twice.
    UnknownRequest,
    /// It has answered what another peer was asked.
    WrongPeer,
    /// It has given more or fewer results than there were operations.
    WrongCount {
        /// How many operations there were.
        asked: usize,
        /// How many results.
        got: usize,
    },
    /// It has given a result of another kind.
    WrongKind,
    /// Its answer could not be read.
    Malformed,
}

/// Which bound was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of one peer's queue.
    Peer,
    /// That of all operations.
    All,
}

/// How an operation has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has answered; it may have refused.
    Answered(OpResult),
    /// There was no answer by the deadline.
    TimedOut,
    /// The request has not reached the peer, or its answer not this node.
    Undelivered(Fault),
    /// The answer was none.
    Misbehaved(Misbehaviour),
    /// It was not sent: there are too many.
    Busy(Full),
    /// It was not sent: it is longer than a request may be.
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a request.
    Send {
        /// Its correlation id.
        id: RequestId,
        /// To whom.
        to: Contact,
        /// What is asked: at most [`OPS_MAX`](crate::dht::wire::OPS_MAX) operations.
        ops: Vec<Op>,
        /// When nobody waits for any of them any more.
        deadline: Instant,
    },
    /// An operation has ended.
    Done {
        /// Which.
        ticket: Ticket,
        /// Who was asked.
        peer: NodeId,
        /// How.
        outcome: Outcome,
        /// How long it took since it was submitted.
        took: Duration,
    },
    /// An operation takes longer than most. It is not over.
    Slow {
        /// Which.
        ticket: Ticket,
    },
    /// A peer has done what nobody does by mistake.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What.
        what: Misbehaviour,
    },
}

/// What was counted, and how things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Operations that were submitted.
    pub submitted: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Operations in them, those that were sent anew among them.
    pub sent: u64,
    /// Operations that were sent anew.
    pub retries: u64,
    /// Operations for whose retry there was no budget.
    pub retries_denied: u64,
    /// Operations that have ended without an answer by their deadline.
    pub timed_out: u64,
    /// Operations that were not sent because there were too many.
    pub busy: u64,
    /// Answers that were none.
    pub misbehaved: u64,
    /// How many operations are under way now.
    pub pending: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// How many peers are known by their round trip.
    pub peers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An operation has no time left.
    Deadline(Ticket),
    /// An operation takes longer than most.
    Slow(Ticket),
    /// A request takes too long.
    Request(RequestId),
    /// An answer to a request that took too long does not come any more.
    Late(RequestId),
    /// Operations were held back for long enough.
    Flush(NodeId),
}

#[derive(Debug)]
struct Pending {
    peer: NodeId,
    op: Op,
    len: usize,
    begun: Instant,
    deadline: Instant,
    attempts: u32,
    /// The newest request it is in; none if it is queued.
    sent_in: Option<RequestId>,
}

#[derive(Debug)]
struct Request {
    peer: NodeId,
    tickets: Vec<Ticket>,
    sent_at: Instant,
    /// It has a place in the window.
    open: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Requests {
    config: Config,
    next_ticket: u64,
    next_request: u64,
    pending: BTreeMap<Ticket, Pending>,
    pending_bytes: usize,
    requests: BTreeMap<RequestId, Request>,
    /// Requests that took too long, and may be answered yet.
    late: BTreeSet<RequestId>,
    peers: BTreeMap<NodeId, Peer>,
    /// Peers that nothing is asked now, those longest idle first.
    idle: BTreeSet<(Instant, NodeId)>,
    /// The round trips to all peers together: what is expected of one that is not known.
    rtt: Rtt,
    budget: Budget,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
    stats: Stats,
    #[cfg(test)]
    bug: Option<tests::Bug>,
}

impl Requests {
    /// A machine to which nobody has submitted anything.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            budget: Budget::new(config.retry_per_mille, config.retry_burst),
            config: config.bounded(),
            next_ticket: 0,
            next_request: 0,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            requests: BTreeMap::new(),
            late: BTreeSet::new(),
            peers: BTreeMap::new(),
            idle: BTreeSet::new(),
            rtt: Rtt::default(),
            timers: Deadlines::default(),
            out: VecDeque::new(),
            stats: Stats::default(),
            #[cfg(test)]
            bug: None,
        }
    }

    /// Asks a peer something, until a deadline. The answer, or its absence, is an
    /// [`Output::Done`] with the ticket.
    pub fn submit(&mut self, now: Instant, to: &Contact, op: Op, deadline: Instant) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.stats.submitted += 1;
        let len = op.encoded_len();
        if let Some(outcome) = self.turned_away(now, to.node, len, deadline) {
            self.stats.busy += u64::from(matches!(outcome, Outcome::Busy(_)));
            self.stats.timed_out += u64::from(outcome == Outcome::TimedOut);
            let (peer, took) = (to.node, Duration::ZERO);
            self.out.push_back(Output::Done { ticket, peer, outcome, took });
            return ticket;
        }
        self.budget.deposit();
        let slow_after = self.slow_after(to.node);
        let peer = self.use_peer(now, to);
        peer.queue.push_back(ticket);
        self.pending_bytes += len;
        let (begun, peer) = (now, to.node);
        let pending = Pending { peer, op, len, begun, deadline, attempts: 0, sent_in: None };
        self.pending.insert(ticket, pending);
        self.timers.set(Timer::Deadline(ticket), deadline);
        self.timers.set(Timer::Slow(ticket), now + slow_after);
        self.schedule(now, peer);
        ticket
    }

    /// Why an operation is not even queued.
    fn turned_away(
        &self,
        now: Instant,
        to: NodeId,
        len: usize,
        deadline: Instant,
    ) -> Option<Outcome> {
        let config = &self.config;
        let queued = self.peers.get(&to).map_or(0, |peer| peer.queue.len());
        if len > config.request_len_max {
            Some(Outcome::TooLong { len })
        } else if deadline <= now {
            Some(Outcome::TimedOut)
        } else if self.pending.len() >= config.ops_max
            || self.pending_bytes + len > config.bytes_max
        {
            Some(Outcome::Busy(Full::All))
        } else if queued >= config.queue_len_max {
            Some(Outcome::Busy(Full::Peer))
        } else {
            None
        }
    }

    fn slow_after(&self, peer: NodeId) -> Duration {
        let own = self.peers.get(&peer).and_then(|peer| peer.rtt.slow_after());
        let expected = own.or_else(|| self.rtt.slow_after());
        expected.unwrap_or(self.config.slow_initial).max(self.config.slow_min)
    }

    /// Forgets an operation: it ends without a word. One that has ended already is no matter.
    pub fn cancel(&mut self, ticket: Ticket) {
        drop(self.take(ticket));
    }

    /// A peer has answered a request. An answer that could not be read is none.
    pub fn answered(
        &mut self,
        now: Instant,
        peer: NodeId,
        id: RequestId,
        results: Option<Vec<OpResult>>,
    ) {
        match self.requests.get(&id) {
            None => return self.misbehaved(peer, Misbehaviour::UnknownRequest),
            Some(request) if request.peer != peer => {
                return self.misbehaved(peer, Misbehaviour::WrongPeer);
            }
            Some(_) => {}
        }
        let Some(request) = self.close(now, id) else { return };
        let rtt = now.saturating_duration_since(request.sent_at);
        self.rtt.sample(rtt);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.rtt.sample(rtt);
        }
        let asked = request.tickets.len();
        match results {
            Some(results) if results.len() == asked => {
                self.hand_out(now, peer, &request.tickets, results);
            }
            wrong => {
                let got = wrong.map(|results| results.len());
                let what = got
                    .map_or(Misbehaviour::Malformed, |got| Misbehaviour::WrongCount { asked, got });
                self.misbehaved(peer, what);
                for ticket in request.tickets {
                    self.end(now, ticket, Outcome::Misbehaved(what));
                }
            }
        }
        self.schedule(now, peer);
    }

    /// Gives each result to the operation it belongs to.
    fn hand_out(
        &mut self,
        now: Instant,
        peer: NodeId,
        tickets: &[Ticket],
        mut results: Vec<OpResult>,
    ) {
        if self.mixes_up() {
            results.reverse();
        }
        let mut again = Vec::new();
        for (ticket, result) in tickets.iter().zip(results) {
            let Some(pending) = self.pending.get(ticket) else { continue };
            let kind = pending.op.kind();
            if kind.is_some_and(|kind| !result.answers(kind)) {
                self.misbehaved(peer, Misbehaviour::WrongKind);
                self.end(now, *ticket, Outcome::Misbehaved(Misbehaviour::WrongKind));
            } else if result == OpResult::Refused(Refusal::NoRoom)
                && pending.attempts < self.config.attempts_max
            {
                // The others had room, so this is no trouble that a retry would make worse.
                again.push(*ticket);
            } else {
                self.end(now, *ticket, Outcome::Answered(result));
            }
        }
        self.queue_again(&again);
    }

    /// A request has not reached its peer, or its answer never will.
    pub fn undelivered(&mut self, now: Instant, id: RequestId, why: Fault) {
        let Some(request) = self.close(now, id) else { return };
        for ticket in request.tickets {
            if self.is_in(ticket, id) {
                self.end(now, ticket, Outcome::Undelivered(why));
            }
        }
        self.schedule(now, request.peer);
    }

    fn is_in(&self, ticket: Ticket, id: RequestId) -> bool {
        self.pending.get(&ticket).is_some_and(|pending| pending.sent_in == Some(id))
    }

    /// Takes a request out, with its place in the window.
    fn close(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.timers.clear(Timer::Request(id));
        self.timers.clear(Timer::Late(id));
        self.late.remove(&id);
        if request.open {
            self.leave_window(now, request.peer);
        }
        Some(request)
    }

    fn leave_window(&mut self, now: Instant, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
        }
        self.rest(now, id);
    }

    fn misbehaved(&mut self, peer: NodeId, what: Misbehaviour) {
        self.stats.misbehaved += 1;
        self.out.push_back(Output::Misbehaved { peer, what });
    }

    fn end(&mut self, now: Instant, ticket: Ticket, outcome: Outcome) {
        if self.ends_twice() {
            if let Some(pending) = self.pending.get(&ticket) {
                let (peer, took) = (pending.peer, now - pending.begun);
                self.out.push_back(Output::Done { ticket, peer, outcome, took });
            }
            return;
        }
        let Some(pending) = self.take(ticket) else { return };
        self.stats.timed_out += u64::from(outcome == Outcome::TimedOut);
        let took = now.saturating_duration_since(pending.begun);
        self.out.push_back(Output::Done { ticket, peer: pending.peer, outcome, took });
    }

    fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.pending.remove(&ticket)?;
        self.pending_bytes = self.pending_bytes.saturating_sub(pending.len);
        self.timers.clear(Timer::Deadline(ticket));
        self.timers.clear(Timer::Slow(ticket));
        if pending.sent_in.is_none() {
            if let Some(peer) = self.peers.get_mut(&pending.peer) {
                peer.queue.retain(|queued| *queued != ticket);
            }
            self.rest(pending.begun, pending.peer);
        }
        Some(pending)
    }

    /// Puts operations before all others that wait for their peer, in their order.
    fn queue_again(&mut self, tickets: &[Ticket]) {
        for ticket in tickets.iter().rev() {
            let Some(pending) = self.pending.get_mut(ticket) else { continue };
            if pending.sent_in.take().is_none() {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(&pending.peer) {
                peer.queue.push_front(*ticket);
            }
        }
    }

    /// Sends what waits for a peer, or sees to it that it is sent.
    fn schedule(&mut self, now: Instant, id: NodeId) {
        let Some(delay) = self.config.fixed_delay else { return self.flush(now, id) };
        let waiting = self.peers.get(&id).is_some_and(|peer| !peer.queue.is_empty());
        if waiting && !self.timers.is_set(Timer::Flush(id)) {
            self.timers.set(Timer::Flush(id), now + delay);
        }
    }

    /// Sends what waits for a peer, as far as the window is open. An emulated fixed delay knows no
    /// window.
    fn flush(&mut self, now: Instant, id: NodeId) {
        let window =
            if self.config.fixed_delay.is_some() { usize::MAX } else { self.config.window };
        while let Some(peer) = self.peers.get_mut(&id) {
            if peer.queue.is_empty() || peer.in_flight >= window {
                break;
            }
            let room = (self.config.batch_max, self.config.request_len_max);
            let pending = &self.pending;
            let len_of = |ticket: &Ticket| pending.get(ticket).map_or(0, |pending| pending.len);
            let tickets = peer.next_batch(room, len_of);
            peer.in_flight += 1;
            let (to, timeout) = (peer.contact.clone(), peer.rtt.timeout(&self.config));
            self.send(now, to, timeout, tickets);
        }
        self.rest(now, id);
    }

    fn send(&mut self, now: Instant, to: Contact, timeout: Duration, tickets: Vec<Ticket>) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let (mut ops, mut deadline) = (Vec::with_capacity(tickets.len()), now);
        for ticket in &tickets {
            let Some(pending) = self.pending.get_mut(ticket) else { continue };
            pending.attempts += 1;
            pending.sent_in = Some(id);
            deadline = deadline.max(pending.deadline);
            ops.push(pending.op.clone());
        }
        self.stats.requests += 1;
        self.stats.sent += u64::try_from(ops.len()).unwrap_or(0);
        self.timers.set(Timer::Request(id), now + timeout);
        let request = Request { peer: to.node, tickets, sent_at: now, open: true };
        self.requests.insert(id, request);
        self.out.push_back(Output::Send { id, to, ops, deadline });
    }

    fn use_peer(&mut self, now: Instant, to: &Contact) -> &mut Peer {
        if let Some(idle_since) = self.peers.get(&to.node).and_then(|peer| peer.idle_since) {
            self.idle.remove(&(idle_since, to.node));
        }
        while self.peers.len() >= self.config.peers_max.max(1) && !self.peers.contains_key(&to.node)
        {
            let Some((_, longest)) = self.idle.pop_first() else { break };
            self.peers.remove(&longest);
        }
        let peer = self.peers.entry(to.node).or_insert_with(|| Peer::new(to.clone()));
        peer.idle_since = None;
        peer.last_used = Some(now);
        if !to.addresses.is_empty() {
            peer.contact.clone_from(to);
        }
        peer
    }

    /// A peer of whom nothing is asked may be forgotten if there are too many.
    fn rest(&mut self, now: Instant, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.in_flight == 0 && peer.queue.is_empty() && peer.idle_since.is_none() {
            let since = peer.last_used.map_or(now, |used| used.max(now));
            peer.idle_since = Some(since);
            self.idle.insert((since, id));
        }
    }

    /// Does what was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Deadline(ticket) if self.forgets_the_queued(ticket) => {}
                Timer::Deadline(ticket) => self.end(now, ticket, Outcome::TimedOut),
                Timer::Slow(ticket) => self.out.push_back(Output::Slow { ticket }),
                Timer::Request(id) => self.request_timed_out(now, id),
                Timer::Late(id) => drop(self.close(now, id)),
                Timer::Flush(id) => self.flush(now, id),
            }
        }
    }

    fn request_timed_out(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.open = false;
        let (peer, tickets) = (request.peer, request.tickets.clone());
        let shut = self.keeps_the_window_shut();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.in_flight = peer.in_flight.saturating_sub(usize::from(!shut));
            peer.rtt.back_off();
        }
        self.await_late(now, id, &tickets);
        let mut again = Vec::new();
        for ticket in tickets {
            let tried = self.pending.get(&ticket).map_or(u32::MAX, |pending| pending.attempts);
            if !self.is_in(ticket, id) || tried >= self.config.attempts_max {
                continue;
            }
            if self.budget.withdraw() {
                self.stats.retries += 1;
                again.push(ticket);
            } else {
                self.stats.retries_denied += 1;
            }
        }
        self.queue_again(&again);
        self.schedule(now, peer);
        self.rest(now, peer);
    }

    /// Remembers a request that took too long, for as long as its answer is of use, and then some.
    fn await_late(&mut self, now: Instant, id: RequestId, tickets: &[Ticket]) {
        let deadlines = tickets.iter().filter_map(|ticket| self.pending.get(ticket));
        let last = deadlines.map(|pending| pending.deadline).max().unwrap_or(now);
        self.timers.set(Timer::Late(id), last.max(now) + self.config.late_for);
        self.late.insert(id);
        while self.late.len() > self.config.late_max {
            let Some(oldest) = self.late.first().copied() else { break };
            drop(self.close(now, oldest));
        }
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When something is due, and what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (at, timer) = self.timers.next()?;
        let reason = match timer {
            Timer::Deadline(_) => "deadline",
            Timer::Slow(_) => "slow",
            Timer::Request(_) => "timeout",
            Timer::Late(_) => "late",
            Timer::Flush(_) => "flush",
        };
        Some((at, reason))
    }

    /// The round trip to a peer, smoothed; none if it has not answered lately.
    #[must_use]
    pub fn rtt(&self, peer: NodeId) -> Option<Duration> {
        self.peers.get(&peer)?.rtt.smoothed()
    }

    /// What was counted, and how things stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            pending: self.pending.len(),
            pending_bytes: self.pending_bytes,
            peers: self.peers.len(),
            ..self.stats
        }
    }
}

/// What goes wrong on purpose in tests.
#[cfg(test)]
impl Requests {
    fn mixes_up(&self) -> bool {
        self.bug == Some(tests::Bug::MixesUp)
    }

    fn ends_twice(&self) -> bool {
        self.bug == Some(tests::Bug::EndsTwice)
    }

    fn keeps_the_window_shut(&self) -> bool {
        self.bug == Some(tests::Bug::KeepsTheWindowShut)
    }

    fn forgets_the_queued(&self, ticket: Ticket) -> bool {
        let queued = self.pending.get(&ticket).is_some_and(|pending| pending.sent_in.is_none());
        queued && self.bug == Some(tests::Bug::ForgetsTheQueued)
    }
}

#[cfg(not(test))]
#[expect(clippy::unused_self, reason = "its twin for tests needs it")]
impl Requests {
    const fn mixes_up(&self) -> bool {
        false
    }

    const fn ends_twice(&self) -> bool {
        false
    }

    const fn keeps_the_window_shut(&self) -> bool {
        false
    }

    const fn forgets_the_queued(&self, _ticket: Ticket) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
