//! Searches: commands and upkeep under way, each with a lookup.

use std::time::Instant;

use macula_core::machine::Machine as _;

use super::super::cache::{self, Found, Waiter};
use super::super::lookup::{self, Lookup};
use super::super::peer::Peer;
use super::super::requests::{Outcome, Ticket};
use super::storing::{Parcel, Storing};
use super::votes::{Gathered, Votes};
use super::{
    Answer, Command, CommandId, Failure, Got, Issue, Node, Output, Purpose, SEARCHES_MAX, Side,
    UPKEEP_WITHIN, UnderWay,
};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::proto::limits::Offence;
use crate::dht::signed;
use crate::dht::wire::{CONTACTS_MAX, Op, OpResult, Refusal};

/// A search under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SearchId(pub(super) u64);

/// A lookup, and what it is for.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) lookup: Lookup,
    pub(super) deadline: Instant,
    pub(super) aim: Aim,
    /// The operations that are its steps or its stores.
    pub(super) tickets: Vec<Ticket>,
    /// Whether a node was not asked, or did not answer, because there was too much to do.
    pub(super) turned_away: bool,
}

/// What a search is for.
#[derive(Debug)]
pub(super) enum Aim {
    /// The nodes themselves; for somebody, or for the table's sake.
    Nodes(Option<CommandId>),
    /// A value; for one who wants it fresh, or for those who are known to the cache.
    Value(Votes, Option<CommandId>),
    /// Providers.
    Providers { command: CommandId, max: usize, gathered: Gathered },
    /// Something is to be kept by the closest nodes.
    Store(Storing),
}

/// Whoever asks is told to come again: too much is under way for a true answer.
pub(super) const OVERLOADED: Failure = Failure::Busy("too much is asked at one time");

/// How a search for a value ended.
struct Over {
    outcome: lookup::Outcome,
    turned_away: bool,
}

/// What a result means for a search.
enum Step {
    /// The node has answered, with or without what is looked for.
    Answered { found: bool, contacts: Vec<Contact> },
    /// It is as good as not there.
    Failed,
    /// What it has answered with is not taken.
    Refused(signed::Refusal),
}

impl Node {
    pub(super) fn command(
        &mut self,
        now: Instant,
        id: CommandId,
        command: Command,
        deadline: Instant,
    ) {
        match command {
            Command::Lookup { key } => {
                self.search(now, key, Aim::Nodes(Some(id)), deadline);
            }
            Command::Get { key, fresh } => self.get(now, id, key, fresh, deadline),
            Command::Find { key, max } => {
                let gathered = self.own_providers(now, &key);
                self.search(now, key, Aim::Providers { command: id, max, gathered }, deadline);
            }
            Command::Put { record, condition, quorum } => {
                let verified = record.verify(self.moment(now).since_epoch, None, &self.rules);
                match verified {
                    Err(refusal) => self.fail(id, refusal.into()),
                    Ok(record) => {
                        let (key, record) = (record.key(), Box::new(record));
                        self.cache.forget(&key);
                        let parcel = Parcel::Record { record, condition };
                        let aim = Aim::Store(Storing::new(Some(id), parcel, quorum));
                        self.search(now, key, aim, deadline);
                    }
                }
            }
            Command::Provide { provider, ttl, quorum } => {
                let (at, key) = (self.moment(now), provider.key());
                match self.published.provide(at, provider, ttl) {
                    Err(_full) => self.fail(id, Failure::Busy("as much is published as may be")),
                    Ok(()) => self.expect_issue(key, Issue { command: id, quorum, deadline }),
                }
            }
            Command::Withdraw { key, quorum } => {
                match self.published.withdraw(self.moment(now), key) {
                    None => self.fail(id, Failure::NotProvided),
                    Some(provider) => {
                        self.expect_issue(key, Issue { command: id, quorum, deadline });
                        self.say(Output::Sign { key, provider });
                    }
                }
            }
        }
    }

    fn expect_issue(&mut self, key: Key, issue: Issue) {
        if let Some(before) = self.issues.insert(key, issue) {
            self.fail(before.command, Failure::Busy("it was asked for again"));
        }
    }

