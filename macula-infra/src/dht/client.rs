//! The table, as the node's other parts and its users have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::key::Key;
use super::metrics;
use super::proto::lookup;
use super::proto::node::{
    Answer, Command, CommandId, Failure, Got, Input, Providing, Quorum, Side, Stats, Stored,
};
use super::proto::records::Condition;
use super::proto::requests::RequestId;
use super::proto::table::Snapshot;
use super::provider::{self, Provider};
use super::record::{self, Record};
use super::rules::{Oversized, Part, Rules, SignError, space};
use crate::contact::Contact;
use crate::desk::{Desk, Untaken};
use crate::pool::AddressBook;
use crate::transport::tls::Credentials;

/// How many records, and how many provided names, are remembered for the actor's next life.
const PUT_MAX: usize = 4_096;

/// How often a put without a condition is tried, if others put something at the same time.
const PUTS_MAX: usize = 4;

/// What whoever gives a command is told while no more may wait for the actor: none of it was done.
const FULL: &str = "too much waits for the table";

/// Of how many peers the life is remembered.
const LIVES_MAX: usize = 65_536;

/// Why a command of the table has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The table says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// What is to be put cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The table is being restarted, or the node stops. What was asked may have been done.
    #[error("the table of this node is being restarted")]
    Restarting,
    /// There was no answer in time. What was asked may have been done.
    #[error("no answer within {}", macula_core::clock::shown(*.within))]
    TimedOut {
        /// How long was waited.
        within: Duration,
    },
    /// The name or the key space is longer than may be. Nothing was asked.
    #[error(transparent)]
    TooLong(Oversized),
    /// Nothing is kept in a key space of this name. Nothing was asked.
    #[error("there is no key space {space:?}; there are {}", known.join(", "))]
    UnknownSpace {
        /// The space.
        space: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It is to last longer than anything may. Nothing was put.
    #[error(
        "it is to last {}, and at most {} is possible",
        humantime::format_duration(*.ttl), humantime::format_duration(*.max)
    )]
    TooLasting {
        /// How long it is to last.
        ttl: Duration,
        /// How long it may.
        max: Duration,
    },
    /// There is no greater sequence number than that of the record that is there.
    #[error("there is no sequence number after {0}")]
    Exhausted(u64),
    /// Another record was there than was expected, or came at the same time, at one at least of the
    /// nodes that keep it. That one has it still. Others may have taken the new one; in time all go by
    /// the greater sequence number. Who has to have one winner for certain needs consensus.
    #[error(
        "another record with sequence number {stored} is there, which was not expected; some nodes may \
         have taken the new one"
    )]
    Conflict {
        /// The sequence number that is there; 0 if there is none.
        stored: u64,
    },
}

/// The table, and in which space it has the names of a directory. Clones are the same.
#[derive(Clone)]
pub struct Dht(Arc<Shared>, &'static str);

struct Shared {
    desk: Desk<Input>,
    /// The node's key, and its calendar: the one by which it judges certificates.
    credentials: Credentials,
    rules: Arc<Rules>,
    own: Contact,
    /// Whoever is found as a provider can be called.
    book: AddressBook,
    /// How long a command may take if nothing else is said.
    within: Duration,
    waiting: Mutex<BTreeMap<CommandId, oneshot::Sender<Result<Answer, Failure>>>>,
    numbers: AtomicU64,
    /// The number after that of the last request: each life of the actor goes on with it, so that
    /// answers to an earlier one are not taken for its own.
    requests: AtomicU64,
    stats: Mutex<Stats>,
    saved: Mutex<Snapshot>,
    /// The newest life of each peer that was connected.
    lives: Mutex<BTreeMap<NodeId, u64>>,
    /// Who uses the names of another realm, and so is no part of this table.
    foreign: Mutex<BTreeSet<NodeId>>,
    /// How many connections there are to each peer.
    links: Mutex<BTreeMap<NodeId, usize>>,
    /// What this node provides: it is issued anew by the actor's next life.
    provided: Mutex<BTreeMap<Key, (Provider, Duration)>>,
    /// What it has put, likewise.
    put: Mutex<BTreeMap<Key, Put>>,
}

/// A record that this node has put.
#[derive(Debug, Clone)]
struct Put {
    record: record::Signed,
    sequence: u64,
    expires_at: Duration,
}

impl Debug for Dht {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dht").field("own", &self.0.own).finish_non_exhaustive()
    }
}

