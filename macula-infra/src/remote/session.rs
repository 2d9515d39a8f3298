//! The calls of one connection, both ways.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{EncodeError, Flags, Frame, Kind, from_body};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::error::{CallError, Interruption, Refusal};
use super::reply::{Answer, Cancelled, Encodes, Ticket};
use super::serve::{Question, Served};
use super::wire::{
    BULK, BulkReply, CALL, CANCEL, Call, DEMONITOR, DOWN, Ended, FAILURE, Failure, MONITOR,
    MONITORING, REPLY, Watch, Watched,
};
use super::{FIRST_KIND, metrics};
use crate::link::{InFlight, Link, Service, Session};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane, SendError};

/// How many questions of one peer are open at one time. More are refused.
const QUESTIONS_MAX: usize = 8_192;

/// How many actors one peer watches here at one time. More are refused.
const WATCHES_MAX: usize = 8_192;

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
            if questions.len() >= QUESTIONS_MAX || questions.contains_key(&id) {
                drop(questions);
                let why = format!("at most {QUESTIONS_MAX} questions of one node are open");
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
        self.put(link, (FAILURE, Flags::default(), id), &error.to_wire());
    }

    /// Sends a frame; in a task, once there is room, if the lane is full. What is sent this way is
    /// bounded by the number of open questions.
    fn put<T>(&self, link: &Arc<Link>, head: (Kind, Flags, u64), body: &T)
    where
        T: Serialize + Clone + Send + Sync + 'static,
    {
        if let Err(SendError::Full { .. }) = link.lane(Lane::Rpc).send(head, body) {
            let (link, body) = (Arc::clone(link), body.clone());
            drop(tokio::spawn(async move {
                let lane = link.lane(Lane::Rpc);
                while let Err(SendError::Full { .. }) = lane.send(head, &body) {
                    lane.room().await;
                }
            }));
        }
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
        self.put(link, (MONITORING, Flags::default(), id), &Watched { incarnation });
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
            me.put(&peer, (DOWN, Flags::default(), id), &ended);
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
    let why = link.ended().map_or_else(String::new, |closed| closed.to_string());
    CallError::Interrupted(Interruption::ConnectionLost(why))
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
        let gone = || CallError::Interrupted(Interruption::ConnectionLost(String::new()));
        let link = self.link.upgrade().ok_or_else(gone)?;
        let head = (REPLY, Flags::default(), id);
        match reply.send(link.lane(Lane::Rpc), head) {
            Ok(()) => Ok(()),
            Err(SendError::Closed(_)) => Err(lost(&link)),
            Err(SendError::Full { .. }) => {
                let body = encoded(reply, link.limits().frame_len_max)?;
                drop(tokio::spawn(async move {
                    let lane = link.lane(Lane::Rpc);
                    while let Err(SendError::Full { .. }) = lane.send_raw(head, &body) {
                        lane.room().await;
                    }
                }));
                Ok(())
            }
            Err(SendError::Encode(EncodeError::TooLong { .. })) => {
                let body = encoded(reply, link.body_len_max())?;
                let in_flight = link.take_up_for_peer();
                drop(tokio::spawn(async move {
                    let len = u64::try_from(body.len()).unwrap_or(u64::MAX);
                    let about = BulkReply { bulk_len: len };
                    if let Ok(stream) = link.bulks().open().await {
                        let head = (REPLY, BULK, id);
                        // The connection is over, or the caller does not want it any more.
                        drop(stream.send(head, &about, body, link.limits()).await);
                    }
                    drop(in_flight);
                }));
                Ok(())
            }
            Err(SendError::Encode(error)) => Err(CallError::NotUnderstood(error.to_string())),
        }
    }

    fn fail(&self, id: u64, error: &CallError) {
        ::metrics::counter!(metrics::QUESTIONS, "outcome" => error.kind()).increment(1);
        if let Some(link) = self.link.upgrade() {
            self.put(&link, (FAILURE, Flags::default(), id), &error.to_wire());
        }
    }

    fn done(&self, id: u64) {
        let open = self.questions.lock().remove(&id);
        drop(open);
    }
}

/// A reply as the body of a frame or of a stream of its own.
pub(super) fn encoded(reply: &dyn Encodes, len_max: usize) -> Result<Bytes, CallError> {
    reply.encode(len_max).map_err(|error| match error {
        EncodeError::TooLong { len, max } => CallError::too_large("answer", len, max),
        other => CallError::NotUnderstood(other.to_string()),
    })
}

/// A call's frame, and what becomes of a body that is too long for one.
pub(super) async fn send_call(
    link: &Arc<Link>,
    id: u64,
    call: Call<'_>,
    body: Bytes,
) -> Result<(), CallError> {
    let head = (CALL, Flags::default(), id);
    let inline = Call { body: serde_bytes::Bytes::new(&body), ..call };
    let lane = link.lane(Lane::Rpc);
    loop {
        match lane.send(head, &inline) {
            Ok(()) => return Ok(()),
            Err(SendError::Full { .. }) => lane.room().await,
            Err(SendError::Closed(_)) => return Err(lost(link)),
            Err(SendError::Encode(EncodeError::TooLong { .. })) => break,
            Err(SendError::Encode(error)) => return Err(CallError::Unsupported(error.to_string())),
        }
    }
    let about = Call { bulk_len: u64::try_from(body.len()).ok(), ..call };
    let stream = link.bulks().open().await.map_err(|_closed| lost(link))?;
    let sent = stream.send((CALL, BULK, id), &about, body, link.limits()).await;
    sent.map_err(|_closed| lost(link))
}