    fn get(&mut self, now: Instant, id: CommandId, key: Key, fresh: bool, deadline: Instant) {
        if fresh {
            // A search that began earlier may have missed what was put meanwhile.
            self.cache.forget(&key);
            let aim = Aim::Value(self.own_votes(now, &key), Some(id));
            self.search(now, key, aim, deadline);
            return;
        }
        match self.cache.get(now, key, Waiter(id.0)) {
            cache::Lookup::Hit(got) => {
                self.stats.hits += 1;
                self.done(id, Answer::Value(got));
            }
            cache::Lookup::Absent => {
                self.stats.hits += 1;
                let nothing = Got { record: None, agreed: 0, answered: 0 };
                self.done(id, Answer::Value(nothing));
            }
            cache::Lookup::Joined => {}
            cache::Lookup::Search => {
                let votes = self.own_votes(now, &key);
                if !self.search(now, key, Aim::Value(votes, None), deadline) {
                    self.cache.leave(&key, Waiter(id.0));
                    self.found(now, key, Found::Failed, &Err(Failure::Busy("too many searches")));
                }
            }
            cache::Lookup::Busy => self.fail(id, Failure::Busy("too many wait for it")),
        }
    }

    /// Tells the one who wanted a value fresh, or all who wait for it.
    fn tell(
        &mut self,
        now: Instant,
        key: Key,
        command: Option<CommandId>,
        (found, answer): (Found<Got>, Result<Got, Failure>),
    ) {
        let Some(id) = command else { return self.found(now, key, found, &answer) };
        self.cache.learn(now, key, found);
        self.say(Output::Done { id, answer: answer.map(Answer::Value) });
    }

    /// Tells all who wait for a value.
    fn found(&mut self, now: Instant, key: Key, found: Found<Got>, answer: &Result<Got, Failure>) {
        for Waiter(id) in self.cache.found(now, key, found) {
            let answer = answer.clone().map(Answer::Value);
            self.say(Output::Done { id: CommandId(id), answer });
        }
    }

    /// What this node itself keeps under the key.
    fn own_votes(&self, now: Instant, key: &Key) -> Votes {
        let mut votes = Votes::default();
        let since_epoch = self.moment(now).since_epoch;
        let own = self.records.get(now, key);
        if let Some(Ok(record)) = own.map(|own| own.verify(since_epoch, Some(*key), &self.rules)) {
            votes.has(self.own.node(), record);
        }
        votes
    }

    fn own_providers(&mut self, now: Instant, key: &Key) -> Gathered {
        let since_epoch = self.moment(now).since_epoch;
        let mut gathered = Gathered::default();
        for own in self.providers.find(now, key, CONTACTS_MAX) {
            if let Ok(own) = own.verify(since_epoch, Some(*key), &self.rules) {
                gathered.add(own);
            }
        }
        gathered
    }

    /// Looks a key up for the table's sake.
    pub(super) fn refresh(&mut self, now: Instant, key: Key) {
        self.search(now, key, Aim::Nodes(None), now + UPKEEP_WITHIN);
    }

    /// Begins a search. If there is no room for it, whoever wants it is told, but for those who wait
    /// for a value; says whether it has begun.
    pub(super) fn search(&mut self, now: Instant, key: Key, aim: Aim, deadline: Instant) -> bool {
        if self.searches.len() >= SEARCHES_MAX {
            if let Some(id) = aim.command() {
                self.fail(id, Failure::Busy("too many searches"));
            }
            return false;
        }
        self.table.looked_up(now, key);
        let id = SearchId(self.next_search);
        self.next_search += 1;
        if let Some(command) = aim.command() {
            self.commands.insert(command, id);
        }
        let lookup = self.lookup(now, key, deadline, self.config.lookup.k);
        let tickets = Vec::new();
        let search = Search { lookup, deadline, aim, tickets, turned_away: false };
        self.searches.insert(id, search);
        self.drive(now, id);
        true
    }

    pub(super) fn lookup(&self, now: Instant, key: Key, deadline: Instant, k: usize) -> Lookup {
        let left = deadline.saturating_duration_since(now);
        let seeds = self.table.seeds(key, k);
        let config = lookup::Config {
            k,
            // A store needs time after it.
            deadline: (left * 2 / 3).min(self.config.lookup.deadline),
            population: self.estimator.population(),
            ..self.config.lookup.clone()
        };
        Lookup::new(now, self.own.key(), key, &seeds, config)
    }

