//! What a peer asks on one connection, until the answers have left.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{EncodeError, Flags, Frame, Kind, Limits, from_body, to_body};
use parking_lot::Mutex;
use serde::Serialize;

use super::error::{CallError, Interruption, Refusal};
use super::metrics;
use super::outbox::{Late, Outbox, Put};
use super::reply::{Answer, Cancelled, Encodes, Ticket, TicketParts};
use super::serve::{Question, Served};
use super::session::lost_by;
use super::wire::{BULK, BulkReply, Call, FAILURE, REPLY};
use crate::link::{InFlight, Link};
use crate::transport::CloseCode;
use crate::transport::lane::{Body, Lane, ReadError, SendError};

/// How many questions of one peer are open at one time. More are refused.
const QUESTIONS_MAX: usize = 8_192;

/// How many bodies of the longest kind may wait as answers on one connection.
const BODIES_MAX: usize = 4;

/// How many bytes of answers may wait in any case.
const ANSWERS_LEN_MIN: usize = 16 * 1024 * 1024;

/// How long a peer may leave answers unread before its connection is closed.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// The longest time that a question may stay open.
pub(crate) const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// A question, until its answer was taken by the lane.
struct Open {
    cancelled: Arc<Cancelled>,
    _in_flight: InFlight,
}

/// The questions of one connection's peer.
pub(super) struct Questions {
    me: Weak<Self>,
    link: Weak<Link>,
    served: Served,
    open: Mutex<BTreeMap<u64, Open>>,
    /// What this node answers, and the lane has not taken.
    outbox: Outbox,
}

impl Questions {
    pub(super) fn new(link: &Arc<Link>, served: Served) -> Arc<Self> {
        let len_max = link.body_len_max().saturating_mul(BODIES_MAX).max(ANSWERS_LEN_MIN);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            link: Arc::downgrade(link),
            served,
            open: Mutex::default(),
            outbox: Outbox::new(len_max),
        })
    }

    /// A question has come.
    pub(super) fn called(&self, link: &Arc<Link>, frame: &Frame) {
        let arrived = TokioClock.now();
        match from_body::<Call<'_>>(&frame.body, link.limits()) {
            Ok(call) => {
                if let Some(ticket) = self.open(link, frame.id, &call, arrived) {
                    self.ask(link, ticket, &call, frame.body.slice_ref(call.body));
                }
            }
            Err(error) => {
                let why = CallError::Unsupported(format!("the call: {error}"));
                self.refuse(link, frame.id, &why);
            }
        }
    }

    /// A question has come whose body follows. It is read for as long as its caller waits.
    pub(super) async fn called_long(&self, link: Arc<Link>, about: Frame, body: Body) {
        let arrived = TokioClock.now();
        let call = match from_body::<Call<'_>>(&about.body, link.limits()) {
            Ok(call) => call,
            Err(error) => {
                let why = CallError::Unsupported(format!("the call: {error}"));
                return self.refuse(&link, about.id, &why);
            }
        };
        let Some(ticket) = self.open(&link, about.id, &call, arrived) else { return };
        let body = tokio::select! {
            biased;
            () = ticket.over() => return ticket.turn_down(&ticket.timed_out()),
            body = body.read(call.bulk_len.unwrap_or_default(), link.body_len_max()) => body,
        };
        match body {
            Ok(body) => self.ask(&link, ticket, &call, body),
            Err(ReadError::TooLong { len, max }) => {
                ticket.turn_down(&CallError::TooLarge { what: "question", len, max });
            }
            // A caller that has reset the stream needs no answer.
            Err(ReadError::Reset) => {
                ticket.cancel();
                ticket.turn_down(&ticket.timed_out());
            }
            Err(error) => {
                ticket.turn_down(&CallError::Refused(Refusal::Busy(format!(
                    "the question: {error}"
                ))));
            }
        }
    }

    /// Takes a question, unless there are too many.
    fn open(
        &self,
        link: &Arc<Link>,
        id: u64,
        call: &Call<'_>,
        arrived: Instant,
    ) -> Option<Arc<Ticket>> {
        let cancelled = Arc::new(Cancelled::default());
        if let Err(error) = self.served.may_ask(link.peer(), call.to) {
            self.refuse(link, id, &error);
            return None;
        }
        {
            let mut questions = self.open.lock();
            let full = questions.len() >= QUESTIONS_MAX || questions.contains_key(&id);
            if full || self.outbox.is_high() {
                drop(questions);
                let why = if full {
                    format!("at most {QUESTIONS_MAX} questions of one node are open")
                } else {
                    "too many answers wait to be read".to_owned()
                };
                self.refuse(link, id, &CallError::Refused(Refusal::Busy(why)));
                return None;
            }
            let in_flight = link.take_up_for_peer();
            let open = Open { cancelled: Arc::clone(&cancelled), _in_flight: in_flight };
            questions.insert(id, open);
        }
        let within = Duration::from_millis(call.within_ms).min(WITHIN_MAX);
        Some(Arc::new(Ticket::new(TicketParts {
            id,
            caller: link.node(),
            within,
            deadline: arrived + within,
            headers: call.headers.as_deref().cloned().unwrap_or_default(),
            cancelled,
            answer: self.me.upgrade()?,
        })))
    }

    /// Puts a question to the actor that is served under its name.
    fn ask(&self, link: &Link, ticket: Arc<Ticket>, call: &Call<'_>, body: Bytes) {
        let limits = Limits::for_body(link.body_len_max());
        self.served.ask(call.to, Question { ticket, body, limits });
    }

    /// The caller does not wait any more.
    pub(super) fn cancel(&self, id: u64) {
        let cancelled = self.open.lock().get(&id).map(|open| Arc::clone(&open.cancelled));
        if let Some(cancelled) = cancelled {
            cancelled.set();
        }
    }

    /// The connection is over.
    pub(super) fn close(&self) {
        let questions = std::mem::take(&mut *self.open.lock());
        questions.into_values().for_each(|open| open.cancelled.set());
    }

    /// Does not take a question.
    pub(super) fn refuse(&self, link: &Arc<Link>, id: u64, error: &CallError) {
        ::metrics::counter!(metrics::QUESTIONS, "outcome" => error.kind()).increment(1);
        self.put(link, (FAILURE, Flags::default(), id), &error.to_wire(), false);
    }

    /// Sends a frame, or lets it wait for room on the lane.
    pub(super) fn put<T: Serialize>(
        &self,
        link: &Arc<Link>,
        head: (Kind, Flags, u64),
        body: &T,
        ends: bool,
    ) {
        if self.outbox.is_empty() {
            let sent = link.lane(Lane::Rpc).send(head, body);
            if !matches!(sent, Err(SendError::Full { .. })) {
                return self.ended(head.2, ends);
            }
        }
        match to_body(body, link.limits().frame_len_max) {
            Ok(body) => self.put_late(link, Late { head, body, ends }),
            Err(_too_long) => self.ended(head.2, ends),
        }
    }

    fn put_late(&self, link: &Arc<Link>, late: Late) {
        match self.outbox.put(late) {
            Put::Waits => {}
            Put::First => {
                if let Some(me) = self.me.upgrade() {
                    drop(tokio::spawn(me.carry(Arc::clone(link))));
                }
            }
            Put::Full => link.close(CloseCode::Overloaded),
        }
    }

    /// Carries what waits to the lane, for as long as something does.
    async fn carry(self: Arc<Self>, link: Arc<Link>) {
        let lane = link.lane(Lane::Rpc);
        while let Some(Late { head, body, ends }) = self.outbox.first() {
            let unwanted = ends && self.is_cancelled(head.2);
            if !unwanted && let Err(SendError::Full { .. }) = lane.send_raw(head, &body) {
                if tokio::time::timeout(UNREAD_MAX, lane.room()).await.is_err() {
                    let node = link.node().short();
                    tracing::warn!(node, "a peer does not read the answers to its questions");
                    link.close(CloseCode::Overloaded);
                }
                continue;
            }
            self.outbox.taken();
            self.ended(head.2, ends);
        }
    }

    /// A frame was taken by the lane, or nobody wants it any more.
    fn ended(&self, id: u64, ends: bool) {
        if ends {
            let open = self.open.lock().remove(&id);
            drop(open);
        }
    }

    fn is_cancelled(&self, id: u64) -> bool {
        self.open.lock().get(&id).is_none_or(|open| open.cancelled.is_set())
    }

    /// Sends an answer that is too long for a frame, for as long as its caller waits.
    fn put_long(&self, link: Arc<Link>, id: u64, body: Bytes) {
        let open = self.open.lock().get(&id).map(|open| Arc::clone(&open.cancelled));
        let Some((cancelled, me)) = open.zip(self.me.upgrade()) else { return };
        let len = body.len();
        self.outbox.hold(len);
        drop(tokio::spawn(async move {
            let about = BulkReply { bulk_len: u64::try_from(len).unwrap_or(u64::MAX) };
            let sending = async {
                let stream = link.bulks().open().await?;
                stream.send((REPLY, BULK, id), &about, body, link.limits()).await
            };
            tokio::select! {
                // If it is not sent the connection is over, or the caller does not want it.
                sent = sending => drop(sent),
                () = cancelled.wait() => {}
            }
            me.outbox.release(len);
            me.ended(id, true);
        }));
    }
}

