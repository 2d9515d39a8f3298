//! The calls of one connection, both ways.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{EncodeError, Flags, Frame, Kind, from_body, to_body};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::error::{CallError, Interruption, Refusal};
use super::outbox::{Late, Outbox, Put};
use super::reply::{Answer, Cancelled, Encodes, Ticket};
use super::serve::{Question, Served};
use super::wire::{
    BULK, BulkReply, CALL, CANCEL, Call, DEMONITOR, DOWN, Ended, FAILURE, Failure, MONITOR,
    MONITORING, REPLY, Watch, Watched,
};
use super::{FIRST_KIND, metrics};
use crate::link::{InFlight, Link, Service, Session};
use crate::transport::lane::{Body, Lane, SendError};
use crate::transport::{CloseCode, Closed};

/// How many questions of one peer are open at one time. More are refused.
const QUESTIONS_MAX: usize = 8_192;

/// How many actors one peer watches here at one time. More are refused.
const WATCHES_MAX: usize = 8_192;

/// How many bodies of the longest kind may wait as answers on one connection.
const BODIES_MAX: usize = 4;

/// How many bytes of answers may wait in any case.
const ANSWERS_LEN_MIN: usize = 16 * 1024 * 1024;

/// How long a peer may leave answers unread before its connection is closed.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// The longest time that a question may stay open.
const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Makes the sessions of calls.
#[derive(Debug, Clone)]
pub(crate) struct RemoteService(pub(crate) Served);

impl Service for RemoteService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        Arc::new_cyclic(|me| Calls {
            me: me.clone(),
            link: Arc::downgrade(link),
            served: self.0.clone(),
            numbers: AtomicU64::new(1),
            waiting: Mutex::default(),
            questions: Mutex::default(),
            outbox: Outbox::new(
                ANSWERS_LEN_MIN.max(link.body_len_max().saturating_mul(BODIES_MAX)),
            ),
            watches: Mutex::default(),
        })
    }
}

/// What a call waits for.
pub(super) enum Waiting {
    /// The body of the reply, or why there is none.
    Reply(oneshot::Sender<Result<Bytes, CallError>>, Duration),
    /// First that the actor is watched, then its end.
    Watched(Option<oneshot::Sender<Result<u64, CallError>>>, oneshot::Sender<Ended>),
}

/// A question, until its answer was taken by the lane.
struct Open {
    cancelled: Arc<Cancelled>,
    _in_flight: InFlight,
}

/// The calls of one connection.
pub(super) struct Calls {
    me: Weak<Self>,
    link: Weak<Link>,
    served: Served,
    numbers: AtomicU64,
    /// What this node waits for; none once the connection is over.
    waiting: Mutex<Option<BTreeMap<u64, Waiting>>>,
    /// What this node was asked.
    questions: Mutex<BTreeMap<u64, Open>>,
    /// What this node answers, and the lane has not taken.
    outbox: Outbox,
    watches: Mutex<BTreeMap<u64, (AbortHandle, InFlight)>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calls")
    }
}

impl Calls {
    pub(super) fn next_id(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the answer to `id`, unless the connection is over.
    pub(super) fn expect(&self, link: &Link, id: u64, waiting: Waiting) -> Result<(), CallError> {
        let mut open = self.waiting.lock();
        if link.ended().is_some() {
            return Err(lost(link));
        }
        open.get_or_insert_default().insert(id, waiting);
        Ok(())
    }

    /// Does not wait any more. True if there was no answer yet.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.waiting.lock().as_mut().is_some_and(|open| open.remove(&id).is_some())
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        self.waiting.lock().as_mut()?.remove(&id)
    }

    fn answered(&self, id: u64, answer: Result<Bytes, CallError>) {
        match self.take(id) {
            // A caller that has given up needs no answer.
            Some(Waiting::Reply(caller, _)) => drop(caller.send(answer)),
            Some(Waiting::Watched(Some(first), _)) => {
                let refused = answer.err().unwrap_or(CallError::Interrupted(Interruption::Dropped));
                drop(first.send(Err(refused)));
            }
            Some(Waiting::Watched(None, _)) | None => {}
        }
    }

    fn failed(&self, link: &Link, frame: &Frame) {
        let failure: Result<Failure, _> = from_body(&frame.body, link.limits());
        let within = match self.waiting.lock().as_ref().and_then(|open| open.get(&frame.id)) {
            Some(Waiting::Reply(_, within)) => *within,
            Some(Waiting::Watched(..)) | None => Duration::ZERO,
        };
        self.answered(
            frame.id,
            Err(match failure {
                Ok(failure) => CallError::from_wire(failure, within),
                Err(error) => CallError::NotUnderstood(error.to_string()),
            }),
        );
    }

