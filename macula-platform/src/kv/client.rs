//! The client: a clonable way to the keys and values of the group, from any node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::checks;
use super::command::{Answer, Command, Condition, Holds, Item, LeaseId, Once, Op, Refusal};
use super::command::{Revision, Txn};
use super::config::{Config, InvalidConfig};
use super::error::Error;
use super::operator::Operator;
use super::session::{OPENING, Sessions, Ticket};
use super::state::{Page, after_prefix};
use super::typed::Typed;
use super::watch::Watch;
use super::ways::{Answered, Goal, Parts, Ways};
use super::wire::{Ask, Level, Reply};
use crate::raft::timer;

/// The keys and values of the group. Clones are cheap and the same client.
///
/// It finds the voters by itself, follows the leader, and asks again until there is an answer or its
/// time ([`Config::within_ms`]) is up. What it changes is changed once, however often it had to ask.
///
/// All methods are cancel safe in that the group's state stays whole: what was asked for by a future
/// that was dropped may be done, or not.
#[derive(Debug, Clone)]
pub struct Kv {
    pub(super) inner: Arc<Inner>,
    /// How long an answer is waited for in all.
    within: Duration,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ways: Ways,
    pub(super) config: Config,
    sessions: Sessions,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Whether its conditions held.
    pub held: bool,
    /// What each operation found there: before it, if it is no [`Op::Get`].
    pub found: Vec<Option<Item>>,
    /// The revision of the state after it.
    pub revision: Revision,
}

/// A lease that its holder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub lease: LeaseId,
    /// How long it lasts each time.
    pub ttl: Duration,
    /// Until when it is held for certain, by this node's clock: counted from when this node *asked*.
    /// Whoever holds something by it lets go before that; what hangs on it is gone a while later.
    pub until: Instant,
}

impl Kv {
    /// A client. Nothing is asked before the first call.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`].
    pub fn new(config: Config, parts: Parts) -> Result<Self, InvalidConfig> {
        config.check()?;
        let ways = Ways::new(parts, Duration::from_millis(config.attempt_ms));
        let sessions = Sessions::new(config.sessions_max);
        let within = Duration::from_millis(config.within_ms);
        Ok(Self { inner: Arc::new(Inner { ways, config, sessions }), within })
    }

    /// The same client, which waits for its answers for so long in all instead of
    /// [`Config::within_ms`]. Nothing is ever answered within no time.
    #[must_use]
    pub fn within(&self, within: Duration) -> Self {
        Self { within, ..self.clone() }
    }

