//! The machine: what comes in goes to the parts, and what the parts want is done.

use std::time::Instant;

use macula_core::machine::Machine;

use super::super::limits::Offence;
use super::super::lookup;
use super::super::peer::Peer;
use super::super::requests::{self, Outcome, Ticket};
use super::super::{published, records, table};
use super::serving::Asker;
use super::{Bug, Input, Node, Output, Purpose, UPKEEP_WITHIN, UnderWay};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::wire::Op;

impl Node {
    /// Does what the parts want, until they want nothing more.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.requests.poll_output() {
                self.requested(now, output);
            } else if let Some(output) = self.table.poll_output() {
                match output {
                    table::Output::Refresh { key } => self.refresh(now, key),
                    table::Output::Question { peer } => self.question(now, peer),
                }
            } else if let Some(records::Output::Replicate { key }) = self.records.poll_output() {
                if let Some(record) = self.records.get(now, &key).cloned() {
                    self.store_again(now, key, &record);
                }
            } else if let Some(output) = self.published.poll_output() {
                match output {
                    published::Output::Store { key, record } => {
                        self.store_again(now, key, &record);
                    }
                    published::Output::Issue { key, .. } if self.leaves_out_issue(&key) => {}
                    published::Output::Issue { key, provider } => {
                        self.say(Output::Sign { key, provider });
                    }
                }
            } else {
                return;
            }
        }
    }

    /// Whether an issue that nobody waits for is left out on purpose.
    fn leaves_out_issue(&self, key: &Key) -> bool {
        self.config.has(Bug::NeverPublishesAnew) && !self.issues.contains_key(key)
    }

    fn question(&mut self, now: Instant, peer: Peer) {
        let ticket = self.requests.submit(now, peer.contact(), Op::Ping, now + UPKEEP_WITHIN);
        self.under_way.insert(ticket, UnderWay { peer, purpose: Purpose::Question });
    }

    fn requested(&mut self, now: Instant, output: requests::Output) {
        match output {
            requests::Output::Send { id, to, ops, .. } => self.say(Output::Send { id, to, ops }),
            requests::Output::Done { ticket, outcome, .. } => self.ended(now, ticket, outcome),
            requests::Output::Slow { ticket } => {
                let Some(UnderWay { peer, purpose: Purpose::Step(search) }) =
                    self.under_way.get(&ticket)
                else {
                    return;
                };
                let (node, search) = (peer.node(), *search);
                self.feed(now, search, lookup::Input::Slow { node });
            }
            requests::Output::Misbehaved { peer, what } => {
                self.blame(now, peer, Offence::of_answer(what));
            }
        }
    }

    /// An operation is over.
    fn ended(&mut self, now: Instant, ticket: Ticket, outcome: Outcome) {
        let Some(UnderWay { peer, purpose }) = self.under_way.remove(&ticket) else { return };
        match &outcome {
            Outcome::Answered(_) => self.met(now, &peer, false),
            Outcome::TimedOut | Outcome::Undelivered(_) => self.table.failed(now, &peer),
            // These say nothing of the peer, or were told before.
            Outcome::Misbehaved(_) | Outcome::Busy(_) | Outcome::TooLong { .. } => {}
        }
        match purpose {
            Purpose::Step(search) => self.stepped(now, search, &peer, outcome),
            Purpose::Store(search) => self.stored(now, search, &peer, outcome),
            Purpose::Question | Purpose::Repair => {}
        }
    }
}

impl Machine for Node {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Command { id, command, deadline } => self.command(now, id, command, deadline),
            Input::Renew(record) => self.renew(now, &record),
            Input::Forget { id } => self.forget(id),
            Input::Signed { key, provider } => self.issue(now, key, &provider),
            Input::Request { from, is_foreign, id, ops } => {
                let asker = Asker { contact: &from, is_foreign };
                self.request(now, asker, id, ops);
            }
            Input::Reply { from, id, results } => {
                self.requests.answered(now, from, id, results);
            }
            Input::Undelivered { id, fault } => self.requests.undelivered(now, id, fault),
            Input::Met(contact) => {
                self.met(now, &Peer::new(contact), false);
            }
            Input::Begun(contact) => {
                self.met(now, &Peer::new(contact), true);
            }
            Input::Heard(contacts) => {
                for contact in contacts {
                    self.table.heard(now, &Peer::new(contact));
                }
            }
            Input::Lost { node, is_connected } => self.requests.lost(now, node, is_connected),
            Input::Gone(node) => {
                let peer = Peer::new(Contact::new(node, []));
                self.table.forget(&peer);
                // Nobody will answer what it was asked.
                self.requests.lost(now, node, false);
            }
            Input::Calendar(since_epoch) => {
                self.calendar = super::Moment { now, since_epoch };
            }
            Input::Mode(mode) => self.mode = mode,
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.requests.handle_timeout(now);
        self.table.handle_timeout(now);
        self.records.handle_timeout(now);
        self.providers.handle_timeout(now);
        self.published.handle_timeout(self.moment(now));
        self.cache.handle_timeout(now);
        while let Some(id) = self.alarms.due(now) {
            if let Some(search) = self.searches.get_mut(&id) {
                search.lookup.handle_timeout(now);
            }
            self.drive(now, id);
        }
        self.settle(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let alarm = self.alarms.next().map(|(at, _search)| (at, "lookup deadline"));
        let parts = [
            self.requests.poll_timeout(),
            self.table.poll_timeout(),
            self.records.poll_timeout(),
            self.providers.poll_timeout(),
            self.published.poll_timeout(),
            self.cache.poll_timeout(),
            alarm,
        ];
        parts.into_iter().flatten().min_by_key(|(at, _reason)| *at)
    }
}
