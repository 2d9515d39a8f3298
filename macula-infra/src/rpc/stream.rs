//! Streams: many items one way, the other, or both.
//!
//! Whoever [opens](Rpc::open) a stream sends items until it [finishes](StreamSender::finish) and
//! reads items until there are none. The handler does the same; when it returns, the stream has
//! ended on both sides, with its result. A side sends no more than 64 items or 256 KiB ahead of what
//! the other has read, so whoever reads slowly slows down this stream and nothing else.
//!
//! An item is one frame, of at most `transport.frame_len_max` bytes (64 KiB if nothing else is said).
//! A longer one is refused with [`CallError::TooLarge`], which says how long it may be, and the stream
//! goes on: whoever has more to say sends it in parts, or calls with it.
//!
//! Whoever opened the stream and drops one of its ends has given it up: its handler is dropped.

mod ends;
mod session;
mod wire;

use std::fmt::{Debug, Display};
use std::marker::PhantomData;
use std::sync::Arc;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::supervision::Tasks;
use macula_core::topic::Topic;
use macula_core::wire::{Flags, to_body};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Ground;
use super::handler::{Turns, Work};
use super::options::{CallOptions, Options};
use super::proto::flow::{Side, WINDOW};
use super::{Advertised, Rpc, metrics};
use crate::remote::{
    Answerer, CallError, Context, Question, Refusal, ServeError, Ticket, decode, respond,
};
use crate::transport::lane::{Lane, SendError};
use ends::{Ends, Parts, Way};
pub(crate) use session::StreamService;
use session::{Streams, accepting, opening};
use wire::{OPEN, Open};

/// The first of the kinds of frames that belong to streams.
pub(crate) const FIRST_KIND: u8 = 0x40;

/// A stream that was asked for.
struct Opening {
    ticket: Arc<Ticket>,
    ends: Arc<Ends>,
}

impl Work for Opening {
    fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }
}

/// What accepts streams to one procedure.
struct Accepting(Arc<Turns<Opening>>);

impl Answerer for Accepting {
    fn ask(&self, question: Question) {
        let why = "it takes streams, and no questions";
        question.ticket.turn_down(&CallError::Unsupported(why.to_owned()));
    }
}

/// What accepts streams for an async function.
fn handler<Q, R, E, F>(
    tasks: Tasks,
    options: &Options,
    handler: impl Fn(StreamReceiver<Q>, StreamSender<R>, Context) -> F + Send + Sync + 'static,
) -> Arc<dyn Answerer>
where
    Q: 'static,
    R: 'static,
    E: Display + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    Arc::new(Accepting(Turns::new(tasks, options, move |opening: Opening| {
        let handler = Arc::clone(&handler);
        async move {
            let Opening { ticket, ends } = opening;
            ends.accept();
            let (sender, receiver) = halves(&ends, None);
            respond(&ticket, |context| handler(receiver, sender, context)).await;
        }
    })))
}

/// Both halves of one end of a stream.
fn halves<Q, R>(ends: &Arc<Ends>, opened: Option<Opened>) -> (StreamSender<Q>, StreamReceiver<R>) {
    let opened = opened.map(Arc::new);
    let half = || Half { ends: Arc::clone(ends), is_done: false, _opened: opened.clone() };
    let sender = StreamSender { half: half(), _items: PhantomData };
    (sender, StreamReceiver { half: half(), _items: PhantomData })
}

/// A stream that this node has opened over a connection, which is forgotten with its halves.
struct Opened {
    link: Arc<crate::link::Link>,
    id: u64,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(streams) = self.link.session::<Streams>(FIRST_KIND) {
            streams.forget(self.id);
        }
    }
}

/// Half of one end: dropped before it is done, it gives the stream up, if this side has opened it.
struct Half {
    ends: Arc<Ends>,
    is_done: bool,
    _opened: Option<Arc<Opened>>,
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.is_done {
            self.ends.give_up();
        }
    }
}

/// Sends the items of one side of a stream.
#[must_use = "whoever drops it before it has finished gives the stream up"]
pub struct StreamSender<T> {
    half: Half,
    _items: PhantomData<fn(T)>,
}

/// Reads the items of the other side of a stream.
#[must_use = "whoever drops it gives the stream up"]
pub struct StreamReceiver<T> {
    half: Half,
    _items: PhantomData<fn() -> T>,
}

impl<T> Debug for StreamSender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamSender").field(&self.half.ends).finish()
    }
}

impl<T> Debug for StreamReceiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StreamReceiver").field(&self.half.ends).finish()
    }
}

impl<T: Serialize + Sync> StreamSender<T> {
    /// Sends an item, and waits while the other side has not read enough of those before.
    ///
    /// # Errors
    ///
    /// [`CallError`]: how the stream ended; or [`CallError::TooLarge`] for an item that is longer than
    /// a frame: it was not sent, and the stream goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the item was not sent.
    pub async fn send(&mut self, item: &T) -> Result<(), CallError> {
        self.half.ends.send(item).await
    }
}

impl<T> StreamSender<T> {
    /// Says that there are no more items. The other side may go on sending. A handler need not say
    /// it: what it returns ends the stream.
    pub fn finish(mut self) {
        self.half.is_done = true;
        self.half.ends.finish();
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.half.ends.is_over()
    }
}

