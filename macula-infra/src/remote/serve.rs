//! Actors under the names by which other nodes call them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::future::BoxFuture;
use macula_core::path::{InvalidId, Path};
use macula_core::supervision::{ExitReason, Handle, Presence, SendError};
use macula_core::topic::Topic;
use macula_core::wire::{Limits, from_body};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallError, Refusal, Unavailability};
use super::reply::{ReplyTo, Ticket, taken};
use crate::access::{Access, Action, Forbidden, Name, Subject};
use crate::announcing::Change;
use crate::transport::Opener;

/// How many names a node serves.
pub(super) const NAMES_MAX: usize = 65_536;

/// Why an actor is not served under a name. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The name is no path.
    #[error("{name:?} is no name to serve under: {source}")]
    InvalidName {
        /// The name.
        name: String,
        /// Why not.
        source: InvalidId,
    },
    /// Another actor is served under it.
    #[error("something else is served as {0:?}")]
    Taken(String),
    /// A node that helps others to find each other serves nothing else.
    #[error("a bootstrap node serves no actors")]
    Bootstrap,
    /// What is to be said of it is too long.
    #[error("metadata of {len} bytes, at most {max} are taken")]
    MetadataTooLong {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// The rules of access do not allow this node to serve it.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// As many as may be are served.
    #[error("{NAMES_MAX} names are served, and no more may be")]
    Full,
}

/// What the name of a procedure begins with, and that of no actor: so one table has both.
const PROCEDURE: char = '!';

/// The name under which a procedure is served.
pub(crate) fn procedure(topic: &Topic) -> Arc<str> {
    format!("{PROCEDURE}{topic}").into()
}

/// The procedure that is served under a name, if it is that of one.
pub(crate) fn as_procedure(name: &str) -> Option<&str> {
    name.strip_prefix(PROCEDURE)
}

/// What the name of a port begins with, and no other.
const PORT: char = '~';

/// The name under which a port is served.
pub(crate) fn port(name: &str) -> Arc<str> {
    format!("{PORT}{name}").into()
}

/// Whether the directory is told of a name: whoever asks a port knows whom to ask.
fn is_announced(name: &str) -> bool {
    !name.starts_with(PORT)
}

/// The name under which something is served, as the rules of access have it.
fn ruled(name: &str) -> Name<'_> {
    let path = name.strip_prefix(PORT).unwrap_or(name);
    as_procedure(name).map_or(Name::Path(path), Name::Dotted)
}

fn forbidden(may: Result<(), Forbidden>) -> Result<(), CallError> {
    may.map_err(|why| CallError::Refused(Refusal::Forbidden(why.to_string())))
}

/// A question as it came.
pub(crate) struct Question {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) body: Bytes,
    pub(crate) limits: Limits,
}

impl Question {
    /// What is asked.
    ///
    /// # Errors
    ///
    /// [`CallError::Unsupported`] if it is not of this type.
    pub(crate) fn decode<Q: DeserializeOwned>(&self) -> Result<Q, CallError> {
        let asked = from_body(&self.body, &self.limits);
        asked.map_err(|error| CallError::Unsupported(format!("the question: {error}")))
    }
}

/// What answers to the questions under a name.
pub(crate) trait Answerer: Any + Send + Sync {
    /// Takes a question, and waits for nothing.
    fn ask(&self, question: Question);

    /// Its life, if it has one that can be watched.
    fn life(&self) -> (Presence, u64) {
        (Presence::Gone, 0)
    }

    /// Waits for the end of a life.
    fn ended(&self, _incarnation: u64) -> BoxFuture<'static, Option<ExitReason>> {
        Box::pin(std::future::ready(None))
    }
}

/// What answers for an actor: `message` makes the actor's own message of a question.
pub(crate) fn actor<M, Q, R>(
    handle: &Handle<M>,
    message: impl Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
) -> Arc<dyn Answerer>
where
    M: Send + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
{
    Arc::new(Typed { handle: handle.clone(), message, _types: std::marker::PhantomData })
}

struct Typed<M, Q, R, F> {
    handle: Handle<M>,
    message: F,
    _types: std::marker::PhantomData<fn(Q) -> R>,
}

