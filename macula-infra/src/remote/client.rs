//! The caller's side.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::shell::Bell;
use macula_core::supervision::Handle;
use macula_core::wire::{EncodeError, Limits, from_body, to_body};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::call::{Asked, UnderWay};
use super::error::{CallError, Interruption, Unavailability};
use super::monitor::Monitor;
use super::questions::encoded;
use super::reply::{Answer, Cancelled, Encodes, Ticket};
use super::serve::{Question, Served};
use super::session::{Calls, Waiting};
use super::{FIRST_KIND, metrics};
use crate::link::InFlight;
use crate::membership::Membership;
use crate::pool::Pool;

/// How long a call that waits for its node leaves a pool alone that has said no.
const ASK_AGAIN: Duration = Duration::from_millis(10);

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

    pub(super) fn body_len_max(&self) -> usize {
        self.pool.caps().body_len_max
    }

    pub(super) const fn served(&self) -> &Served {
        &self.served
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
        self.counted(within, true, question).await
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
        self.counted(within, false, question).await
    }

    async fn counted(&self, within: Duration, patient: bool, question: &Q) -> Result<R, CallError> {
        let answer = self.ask(within, patient, question).await;
        let outcome = answer.as_ref().map_or_else(|error| error.kind(), |_| "answered");
        ::metrics::counter!(metrics::CALLS, "outcome" => outcome).increment(1);
        answer
    }

    async fn ask(&self, within: Duration, patient: bool, question: &Q) -> Result<R, CallError> {
        let here = &self.remote.calling;
        let max = here.body_len_max();
        let body = to_body(question, max).map_err(|error| match error {
            EncodeError::TooLong { len, max } => CallError::too_large("question", len, max),
            error => CallError::Unsupported(error.to_string()),
        })?;
        let deadline = TokioClock.now() + within;
        let answer = if self.remote.node == here.node() {
            let answer = tokio::time::timeout_at(deadline.into(), self.ask_here(within, body));
            answer.await.unwrap_or(Err(CallError::TimedOut { within }))?
        } else {
            let in_flight = self.connection(within, deadline).await?;
            let asked = Asked { to: &self.name, body, within, deadline, patient };
            self.ask_there(in_flight, &asked).await?
        };
        let limits = Limits::for_body(max);
        from_body(&answer, &limits).map_err(|error| CallError::NotUnderstood(error.to_string()))
    }

    /// The connection to the node, of which a call that does not get it in time has sent nothing.
    async fn connection(&self, within: Duration, deadline: Instant) -> Result<InFlight, CallError> {
        let mut last = None;
        let connecting = async {
            loop {
                match self.remote.calling.link(self.remote.node).await {
                    Err(CallError::Unavailable(why)) if self.waits => match &why {
                        Unavailability::NoAddress | Unavailability::Stopped => {
                            return Err(CallError::Unavailable(why));
                        }
                        Unavailability::BackingOff { retry_in } => {
                            tokio::time::sleep(*retry_in).await;
                        }
                        _ => {
                            last = Some(why);
                            tokio::time::sleep(ASK_AGAIN).await;
                        }
                    },
                    connected => return connected,
                }
            }
        };
        let connected = tokio::time::timeout_at(deadline.into(), connecting).await;
        connected.unwrap_or_else(|_elapsed| Err(self.not_reached(within, last)))
    }

    /// There was no connection in time.
    fn not_reached(&self, within: Duration, last: Option<Unavailability>) -> CallError {
        let Remote { calling, node } = &self.remote;
        let addresses = calling.pool.book().addresses(*node);
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let last = last.map(|why| format!("; before that: {why}")).unwrap_or_default();
        CallError::Unavailable(Unavailability::Unreachable(format!(
            "no connection to {} at {} within {}{last}",
            node.short(),
            addresses.join(", "),
            humantime::format_duration(within),
        )))
    }

    async fn ask_there(&self, in_flight: InFlight, asked: &Asked<'_>) -> Result<Bytes, CallError> {
        let link = Arc::clone(in_flight.link());
        let unsupported = || CallError::Unsupported("calls".to_owned());
        let calls = link.session::<Calls>(FIRST_KIND).ok_or_else(unsupported)?;
        let (id, (tell, answer)) = (calls.next_id(), oneshot::channel());
        calls.expect(&link, id, Waiting::Reply(tell, asked.within))?;
        UnderWay::new(in_flight, id).ask(asked, answer).await
    }

    /// An actor of this very node is asked without a network, and with the same guarantees.
    async fn ask_here(&self, within: Duration, body: Bytes) -> Result<Bytes, CallError> {
        let here = &self.remote.calling;
        let (tell, answer) = oneshot::channel();
        let cancelled = Arc::new(Cancelled::default());
        let answerer = Here { tell: Mutex::new(Some(tell)), len_max: here.body_len_max() };
        let ticket = Arc::new(Ticket {
            id: 0,
            caller: here.node(),
            within,
            deadline: TokioClock.now() + within,
            cancelled: Arc::clone(&cancelled),
            answer: Arc::new(answerer),
            settled: AtomicBool::new(false),
        });
        let _cancels = Cancels(cancelled);
        let limits = Limits::for_body(here.body_len_max());
        here.served().ask(&self.name, Question { ticket, body, limits });
        answer.await.unwrap_or(Err(CallError::Interrupted(Interruption::Dropped)))
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

/// Tells a handler on this node when its caller has gone.
struct Cancels(Arc<Cancelled>);

impl Drop for Cancels {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Takes the answer to a caller on this node.
struct Here {
    tell: Mutex<Option<oneshot::Sender<Result<Bytes, CallError>>>>,
    len_max: usize,
}

impl Here {
    fn tell(&self, answer: Result<Bytes, CallError>) -> Result<(), CallError> {
        let gone = || CallError::Interrupted(Interruption::Dropped);
        let tell = self.tell.lock().take().ok_or_else(gone)?;
        tell.send(answer).map_err(|_answer| gone())
    }
}

impl Answer for Here {
    fn reply(&self, _id: u64, reply: &dyn Encodes) -> Result<(), CallError> {
        let body = encoded(reply, self.len_max)?;
        self.tell(Ok(body))
    }

    fn fail(&self, _id: u64, error: &CallError) {
        // A caller that has gone needs no answer.
        drop(self.tell(Err(error.clone())));
    }
}
