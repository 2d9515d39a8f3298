//! One question, encoded, and its way to one node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{EncodeError, Limits, from_body, to_body};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::call::{Asked, UnderWay};
use super::client::Remote;
use super::context::inherited;
use super::error::{CallError, Interruption, Unavailability};
use super::headers::Headers;
use super::questions::encoded;
use super::reply::{Answer, Cancelled, Encodes, Ticket, TicketParts};
use super::serve::Question;
use super::session::{Calls, Waiting};
use super::{FIRST_KIND, metrics};
use crate::link::InFlight;

/// How long a call that waits for its node leaves a pool alone that has said no.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// What is asked, of whom, and how.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) remote: Remote,
    /// The name under which the actor is served.
    pub(crate) name: Arc<str>,
    /// What is said beside the question.
    pub(crate) headers: Headers,
    /// How long the answer is waited for.
    pub(crate) within: Duration,
    /// Whether it waits for room on the connection.
    pub(crate) patient: bool,
    /// Whether it waits for the node to be there.
    pub(crate) waits: bool,
}

/// A question as it travels.
///
/// # Errors
///
/// [`CallError::TooLarge`] or [`CallError::Unsupported`].
pub(crate) fn encode<Q: Serialize>(question: &Q, len_max: usize) -> Result<Bytes, CallError> {
    to_body(question, len_max).map_err(|error| match error {
        EncodeError::TooLong { len, max } => CallError::too_large("question", len, max),
        error => CallError::Unsupported(error.to_string()),
    })
}

/// An answer as it came.
///
/// # Errors
///
/// [`CallError::NotUnderstood`].
pub(crate) fn decode<R: DeserializeOwned>(answer: &Bytes, len_max: usize) -> Result<R, CallError> {
    let limits = Limits::for_body(len_max);
    from_body(answer, &limits).map_err(|error| CallError::NotUnderstood(error.to_string()))
}

impl Query {
    /// Asks, and waits for the answer.
    pub(crate) async fn ask(mut self, body: Bytes) -> Result<Bytes, CallError> {
        (self.within, self.headers) = inherited(self.within, self.headers);
        let answer = self.answer(body).await;
        let outcome = answer.as_ref().map_or_else(CallError::kind, |_| "answered");
        ::metrics::counter!(metrics::CALLS, "outcome" => outcome).increment(1);
        answer
    }

    async fn answer(&self, body: Bytes) -> Result<Bytes, CallError> {
        let (within, patient, headers) = (self.within, self.patient, &self.headers);
        let deadline = TokioClock.now() + within;
        if self.remote.node == self.remote.calling.node() {
            let answer = tokio::time::timeout_at(deadline.into(), self.ask_here(body));
            return answer.await.unwrap_or(Err(CallError::TimedOut { within }));
        }
        let in_flight = self.connection(deadline).await?;
        let asked = Asked { to: &self.name, body, headers, within, deadline, patient };
        self.ask_there(in_flight, &asked).await
    }

    /// The connection to the node, of which a call that does not get it in time has sent nothing.
    async fn connection(&self, deadline: Instant) -> Result<InFlight, CallError> {
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
        connected.unwrap_or_else(|_elapsed| Err(self.not_reached(last)))
    }

    /// There was no connection in time.
    fn not_reached(&self, last: Option<Unavailability>) -> CallError {
        let Remote { calling, node } = &self.remote;
        let addresses = calling.pool.book().addresses(*node);
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let last = last.map(|why| format!("; before that: {why}")).unwrap_or_default();
        CallError::Unavailable(Unavailability::Unreachable(format!(
            "no connection to {} at {} within {}{last}",
            node.short(),
            addresses.join(", "),
            macula_core::clock::shown(self.within),
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
    async fn ask_here(&self, body: Bytes) -> Result<Bytes, CallError> {
        let here = &self.remote.calling;
        here.served.may_i_ask(&self.name)?;
        let (tell, answer) = oneshot::channel();
        let cancelled = Arc::new(Cancelled::default());
        let answerer = Here { tell: Mutex::new(Some(tell)), len_max: here.body_len_max() };
        let ticket = Arc::new(Ticket::new(TicketParts {
            id: 0,
            caller: here.node(),
            within: self.within,
            deadline: TokioClock.now() + self.within,
            headers: self.headers.clone(),
            cancelled: Arc::clone(&cancelled),
            answer: Arc::new(answerer),
        }));
        let _cancels = Cancels(cancelled);
        let limits = Limits::for_body(here.body_len_max());
        here.served.ask(&self.name, Question { ticket, body, limits });
        answer.await.unwrap_or(Err(CallError::Interrupted(Interruption::Dropped)))
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
