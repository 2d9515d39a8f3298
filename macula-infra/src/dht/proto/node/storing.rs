//! The second half of a search that stores: what becomes of a record at each node.

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::super::density::advise;
use super::super::lookup;
use super::super::peer::Peer;
use super::super::published::Place;
use super::super::records::Condition;
use super::super::requests::{Fault, Outcome, Ticket};
use super::searches::{Aim, OVERLOADED, SearchId, silence};
use super::{
    Answer, Bug, CommandId, Failure, Mode, Node, Purpose, Quorum, REISSUE_AFTER, Stored, Told,
    UPKEEP_WITHIN, UnderWay,
};
use crate::dht::key::Key;
use crate::dht::wire::{Op, OpResult};
use crate::dht::{provider, record};

/// How much earlier than the command's own deadline those that are to keep something have to have said
/// so, at most: an eighth of the time that is left, if that is less. Whoever has given the command waits
/// until the same deadline, and the answer takes a moment to come there.
const TOLD_BEFORE_MAX: Duration = Duration::from_millis(500);

/// What is to be kept.
#[derive(Debug, Clone)]
pub(super) enum Parcel {
    Record { record: Box<record::Verified>, condition: Condition },
    Provider { provider: Box<provider::Verified> },
}

impl Parcel {
    fn place(&self) -> Place {
        match self {
            Self::Record { record, .. } => Place::Record(record.key()),
            Self::Provider { provider } => Place::Provider(provider.key()),
        }
    }

    fn op(&self) -> Op {
        match self {
            Self::Record { record, condition } => {
                Op::Store { record: record.signed().clone(), condition: *condition }
            }
            Self::Provider { provider } => Op::Provide { provider: provider.signed().clone() },
        }
    }
}

/// A store under way.
#[derive(Debug)]
pub(super) struct Storing {
    command: Option<CommandId>,
    parcel: Parcel,
    quorum: Quorum,
    /// How many nodes the lookup was for, if it was widened.
    widened: Option<usize>,
    /// The nodes it goes to, and what they said.
    nodes: Vec<(NodeId, Option<Told>)>,
}

impl Storing {
    pub(super) const fn new(command: Option<CommandId>, parcel: Parcel, quorum: Quorum) -> Self {
        Self { command, parcel, quorum, widened: None, nodes: Vec::new() }
    }

    pub(super) const fn command(&self) -> Option<CommandId> {
        self.command
    }

    fn said(&mut self, node: NodeId, outcome: Told) {
        if let Some((_, said)) = self.nodes.iter_mut().find(|(of, _)| *of == node) {
            said.get_or_insert(outcome);
        }
    }

    fn is_over(&self) -> bool {
        self.nodes.iter().all(|(_, said)| said.is_some())
    }

    fn stored(self) -> Stored {
        let silent = Told::Failed("it has not answered");
        let nodes: Vec<(NodeId, Told)> = self
            .nodes
            .into_iter()
            .map(|(node, said)| (node, said.unwrap_or_else(|| silent.clone())))
            .collect();
        let kept = nodes.iter().filter(|(_, outcome)| outcome.is_kept()).count();
        let wanted = self.quorum.of(nodes.len());
        Stored { nodes, kept, wanted, is_renewed: false }
    }
}