/// What the node's own parts use.
impl Dht {
    pub(crate) fn new(
        credentials: Credentials,
        own: Contact,
        rules: Rules,
        saved: Snapshot,
        book: AddressBook,
        within: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            desk: Desk::default(),
            credentials,
            rules: Arc::new(rules),
            own,
            book,
            within,
            waiting: Mutex::default(),
            numbers: AtomicU64::new(1),
            requests: AtomicU64::new(0),
            stats: Mutex::default(),
            saved: Mutex::new(saved),
            lives: Mutex::default(),
            foreign: Mutex::default(),
            links: Mutex::default(),
            provided: Mutex::default(),
            put: Mutex::default(),
        });
        Self(shared, space::NAME)
    }

    /// The same table, whose names as a [directory](macula_core::port::Directory) are those of
    /// another space.
    pub(crate) fn in_space(&self, space: &'static str) -> Self {
        Self(Arc::clone(&self.0), space)
    }

    /// In which space it has the names of a directory.
    pub(super) const fn space(&self) -> &'static str {
        self.1
    }

    pub(super) fn desk(&self) -> &Desk<Input> {
        &self.0.desk
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.0.rules
    }

    /// What the node's calendar says.
    pub(super) fn since_epoch(&self) -> Duration {
        self.0.credentials.now()
    }

    /// There is a connection to a peer that can be dialled.
    pub(super) fn connected(&self, contact: Contact, life: u64) {
        let mut lives = self.0.lives.lock();
        if lives.len() >= LIVES_MAX {
            lives.clear();
        }
        let before = lives.insert(contact.node, life);
        drop(lives);
        let is_new = before != Some(life);
        let input = if is_new { Input::Begun(contact) } else { Input::Met(contact) };
        self.0.desk.offer(input);
    }

    /// A connection to a peer has begun, and it shows whether it uses the names of another realm.
    pub(super) fn opened(&self, node: NodeId, is_foreign: bool) {
        let mut foreign = self.0.foreign.lock();
        if is_foreign {
            if foreign.len() >= LIVES_MAX {
                foreign.pop_first();
            }
            foreign.insert(node);
            self.0.desk.offer(Input::Gone(node));
        } else {
            foreign.remove(&node);
        }
        drop(foreign);
        *self.0.links.lock().entry(node).or_default() += 1;
    }

    /// One has ended.
    pub(super) fn closed(&self, node: NodeId) {
        let mut links = self.0.links.lock();
        let left = links.get(&node).map_or(0, |count| count.saturating_sub(1));
        let is_connected = left > 0;
        if is_connected {
            links.insert(node, left);
        } else {
            links.remove(&node);
        }
        drop(links);
        self.0.desk.offer(Input::Lost { node, is_connected });
    }

    /// Somebody says that there are peers.
    pub(crate) fn heard(&self, mut contacts: Vec<Contact>) {
        contacts.retain(|contact| !self.is_foreign(contact.node));
        self.0.desk.offer(Input::Heard(contacts));
    }

    /// Whether a peer is known to use the names of another realm.
    pub(super) fn is_foreign(&self, node: NodeId) -> bool {
        self.0.foreign.lock().contains(&node)
    }

    /// A peer has gone.
    pub(crate) fn gone(&self, node: NodeId) {
        self.0.desk.offer(Input::Gone(node));
    }

    /// A life of the actor begins: whoever waited for the last one is told that it has ended.
    pub(super) fn begin(&self) {
        drop(std::mem::take(&mut *self.0.waiting.lock()));
    }

    /// What is published anew by a new life of the actor.
    pub(super) fn published(&self) -> Vec<Input> {
        let deadline = TokioClock.now() + self.0.within;
        let input = |command| Input::Command { id: self.next(), command, deadline };
        let quorum = Quorum::One;
        let provided = self.0.provided.lock().clone();
        let provided = provided.into_values().map(|(provider, ttl)| Command::Provide {
            provider,
            ttl,
            quorum,
        });
        let put = self.0.put.lock().clone();
        let put = put.into_values().map(|Put { record, .. }| Input::Renew(record));
        provided.map(input).chain(put).collect()
    }

    /// Says in the audit what a peer has said, or asked for, that does not belong here.
    pub(super) fn audit_refusal(&self, peer: NodeId, side: Side, why: &impl Display) {
        let action = match side {
            Side::Keeper | Side::Reader => "store",
            Side::Shown => "find",
        };
        self.0.credentials.put_into_audit(Some(peer), action, "", &why.to_string());
    }

    pub(super) fn sign(&self, provider: &Provider) -> Result<provider::Signed, SignError> {
        provider.sign(self.0.credentials.keypair())
    }

    pub(super) fn requested(&self, RequestId(id): RequestId) {
        self.0.requests.store(id.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId(self.0.requests.load(Ordering::Relaxed))
    }

    pub(super) fn done(&self, id: CommandId, answer: Result<Answer, Failure>) {
        let waiter = self.0.waiting.lock().remove(&id);
        if let Some(waiter) = waiter {
            // A caller that has given up needs no answer.
            drop(waiter.send(answer));
        }
    }

    pub(super) fn observe(&self, stats: Stats) {
        *self.0.stats.lock() = stats;
    }

    pub(super) fn save(&self, snapshot: Snapshot) {
        *self.0.saved.lock() = snapshot;
    }

    fn next(&self) -> CommandId {
        CommandId(self.0.numbers.fetch_add(1, Ordering::Relaxed))
    }
}