    /// Does what a search's lookup wants.
    pub(super) fn drive(&mut self, now: Instant, id: SearchId) {
        while let Some(search) = self.searches.get_mut(&id) {
            let Some(output) = search.lookup.poll_output() else { break };
            match output {
                lookup::Output::Ask { peer, .. } => {
                    let op = search.aim.question(search.lookup.target());
                    let deadline = search.deadline;
                    let ticket = self.requests.submit(now, peer.contact(), op, deadline);
                    search.tickets.push(ticket);
                    let purpose = Purpose::Step(id);
                    self.under_way.insert(ticket, UnderWay { peer, purpose });
                }
                lookup::Output::Done(outcome) => {
                    self.alarms.clear(id);
                    return self.looked_up(now, id, outcome);
                }
            }
        }
        let due = self.searches.get(&id).and_then(|search| search.lookup.poll_timeout());
        match due {
            Some((at, _)) => self.alarms.set(id, at),
            None => self.alarms.clear(id),
        }
    }

    /// A step of a lookup has ended.
    pub(super) fn stepped(&mut self, now: Instant, id: SearchId, peer: &Peer, outcome: Outcome) {
        let since_epoch = self.moment(now).since_epoch;
        let Some(search) = self.searches.get_mut(&id) else { return };
        let (key, node) = (search.lookup.target(), peer.node());
        search.turned_away |= matches!(
            outcome,
            Outcome::Busy(_) | Outcome::Answered(OpResult::Refused(Refusal::Busy { .. }))
        );
        let step = match (&mut search.aim, outcome) {
            (Aim::Value(votes, _), Outcome::Answered(OpResult::Value { record, contacts })) => {
                match record.verify(since_epoch, Some(key), &self.rules) {
                    Ok(record) => {
                        votes.has(node, record);
                        Step::Answered { found: true, contacts }
                    }
                    Err(refusal) => Step::Refused(refusal),
                }
            }
            (Aim::Value(votes, _), Outcome::Answered(OpResult::Nodes { contacts })) => {
                votes.lacks();
                Step::Answered { found: false, contacts }
            }
            (
                Aim::Providers { gathered, .. },
                Outcome::Answered(OpResult::Providers { providers, contacts, .. }),
            ) => {
                let verified = providers
                    .iter()
                    .map(|found| found.verify(since_epoch, Some(key), &self.rules))
                    .collect::<Result<Vec<_>, _>>();
                match verified {
                    Ok(providers) => {
                        let found = !providers.is_empty();
                        providers.into_iter().for_each(|provider| gathered.add(provider));
                        gathered.answered();
                        Step::Answered { found, contacts }
                    }
                    Err(refusal) => Step::Refused(refusal),
                }
            }
            (Aim::Nodes(_) | Aim::Store(_), Outcome::Answered(OpResult::Nodes { contacts })) => {
                Step::Answered { found: false, contacts }
            }
            (_, _) => Step::Failed,
        };
        let input = match step {
            Step::Answered { found, contacts } => {
                let peers = contacts.into_iter().take(lookup::PEERS_MAX).map(Peer::new).collect();
                lookup::Input::Answered { node, peers, found }
            }
            Step::Failed => lookup::Input::Failed { node },
            Step::Refused(refusal) => {
                let offence = Offence::of_answered(&refusal);
                self.refuse(node, Side::Reader, refusal.into());
                if let Some(offence) = offence {
                    self.blame(now, node, offence);
                }
                lookup::Input::Failed { node }
            }
        };
        self.feed(now, id, input);
        self.is_enough(now, id);
    }

    /// Hands its lookup something.
    pub(super) fn feed(&mut self, now: Instant, id: SearchId, input: lookup::Input) {
        if let Some(search) = self.searches.get_mut(&id) {
            search.lookup.handle(now, input);
            self.drive(now, id);
        }
    }

    /// Ends a search that has what it wants.
    fn is_enough(&mut self, now: Instant, id: SearchId) {
        let agree = self.config.agree.max(1);
        let enough = self.searches.get(&id).is_some_and(|search| match &search.aim {
            Aim::Value(votes, _) => votes.agreed() >= agree,
            Aim::Providers { gathered, max, .. } => gathered.len() >= *max,
            Aim::Nodes(_) | Aim::Store(_) => false,
        });
        if enough {
            self.feed(now, id, lookup::Input::Enough);
        }
    }