impl<T: DeserializeOwned> StreamReceiver<T> {
    /// The next item; none once the other side has said that there are no more, or the stream has
    /// ended well. What has come is read before the end.
    ///
    /// # Errors
    ///
    /// [`CallError`]: how the stream ended, or that the item is of another type.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        let item = self.half.ends.next().await?;
        item.map(|item| decode(&item, item.len())).transpose()
    }
}

impl Rpc {
    /// Provides a procedure that is called by streams, by a function. It runs and ends as those of
    /// [`advertise`](Self::advertise) do; its result is the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing changed.
    pub fn advertise_stream<Q, R, E, F>(
        &self,
        topic: &Topic,
        options: &Options,
        function: impl Fn(StreamReceiver<Q>, StreamSender<R>, Context) -> F + Send + Sync + 'static,
    ) -> Result<Advertised, ServeError>
    where
        Q: 'static,
        R: 'static,
        E: Display + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.put(topic, options, handler(self.0.tasks.clone(), options, function))
    }

    /// Opens a stream to whoever provides a procedure: it is sent `Q` and sends `R`. The options hold
    /// for all of the stream, until its end.
    ///
    /// # Errors
    ///
    /// [`CallError`], as of [`call`](Self::call): nobody has taken the stream.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the handler is dropped as well, if one has begun.
    pub async fn open<Q, R>(
        &self,
        topic: &Topic,
        options: &CallOptions,
    ) -> Result<(StreamSender<Q>, StreamReceiver<R>), CallError> {
        let opened = self.open_any(topic, options).await;
        let outcome = opened.as_ref().map_or_else(CallError::kind, |_| "opened");
        ::metrics::counter!(metrics::STREAMS, "outcome" => outcome).increment(1);
        opened
    }

    async fn open_any<Q, R>(
        &self,
        topic: &Topic,
        options: &CallOptions,
    ) -> Result<(StreamSender<Q>, StreamReceiver<R>), CallError> {
        let ground = self.ground(topic, options).await?;
        // A second stream would be a second handler.
        let options = CallOptions { hedges: false, ..options.clone() };
        let attempt = |node, left| -> futures_util::future::BoxFuture<'_, _> {
            Box::pin(self.open_at(node, left, &ground))
        };
        Box::pin(self.drive(&ground, &options, attempt)).await
    }

    async fn open_at<Q, R>(
        &self,
        node: NodeId,
        left: usize,
        ground: &Ground,
    ) -> Result<(StreamSender<Q>, StreamReceiver<R>), CallError> {
        let beginning = self.begin(node, left, ground);
        let opened = tokio::time::timeout_at(ground.deadline.into(), beginning).await;
        let no_room = |_elapsed| {
            let why = format!("the way to {} has no room, and nothing was sent", node.short());
            Err(CallError::Refused(Refusal::Busy(why)))
        };
        let opened = opened.unwrap_or_else(no_room);
        if let Err(error) = &opened {
            self.0.names.learn(&ground.name, node, error);
        }
        let (sender, receiver) = opened?;
        if let Err(error) = sender.half.ends.accepted().await {
            self.0.names.learn(&ground.name, node, &error);
            return Err(error);
        }
        Ok((sender, receiver))
    }

    /// Asks one node for a stream.
    async fn begin<Q, R>(
        &self,
        node: NodeId,
        left: usize,
        ground: &Ground,
    ) -> Result<(StreamSender<Q>, StreamReceiver<R>), CallError> {
        let calling = self.0.names.calling();
        let (deadline, within) = (ground.deadline, ground.within);
        let parts =
            |id, way| Parts { id, is_opener: true, side: Side::new(None), way, deadline, within };
        if node == calling.node() {
            calling.served.may_i_ask(&ground.name)?;
            let accepting = accepting(&calling.served, &ground.name)?;
            let way = || Way::Here(parking_lot::Mutex::default());
            let ends = Ends::new(parts(0, way()));
            let side = Side::new(Some(WINDOW));
            let there = Ends::new(Parts { is_opener: false, side, ..parts(0, way()) });
            Ends::join(&ends, &there);
            accepting.0.take(opening(there, node, ground.headers.clone(), None));
            return Ok(halves(&ends, None));
        }
        self.0.names.connected(node, left, &ground.name, deadline).await?;
        let in_flight = calling.link(node).await?;
        let link = Arc::clone(in_flight.link());
        let unsupported = || CallError::Unsupported("streams".to_owned());
        let streams = link.session::<Streams>(FIRST_KIND).ok_or_else(unsupported)?;
        let ends = Ends::new(parts(streams.next_id(), Way::Link(in_flight)));
        streams.expect(&link, &ends)?;
        let id = ends.id();
        let halves = halves(&ends, Some(Opened { link: Arc::clone(&link), id }));
        let left = deadline.saturating_duration_since(TokioClock.now());
        let within_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let headers =
            (!ground.headers.is_empty()).then_some(std::borrow::Cow::Borrowed(&ground.headers));
        let open = Open { to: &ground.name, within_ms, credit: WINDOW.into(), headers };
        let body = to_body(&open, link.limits().frame_len_max);
        let body = body.map_err(|error| CallError::Unsupported(error.to_string()))?;
        while let Err(error) = link.lane(Lane::Rpc).send_raw((OPEN, Flags::default(), id), &body) {
            match error {
                SendError::Full { .. } => link.lane(Lane::Rpc).room().await,
                SendError::Closed(closed) => return Err(crate::remote::unsent(&closed)),
                SendError::Encode(error) => return Err(CallError::Unsupported(error.to_string())),
            }
        }
        Ok(halves)
    }
}
