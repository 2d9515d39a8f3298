//! Procedures: functions and actors that any node calls by a name, wherever they are provided.
//!
//! A node [advertises](Rpc::advertise) a procedure, and the directory tells the others. A
//! [call](Rpc::call) finds who provides it, chooses one, and asks it as `remote` asks actors. Whom it
//! chooses, whom it asks next when that one fails, and when it asks a second one because the first
//! is slow, is decided in `proto`, without IO.
//!
//! A question is asked of no provider twice, and of a second one only if the first has certainly not
//! handled it, or says that it may be handled more than once ([`Options::idempotent`]). For each
//! target there are at most a tenth more questions than first ones, so a mesh in trouble is not
//! asked twice as much. Whoever fails five times in a row is left alone for a while.
//!
//! Each call of a function is a supervised task. A handler's own calls have the time that is left
//! of the call that it answers, and end with it.

mod broadcast;
mod client;
mod handler;
mod metrics;
mod options;
pub(crate) mod proto;
mod stream;

pub use broadcast::Broadcast;
pub use options::{CallOptions, METADATA_LEN_MAX, Options};
pub use proto::balance::Balance;
pub(crate) use stream::StreamService;
pub use stream::{StreamReceiver, StreamSender};

use std::fmt::{Debug, Display};
use std::sync::Arc;

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::supervision::{Handle, Tasks};
use macula_core::topic::Topic;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::names::{LocateError, Names};
use crate::remote::{
    Answerer, CallError, Context, ReplyTo, ServeError, Serving, actor, as_procedure, decode,
    encode, procedure,
};
use options::Description;
use proto::chooser::Chooser;

/// How many calls of functions a node handles at one time, whatever they call.
pub const TASKS_MAX: usize = 65_536;

/// The procedures of the mesh, from one node. Clones are the same.
#[derive(Clone)]
pub struct Rpc(Arc<Shared>);

struct Shared {
    names: Names,
    tasks: Tasks,
    chooser: Mutex<Chooser>,
}

/// A node that provides a procedure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// Whether a question may be handled more than once.
    pub idempotent: bool,
    /// What it says about itself.
    pub metadata: Bytes,
}

/// A procedure that is advertised until this is dropped or [kept](Self::keep).
#[derive(Debug)]
#[must_use = "a procedure is advertised only as long as this is held; `keep` advertises it for ever"]
pub struct Advertised(Serving);

impl Advertised {
    /// The procedure.
    #[must_use]
    pub fn procedure(&self) -> &str {
        as_procedure(self.0.name()).unwrap_or_default()
    }

    /// Advertises it for as long as the node runs.
    pub fn keep(self) {
        self.0.keep();
    }

    /// Takes it back, as dropping it does: new calls are refused, those that are handled go on, and
    /// the directory is told.
    pub fn unadvertise(self) {}
}

impl Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpc").field("node", &self.0.names.calling().node()).finish_non_exhaustive()
    }
}

impl Rpc {
    pub(crate) fn new(names: Names, tasks: Tasks, entropy: Entropy) -> Self {
        let chooser = Mutex::new(Chooser::new(names.calling().node(), entropy));
        Self(Arc::new(Shared { names, tasks, chooser }))
    }

