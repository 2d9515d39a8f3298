//! One end of a stream, and its way to the other.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::wire::{Flags, Kind, Limits, from_body, to_body};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use super::session::Streams;
use super::wire::{BACK, CREDIT, Credit, END, End, FINISH, ITEM, RESET};
use crate::link::{InFlight, Link};
use crate::remote::{Answer, CallError, Cancelled, Encodes, Interruption, lost_by};
use crate::rpc::proto::flow::{Next, Side, Unsent, WINDOW};
use crate::transport::CloseCode;
use crate::transport::lane::{Lane, SendError};

/// The longest control message of a stream, in bytes.
const CONTROL_LEN_MAX: usize = 16 * 1024;

/// The way to the other end.
pub(super) enum Way {
    /// Over a connection, which is not let go of before the stream has ended.
    Link(InFlight),
    /// It is on this node. It is set once there is one.
    Here(Mutex<Weak<Ends>>),
}

/// One end.
pub(super) struct Ends {
    id: u64,
    /// Whether this end has opened the stream.
    is_opener: bool,
    side: Mutex<Side<CallError>>,
    /// Rung at whatever changes.
    bell: Notify,
    way: Way,
    pub(super) deadline: Instant,
    pub(super) within: Duration,
    /// Told when the caller does not want it any more.
    pub(super) cancelled: Arc<Cancelled>,
}

impl Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = self.side.lock();
        f.debug_struct("Ends").field("id", &self.id).field("end", &side.end()).finish()
    }
}

/// What an end is made of.
pub(super) struct Parts {
    pub(super) id: u64,
    pub(super) is_opener: bool,
    pub(super) side: Side<CallError>,
    pub(super) way: Way,
    pub(super) deadline: Instant,
    pub(super) within: Duration,
}

impl Ends {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts { id, is_opener, side, way, deadline, within } = parts;
        Arc::new(Self {
            id,
            is_opener,
            side: Mutex::new(side),
            bell: Notify::new(),
            way,
            deadline,
            within,
            cancelled: Arc::default(),
        })
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Joins the two ends of a stream on this node.
    pub(super) fn join(one: &Arc<Self>, other: &Arc<Self>) {
        for (from, to) in [(one, other), (other, one)] {
            if let Way::Here(way) = &from.way {
                *way.lock() = Arc::downgrade(to);
            }
        }
    }

    /// How long an item may be.
    fn item_len_max(&self) -> usize {
        match &self.way {
            Way::Link(in_flight) => in_flight.link().limits().frame_len_max,
            Way::Here(_) => Limits::default().frame_len_max,
        }
    }

    /// Sends a frame now, if there is room for it.
    fn try_put(&self, kind: Kind, body: &Bytes) -> Result<(), SendError> {
        match &self.way {
            Way::Link(in_flight) => {
                let flags = if self.is_opener { Flags::default() } else { BACK };
                in_flight.link().lane(Lane::Rpc).send_raw((kind, flags, self.id), body)
            }
            Way::Here(way) => {
                let other = way.lock().upgrade();
                if let Some(other) = other {
                    other.frame(kind, body);
                }
                Ok(())
            }
        }
    }

    /// Waits until there may be room for a frame.
    async fn room(&self) {
        if let Way::Link(in_flight) = &self.way {
            in_flight.link().lane(Lane::Rpc).room().await;
        }
    }