impl Answer for Questions {
    fn reply(&self, id: u64, reply: &dyn Encodes) -> Result<(), CallError> {
        let gone = || CallError::Interrupted(Interruption::Dropped);
        let link = self.link.upgrade().ok_or_else(gone)?;
        let head = (REPLY, Flags::default(), id);
        let sent = if self.outbox.is_empty() {
            reply.send(link.lane(Lane::Rpc), head)
        } else {
            Err(SendError::Full { len: 0, max: 0 })
        };
        match sent {
            Ok(()) => self.ended(id, true),
            Err(SendError::Closed(closed)) => return Err(lost_by(&closed)),
            Err(SendError::Encode(EncodeError::TooLong { .. }) | SendError::Full { .. }) => {
                let body = encoded(reply, link.body_len_max())?;
                if !self.outbox.has_room(body.len()) {
                    return Err(CallError::Interrupted(Interruption::Unsent));
                }
                if body.len() <= link.limits().frame_len_max {
                    self.put_late(&link, Late { head, body, ends: true });
                } else {
                    self.put_long(link, id, body);
                }
            }
            Err(SendError::Encode(error)) => {
                return Err(CallError::NotUnderstood(error.to_string()));
            }
        }
        Ok(())
    }

    fn fail(&self, id: u64, error: &CallError) {
        if self.is_cancelled(id) {
            return self.ended(id, true);
        }
        if let Some(link) = self.link.upgrade() {
            self.put(&link, (FAILURE, Flags::default(), id), &error.to_wire(), true);
        }
    }
}

/// A reply as the body of a frame or of a stream of its own.
pub(super) fn encoded(reply: &dyn Encodes, len_max: usize) -> Result<Bytes, CallError> {
    reply.encode(len_max).map_err(|error| match error {
        EncodeError::TooLong { len, max } => CallError::too_large("answer", len, max),
        other => CallError::NotUnderstood(other.to_string()),
    })
}
