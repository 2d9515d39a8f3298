//! The sending end of a lane.

use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::wire::{
    EncodeError, Flags, HEADER_LEN, Header, Kind, Limits, encode_frame, encode_raw,
};
use parking_lot::{Mutex, MutexGuard};
use s2n_quic::stream::SendStream;
use serde::Serialize;
use tokio::sync::Notify;

use super::Lane;
use super::reader::ReadError;
use crate::transport::connection::{Closed, Opener};

/// A lane that was written to this recently is under load.
const LOADED: Duration = Duration::from_micros(25);

/// How much room a lane's buffer begins with, in bytes.
const BUFFER: usize = 4 * 1024;

/// Why a lane did not take a frame. Nothing was sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// As much as the bound already waits.
    #[error("the lane is full ({len} bytes wait, at most {max} may)")]
    Full {
        /// How many bytes wait.
        len: usize,
        /// How many may.
        max: usize,
    },
    /// The connection has ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The frame cannot be made.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// How a lane is written.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    /// What frames are held to.
    pub limits: Limits,
    /// How many bytes wait at most.
    pub len_max: usize,
    /// Each frame has a write of its own.
    pub is_apart: bool,
}

/// The sending end of a lane. Clones are the same.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

struct Shared {
    lane: Lane,
    opener: Arc<Opener>,
    writing: Writing,
    queue: Mutex<Queue>,
    room: Notify,
}

struct Queue {
    pending: BytesMut,
    stream: State,
    written: Option<Instant>,
}

/// Where the stream is.
enum State {
    /// Not opened yet.
    Unopened,
    /// Here, and nobody writes.
    Idle(SendStream),
    /// With somebody who writes, and will look for more.
    Busy,
    /// It has ended.
    Closed(Closed),
}

impl Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("lane", &self.0.lane).finish_non_exhaustive()
    }
}

impl Sender {
    /// The lane of a connection that is opened at its first frame.
    pub(crate) fn new(opener: Arc<Opener>, lane: Lane, writing: Writing) -> Self {
        Self::with(opener, lane, writing, State::Unopened)
    }

    /// A lane whose stream is open.
    pub(crate) fn opened(
        opener: Arc<Opener>,
        lane: Lane,
        writing: Writing,
        stream: SendStream,
    ) -> Self {
        Self::with(opener, lane, writing, State::Idle(stream))
    }

    fn with(opener: Arc<Opener>, lane: Lane, writing: Writing, stream: State) -> Self {
        let queue = Mutex::new(Queue { pending: BytesMut::new(), stream, written: None });
        Self(Arc::new(Shared { lane, opener, writing, queue, room: Notify::new() }))
    }

    /// Sends a frame, and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was sent.
    pub fn send<T: Serialize + ?Sized>(
        &self,
        (kind, flags, id): (Kind, Flags, u64),
        body: &T,
    ) -> Result<(), SendError> {
        self.put(|pending, limits| encode_frame(pending, kind, flags, id, body, limits))
    }

    /// Sends a frame whose body is encoded already.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_raw(
        &self,
        (kind, flags, id): (Kind, Flags, u64),
        body: &[u8],
    ) -> Result<(), SendError> {
        self.put(|pending, limits| encode_raw(pending, kind, flags, id, body, limits))
    }

    /// Waits until the lane has room, or has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn room(&self) {
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Whether the lane has room, or has ended.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let queue = self.0.queue.lock();
        queue.pending.len() < self.0.writing.len_max || matches!(queue.stream, State::Closed(_))
    }

    fn put(
        &self,
        encode: impl FnOnce(&mut BytesMut, &Limits) -> Result<usize, EncodeError>,
    ) -> Result<(), SendError> {
        let shared = &self.0;
        let mut queue = shared.queue.lock();
        if let State::Closed(closed) = &queue.stream {
            return Err(closed.clone().into());
        }
        if queue.pending.len() >= shared.writing.len_max {
            return Err(SendError::Full { len: queue.pending.len(), max: shared.writing.len_max });
        }
        if queue.pending.capacity() == 0 {
            queue.pending.reserve(BUFFER);
        }
        encode(&mut queue.pending, &shared.writing.limits)?;
        shared.kick(queue);
        Ok(())
    }
}