    /// What a key has now; none if it is not there. Linearizable.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Item>, Error> {
        self.get_at(key, Level::Linearizable).await
    }

    /// What a key has, as freshly as is asked for.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get_at(&self, key: impl Into<Bytes>, level: Level) -> Result<Option<Item>, Error> {
        let key = key.into();
        checks::key(&key)?;
        match self.read(&Ask::Get { key, level }, level).await? {
            Reply::Got { item, .. } => Ok(item),
            other => Err(strange(&other)),
        }
    }

    /// The keys from one on, up to before another, at most `max` of them and as many as go into a page
    /// ([`PAGE_MAX`](super::limits::PAGE_MAX)), with what they have at one moment. The next page begins
    /// after the last key.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn range(
        &self,
        from: impl Into<Bytes>,
        to: Option<Bytes>,
        max: usize,
        level: Level,
    ) -> Result<Page, Error> {
        let (from, max) = (from.into(), checks::size(max));
        checks::prefix(&from)?;
        to.as_ref().map_or(Ok(()), checks::prefix)?;
        match self.read(&Ask::Range { from, to, max, level }, level).await? {
            Reply::Page(page) => Ok(page),
            other => Err(strange(&other)),
        }
    }

    /// The keys that begin with a prefix, page by page: each page is linearizable, and the next one is
    /// what is there when it is asked for. The prefix stays on the keys.
    #[must_use]
    pub fn prefix(&self, prefix: impl Into<Bytes>) -> Pages {
        let from: Bytes = prefix.into();
        let to = after_prefix(&from);
        Pages { kv: self.clone(), next: Some(from), to }
    }

    /// Gives a key a value. Gives the revision of that.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Revision, Error> {
        self.put_on(key, value, None).await
    }

    /// Gives a key a value that goes with a lease, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put_on(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        lease: Option<LeaseId>,
    ) -> Result<Revision, Error> {
        let op = Op::Put { key: key.into(), value: value.into(), lease };
        Ok(self.txn(Txn { then: vec![op], ..Txn::default() }).await?.revision)
    }

    /// Deletes a key. Gives what it had; none if it was not there.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Option<Item>, Error> {
        let done = self.txn(Txn { then: vec![Op::Delete(key.into())], ..Txn::default() }).await?;
        Ok(done.found.into_iter().next().flatten())
    }

    /// Gives a key a value if something is so of it. Gives the revision of that, or, if it was not so,
    /// what the key has.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        holds: Holds,
        value: impl Into<Bytes>,
    ) -> Result<Result<Revision, Option<Item>>, Error> {
        let key = key.into();
        let put = Op::Put { key: key.clone(), value: value.into(), lease: None };
        let conditions = vec![Condition { key: key.clone(), holds }];
        let done = self.txn(Txn { conditions, then: vec![put], otherwise: vec![Op::Get(key)] });
        let done = done.await?;
        Ok(if done.held { Ok(done.revision) } else { Err(done.found.into_iter().next().flatten()) })
    }

    /// Looks at some keys, and then does one or the other, at one moment.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn txn(&self, txn: Txn) -> Result<Done, Error> {
        match self.apply(Command::Txn(txn)).await? {
            Answer::Done { held, found, revision } => Ok(Done { held, found, revision }),
            other => Err(strange(&other)),
        }
    }

    /// Grants a lease of so many milliseconds ([`LEASE_TTL_MS`](super::limits::LEASE_TTL_MS)). All keys
    /// that are put on it go when it ends.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn grant(&self, ttl: Duration) -> Result<Held, Error> {
        let asked = timer::now();
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match self.apply(Command::Grant { ttl_ms }).await? {
            Answer::Granted(lease) => {
                let ttl = Duration::from_millis(ttl_ms);
                Ok(Held { lease, ttl, until: asked + ttl })
            }
            other => Err(strange(&other)),
        }
    }

    /// Keeps a lease alive: it lasts for its TTL from when this was called, at least.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoLease`] if it has ended, or is about to; any other [`Error`] leaves it as it was, or
    /// kept alive.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Held, Error> {
        // Counted from the first try, though only the last may have been heard.
        let asked = timer::now();
        let Answered { reply, .. } =
            self.inner.ways.ask(&Ask::KeepAlive(lease), Goal::Leader, self.until(), ZERO).await?;
        match reply {
            Reply::Kept { ttl_ms } => {
                let ttl = Duration::from_millis(ttl_ms);
                Ok(Held { lease, ttl, until: asked + ttl })
            }
            other => Err(strange(&other)),
        }
    }

    /// Ends a lease, and deletes all keys that hang on it. Gives how many those were.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn revoke(&self, lease: LeaseId) -> Result<u64, Error> {
        match self.apply(Command::Revoke { lease }).await? {
            Answer::Revoked(keys) => Ok(keys),
            other => Err(strange(&other)),
        }
    }

    /// Forgets all events up to a revision: watches that are not as far have a gap.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        match self.apply(Command::Compact { revision }).await? {
            Answer::Compacted(_) => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// What happens to the keys that begin with a prefix, after a revision: that of a [`Page`] or an
    /// [`Item`] that was read, or of the last event of another watch. If none is given, what happens
    /// from now on: all that is done after this has returned.
    ///
    /// # Errors
    ///
    /// [`Error`] if the prefix is too long, or it cannot be said what is now.
    pub async fn watch(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Revision>,
    ) -> Result<Watch, Error> {
        let prefix = prefix.into();
        checks::prefix(&prefix)?;
        let after = match after {
            Some(after) => after,
            None => self.range(prefix.clone(), None, 0, Level::Linearizable).await?.revision,
        };
        Ok(Watch::new(self.clone(), prefix, after))
    }

    /// The same keys, with values of one type, as MessagePack.
    #[must_use]
    pub fn typed<T>(&self) -> Typed<T> {
        Typed::new(self.clone())
    }

    /// What those do who look after the group itself.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(self.clone())
    }

    pub(super) fn until(&self) -> Instant {
        timer::now() + self.within
    }

    async fn read(&self, ask: &Ask, level: Level) -> Result<Reply, Error> {
        let goal = if level == Level::Stale { Goal::Any } else { Goal::Leader };
        match self.inner.ways.ask(ask, goal, self.until(), ZERO).await {
            Ok(answered) => Ok(answered.reply),
            // A read does nothing, whoever has heard it.
            Err(Error::Unknown(why)) => Err(Error::NotDone(why)),
            Err(error) => Err(error),
        }
    }

    /// Has a command applied once.
    async fn apply(&self, command: Command) -> Result<Answer, Error> {
        checks::command(&command)?;
        let until = self.until();
        let draw =
            || u128::from(self.inner.ways.draw()) << 64 | u128::from(self.inner.ways.draw() | 1);
        loop {
            let begun = self.inner.sessions.begin(draw);
            let Ok(ticket) = tokio::time::timeout_at(until.into(), begun).await else {
                return Err(Error::NotDone("too many commands are in flight".to_owned()));
            };
            let opened = self.open(&ticket, until).await?;
            let Ticket { serial, done_below, .. } = ticket;
            let session = ticket.session.id;
            let command = command.clone();
            let once = Once { session, opened, serial, done_below, command };
            let answered =
                self.inner.ways.ask(&Ask::Apply(once), Goal::Leader, until, ZERO).await?;
            match applied(&answered.reply)? {
                Answer::Refused(Refusal::Forgotten) => {
                    self.inner.sessions.forget(&ticket.session);
                    if answered.was_tried {
                        return Err(Error::Unknown(Refusal::Forgotten.to_string()));
                    }
                }
                Answer::Refused(refusal) => return Err(Error::Refused(refusal)),
                answer => return Ok(answer),
            }
        }
    }

    /// Makes a session known, if it is not. Says when that was.
    async fn open(&self, ticket: &Ticket<'_>, until: Instant) -> Result<u64, Error> {
        let open = || async {
            let (session, serial, command) = (ticket.session.id, OPENING, Command::Open);
            let once = Once { session, opened: 0, serial, done_below: OPENING, command };
            match self.inner.ways.ask(&Ask::Apply(once), Goal::Leader, until, ZERO).await {
                Ok(answered) => match applied(&answered.reply)? {
                    Answer::Opened { at } => Ok(at),
                    // Another one had it. A new one is drawn.
                    Answer::Refused(Refusal::Forgotten) => {
                        self.inner.sessions.forget(&ticket.session);
                        Err(Error::NotDone("the session is another client's".to_owned()))
                    }
                    other => Err(strange(&other)),
                },
                // Nothing was done that anybody sees.
                Err(Error::Unknown(why)) => Err(Error::NotDone(why)),
                Err(error) => Err(error),
            }
        };
        ticket.session.opened.get_or_try_init(open).await.copied()
    }
}