    /// Sends a frame that is not to be lost: later, if there is no room for it now.
    fn put<T: Serialize>(self: &Arc<Self>, kind: Kind, body: &T) {
        // What is sent here is bounded, and so always has room in a frame.
        let Ok(body) = to_body(body, CONTROL_LEN_MAX) else { return };
        if matches!(self.try_put(kind, &body), Err(SendError::Full { .. }))
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let ends = Arc::clone(self);
            drop(runtime.spawn(async move {
                while let Err(SendError::Full { .. }) = ends.try_put(kind, &body) {
                    ends.room().await;
                }
            }));
        }
    }

    /// Something has come from the other end.
    pub(super) fn frame(self: &Arc<Self>, kind: Kind, body: &Bytes) {
        let limits = Limits::for_body(CONTROL_LEN_MAX);
        let is_legal = match kind {
            ITEM => self.side.lock().arrived(body.clone()).is_ok(),
            CREDIT => {
                let credit = from_body::<Credit>(body, &limits);
                credit.map(|credit| self.side.lock().granted(credit.into())).is_ok()
            }
            FINISH => {
                self.side.lock().finished();
                true
            }
            END => {
                let end = match from_body::<End>(body, &limits) {
                    Ok(End { failure: None }) => Ok(()),
                    Ok(End { failure: Some(why) }) => Err(CallError::from_wire(why, self.within)),
                    Err(error) => Err(CallError::NotUnderstood(error.to_string())),
                };
                self.end(end);
                true
            }
            RESET => {
                self.end(Err(CallError::TimedOut { within: self.within }));
                self.cancelled.set();
                true
            }
            _ => true,
        };
        if !is_legal {
            self.broken();
        }
        self.bell.notify_waiters();
    }

    /// The other end does not keep to the protocol.
    fn broken(&self) {
        if let Way::Link(in_flight) = &self.way {
            let node = in_flight.link().node().short();
            tracing::warn!(node, "a peer sends more on a stream than it may");
            in_flight.link().close(CloseCode::Protocol);
        }
    }

    /// The stream has ended here; true if it had not before.
    pub(super) fn end(&self, end: Result<(), CallError>) -> bool {
        let is_first = self.side.lock().ended(end);
        self.bell.notify_waiters();
        is_first
    }

    /// The connection is over.
    pub(super) fn lost(&self, link: &Link) {
        let why = link.ended().map_or_else(
            || CallError::Interrupted(Interruption::Dropped),
            |closed| lost_by(&closed),
        );
        self.end(Err(why));
        self.cancelled.set();
    }

    /// Takes a stream: the other end may send.
    pub(super) fn accept(self: &Arc<Self>) {
        self.put(CREDIT, &Credit::from(WINDOW));
    }

    /// Waits until the other end has taken the stream.
    pub(super) async fn accepted(self: &Arc<Self>) -> Result<(), CallError> {
        self.turn(|side| match (side.end(), side.is_accepted()) {
            (Some(Err(why)), _) => Some(Err(why.clone())),
            (Some(Ok(())), _) | (None, true) => Some(Ok(())),
            (None, false) => None,
        })
        .await
    }

    /// Sends an item, once it may be sent.
    pub(super) async fn send<T: Serialize>(self: &Arc<Self>, item: &T) -> Result<(), CallError> {
        let item = crate::remote::encode(item, self.item_len_max()).map_err(as_item)?;
        loop {
            self.turn(|side| match side.send(item.len()) {
                Ok(()) => Some(Ok(())),
                Err(Unsent::Over(Err(why))) => Some(Err(why)),
                Err(Unsent::Over(Ok(()))) => Some(Err(CallError::Interrupted(Interruption::Ended))),
                Err(Unsent::NotNow) => None,
            })
            .await?;
            match self.try_put(ITEM, &item) {
                Ok(()) => return Ok(()),
                Err(SendError::Closed(closed)) => return Err(lost_by(&closed)),
                Err(SendError::Encode(error)) => {
                    return Err(CallError::Unsupported(error.to_string()));
                }
                Err(SendError::Full { .. }) => {
                    self.side.lock().unsend(item.len());
                    let room = tokio::time::timeout_at(self.deadline.into(), self.room());
                    room.await.map_err(|_elapsed| self.out_of_time())?;
                }
            }
        }
    }

    /// The next item; none if there will be none.
    pub(super) async fn next(self: &Arc<Self>) -> Result<Option<Bytes>, CallError> {
        let next = self.turn(|side| match side.next() {
            Next::Item(item, grant) => Some(Ok(Some((item, grant)))),
            Next::Over(end) => Some(end.map(|()| None)),
            Next::Nothing => None,
        });
        let Some((item, grant)) = next.await? else { return Ok(None) };
        if let Some(grant) = grant {
            self.put(CREDIT, &Credit::from(grant));
        }
        Ok(Some(item))
    }

    /// Waits until `look` finds something, or the time of the stream is over.
    async fn turn<T>(
        self: &Arc<Self>,
        mut look: impl FnMut(&mut Side<CallError>) -> Option<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let waiting = async {
            loop {
                let bell = self.bell.notified();
                tokio::pin!(bell);
                bell.as_mut().enable();
                let found = look(&mut self.side.lock());
                if let Some(found) = found {
                    return found;
                }
                bell.await;
            }
        };
        let found = tokio::time::timeout_at(self.deadline.into(), waiting).await;
        found.unwrap_or_else(|_elapsed| Err(self.out_of_time()))
    }

    fn out_of_time(self: &Arc<Self>) -> CallError {
        let over = CallError::TimedOut { within: self.within };
        if self.end(Err(over.clone())) && self.is_opener {
            self.put(RESET, &());
        }
        over
    }

    /// This end sends no more.
    pub(super) fn finish(self: &Arc<Self>) {
        if self.is_opener && self.side.lock().finish() {
            self.put(FINISH, &());
        }
    }

    /// A half of this end was dropped: whoever opened the stream does not want it any more.
    pub(super) fn give_up(self: &Arc<Self>) {
        if self.is_opener && self.end(Err(CallError::Interrupted(Interruption::Dropped))) {
            self.put(RESET, &());
        }
    }

    /// How it ended, if it has.
    pub(super) fn is_over(&self) -> bool {
        self.side.lock().end().is_some()
    }
}

/// An item that is too long, named so.
fn as_item(error: CallError) -> CallError {
    match error {
        CallError::TooLarge { len, max, .. } => CallError::TooLarge { what: "item", len, max },
        error => error,
    }
}

/// The end that serves a stream, as the one that answers to it.
pub(super) struct Serving {
    pub(super) ends: Arc<Ends>,
    /// What has the stream until it has ended; none if it is on this node.
    pub(super) streams: Option<Weak<Streams>>,
}

impl Serving {
    fn tell(&self, end: Result<(), CallError>) {
        let failure = end.as_ref().err().map(CallError::to_wire);
        self.ends.end(end);
        self.ends.put(END, &End { failure });
        if let Some(streams) = self.streams.as_ref().and_then(Weak::upgrade) {
            streams.over(self.ends.id());
        }
    }
}

impl Answer for Serving {
    fn reply(&self, _id: u64, _reply: &dyn Encodes) -> Result<(), CallError> {
        self.tell(Ok(()));
        Ok(())
    }

    fn fail(&self, _id: u64, error: &CallError) {
        self.tell(Err(error.clone()));
    }
}