impl<M, Q, R, F> Typed<M, Q, R, F>
where
    M: Send + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
{
    /// Makes the actor's message of a question and puts it into its mailbox.
    fn put(&self, question: Question) {
        let asked: Q = match question.decode() {
            Ok(asked) => asked,
            Err(error) => return question.ticket.turn_down(&error),
        };
        let ticket = question.ticket;
        if ticket.is_over() {
            return ticket.turn_down(&ticket.timed_out());
        }
        let message = (self.message)(asked, ReplyTo::remote(Arc::clone(&ticket)));
        let Err(error) = self.handle.cast(message) else {
            return taken();
        };
        // Told before the message is dropped, which would tell that it was dropped by a handler.
        ticket.turn_down(&match &error {
            SendError::Full { capacity, .. } => {
                let why = format!("{capacity} messages wait for the actor");
                CallError::Refused(Refusal::Overloaded(why))
            }
            SendError::Unavailable { presence, .. } => {
                CallError::Unavailable(Unavailability::Absent(absent(*presence).to_owned()))
            }
            _ => CallError::Unavailable(Unavailability::Absent(error.to_string())),
        });
    }
}

impl<M, Q, R, F> Answerer for Typed<M, Q, R, F>
where
    M: Send + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
{
    fn ask(&self, question: Question) {
        let ticket = Arc::clone(&question.ticket);
        // What is the user's runs here while a connection is read, on which others wait.
        let put = catch_unwind(AssertUnwindSafe(|| self.put(question)));
        if put.is_err() {
            ticket.turn_down(&CallError::RemotePanic);
        }
    }

    fn life(&self) -> (Presence, u64) {
        (self.handle.presence(), self.handle.incarnation())
    }

    fn ended(&self, incarnation: u64) -> BoxFuture<'static, Option<ExitReason>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.ended(incarnation).await })
    }
}

const fn absent(presence: Presence) -> &'static str {
    match presence {
        Presence::Unborn => "it was not started yet",
        Presence::Up => "it is busy",
        Presence::Restarting => "it is being restarted",
        Presence::Down => "it is down",
        Presence::Gone => "it is gone",
    }
}

/// What is served under one name.
struct Serves {
    answerer: Arc<dyn Answerer>,
    /// What the directory says about it.
    metadata: Bytes,
}

/// The names that a node serves, and who may ask for them. Clones are the same table.
#[derive(Clone)]
pub struct Served(Arc<Table>);

struct Table {
    access: Access,
    entries: DashMap<Arc<str>, Serves>,
    /// Whether nothing is served here.
    is_closed: AtomicBool,
    /// Who hears of changes.
    listener: OnceLock<Box<dyn Fn(Change) + Send + Sync>>,
}

impl Table {
    fn tell(&self, change: Change) {
        let (Change::Served(name) | Change::Ended(name)) = &change;
        if let Some(listener) = self.listener.get().filter(|_| is_announced(name)) {
            listener(change);
        }
    }
}

impl Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("names", &self.0.entries.len()).finish()
    }
}

/// A name that is served until this is dropped or [kept](Self::keep).
#[derive(Debug)]
#[must_use = "a name is served only as long as this is held; `keep` serves it for ever"]
pub struct Serving {
    name: Arc<str>,
    table: Weak<Table>,
}

impl Serving {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Serves the name for as long as the node runs.
    pub fn keep(mut self) {
        self.table = Weak::new();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            // Changes of one name are told in their order: while its place is locked.
            table.entries.remove_if(&self.name, |name, _| {
                table.tell(Change::Ended(Arc::clone(name)));
                true
            });
        }
    }
}

impl Served {
    pub(crate) fn new(access: Access) -> Self {
        Self(Arc::new(Table {
            access,
            entries: DashMap::new(),
            is_closed: AtomicBool::new(false),
            listener: OnceLock::new(),
        }))
    }