/// Nothing beyond what is usual.
pub(super) const ZERO: Duration = Duration::ZERO;

fn applied(reply: &Reply) -> Result<Answer, Error> {
    match reply {
        Reply::Applied(bytes) => {
            super::wire::read(bytes).map_err(|why| Error::Unknown(format!("unreadable: {why}")))
        }
        other => Err(strange(other)),
    }
}

/// A voter that answers something else than it was asked.
pub(super) fn strange(other: &impl std::fmt::Debug) -> Error {
    let mut other = format!("{other:?}");
    other.truncate(other.floor_char_boundary(100));
    Error::Unknown(format!("a voter has answered {other}"))
}

/// The keys that begin with a prefix, page by page.
#[derive(Debug)]
pub struct Pages {
    kv: Kv,
    next: Option<Bytes>,
    to: Option<Bytes>,
}

impl Pages {
    /// The next page; none after the last.
    ///
    /// # Errors
    ///
    /// [`Error`]; the same page can be asked for again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the next call asks for the same page.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        let Some(from) = self.next.clone() else { return Ok(None) };
        let max = super::limits::PAGE_MAX;
        let page = self.kv.range(from, self.to.clone(), max, Level::Linearizable).await?;
        // The least key after the last one is that one and a zero.
        let last = page.items.last().filter(|_| page.has_more);
        self.next = last.map(|(key, _)| Bytes::from([key.as_ref(), &[0]].concat()));
        Ok(Some(page))
    }
}