impl Node {
    /// The nodes are found: stores with them.
    pub(super) fn store(&mut self, now: Instant, id: SearchId, outcome: lookup::Outcome) {
        let k = self.config.lookup.k;
        let Some(search) = self.searches.get_mut(&id) else { return };
        let key = search.lookup.target();
        let Aim::Store(storing) = &mut search.aim else { return };
        let advice = advise(&key, &outcome.closest, k, self.estimator.population());
        if advice.nodes > k && storing.widened.is_none() && outcome.closest.len() >= k {
            storing.widened = Some(advice.nodes);
            let deadline = search.deadline;
            let lookup = self.lookup(now, key, deadline, advice.nodes);
            if let Some(search) = self.searches.get_mut(&id) {
                search.lookup = lookup;
            }
            return self.drive(now, id);
        }
        let width = storing.widened.unwrap_or(k);
        let peers = self.keepers(&key, &outcome.closest, width);
        // A node that hears nobody of those whom it has asked keeps nothing for the mesh.
        let is_alone = peers.iter().all(|peer| peer.node() == self.own.node());
        if peers.is_empty()
            || is_alone && matches!(silence(&outcome), Some(Failure::Unanswered { .. }))
        {
            return self.end_store(now, id, Some(outcome));
        }
        let turned_away = self.searches.get(&id).is_some_and(|search| search.turned_away);
        if turned_away && outcome.closest.len() < k {
            return self.turn_away(id);
        }
        let Some(search) = self.searches.get_mut(&id) else { return };
        let Aim::Store(storing) = &mut search.aim else { return };
        storing.nodes = peers.iter().map(|peer| (peer.node(), None)).collect();
        let (parcel, deadline) = (storing.parcel.clone(), said_by(now, search.deadline));
        for peer in peers {
            if peer.node() == self.own.node() {
                let outcome = self.keep(now, &parcel);
                self.stored_at(id, peer.node(), outcome);
                continue;
            }
            let ticket = self.requests.submit(now, peer.contact(), parcel.op(), deadline);
            self.note(ticket, id, peer);
        }
        self.end_store_if_over(now, id);
    }

    fn note(&mut self, ticket: Ticket, id: SearchId, peer: Peer) {
        if let Some(search) = self.searches.get_mut(&id) {
            search.tickets.push(ticket);
        }
        self.under_way.insert(ticket, UnderWay { peer, purpose: Purpose::Store(id) });
    }

    /// Too much is asked at one time to say who is to keep something.
    fn turn_away(&mut self, id: SearchId) {
        let command = self.close(id).and_then(|search| search.aim.command());
        if let Some(command) = command {
            self.fail(command, OVERLOADED);
        }
    }

    /// The nodes that are to keep what belongs under a key: this one among them, if it is.
    fn keepers(&self, key: &Key, closest: &[Peer], width: usize) -> Vec<Peer> {
        let mut peers = closest.to_vec();
        if self.mode == Mode::Server {
            peers.push(self.own.clone());
            peers.sort_by_key(|peer| key.distance(&peer.key()));
        }
        peers.truncate(width);
        peers
    }

    /// Keeps something here.
    fn keep(&mut self, now: Instant, parcel: &Parcel) -> Told {
        let at = self.moment(now);
        let result: OpResult = match parcel {
            Parcel::Record { record, condition } => self.records.put(at, record, *condition).into(),
            Parcel::Provider { provider } => self.providers.put(at, provider).into(),
        };
        outcome(Outcome::Answered(result))
    }

    fn stored_at(&mut self, id: SearchId, node: NodeId, outcome: Told) {
        if let Some(search) = self.searches.get_mut(&id)
            && let Aim::Store(storing) = &mut search.aim
        {
            storing.said(node, outcome);
        }
    }

    /// A node has said what became of it there.
    pub(super) fn stored(&mut self, now: Instant, id: SearchId, peer: &Peer, said: Outcome) {
        self.stored_at(id, peer.node(), outcome(said));
        self.end_store_if_over(now, id);
    }

    fn end_store_if_over(&mut self, now: Instant, id: SearchId) {
        let over = self
            .searches
            .get(&id)
            .is_some_and(|search| matches!(&search.aim, Aim::Store(storing) if storing.is_over()));
        if over {
            self.end_store(now, id, None);
        }
    }