impl Shared {
    /// Makes sure that what waits is written: here and now, or by a task.
    fn kick(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        match std::mem::replace(&mut queue.stream, State::Busy) {
            State::Idle(mut stream) => {
                let now = TokioClock.now();
                let loaded = queue.written.is_some_and(|at| now.duration_since(at) < LOADED);
                queue.written = Some(now);
                if loaded {
                    drop(queue);
                    self.pump(Some(stream));
                    return;
                }
                match write(&mut stream, &mut queue.pending) {
                    Ok(true) => queue.stream = State::Idle(stream),
                    Ok(false) => {
                        drop(queue);
                        self.pump(Some(stream));
                    }
                    Err(closed) => self.end(queue, closed),
                }
            }
            State::Unopened => {
                drop(queue);
                self.pump(None);
            }
            State::Busy => {}
            State::Closed(closed) => queue.stream = State::Closed(closed),
        }
    }

    /// Writes in a task for as long as there is something to write.
    fn pump(self: &Arc<Self>, stream: Option<SendStream>) {
        let shared = Arc::clone(self);
        drop(tokio::spawn(async move {
            if let Err(closed) = shared.drain(stream).await {
                shared.end(shared.queue.lock(), closed);
            }
        }));
    }

    async fn drain(&self, stream: Option<SendStream>) -> Result<(), Closed> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => {
                let mut stream = self.opener.open().await?;
                let lane = Bytes::copy_from_slice(&[self.lane.number()]);
                stream.send(lane).await.map_err(|error| closed(&error))?;
                stream
            }
        };
        loop {
            let batch = {
                let mut queue = self.queue.lock();
                if queue.pending.is_empty() {
                    queue.written = Some(TokioClock.now());
                    queue.stream = State::Idle(stream);
                    return Ok(());
                }
                match self.writing.is_apart {
                    true => first_frame(&mut queue.pending),
                    false => queue.pending.split().freeze(),
                }
            };
            self.room.notify_waiters();
            let ready = poll_fn(|context| stream.poll_send_ready(context)).await;
            ready.map_err(|error| closed(&error))?;
            stream.send(batch).await.map_err(|error| closed(&error))?;
        }
    }

    fn end(&self, mut queue: MutexGuard<'_, Queue>, closed: Closed) {
        queue.stream = State::Closed(closed);
        queue.pending = BytesMut::new();
        drop(queue);
        self.room.notify_waiters();
    }
}

/// Takes off the first of the frames that wait.
fn first_frame(pending: &mut BytesMut) -> Bytes {
    let header = pending.first_chunk().map(Header::decode);
    let body_len = header.and_then(|header| usize::try_from(header.body_len).ok());
    let len = body_len.map_or(pending.len(), |len| len.saturating_add(HEADER_LEN));
    pending.split_to(len.min(pending.len())).freeze()
}

/// Writes all that is pending, if the stream has room for it at once.
fn write(stream: &mut SendStream, pending: &mut BytesMut) -> Result<bool, Closed> {
    match stream.poll_send_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(room)) if room >= pending.len() => {}
        Poll::Ready(Ok(_)) => return Ok(false),
        Poll::Ready(Err(error)) => return Err(closed(&error)),
        Poll::Pending => return Ok(false),
    }
    stream.send_data(pending.split().freeze()).map_err(|error| closed(&error))?;
    Ok(true)
}

fn closed(error: &s2n_quic::stream::Error) -> Closed {
    match ReadError::from_quic(error) {
        ReadError::Closed(closed) => closed,
        other => Closed::Other(other.to_string()),
    }
}
