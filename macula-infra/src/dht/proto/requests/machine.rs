//! The machine: what is submitted, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::identity::NodeId;

use super::config::Config;
use super::peer::Peer;
use super::rtt::Rtt;
use super::{Fault, Full, Misbehaviour, Outcome, Output, RequestId, Stats, Ticket};
use crate::budget::Budget;
use crate::contact::Contact;
use crate::dht::wire::{Op, OpResult, Refusal};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
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
pub(super) struct Pending {
    pub(super) peer: NodeId,
    pub(super) op: Op,
    pub(super) len: usize,
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    pub(super) attempts: u32,
    /// The newest request it is in; none if it is queued.
    pub(super) sent_in: Option<RequestId>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: NodeId,
    pub(super) tickets: Vec<Ticket>,
    pub(super) sent_at: Instant,
    /// It has a place in the window.
    pub(super) open: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Requests {
    pub(super) config: Config,
    pub(super) next_ticket: u64,
    pub(super) next_request: u64,
    /// Requests with smaller numbers are those of an earlier life of this node's table.
    first_request: u64,
    pub(super) pending: BTreeMap<Ticket, Pending>,
    pub(super) pending_bytes: usize,
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// Requests that took too long, and may be answered yet.
    pub(super) late: BTreeSet<RequestId>,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// Peers that nothing is asked now, those longest idle first.
    pub(super) idle: BTreeSet<(Instant, NodeId)>,
    /// The round trips to all peers together: what is expected of one that is not known.
    pub(super) rtt: Rtt,
    pub(super) budget: Budget,
    pub(super) timers: Deadlines<Timer>,
    pub(super) out: VecDeque<Output>,
    pub(super) stats: Stats,
    #[cfg(test)]
    pub(super) bug: Option<super::tests::Bug>,
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
            first_request: 0,
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

    /// Goes on after the numbers of an earlier life, whose answers may still come. They are nothing,
    /// and are not held against anybody.
    pub const fn resume(&mut self, RequestId(next): RequestId) {
        (self.next_request, self.first_request) = (next, next);
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
            None if id.0 < self.first_request => return,
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
        let no_room = OpResult::Refused(Refusal::NoRoom);
        let progress = results.iter().any(|result| *result != no_room);
        let mut again = Vec::new();
        for (ticket, result) in tickets.iter().zip(results) {
            let Some(pending) = self.pending.get_mut(ticket) else { continue };
            let kind = pending.op.kind();
            // Others had room, so it is the turn of this one soon. That costs no attempt.
            let attempts = pending.attempts.saturating_sub(u32::from(progress));
            if kind.is_some_and(|kind| !result.answers(kind)) {
                self.misbehaved(peer, Misbehaviour::WrongKind);
                self.end(now, *ticket, Outcome::Misbehaved(Misbehaviour::WrongKind));
            } else if result == no_room && attempts < self.config.attempts_max {
                pending.attempts = attempts;
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

    /// A connection to a peer has ended. If there is another, what was under way goes anew, as if
    /// it had timed out. If not, what was asked ends now, and not at its timeout. An answer that
    /// comes all the same, over another, is not held against the peer.
    pub fn lost(&mut self, now: Instant, peer: NodeId, is_connected: bool) {
        let asked = self.requests.iter().filter(|(_, request)| request.peer == peer);
        let asked: Vec<(RequestId, bool)> = asked.map(|(id, asked)| (*id, asked.open)).collect();
        for (id, is_open) in asked {
            let tickets = self.give_up(now, id);
            if !is_connected {
                for ticket in tickets {
                    if self.is_in(ticket, id) {
                        self.end(now, ticket, Outcome::Undelivered(Fault::Lost));
                    }
                }
            } else if is_open {
                self.retry(id, tickets);
            }
        }
        // What was not sent yet goes over a new one.
        self.schedule(now, peer);
        self.rest(now, peer);
    }

    pub(super) fn is_in(&self, ticket: Ticket, id: RequestId) -> bool {
        self.pending.get(&ticket).is_some_and(|pending| pending.sent_in == Some(id))
    }

    fn misbehaved(&mut self, peer: NodeId, what: Misbehaviour) {
        self.stats.misbehaved += 1;
        self.out.push_back(Output::Misbehaved { peer, what });
    }

    pub(super) fn end(&mut self, now: Instant, ticket: Ticket, outcome: Outcome) {
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
        self.bug == Some(super::tests::Bug::MixesUp)
    }

    fn ends_twice(&self) -> bool {
        self.bug == Some(super::tests::Bug::EndsTwice)
    }

    pub(super) fn keeps_the_window_shut(&self) -> bool {
        self.bug == Some(super::tests::Bug::KeepsTheWindowShut)
    }

    fn forgets_the_queued(&self, ticket: Ticket) -> bool {
        let queued = self.pending.get(&ticket).is_some_and(|pending| pending.sent_in.is_none());
        queued && self.bug == Some(super::tests::Bug::ForgetsTheQueued)
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

    pub(super) const fn keeps_the_window_shut(&self) -> bool {
        false
    }

    const fn forgets_the_queued(&self, _ticket: Ticket) -> bool {
        false
    }
}
