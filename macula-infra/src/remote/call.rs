//! One call, until it has its answer, its time is over, or its caller drops it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{EncodeError, Flags};
use tokio::sync::oneshot;

use super::FIRST_KIND;
use super::error::{CallError, Refusal};
use super::headers::Headers;
use super::session::{Calls, lost, lost_by, unsent};
use super::wire::{BULK, CALL, CANCEL, Call};
use crate::link::{InFlight, Link};
use crate::transport::Pulse;
use crate::transport::lane::{BulkError, BulkSender, Lane, SendError};

/// What is asked, and for how long.
pub(super) struct Asked<'a> {
    /// The name under which the actor is served.
    pub(super) to: &'a str,
    /// The question.
    pub(super) body: Bytes,
    /// How long the caller wants to wait.
    pub(super) within: Duration,
    /// Until when it does.
    pub(super) deadline: Instant,
    /// What is said beside it.
    pub(super) headers: &'a Headers,
    /// Whether it waits for room on the connection.
    pub(super) patient: bool,
}

impl Asked<'_> {
    /// What tells about the question, without its body.
    fn about(&self) -> Call<'_> {
        let left = self.deadline.saturating_duration_since(TokioClock.now());
        let within_ms = u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
        let headers = (!self.headers.is_empty()).then_some(Cow::Borrowed(self.headers));
        let body = serde_bytes::Bytes::new(&[]);
        Call { to: self.to, within_ms, body, bulk_len: None, headers }
    }
}

/// A call that is under way. When it is dropped without an answer, the other side is told.
pub(super) struct UnderWay {
    in_flight: InFlight,
    id: u64,
    /// Whether the other side may know of it and still work for it.
    open: bool,
}

impl UnderWay {
    pub(super) const fn new(in_flight: InFlight, id: u64) -> Self {
        Self { in_flight, id, open: false }
    }

    const fn link(&self) -> &Arc<Link> {
        self.in_flight.link()
    }

    /// Sends the question, and waits for the answer.
    pub(super) async fn ask(
        mut self,
        asked: &Asked<'_>,
        answer: oneshot::Receiver<Result<Bytes, CallError>>,
    ) -> Result<Bytes, CallError> {
        let link = Arc::clone(self.link());
        let begun = tokio::time::timeout_at(asked.deadline.into(), self.begin(&link, asked));
        let stream = begun.await.unwrap_or_else(|_elapsed| Err(busy(&link)))?;
        self.open = true;
        let answered = tokio::time::timeout_at(
            asked.deadline.into(),
            self.answered(&link, asked, stream, answer),
        );
        let answer = answered.await.unwrap_or(Err(CallError::TimedOut { within: asked.within }));
        self.open = matches!(answer, Err(CallError::TimedOut { .. }));
        answer
    }

    /// Sends a question that fits in a frame; gives the stream for one that does not, on which
    /// nothing was sent.
    async fn begin(&self, link: &Link, asked: &Asked<'_>) -> Result<Option<BulkSender>, CallError> {
        let lane = link.lane(Lane::Rpc);
        let head = (CALL, Flags::default(), self.id);
        while asked.body.len() <= link.limits().frame_len_max {
            let call = Call { body: serde_bytes::Bytes::new(&asked.body), ..asked.about() };
            match lane.send(head, &call) {
                Ok(()) => return Ok(None),
                Err(SendError::Full { .. }) if asked.patient => lane.room().await,
                Err(SendError::Full { .. }) => return Err(busy(link)),
                Err(SendError::Closed(closed)) => return Err(unsent(&closed)),
                Err(SendError::Encode(EncodeError::TooLong { .. })) => break,
                Err(SendError::Encode(error)) => {
                    return Err(CallError::Unsupported(error.to_string()));
                }
            }
        }
        if !asked.patient && !link.bulks().is_free() {
            return Err(busy(link));
        }
        link.bulks().open().await.map(Some).map_err(|closed| unsent(&closed))
    }

    /// Sends what is to be sent of a long question, and waits for the answer, which may come before:
    /// a node that does not take the question stops reading it and says why.
    async fn answered(
        &self,
        link: &Link,
        asked: &Asked<'_>,
        stream: Option<BulkSender>,
        mut answer: oneshot::Receiver<Result<Bytes, CallError>>,
    ) -> Result<Bytes, CallError> {
        if let Some(stream) = stream {
            let about = Call { bulk_len: u64::try_from(asked.body.len()).ok(), ..asked.about() };
            let head = (CALL, BULK, self.id);
            let sending = stream.send(head, &about, asked.body.clone(), link.limits());
            tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_closed| Err(lost(link))),
                sent = sending => match sent {
                    Ok(()) | Err(BulkError::Stopped) => {}
                    Err(BulkError::Closed(closed)) => return Err(lost_by(&closed)),
                    Err(BulkError::Encode(error)) => {
                        return Err(CallError::Unsupported(error.to_string()));
                    }
                },
            }
        }
        answer.await.unwrap_or_else(|_closed| Err(lost(link)))
    }
}

/// There was no room on the connection, so that nothing was sent.
fn busy(link: &Link) -> CallError {
    let node = link.node().short();
    let why = format!("the connection to {node} has no room, and nothing was sent");
    CallError::Refused(Refusal::Busy(why))
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let link = self.in_flight.link();
        let waited = link.session::<Calls>(FIRST_KIND).is_some_and(|calls| calls.forget(self.id));
        if waited && self.open {
            // If the lane is full the handler goes on for nothing, which is all that is lost.
            let head = (CANCEL, Flags::default(), self.id);
            drop(link.lane(Lane::Rpc).send(head, &Pulse {}));
        }
    }
}
