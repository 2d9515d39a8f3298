//! The caller's side.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::shell::Bell;
use macula_core::supervision::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallError, Unavailability};
use super::headers::Headers;
use super::monitor::Monitor;
use super::query::{Query, decode, encode};
use super::serve::Served;
use crate::link::InFlight;
use crate::membership::Membership;
use crate::pool::Pool;

/// How long a call waits if it does not say.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

/// What callers need: the connections of the node, and what it serves itself.
#[derive(Debug, Clone)]
pub(crate) struct Calling {
    pub(crate) pool: Pool,
    pub(crate) served: Served,
    /// What makes connections: it is there again and again until the node has stopped.
    pub(crate) policy: Handle<Bell>,
    /// Who says which nodes are gone.
    pub(crate) membership: Membership,
}

impl Calling {
    pub(crate) fn node(&self) -> NodeId {
        self.pool.node()
    }

    pub(crate) fn body_len_max(&self) -> usize {
        self.pool.caps().body_len_max
    }

    pub(crate) async fn link(&self, node: NodeId) -> Result<InFlight, CallError> {
        tokio::select! {
            biased;
            link = self.pool.link(node) => link.map_err(CallError::from),
            // There is no such life, so this waits for the end of all.
            _ = self.policy.next_life(u64::MAX) => {
                Err(CallError::Unavailable(Unavailability::Stopped))
            }
        }
    }
}

/// Another node, as a place to find actors.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(crate) calling: Calling,
    pub(crate) node: NodeId,
}

impl Remote {
    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// A typed handle to the actor that is served there under a name: it is asked `Q` and answers
    /// `R`. Nothing is sent before the first call.
    #[must_use]
    pub fn handle<Q, R>(&self, name: &str) -> RemoteHandle<Q, R> {
        RemoteHandle { remote: self.clone(), name: name.into(), waits: false, _types: PhantomData }
    }
}

/// A typed handle to an actor on another node. It outlives connections and restarts.
pub struct RemoteHandle<Q, R> {
    pub(super) remote: Remote,
    pub(super) name: Arc<str>,
    /// Whether a call waits for the node to be there.
    waits: bool,
    _types: PhantomData<fn(Q) -> R>,
}

impl<Q, R> RemoteHandle<Q, R> {
    /// The same actor, for calls that wait until its node can be reached, as long as their own time
    /// allows. Without it a call ends at once when there is no connection and none can be made.
    #[must_use]
    pub fn wait_for_ready(self) -> Self {
        Self { waits: true, ..self }
    }
}

impl<Q, R> Clone for RemoteHandle<Q, R> {
    fn clone(&self) -> Self {
        let (remote, name) = (self.remote.clone(), Arc::clone(&self.name));
        Self { remote, name, waits: self.waits, _types: PhantomData }
    }
}

impl<Q, R> Debug for RemoteHandle<Q, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteHandle")
            .field("node", &self.remote.node)
            .field("name", &self.name)
            .finish()
    }
}

impl<Q: Serialize, R: DeserializeOwned> RemoteHandle<Q, R> {
    /// Asks, and waits for the answer for at most five seconds.
    ///
    /// # Errors
    ///
    /// [`CallError`], which says whether the question may have been handled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the handler is told that nobody waits; the question may still be
    /// handled.
    pub async fn call(&self, question: &Q) -> Result<R, CallError> {
        self.call_within(WITHIN, question).await
    }

    /// As [`call`](Self::call), with another bound. It holds for all there is to do: connecting,
    /// sending, handling and answering. A call whose time ends before there was room to send it is
    /// [`Refusal::Busy`](super::Refusal::Busy), and was not handled.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_within(&self, within: Duration, question: &Q) -> Result<R, CallError> {
        self.ask(within, true, question).await
    }

    /// As [`call`](Self::call), and never waits for room: if as much waits for the connection as
    /// may, it is [`Refusal::Busy`](super::Refusal::Busy) at once. Nothing was sent then.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn try_call(&self, question: &Q) -> Result<R, CallError> {
        self.try_call_within(WITHIN, question).await
    }

    /// As [`try_call`](Self::try_call), with another bound for all there is to do.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn try_call_within(&self, within: Duration, question: &Q) -> Result<R, CallError> {
        self.ask(within, false, question).await
    }

    async fn ask(&self, within: Duration, patient: bool, question: &Q) -> Result<R, CallError> {
        let len_max = self.remote.calling.body_len_max();
        let body = encode(question, len_max)?;
        let query = Query {
            remote: self.remote.clone(),
            name: Arc::clone(&self.name),
            headers: Headers::default(),
            within,
            patient,
            waits: self.waits,
        };
        decode(&query.ask(body).await?, len_max)
    }

    /// Watches the life of the actor that runs now.
    ///
    /// # Errors
    ///
    /// [`CallError`] if there is no such life to watch.
    pub async fn monitor(&self) -> Result<Monitor, CallError> {
        Monitor::start(self.remote.clone(), Arc::clone(&self.name), WITHIN).await
    }
}