    /// A lookup is over.
    fn looked_up(&mut self, now: Instant, id: SearchId, outcome: lookup::Outcome) {
        if let Some(Search { lookup, aim: Aim::Nodes(_) | Aim::Store(_), .. }) =
            self.searches.get(&id)
        {
            let key = lookup.target();
            self.estimator.add(&key, &outcome.closest, self.config.lookup.k);
        }
        if let Some(Search { aim: Aim::Store(_), .. }) = self.searches.get(&id) {
            return self.store(now, id, outcome);
        }
        let Some(search) = self.close(id) else { return };
        let key = search.lookup.target();
        match search.aim {
            Aim::Nodes(None) | Aim::Store(_) => {}
            Aim::Nodes(Some(command)) => self.done(command, Answer::Nodes(outcome)),
            Aim::Value(votes, command) => {
                let over = Over { outcome, turned_away: search.turned_away };
                self.counted(now, key, (&votes, command), &over);
            }
            Aim::Providers { command, max, gathered } => {
                let providing = gathered.take(max);
                if search.turned_away && providing.providers.is_empty() {
                    return self.fail(command, OVERLOADED);
                }
                if providing.answered == 0 && providing.providers.is_empty() {
                    let failure = silence(&outcome);
                    if let Some(failure) = failure {
                        return self.fail(command, failure);
                    }
                }
                self.done(command, Answer::Providers(providing));
            }
        }
    }

    /// The votes on a value are in.
    fn counted(
        &mut self,
        now: Instant,
        key: Key,
        (votes, command): (&Votes, Option<CommandId>),
        over: &Over,
    ) {
        let got = votes.count();
        let outcome = &over.outcome;
        let Some(record) = got.record.clone() else {
            let silent = silence(outcome).filter(|_| got.answered == 0);
            let answer = match silent.or_else(|| over.turned_away.then_some(OVERLOADED)) {
                Some(failure) => (Found::Failed, Err(failure)),
                None => (Found::Nothing, Ok(got)),
            };
            return self.tell(now, key, command, answer);
        };
        let since_epoch = self.moment(now).since_epoch;
        let ttl = record.record().expires_at.saturating_sub(since_epoch);
        let len = record.stored_len();
        self.tell(now, key, command, (Found::Value { value: got.clone(), len, ttl }, Ok(got)));
        let own = self.own.node();
        for (node, stored) in votes.outdated().filter(|(node, _)| *node != own) {
            self.refuse(node, Side::Reader, Refusal::Older { stored });
            self.blame(now, node, Offence::Stale);
        }
        for peer in outcome.closest.iter().filter(|peer| votes.is_behind(peer)) {
            self.hand_over(now, peer, record.signed().clone());
        }
    }

    /// Takes a search out, with all that is under way for it.
    pub(super) fn close(&mut self, id: SearchId) -> Option<Search> {
        let search = self.searches.remove(&id)?;
        self.alarms.clear(id);
        for ticket in &search.tickets {
            if self.under_way.remove(ticket).is_some() {
                self.requests.cancel(*ticket);
            }
        }
        if let Some(command) = search.aim.command() {
            self.commands.remove(&command);
        }
        Some(search)
    }

    /// Nobody waits for a command any more.
    pub(super) fn forget(&mut self, id: CommandId) {
        if let Some(search) = self.commands.remove(&id) {
            drop(self.close(search));
        }
        self.issues.retain(|_, issue| issue.command != id);
    }

    pub(super) fn done(&mut self, id: CommandId, answer: Answer) {
        self.say(Output::Done { id, answer: Ok(answer) });
    }

    pub(super) fn fail(&mut self, id: CommandId, failure: Failure) {
        self.say(Output::Done { id, answer: Err(failure) });
    }
}

/// Why nobody has answered, if nobody has.
pub(super) const fn silence(outcome: &lookup::Outcome) -> Option<Failure> {
    match (outcome.asked, outcome.closest.is_empty()) {
        (0, _) => Some(Failure::Alone),
        (asked, true) => Some(Failure::Unanswered { asked }),
        (_, false) => None,
    }
}

impl Aim {
    /// Who waits for it, if that is one command.
    pub(super) const fn command(&self) -> Option<CommandId> {
        match self {
            Self::Nodes(command) => *command,
            Self::Value(_, command) => *command,
            Self::Providers { command, .. } => Some(*command),
            Self::Store(storing) => storing.command(),
        }
    }

    /// What the nodes on the way are asked.
    const fn question(&self, key: Key) -> Op {
        match self {
            Self::Nodes(_) | Self::Store(_) => Op::FindNode { target: key },
            Self::Value(..) => Op::FindValue { key },
            Self::Providers { .. } => Op::FindProviders { key, max: CONTACTS_MAX },
        }
    }
}