impl Dht {
    /// The entries of the routing table as they were a few seconds ago: what a file has to keep.
    #[must_use]
    pub fn saved(&self) -> Snapshot {
        self.0.saved.lock().clone()
    }

    /// How things stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.0.stats.lock()
    }

    /// Where something with this name is kept.
    #[must_use]
    pub fn key(&self, space: &str, name: &[u8]) -> Key {
        Key::of_name(self.0.rules.realm, space, name)
    }

    /// Where something with this name is kept, if anything may be kept under it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] and [`Error::UnknownSpace`].
    pub fn checked_key(&self, space: &str, name: &[u8]) -> Result<Key, Error> {
        let Rules { limits, validators, .. } = &*self.0.rules;
        Oversized::check(Part::Space, space.len(), limits.space_len_max)
            .and_then(|()| Oversized::check(Part::Name, name.len(), limits.name_len_max))
            .map_err(Error::TooLong)?;
        if !validators.knows(space) {
            let known = validators.spaces().map(str::to_owned).collect();
            return Err(Error::UnknownSpace { space: space.to_owned(), known });
        }
        Ok(self.key(space, name))
    }

    /// Gives a command, and waits for its answer for at most `within`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nobody waits any more; what was begun may still be done.
    pub async fn ask(&self, within: Duration, command: Command) -> Result<Answer, Error> {
        let word = word(&command);
        let answer = self.asked(within, command).await;
        let outcome = if answer.is_ok() { "answered" } else { "failed" };
        ::metrics::counter!(metrics::COMMANDS, "command" => word, "outcome" => outcome)
            .increment(1);
        answer
    }

    async fn asked(&self, within: Duration, command: Command) -> Result<Answer, Error> {
        let (id, deadline) = (self.next(), TokioClock.now() + within);
        let (tell, answer) = oneshot::channel();
        self.0.waiting.lock().insert(id, tell);
        let waiter = Waiter { dht: self, id };
        self.0.desk.leave(Input::Command { id, command, deadline }).map_err(untaken)?;
        let answer = tokio::time::timeout_at(deadline.into(), answer).await;
        drop(waiter);
        match answer {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_ended)) => Err(Error::Restarting),
            Err(_elapsed) => Err(Error::TimedOut { within }),
        }
    }

    /// The nodes that are closest to a key.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn lookup(&self, key: Key) -> Result<lookup::Outcome, Error> {
        match self.ask(self.0.within, Command::Lookup { key }).await? {
            Answer::Nodes(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        }
    }

    /// The record under a name, as most of those who keep it have it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get(&self, space: &str, name: &[u8], fresh: bool) -> Result<Got, Error> {
        let key = self.checked_key(space, name)?;
        match self.ask(self.0.within, Command::Get { key, fresh }).await? {
            Answer::Value(got) => Ok(got),
            other => Err(unexpected(&other)),
        }
    }

    /// Puts a value under a name, in the name of this node, for `ttl`. Without a sequence number it
    /// is the one after what is there.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if `condition` does not hold; [`Error`].
    pub async fn put(
        &self,
        (space, name): (&str, &[u8]),
        value: Bytes,
        ttl: Duration,
        condition: Condition,
        quorum: Quorum,
    ) -> Result<(u64, Stored), Error> {
        lasting(ttl, self.0.rules.limits.record_ttl_max)?;
        self.checked_key(space, name)?;
        let mut before = match condition {
            Condition::Sequence(sequence) => sequence,
            Condition::Absent => 0,
            Condition::Any => {
                let there = self.get(space, name, true).await?.record;
                there.map_or(0, |record| record.record().sequence)
            }
        };
        let mut tries = 0;
        loop {
            let sequence = before.checked_add(1).ok_or(Error::Exhausted(before))?;
            let record = Record {
                realm: self.0.rules.realm,
                space: space.to_owned(),
                name: name.to_vec(),
                author: self.0.own.node,
                sequence,
                expires_at: self.since_epoch() + ttl,
                value: value.clone(),
            };
            let signed = record.sign(self.0.credentials.keypair())?;
            tries += 1;
            match self.put_signed(signed, condition, quorum).await {
                // Somebody else was a moment earlier, which does not matter here.
                Err(Error::Conflict { stored })
                    if condition == Condition::Any && tries < PUTS_MAX =>
                {
                    before = stored.max(sequence);
                }
                stored => return Ok((sequence, stored?)),
            }
        }
    }

    /// Puts a record that somebody has signed.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put_signed(
        &self,
        record: record::Signed,
        condition: Condition,
        quorum: Quorum,
    ) -> Result<Stored, Error> {
        let command = Command::Put { record: record.clone(), condition, quorum };
        match self.ask(self.0.within, command).await? {
            Answer::Stored(stored) => match conflict(&stored) {
                Some(stored) => Err(Error::Conflict { stored }),
                None => {
                    self.keep(record);
                    Ok(stored)
                }
            },
            other => Err(unexpected(&other)),
        }
    }

    /// Remembers what was put, for the actor's next life.
    fn keep(&self, record: record::Signed) {
        let verified = record.verify(self.since_epoch(), None, &self.0.rules);
        let Ok(verified) = verified else { return };
        let (now, sequence) = (self.since_epoch(), verified.record().sequence);
        let mut put = self.0.put.lock();
        if put.len() >= PUT_MAX {
            put.retain(|_, kept| kept.expires_at > now);
        }
        let is_newer = put.get(&verified.key()).map(|kept| kept.sequence < sequence);
        if is_newer.unwrap_or(put.len() < PUT_MAX) {
            let expires_at = verified.record().expires_at;
            put.insert(verified.key(), Put { record, sequence, expires_at });
        }
    }

    /// Makes this node known as a provider of what has the name, until it withdraws.
    ///
    /// # Errors
    ///
    /// [`Error`]; it goes on to be issued all the same, once the table can.
    pub async fn provide(
        &self,
        (space, name): (&str, &[u8]),
        metadata: Bytes,
        ttl: Duration,
        quorum: Quorum,
    ) -> Result<Stored, Error> {
        lasting(ttl, self.0.rules.limits.provider_ttl_max)?;
        self.checked_key(space, name)?;
        let provider = Provider {
            realm: self.0.rules.realm,
            space: space.to_owned(),
            name: name.to_vec(),
            contact: self.0.own.clone(),
            metadata,
            issued_at: Duration::ZERO,
            expires_at: Duration::ZERO,
        };
        self.keep_provided(&provider, ttl);
        self.stored(Command::Provide { provider, ttl, quorum }).await
    }

    /// Remembers what is provided, for the actor's next life.
    fn keep_provided(&self, provider: &Provider, ttl: Duration) {
        let mut provided = self.0.provided.lock();
        if provided.len() < PUT_MAX || provided.contains_key(&provider.key()) {
            provided.insert(provider.key(), (provider.clone(), ttl));
        }
    }

    /// Takes that back.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn withdraw(
        &self,
        (space, name): (&str, &[u8]),
        quorum: Quorum,
    ) -> Result<Stored, Error> {
        let key = self.checked_key(space, name)?;
        let said = self.stored(Command::Withdraw { key, quorum }).await;
        // If it may not have been done the actor's next life provides it still, and whoever asks
        // again finds something to take back.
        let may_be_undone = matches!(
            said,
            Err(Error::Restarting | Error::TimedOut { .. } | Error::Failed(Failure::Busy(FULL)))
        );
        if !may_be_undone {
            self.0.provided.lock().remove(&key);
        }
        said
    }

    async fn stored(&self, command: Command) -> Result<Stored, Error> {
        match self.ask(self.0.within, command).await? {
            Answer::Stored(stored) => Ok(stored),
            other => Err(unexpected(&other)),
        }
    }

    /// The nodes that provide what has the name; `max` are enough.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn find(&self, space: &str, name: &[u8], max: usize) -> Result<Providing, Error> {
        let key = self.checked_key(space, name)?;
        match self.ask(self.0.within, Command::Find { key, max }).await? {
            Answer::Providers(providing) => {
                for provider in &providing.providers {
                    let contact = &provider.provider().contact;
                    self.0.book.hear(contact.node, &contact.addresses);
                }
                Ok(providing)
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// Whether something is to last no longer than it may.
const fn lasting(ttl: Duration, max: Duration) -> Result<(), Error> {
    if ttl.as_nanos() > max.as_nanos() { Err(Error::TooLasting { ttl, max }) } else { Ok(()) }
}

/// What it means for a command that nobody takes it.
const fn untaken(why: Untaken) -> Error {
    match why {
        Untaken::Nobody => Error::Restarting,
        Untaken::Full => Error::Failed(Failure::Busy(FULL)),
    }
}

/// A machine answers each command in its own kind.
fn unexpected(answer: &Answer) -> Error {
    tracing::error!(?answer, "an answer of another kind than its command");
    Error::Restarting
}

/// The sequence number that was there, if most of those who were to keep a record had another one
/// than was expected.
fn conflict(stored: &Stored) -> Option<u64> {
    use super::proto::node::Told;
    use super::wire::Refusal;
    if stored.is_reached() {
        return None;
    }
    stored.nodes.iter().find_map(|(_, told)| match told {
        Told::Refused(Refusal::ConditionFailed { stored }) => Some(stored.unwrap_or(0)),
        Told::Refused(Refusal::Older { stored } | Refusal::Conflict { stored }) => Some(*stored),
        _ => None,
    })
}

const fn word(command: &Command) -> &'static str {
    match command {
        Command::Lookup { .. } => "lookup",
        Command::Get { .. } => "get",
        Command::Put { .. } => "put",
        Command::Find { .. } => "find",
        Command::Provide { .. } => "provide",
        Command::Withdraw { .. } => "withdraw",
    }
}

/// A caller that waits.
struct Waiter<'a> {
    dht: &'a Dht,
    id: CommandId,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.dht.0.waiting.lock().remove(&self.id).is_some() {
            self.dht.0.desk.offer(Input::Forget { id: self.id });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use macula_core::shell::Inbox;

    use super::{Dht, Error, Quorum, Rules, Snapshot, space};
    use crate::contact::Contact;
    use crate::dht::key::RealmId;
    use crate::dht::proto::node::Failure;
    use crate::pool::AddressBook;
    use crate::tier::tests::{authority, credentials};

    #[tokio::test]
    async fn what_nobody_has_taken_was_not_done() {
        let credentials = credentials(&authority(), 1);
        let own = Contact::new(credentials.node(), []);
        let (rules, book) = (Rules::new(RealmId::named("home")), AddressBook::default());
        let minute = Duration::from_secs(60);
        let dht = Dht::new(credentials, own, rules, Snapshot::default(), book, minute);
        let name = (space::ANY, &b"name"[..]);
        let provided = dht.provide(name, Bytes::new(), minute, Quorum::One).await;
        assert_eq!(provided, Err(Error::Restarting), "nobody is there");
        let full = Inbox::new(0);
        let _seat = dht.desk().begin(&full);
        let withdrawn = dht.withdraw(name, Quorum::One).await;
        assert!(matches!(withdrawn, Err(Error::Failed(Failure::Busy(_)))), "{withdrawn:?}");
        assert_eq!(dht.published().len(), 1, "it is provided still");
        assert!(full.is_empty());
    }
}