    fn end_store(&mut self, now: Instant, id: SearchId, nobody: Option<lookup::Outcome>) {
        let Some(search) = self.close(id) else { return };
        let Aim::Store(storing) = search.aim else { return };
        let (command, parcel) = (storing.command, storing.parcel.clone());
        let (is_provider, place) = (matches!(parcel, Parcel::Provider { .. }), parcel.place());
        let mut stored = storing.stored();
        stored.is_renewed = is_provider && command.is_some();
        if let Parcel::Record { record, .. } = &parcel
            && command.is_some()
            && stored.kept > 0
        {
            let at = self.moment(now);
            stored.is_renewed = self.published.record(at, record).is_ok();
            self.cache.forget(&record.key());
        }
        if !stored.is_reached() {
            self.published.hurry(now, place, REISSUE_AFTER);
        }
        let Some(command) = command else { return };
        match nobody.as_ref().and_then(silence) {
            Some(failure) => self.fail(command, failure),
            None => self.done(command, Answer::Stored(stored)),
        }
    }

    /// A provider was signed: issues it.
    pub(super) fn issue(&mut self, now: Instant, key: Key, signed: &provider::Signed) {
        let issue = self.issues.remove(&key);
        let verified = signed.verify(self.moment(now).since_epoch, Some(key), &self.rules);
        let provider = match verified {
            Ok(provider) => Box::new(provider),
            Err(refusal) => {
                if let Some(issue) = issue {
                    self.fail(issue.command, refusal.into());
                }
                return;
            }
        };
        self.published.signed(key, signed);
        let parcel = Parcel::Provider { provider };
        let (command, quorum, deadline) = match issue {
            Some(issue) => (Some(issue.command), issue.quorum, issue.deadline),
            None => (None, Quorum::One, now + UPKEEP_WITHIN),
        };
        let aim = Aim::Store(Storing::new(command, parcel, quorum));
        self.search(now, key, aim, deadline);
    }

    /// Sees to a record that an earlier life has put.
    pub(super) fn renew(&mut self, now: Instant, signed: &record::Signed) {
        let at = self.moment(now);
        // What has ended meanwhile is seen to by nobody.
        let Ok(record) = signed.verify(at.since_epoch, None, &self.rules) else { return };
        let is_seen_to = self.published.record(at, &record).is_ok();
        if is_seen_to {
            self.store_again(now, record.key(), signed);
        }
    }

    /// Stores a record anew, for nobody in particular.
    pub(super) fn store_again(&mut self, now: Instant, key: Key, signed: &record::Signed) {
        let verified = signed.verify(self.moment(now).since_epoch, Some(key), &self.rules);
        let Ok(record) = verified else { return };
        if self.config.has(Bug::NeverPublishesAnew) {
            return;
        }
        let parcel = Parcel::Record { record: Box::new(record), condition: Condition::Any };
        let aim = Aim::Store(Storing::new(None, parcel, Quorum::One));
        self.search(now, key, aim, now + UPKEEP_WITHIN);
    }
}

/// By when those that are to keep something have to have said so, for a command with this deadline.
fn said_by(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + left.saturating_sub((left / 8).min(TOLD_BEFORE_MAX))
}

/// What an operation's end means for whoever stores.
fn outcome(outcome: Outcome) -> Told {
    match outcome {
        Outcome::Answered(OpResult::Kept { already: false }) => Told::Kept,
        Outcome::Answered(OpResult::Kept { already: true }) => Told::Already,
        Outcome::Answered(OpResult::Refused(refusal)) => Told::Refused(refusal),
        Outcome::Answered(_) | Outcome::Misbehaved(_) => Told::Failed("its answer was none"),
        Outcome::TimedOut => Told::Failed("it has not answered"),
        Outcome::Undelivered(Fault::Lost) => Told::Failed("its connection was lost"),
        Outcome::Undelivered(_) => Told::Failed("it was not reached"),
        Outcome::Busy(_) => Told::Failed("too much waits for it"),
        Outcome::TooLong { .. } => Told::Failed("it is too long to be sent"),
    }
}