    fn called(&self, link: &Arc<Link>, frame: &Frame) {
        match from_body::<Call<'_>>(&frame.body, link.limits()) {
            Ok(call) => self.ask(link, frame.id, &call, || frame.body.slice_ref(call.body)),
            Err(error) => {
                let why = CallError::Unsupported(format!("the call: {error}"));
                self.refuse(link, frame.id, &why);
            }
        }
    }

    /// Puts a question to the actor that is served under its name.
    fn ask(&self, link: &Arc<Link>, id: u64, call: &Call<'_>, body: impl FnOnce() -> Bytes) {
        let cancelled = Arc::new(Cancelled::default());
        {
            let mut questions = self.questions.lock();
            let full = questions.len() >= QUESTIONS_MAX || questions.contains_key(&id);
            if full || self.outbox.is_high() {
                drop(questions);
                let why = if full {
                    format!("at most {QUESTIONS_MAX} questions of one node are open")
                } else {
                    "too many answers wait to be read".to_owned()
                };
                self.refuse(link, id, &CallError::Refused(Refusal::Busy(why)));
                return;
            }
            let in_flight = link.take_up_for_peer();
            let open = Open { cancelled: Arc::clone(&cancelled), _in_flight: in_flight };
            questions.insert(id, open);
        }
        let Some(me) = self.me.upgrade() else { return };
        let within = Duration::from_millis(call.within_ms).min(WITHIN_MAX);
        let ticket = Arc::new(Ticket {
            id,
            caller: link.node(),
            deadline: TokioClock.now() + within,
            cancelled,
            answer: me,
            settled: AtomicBool::new(false),
        });
        let limits =
            macula_core::wire::Limits { frame_len_max: link.body_len_max(), ..*link.limits() };
        self.served.ask(call.to, Question { ticket, body: body(), limits });
    }

    fn refuse(&self, link: &Arc<Link>, id: u64, error: &CallError) {
        ::metrics::counter!(metrics::QUESTIONS, "outcome" => error.kind()).increment(1);
        self.put(link, (FAILURE, Flags::default(), id), &error.to_wire(), false);
    }

    /// Sends a frame, or lets it wait for room on the lane.
    fn put<T: Serialize>(&self, link: &Arc<Link>, head: (Kind, Flags, u64), body: &T, ends: bool) {
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
            let open = self.questions.lock().remove(&id);
            drop(open);
        }
    }

    fn is_cancelled(&self, id: u64) -> bool {
        self.questions.lock().get(&id).is_none_or(|open| open.cancelled.is_set())
    }

    /// Sends an answer that is too long for a frame, for as long as its caller waits.
    fn put_long(&self, link: Arc<Link>, id: u64, body: Bytes) {
        let open = self.questions.lock().get(&id).map(|open| Arc::clone(&open.cancelled));
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

    fn watch(&self, link: &Arc<Link>, frame: &Frame) {
        let id = frame.id;
        let watch: Watch = match from_body(&frame.body, link.limits()) {
            Ok(watch) => watch,
            Err(error) => {
                let why = CallError::Unsupported(format!("the watch: {error}"));
                return self.refuse(link, id, &why);
            }
        };
        if self.watches.lock().len() >= WATCHES_MAX {
            let why = format!("at most {WATCHES_MAX} actors are watched by one node");
            return self.refuse(link, id, &CallError::Refused(Refusal::Busy(why)));
        }
        let (incarnation, ended) = match self.served.watch(&watch.to, watch.incarnation) {
            Ok(watched) => watched,
            Err(error) => return self.refuse(link, id, &error),
        };
        self.put(link, (MONITORING, Flags::default(), id), &Watched { incarnation }, false);
        let Some(me) = self.me.upgrade() else { return };
        let mut watches = self.watches.lock();
        let (peer, in_flight) = (Arc::clone(link), link.take_up_for_peer());
        let task = tokio::spawn(async move {
            let reason = ended.await;
            let ended = Ended {
                incarnation,
                kind: reason.as_ref().map(|reason| reason.kind().to_owned()),
                reason: reason.map(|reason| reason.to_string()).unwrap_or_default(),
            };
            me.put(&peer, (DOWN, Flags::default(), id), &ended, false);
            me.watches.lock().remove(&id);
        });
        watches.insert(id, (task.abort_handle(), in_flight));
    }

    fn watched(&self, link: &Link, frame: &Frame) {
        let watched: Result<Watched, _> = from_body(&frame.body, link.limits());
        let mut open = self.waiting.lock();
        if let Some(Waiting::Watched(first, _)) =
            open.as_mut().and_then(|open| open.get_mut(&frame.id))
            && let Some(first) = first.take()
        {
            let answer = watched.map(|watched| watched.incarnation);
            drop(first.send(answer.map_err(|error| CallError::NotUnderstood(error.to_string()))));
        }
    }

    fn down(&self, link: &Link, frame: &Frame) {
        if let Some(Waiting::Watched(_, last)) = self.take(frame.id)
            && let Ok(ended) = from_body::<Ended>(&frame.body, link.limits())
        {
            drop(last.send(ended));
        }
    }
}

