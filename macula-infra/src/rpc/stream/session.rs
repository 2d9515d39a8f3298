//! The streams of one connection, both ways.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{Frame, Kind, from_body, to_body};
use parking_lot::Mutex;

use super::ends::{Ends, Parts, Serving, Way};
use super::wire::{BACK, END, End, OPEN, Open};
use super::{Accepting, FIRST_KIND, Opening};
use crate::link::{Link, Service, Session};
use crate::remote::{
    CallError, Headers, Refusal, Served, Ticket, TicketParts, Unavailability, WITHIN_MAX,
};
use crate::rpc::proto::flow::Side;
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};

/// How many streams that one peer has opened are open at one time. More are refused.
const STREAMS_MAX: usize = 1_024;

/// Makes the sessions of streams.
#[derive(Debug, Clone)]
pub(crate) struct StreamService(pub(crate) Served);

impl Service for StreamService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, _link: &Arc<Link>) -> Arc<dyn Session> {
        Arc::new_cyclic(|me| Streams {
            me: me.clone(),
            served: self.0.clone(),
            numbers: AtomicU64::new(1),
            opened: Mutex::default(),
            accepted: Mutex::default(),
        })
    }
}

/// The streams of one connection.
pub(super) struct Streams {
    me: Weak<Self>,
    served: Served,
    numbers: AtomicU64,
    /// Those that this node has opened. Whoever uses one has it; it is forgotten with them.
    opened: Mutex<BTreeMap<u64, Weak<Ends>>>,
    /// Those that the peer has opened.
    accepted: Mutex<BTreeMap<u64, Arc<Ends>>>,
}

impl Streams {
    pub(super) fn next_id(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A stream that this node opens: what comes for it reaches it from now on.
    pub(super) fn expect(&self, link: &Link, ends: &Arc<Ends>) -> Result<(), CallError> {
        let mut opened = self.opened.lock();
        if let Some(closed) = link.ended() {
            return Err(crate::remote::unsent(&closed));
        }
        opened.insert(ends.id(), Arc::downgrade(ends));
        Ok(())
    }

    /// Nobody uses a stream that this node has opened any more.
    pub(super) fn forget(&self, id: u64) {
        self.opened.lock().remove(&id);
    }

    /// A stream that the peer has opened is over.
    pub(super) fn over(&self, id: u64) {
        let over = self.accepted.lock().remove(&id);
        drop(over);
    }

    /// The peer opens a stream.
    fn open(&self, link: &Arc<Link>, frame: &Frame) {
        let open: Open<'_> = match from_body(&frame.body, link.limits()) {
            Ok(open) => open,
            Err(error) => {
                let why = CallError::Unsupported(format!("the stream: {error}"));
                return refuse(link, frame.id, &why);
            }
        };
        match self.take(link, frame.id, &open) {
            Ok((accepting, opening)) => accepting.0.take(opening),
            Err(why) => refuse(link, frame.id, &why),
        }
    }

    fn take(
        &self,
        link: &Arc<Link>,
        id: u64,
        open: &Open<'_>,
    ) -> Result<(Arc<Accepting>, Opening), CallError> {
        self.served.may_ask(link.peer(), open.to)?;
        let accepting = accepting(&self.served, open.to)?;
        let within = Duration::from_millis(open.within_ms).min(WITHIN_MAX);
        let deadline = TokioClock.now() + within;
        let side = Side::new(Some(open.credit.into()));
        let way = Way::Link(link.take_up_for_peer());
        let ends = Ends::new(Parts { id, is_opener: false, side, way, deadline, within });
        {
            let mut accepted = self.accepted.lock();
            if accepted.len() >= STREAMS_MAX || accepted.contains_key(&id) {
                let why = format!("at most {STREAMS_MAX} streams of one node are open");
                return Err(CallError::Refused(Refusal::Busy(why)));
            }
            accepted.insert(id, Arc::clone(&ends));
        }
        let headers = open.headers.as_deref().cloned().unwrap_or_default();
        let opening = opening(ends, link.node(), headers, Some(self.me.clone()));
        Ok((accepting, opening))
    }
}

/// Who accepts the streams to a name.
pub(super) fn accepting(served: &Served, name: &str) -> Result<Arc<Accepting>, CallError> {
    let not_served = || CallError::Unavailable(Unavailability::NotServed(name.to_owned()));
    let answerer: Arc<dyn Any + Send + Sync> = served.answerer(name).ok_or_else(not_served)?;
    let is_none = |_| CallError::Unsupported(format!("{name:?} takes questions, and no streams"));
    answerer.downcast::<Accepting>().map_err(is_none)
}

/// What a handler gets of a stream.
pub(super) fn opening(
    ends: Arc<Ends>,
    caller: macula_core::identity::NodeId,
    headers: Headers,
    streams: Option<Weak<Streams>>,
) -> Opening {
    let ticket = Ticket::new(TicketParts {
        id: ends.id(),
        caller,
        within: ends.within,
        deadline: ends.deadline,
        headers,
        cancelled: Arc::clone(&ends.cancelled),
        answer: Arc::new(Serving { ends: Arc::clone(&ends), streams }),
    });
    Opening { ticket: Arc::new(ticket), ends }
}

fn refuse(link: &Arc<Link>, id: u64, why: &CallError) {
    let end = End { failure: Some(why.to_wire()) };
    // If the lane is full the caller waits until its time is over, which is all that is lost.
    if let Ok(body) = to_body(&end, link.limits().frame_len_max) {
        drop(link.lane(Lane::Rpc).send_raw((END, BACK, id), &body));
    }
}

impl Session for Streams {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        if frame.kind == OPEN {
            return self.open(link, &frame);
        }
        let ends = if frame.flags.contains(BACK) {
            self.opened.lock().get(&frame.id).and_then(Weak::upgrade)
        } else {
            self.accepted.lock().get(&frame.id).cloned()
        };
        // What comes for a stream that is over is late.
        if let Some(ends) = ends {
            ends.frame(frame.kind, &frame.body);
        }
    }

    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, _body: Body) -> BoxFuture<'static, ()> {
        crate::link::unsupported(&link, &about);
        Box::pin(std::future::ready(()))
    }

    fn unsupported(&self, _link: &Arc<Link>, kind: Kind, id: u64) {
        let ends = self.opened.lock().get(&id).and_then(Weak::upgrade);
        if let Some(ends) = ends.filter(|_| kind == OPEN) {
            ends.end(Err(CallError::Unsupported("streams".to_owned())));
        }
    }

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        let opened = std::mem::take(&mut *self.opened.lock());
        let opened = opened.into_values().filter_map(|ends| ends.upgrade());
        let accepted = std::mem::take(&mut *self.accepted.lock());
        opened.chain(accepted.into_values()).for_each(|ends| ends.lost(link));
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
