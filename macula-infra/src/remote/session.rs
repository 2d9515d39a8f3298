//! The calls of one connection, both ways.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use macula_core::wire::{Flags, Frame, Kind, from_body};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::FIRST_KIND;
use super::error::{CallError, Interruption, Refusal, Unavailability};
use super::questions::Questions;
use super::serve::Served;
use super::wire::{
    BulkReply, CALL, CANCEL, DEMONITOR, DOWN, Ended, FAILURE, Failure, MONITOR, MONITORING, REPLY,
    Watch, Watched,
};
use crate::link::{InFlight, Link, Service, Session};
use crate::transport::lane::{Body, Lane, ReadError};
use crate::transport::{CloseCode, Closed};

/// How many actors one peer watches here at one time. More are refused.
const WATCHES_MAX: usize = 8_192;

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
            served: self.0.clone(),
            numbers: AtomicU64::new(1),
            waiting: Mutex::default(),
            questions: Questions::new(link, self.0.clone()),
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

/// The calls of one connection.
pub(super) struct Calls {
    me: Weak<Self>,
    served: Served,
    numbers: AtomicU64,
    /// What this node waits for; none once the connection is over.
    waiting: Mutex<Option<BTreeMap<u64, Waiting>>>,
    /// What this node was asked.
    questions: Arc<Questions>,
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
        if let Some(closed) = link.ended() {
            return Err(unsent(&closed));
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

    /// Reads an answer on a stream of its own, for as long as its caller waits.
    async fn answered_long(&self, link: &Link, about: &Frame, body: Body) {
        let Some(Waiting::Reply(mut caller, _)) = self.take(about.id) else { return };
        let answer = match from_body::<BulkReply>(&about.body, link.limits()) {
            Ok(BulkReply { bulk_len }) => tokio::select! {
                body = body.read(bulk_len, link.body_len_max()) => body,
                () = caller.closed() => return,
            },
            Err(_error) => Err(ReadError::Truncated),
        };
        // A caller that has given up needs no answer.
        drop(caller.send(answer.map_err(|error| match error {
            ReadError::TooLong { len, max } => CallError::TooLarge { what: "answer", len, max },
            ReadError::Closed(closed) => lost_by(&closed),
            _ => CallError::Interrupted(Interruption::Dropped),
        })));
    }

    fn watch(&self, link: &Arc<Link>, frame: &Frame) {
        let id = frame.id;
        let watch: Watch = match from_body(&frame.body, link.limits()) {
            Ok(watch) => watch,
            Err(error) => {
                let why = CallError::Unsupported(format!("the watch: {error}"));
                return self.questions.refuse(link, id, &why);
            }
        };
        if self.watches.lock().len() >= WATCHES_MAX {
            let why = format!("at most {WATCHES_MAX} actors are watched by one node");
            return self.questions.refuse(link, id, &CallError::Refused(Refusal::Busy(why)));
        }
        let watched = self
            .served
            .may_ask(link.peer(), &watch.to)
            .and_then(|()| self.served.watch(&watch.to, watch.incarnation));
        let (incarnation, ended) = match watched {
            Ok(watched) => watched,
            Err(error) => return self.questions.refuse(link, id, &error),
        };
        self.questions.put(
            link,
            (MONITORING, Flags::default(), id),
            &Watched { incarnation },
            false,
        );
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
            me.questions.put(&peer, (DOWN, Flags::default(), id), &ended, false);
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

pub(crate) fn lost_by(closed: &Closed) -> CallError {
    match closed {
        Closed::There(CloseCode::Unread) => unsent(closed),
        closed => CallError::Interrupted(Interruption::ConnectionLost(closed.to_string())),
    }
}

/// A connection had ended before anything of the question was on it.
pub(crate) fn unsent(closed: &Closed) -> CallError {
    CallError::Unavailable(Unavailability::Unreachable(closed.to_string()))
}

impl Session for Calls {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        match frame.kind {
            CALL => self.questions.called(link, &frame),
            REPLY => self.answered(frame.id, Ok(frame.body)),
            FAILURE => self.failed(link, &frame),
            CANCEL => self.questions.cancel(frame.id),
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
            _ => crate::link::unsupported(link, &frame),
        }
    }

    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, body: Body) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match about.kind {
                CALL => self.questions.called_long(link, about, body).await,
                REPLY => self.answered_long(&link, &about, body).await,
                _ => crate::link::unsupported(&link, &about),
            }
        })
    }

    fn unsupported(&self, _link: &Arc<Link>, kind: Kind, id: u64) {
        // The others of its frames have the peer's ids, or ids of what has ended.
        if matches!(kind, CALL | MONITOR) {
            self.answered(id, Err(CallError::Unsupported("calls of this kind".to_owned())));
        }
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
        self.questions.close();
        let watches = std::mem::take(&mut *self.watches.lock());
        watches.into_values().for_each(|(task, _)| task.abort());
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