/// Why a connection that is over has no answer.
pub(super) fn lost(link: &Link) -> CallError {
    match link.ended() {
        Some(closed) => lost_by(&closed),
        None => CallError::Interrupted(Interruption::ConnectionLost("it is ending".to_owned())),
    }
}

pub(super) fn lost_by(closed: &Closed) -> CallError {
    CallError::Interrupted(Interruption::ConnectionLost(closed.to_string()))
}

impl Session for Calls {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        match frame.kind {
            CALL => self.called(link, &frame),
            REPLY => self.answered(frame.id, Ok(frame.body)),
            FAILURE => self.failed(link, &frame),
            CANCEL => {
                let questions = self.questions.lock();
                let cancelled = questions.get(&frame.id).map(|open| Arc::clone(&open.cancelled));
                drop(questions);
                if let Some(cancelled) = cancelled {
                    cancelled.set();
                }
            }
            MONITOR => self.watch(link, &frame),
            MONITORING => self.watched(link, &frame),
            DEMONITOR => {
                let watched = self.watches.lock().remove(&frame.id);
                if let Some((task, in_flight)) = watched {
                    task.abort();
                    drop(in_flight);
                }
            }
            DOWN => self.down(link, &frame),
            _ => crate::link::unsupported(link, frame.id),
        }
    }

    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, body: Body) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let (id, max) = (about.id, link.body_len_max());
            match about.kind {
                CALL => {
                    let Ok(call) = from_body::<Call<'_>>(&about.body, link.limits()) else {
                        let why = CallError::Unsupported("a call of that form".to_owned());
                        return self.refuse(&link, id, &why);
                    };
                    match body.read(call.bulk_len.unwrap_or_default(), max).await {
                        Ok(body) => self.ask(&link, id, &call, || body),
                        Err(crate::transport::lane::ReadError::TooLong { len, max }) => {
                            let what = "question";
                            self.refuse(&link, id, &CallError::TooLarge { what, len, max });
                        }
                        // The caller has given up, or the connection is over.
                        Err(_gone) => {}
                    }
                }
                REPLY => {
                    let len = from_body::<BulkReply>(&about.body, link.limits());
                    let body = match len {
                        Ok(BulkReply { bulk_len }) => body.read(bulk_len, max).await,
                        Err(_error) => Err(crate::transport::lane::ReadError::Truncated),
                    };
                    self.answered(
                        id,
                        body.map_err(|error| match error {
                            crate::transport::lane::ReadError::TooLong { len, max } => {
                                CallError::TooLarge { what: "answer", len, max }
                            }
                            error => CallError::Interrupted(Interruption::ConnectionLost(
                                error.to_string(),
                            )),
                        }),
                    );
                }
                _ => crate::link::unsupported(&link, id),
            }
        })
    }

    fn unsupported(&self, _link: &Arc<Link>, id: u64) {
        self.answered(id, Err(CallError::Unsupported("calls of this kind".to_owned())));
    }

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        let waiting = self.waiting.lock().take().unwrap_or_default();
        for (_, waiting) in waiting {
            match waiting {
                Waiting::Reply(caller, _) => drop(caller.send(Err(lost(link)))),
                Waiting::Watched(first, last) => {
                    if let Some(first) = first {
                        drop(first.send(Err(lost(link))));
                    }
                    // Whoever watches sees that nobody tells any more.
                    drop(last);
                }
            }
        }
        let questions = std::mem::take(&mut *self.questions.lock());
        questions.into_values().for_each(|open| open.cancelled.set());
        let watches = std::mem::take(&mut *self.watches.lock());
        watches.into_values().for_each(|(task, _)| task.abort());
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Answer for Calls {
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
        ::metrics::counter!(metrics::QUESTIONS, "outcome" => error.kind()).increment(1);
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
