//! Windows, batches and retries: when what goes to whom.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::machine::{Request, Requests, Timer};
use super::peer::Peer;
use super::{Output, RequestId, Ticket};
use crate::contact::Contact;

impl Requests {
    /// Puts operations before all others that wait for their peer, in their order.
    pub(super) fn queue_again(&mut self, tickets: &[Ticket]) {
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
    pub(super) fn schedule(&mut self, now: Instant, id: NodeId) {
        let Some(delay) = self.config.fixed_delay else { return self.flush(now, id) };
        let waiting = self.peers.get(&id).is_some_and(|peer| !peer.queue.is_empty());
        if waiting && self.timers.get(Timer::Flush(id)).is_none() {
            self.timers.set(Timer::Flush(id), now + delay);
        }
    }

    /// Sends what waits for a peer, as far as the window is open. An emulated fixed delay knows no
    /// window.
    pub(super) fn flush(&mut self, now: Instant, id: NodeId) {
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
            let (to, timeout) = (peer.contact.clone(), peer.rtt.timeout(&self.rtt, &self.config));
            self.send(now, to, timeout, tickets);
        }
        self.rest(now, id);
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        to: Contact,
        timeout: Duration,
        tickets: Vec<Ticket>,
    ) {
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

    pub(super) fn use_peer(&mut self, now: Instant, to: &Contact) -> &mut Peer {
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
    pub(super) fn rest(&mut self, now: Instant, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.in_flight == 0 && peer.queue.is_empty() && peer.idle_since.is_none() {
            let since = peer.last_used.map_or(now, |used| used.max(now));
            peer.idle_since = Some(since);
            self.idle.insert((since, id));
        }
    }

    pub(super) fn request_timed_out(&mut self, now: Instant, id: RequestId) {
        let Some(peer) = self.requests.get(&id).map(|request| request.peer) else { return };
        let tickets = self.give_up(now, id);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.rtt.back_off();
        }
        self.retry(id, tickets);
        self.schedule(now, peer);
        self.rest(now, peer);
    }

    /// Sends anew what is in a request and in no other yet, as far as there is a budget for it.
    pub(super) fn retry(&mut self, id: RequestId, tickets: Vec<Ticket>) {
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
    }

    /// Gives the place of a request in the window back, but remembers it, and says what is in it.
    pub(super) fn give_up(&mut self, now: Instant, id: RequestId) -> Vec<Ticket> {
        let shut = self.keeps_the_window_shut();
        let Some(request) = self.requests.get_mut(&id) else { return Vec::new() };
        let was_open = std::mem::replace(&mut request.open, false);
        let (peer, tickets) = (request.peer, request.tickets.clone());
        self.timers.clear(Timer::Request(id));
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.in_flight = peer.in_flight.saturating_sub(usize::from(was_open && !shut));
        }
        if was_open {
            self.remember_late(now, id, &tickets);
        }
        tickets
    }

    /// Remembers a request that took too long, for as long as its answer is of use, and then some.
    pub(super) fn remember_late(&mut self, now: Instant, id: RequestId, tickets: &[Ticket]) {
        let deadlines = tickets.iter().filter_map(|ticket| self.pending.get(ticket));
        let last = deadlines.map(|pending| pending.deadline).max().unwrap_or(now);
        self.timers.set(Timer::Late(id), last.max(now) + self.config.late_for);
        self.late.insert(id);
        while self.late.len() > self.config.late_max {
            let Some(oldest) = self.late.first().copied() else { break };
            drop(self.close(now, oldest));
        }
    }

    /// Takes a request out, with its place in the window.
    pub(super) fn close(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.timers.clear(Timer::Request(id));
        self.timers.clear(Timer::Late(id));
        self.late.remove(&id);
        if request.open {
            self.leave_window(now, request.peer);
        }
        Some(request)
    }

    pub(super) fn leave_window(&mut self, now: Instant, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
        }
        self.rest(now, id);
    }
}