    /// Provides a procedure by a function. Each call runs as a supervised task; one that panics is
    /// reported by its supervisor, answers [`CallError::RemotePanic`], and harms no other. One whose
    /// caller has given up, or whose time is over, is dropped.
    ///
    /// An error of the handler is told as a text: [`CallError::Failed`]. A handler whose callers are
    /// to tell errors apart has a result of its own as its answer.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub fn advertise<Q, R, E, F>(
        &self,
        topic: &Topic,
        options: &Options,
        handler: impl Fn(Q, Context) -> F + Send + Sync + 'static,
    ) -> Result<Advertised, ServeError>
    where
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Display + Send + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let answerer = handler::closure(self.0.tasks.clone(), options, handler);
        self.put(topic, options, answerer)
    }

    /// Provides a procedure by a supervised actor, as [`Mesh::serve`](crate::mesh::Mesh::serve)
    /// does: `message` makes the actor's own message of a question. If the actor panics, the call
    /// answers [`CallError::RemotePanic`] and its supervisor restarts it.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub fn advertise_actor<M, Q, R>(
        &self,
        topic: &Topic,
        options: &Options,
        handle: &Handle<M>,
        message: impl Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
    ) -> Result<Advertised, ServeError>
    where
        M: Send + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.put(topic, options, actor(handle, message))
    }

    fn put(
        &self,
        topic: &Topic,
        options: &Options,
        answerer: Arc<dyn Answerer>,
    ) -> Result<Advertised, ServeError> {
        let Options { idempotent, metadata, .. } = options;
        let too_long = ServeError::MetadataTooLong { len: metadata.len(), max: METADATA_LEN_MAX };
        let description = Description { idempotent: *idempotent, metadata: metadata.clone() };
        let said = description.encode().filter(|_| metadata.len() <= METADATA_LEN_MAX);
        let said = said.ok_or(too_long)?;
        let served = &self.0.names.calling().served;
        Ok(Advertised(served.put(procedure(topic), answerer, said)?))
    }

    /// Waits until the directory knows of all that this node advertises now. It may never do.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn announced(&self) {
        self.0.names.announced().await;
    }

    /// The procedures that this node advertises.
    #[must_use]
    pub fn procedures(&self) -> Vec<String> {
        let names = self.0.names.calling().served.names();
        names.iter().filter_map(|name| as_procedure(name)).map(str::to_owned).collect()
    }

    /// Who provides a procedure, as far as is known.
    ///
    /// # Errors
    ///
    /// [`LocateError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn providers(&self, topic: &Topic) -> Result<Vec<Provider>, LocateError> {
        let found = self.0.names.providers(&procedure(topic)).await?;
        let provider = |found: macula_core::port::Provider| {
            let Description { idempotent, metadata } = Description::decode(&found.metadata);
            Provider { node: found.node, idempotent, metadata }
        };
        Ok(found.into_iter().map(provider).collect())
    }

    /// Calls a procedure, and waits for the answer for at most five seconds.
    ///
    /// # Errors
    ///
    /// [`CallError`], which says whether the question may have been handled;
    /// [`Unavailability::NoProvider`](crate::remote::Unavailability::NoProvider), at once, if nobody
    /// provides it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the handler is stopped, or told that nobody waits; the question may
    /// still be handled.
    pub async fn call<Q, R>(&self, topic: &Topic, question: &Q) -> Result<R, CallError>
    where
        Q: Serialize + Sync,
        R: DeserializeOwned,
    {
        self.call_with(topic, question, &CallOptions::default()).await
    }

    /// As [`call`](Self::call), otherwise than by default.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_with<Q, R>(
        &self,
        topic: &Topic,
        question: &Q,
        options: &CallOptions,
    ) -> Result<R, CallError>
    where
        Q: Serialize + Sync,
        R: DeserializeOwned,
    {
        let len_max = self.body_len_max();
        let body = encode(question, len_max)?;
        let answer = Box::pin(self.ask(topic, body, options)).await;
        let answer = answer.and_then(|answer| decode(&answer, len_max));
        let outcome = answer.as_ref().map_or_else(CallError::kind, |_| "answered");
        ::metrics::counter!(metrics::CALLS, "outcome" => outcome).increment(1);
        answer
    }

    /// Asks all who provide a procedure, at most
    /// [`NODES_MAX`](crate::names::NODES_MAX) of them. Each is asked once. How calls are spread, and
    /// how many attempts are made, is of no meaning here.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call), if nobody can be asked.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nobody was asked.
    pub async fn broadcast<Q, R>(
        &self,
        topic: &Topic,
        question: &Q,
        options: &CallOptions,
    ) -> Result<Broadcast<R>, CallError>
    where
        Q: Serialize + Sync,
    {
        let body = encode(question, self.body_len_max())?;
        let ground = self.ground(topic, options).await?;
        Ok(Broadcast::new(self, ground, &body))
    }

    /// A node has gone from the mesh.
    pub(crate) fn gone(&self, node: NodeId) {
        self.0.chooser.lock().gone(node);
    }

    fn body_len_max(&self) -> usize {
        self.0.names.calling().body_len_max()
    }
}