    /// Serves nothing any more. What is served may know of this table, so both would outlive their node.
    pub(crate) fn clear(&self) {
        self.0.entries.clear();
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// Whether a peer may ask whoever is served under a name.
    ///
    /// # Errors
    ///
    /// [`Refusal::Forbidden`].
    pub(crate) fn may_ask(&self, peer: &Opener, name: &str) -> Result<(), CallError> {
        forbidden(self.0.access.may(Subject::peer(peer), Action::Call, ruled(name)))
    }

    /// Whether this node itself may.
    ///
    /// # Errors
    ///
    /// [`Refusal::Forbidden`].
    pub(crate) fn may_i_ask(&self, name: &str) -> Result<(), CallError> {
        forbidden(self.0.access.may_i(Action::Call, ruled(name)))
    }

    /// Whether a peer may serve a name.
    ///
    /// # Errors
    ///
    /// [`Unavailability::Unentitled`].
    pub(crate) fn may_serve(&self, peer: &Opener, name: &str) -> Result<(), CallError> {
        let may = self.0.access.may(Subject::peer(peer), Action::Advertise, ruled(name));
        may.map_err(|why| CallError::Unavailable(Unavailability::Unentitled(why.to_string())))
    }

    /// Tells of each name that is served from now on, and of each that is so no longer. Only the
    /// first who listens is told.
    pub(crate) fn listen(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        drop(self.0.listener.set(Box::new(listener)));
    }

    /// Serves nothing from now on: this is a bootstrap node.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }

    /// What the directory says about a name that is served; none if it is not.
    pub(crate) fn metadata(&self, name: &str) -> Option<Bytes> {
        self.0.entries.get(name).map(|serves| serves.metadata.clone())
    }

    /// The names of which the directory is told.
    pub(crate) fn names(&self) -> BTreeSet<Arc<str>> {
        let names = self.0.entries.iter().map(|entry| Arc::clone(entry.key()));
        names.filter(|name| is_announced(name)).collect()
    }

    /// Serves an actor under a name: other nodes may ask it `Q` and get `R`. `message` makes the
    /// actor's own message of a question.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub fn serve<M, Q, R>(
        &self,
        name: &str,
        handle: &Handle<M>,
        message: impl Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
    ) -> Result<Serving, ServeError>
    where
        M: Send + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        let invalid = |source| ServeError::InvalidName { name: name.to_owned(), source };
        if name.is_empty() {
            return Err(invalid(InvalidId::Empty));
        }
        Path::parse(name).map_err(invalid)?;
        self.put(name.into(), actor(handle, message), Bytes::new())
    }

    /// Serves whatever answers under a name that is checked.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub(crate) fn put(
        &self,
        name: Arc<str>,
        answerer: Arc<dyn Answerer>,
        metadata: Bytes,
    ) -> Result<Serving, ServeError> {
        if self.0.is_closed.load(Ordering::Relaxed) {
            return Err(ServeError::Bootstrap);
        }
        let may = self.0.access.may_i(Action::Advertise, ruled(&name));
        may.map_err(|why| ServeError::Forbidden(why.to_string()))?;
        if self.0.entries.len() >= NAMES_MAX {
            return Err(ServeError::Full);
        }
        match self.0.entries.entry(Arc::clone(&name)) {
            Entry::Occupied(_) => return Err(ServeError::Taken(name.to_string())),
            Entry::Vacant(place) => {
                let _locked = place.insert(Serves { answerer, metadata });
                self.0.tell(Change::Served(Arc::clone(&name)));
            }
        }
        Ok(Serving { name, table: Arc::downgrade(&self.0) })
    }

    pub(crate) fn answerer(&self, name: &str) -> Option<Arc<dyn Answerer>> {
        self.0.entries.get(name).map(|serves| Arc::clone(&serves.answerer))
    }

    /// Puts a question to whoever is served under a name.
    pub(super) fn ask(&self, name: &str, question: Question) {
        match self.answerer(name) {
            Some(answerer) => answerer.ask(question),
            None => {
                let why = Unavailability::NotServed(name.to_owned());
                question.ticket.turn_down(&CallError::Unavailable(why));
            }
        }
    }

    /// The life that is watched, and its end.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`] if nothing runs under the name, or that life is over.
    pub(super) fn watch(
        &self,
        name: &str,
        incarnation: Option<u64>,
    ) -> Result<(u64, BoxFuture<'static, Option<ExitReason>>), CallError> {
        let actor = self
            .answerer(name)
            .ok_or_else(|| CallError::Unavailable(Unavailability::NotServed(name.to_owned())))?;
        let (presence, life) = actor.life();
        match incarnation {
            Some(asked) => Ok((asked, actor.ended(asked))),
            None if presence == Presence::Up => Ok((life, actor.ended(life))),
            None => {
                let why = Unavailability::Absent(absent(presence).to_owned());
                Err(CallError::Unavailable(why))
            }
        }
    }
}
