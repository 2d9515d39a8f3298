//! Actors under the names by which other nodes call them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::future::BoxFuture;
use macula_core::path::{InvalidId, Path};
use macula_core::supervision::{ExitReason, Handle, Presence, SendError};
use macula_core::wire::{Limits, from_body};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallError, Refusal, Unavailability};
use super::metrics;
use super::reply::{ReplyTo, Ticket};
use crate::announcing::Change;

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
    /// As many as may be are served.
    #[error("{NAMES_MAX} names are served, and no more may be")]
    Full,
}

/// A question as it came.
pub(crate) struct Question {
    pub(super) ticket: Arc<Ticket>,
    pub(super) body: Bytes,
    pub(super) limits: Limits,
}

/// An actor that is served, whatever its messages are.
trait Actor: Send + Sync {
    fn ask(&self, question: Question);
    fn life(&self) -> (Presence, u64);
    fn ended(&self, incarnation: u64) -> BoxFuture<'static, Option<ExitReason>>;
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
        let Question { ticket, body, limits } = question;
        let asked: Q = match from_body(&body, &limits) {
            Ok(asked) => asked,
            Err(error) => {
                return ticket.turn_down(&CallError::Unsupported(format!("the question: {error}")));
            }
        };
        if ticket.is_over() {
            return ticket.turn_down(&ticket.timed_out());
        }
        let message = (self.message)(asked, ReplyTo::remote(Arc::clone(&ticket)));
        let Err(error) = self.handle.cast(message) else {
            return ::metrics::counter!(metrics::QUESTIONS, "outcome" => "taken").increment(1);
        };
        // Told before the message is dropped, which would tell that it was dropped by a handler.
        ticket.turn_down(&match &error {
            SendError::Full { capacity, .. } => {
                CallError::Refused(Refusal::Busy(format!("{capacity} messages wait for the actor")))
            }
            SendError::Unavailable { presence, .. } => {
                CallError::Unavailable(Unavailability::Absent(absent(*presence).to_owned()))
            }
            _ => CallError::Unavailable(Unavailability::Absent(error.to_string())),
        });
    }
}

impl<M, Q, R, F> Actor for Typed<M, Q, R, F>
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

/// The names that a node serves. Clones are the same table.
#[derive(Clone, Default)]
pub struct Served(Arc<Table>);

#[derive(Default)]
struct Table {
    actors: DashMap<Arc<str>, Arc<dyn Actor>>,
    /// Who hears of changes.
    listener: OnceLock<Box<dyn Fn(Change) + Send + Sync>>,
}

impl Table {
    fn tell(&self, change: Change) {
        if let Some(listener) = self.listener.get() {
            listener(change);
        }
    }
}

impl Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("names", &self.0.actors.len()).finish()
    }
}

/// A name that is served until this is dropped or [kept](Self::keep).
#[derive(Debug)]
#[must_use = "a name is served only as long as this is held; `keep` serves it for ever"]
pub struct Serving {
    name: Arc<str>,
    table: Weak<Table>,
}

impl Debug for dyn Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Actor")
    }
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
            table.actors.remove_if(&self.name, |name, _| {
                table.tell(Change::Ended(Arc::clone(name)));
                true
            });
        }
    }
}

impl Served {
    /// Tells of each name that is served from now on, and of each that is so no longer. Only the
    /// first who listens is told.
    pub(crate) fn listen(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        drop(self.0.listener.set(Box::new(listener)));
    }

    /// Whether an actor is served under a name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.actors.contains_key(name)
    }

    /// The names.
    pub(crate) fn names(&self) -> BTreeSet<Arc<str>> {
        self.0.actors.iter().map(|entry| Arc::clone(entry.key())).collect()
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
        if self.0.actors.len() >= NAMES_MAX {
            return Err(ServeError::Full);
        }
        let name: Arc<str> = name.into();
        let typed = Typed { handle: handle.clone(), message, _types: std::marker::PhantomData };
        match self.0.actors.entry(Arc::clone(&name)) {
            Entry::Occupied(_) => return Err(ServeError::Taken(name.to_string())),
            Entry::Vacant(place) => {
                let _locked = place.insert(Arc::new(typed));
                self.0.tell(Change::Served(Arc::clone(&name)));
            }
        }
        Ok(Serving { name, table: Arc::downgrade(&self.0) })
    }

    /// Puts a question to whoever is served under a name.
    pub(super) fn ask(&self, name: &str, question: Question) {
        let actor = self.0.actors.get(name).map(|entry| Arc::clone(entry.value()));
        match actor {
            Some(actor) => actor.ask(question),
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
        let actor = self.0.actors.get(name).map(|entry| Arc::clone(entry.value()));
        let actor = actor
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
