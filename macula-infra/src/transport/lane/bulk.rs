//! Bodies that are too long for a frame, each on a stream of its own.
//!
//! A stream that is given up is reset. In s2n-quic 1.91 the reset of a stream that waits for its
//! peer's window can name a final size beyond that window (it names what was acquired of the
//! connection's), and the peer then closes the connection. So to give up a body that the peer does
//! not read may cost the connection, and interrupt whatever else goes over it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use macula_core::wire::{Decoder, EncodeError, Flags, Frame, Kind, Limits, encode_frame};
use s2n_quic::stream::{ReceiveStream, SendStream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reader::{ReadError, receive, receive_some};
use super::{BULK, BULKS_MAX};
use crate::transport::connection::{Closed, Opener};

/// How much of a body is reserved before it has come, in bytes. Memory that nothing is written to
/// costs an honest system nothing but addresses.
const AHEAD_MAX: usize = 32 * 1024 * 1024;

/// How many chunks of a body are taken at once.
const CHUNKS: usize = 32;

/// The longest piece of a body that the QUIC stack is given at once, in bytes.
const PIECE: usize = 256 * 1024;

/// How long nothing of a body may come, before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long the peer may take no piece of a body, before it is given up.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// The error code of a stream whose body was given up (RFC 9000, section 20.2).
const GIVEN_UP: u32 = 1;

/// Why a long body was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The peer does not read the body. The connection lives.
    #[error("the peer does not read the body")]
    Stopped,
    /// What tells about the body cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The turns of the long bodies that one side of a connection sends: at most [`BULKS_MAX`] at one
/// time. The others wait here, with nothing sent.
#[derive(Debug)]
pub struct Bulks {
    opener: Arc<Opener>,
    turns: Arc<Semaphore>,
}

impl Bulks {
    pub(crate) fn new(opener: Arc<Opener>) -> Self {
        Self { opener, turns: Arc::new(Semaphore::new(BULKS_MAX)) }
    }

    /// Waits for a turn, and opens a stream. Nothing is sent by that.
    ///
    /// # Errors
    ///
    /// How the connection ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the turn is another's.
    pub async fn open(&self) -> Result<BulkSender, Closed> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let stream = self.opener.open().await?;
        Ok(BulkSender { stream: Unfinished(Some(stream)), _turn: turn })
    }

    /// Sends bytes as they are on a stream of their own, and ends it.
    #[cfg(test)]
    pub(crate) async fn send_raw(&self, bytes: &'static [u8]) {
        let mut stream = self.opener.open().await.unwrap();
        stream.send(Bytes::from_static(bytes)).await.unwrap();
        stream.close().await.unwrap();
    }

    /// Whether there is a turn now.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.turns.available_permits() > 0
    }
}

/// A stream for one long body.
#[derive(Debug)]
pub struct BulkSender {
    stream: Unfinished,
    _turn: Option<OwnedSemaphorePermit>,
}

/// A stream that is reset if it is dropped. The QUIC library would finish it: to the peer half a
/// body would look like a whole one, and all that waits of it would still be sent.
#[derive(Debug)]
struct Unfinished(Option<SendStream>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut stream) = self.0.take() {
            // A stream that has ended by itself needs no reset.
            stream.reset(GIVEN_UP.into()).ok();
        }
    }
}

impl BulkSender {
    /// Sends one frame and then a body, and waits until the QUIC stack has taken it all.
    ///
    /// # Errors
    ///
    /// [`BulkError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the stream is reset, and the peer hears nothing of the body.
    pub async fn send<T: Serialize + ?Sized>(
        mut self,
        (kind, flags, id): (Kind, Flags, u64),
        about: &T,
        mut body: Bytes,
        limits: &Limits,
    ) -> Result<(), BulkError> {
        let Some(stream) = &mut self.stream.0 else { return Ok(()) };
        let mut head = BytesMut::from(&[BULK][..]);
        encode_frame(&mut head, kind, flags, id, about, limits)?;
        stream.send(head.freeze()).await.map_err(|error| broken(&error))?;
        while !body.is_empty() {
            let piece = body.split_to(PIECE.min(body.len()));
            let taken = tokio::time::timeout(UNREAD_MAX, stream.send(piece)).await;
            taken.map_err(|_elapsed| BulkError::Stopped)?.map_err(|error| broken(&error))?;
        }
        stream.finish().map_err(|error| broken(&error))?;
        self.stream.0 = None;
        Ok(())
    }
}

fn broken(error: &s2n_quic::stream::Error) -> BulkError {
    match ReadError::from_quic(error) {
        ReadError::Closed(closed) => BulkError::Closed(closed),
        _ => BulkError::Stopped,
    }
}

/// Reads a long body.
pub struct BulkReader {
    stream: ReceiveStream,
    first: Bytes,
    limits: Limits,
}

impl Debug for BulkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BulkReader")
    }
}

impl BulkReader {
    pub(super) const fn new(stream: ReceiveStream, first: Bytes, limits: Limits) -> Self {
        Self { stream, first, limits }
    }

    /// The frame that tells about the body, and the reader of the body itself.
    ///
    /// # Errors
    ///
    /// [`ReadError`], if there is no such frame.
    pub async fn about(mut self) -> Result<(Frame, Body), ReadError> {
        // The frame's header tells how much is its own; the body begins right after it.
        let mut decoder = Decoder::new(self.limits);
        let mut chunk = std::mem::take(&mut self.first);
        let mut head = Head::default();
        loop {
            decoder.push(head.take(&mut chunk));
            if let Some(frame) = decoder.next_frame()? {
                return Ok((frame, Body { stream: self.stream, first: chunk }));
            }
            if chunk.is_empty() {
                chunk = in_time(receive(&mut self.stream)).await?.ok_or(ReadError::Truncated)?;
            }
        }
    }
}

/// Cuts the first frame out of a stream of bytes.
#[derive(Default)]
struct Head {
    header: Vec<u8>,
    left: Option<usize>,
}

impl Head {
    /// As much of a chunk as belongs to the first frame.
    fn take(&mut self, chunk: &mut Bytes) -> Bytes {
        let wanted = match self.left {
            Some(left) => left,
            None => macula_core::wire::HEADER_LEN - self.header.len(),
        };
        let taken = chunk.split_to(wanted.min(chunk.len()));
        match &mut self.left {
            Some(left) => *left -= taken.len(),
            None => {
                self.header.extend_from_slice(&taken);
                if let Ok(header) = <[u8; 16]>::try_from(self.header.as_slice()) {
                    let [a, b, c, d, ..] = header;
                    let len = u32::from_be_bytes([a, b, c, d]);
                    self.left = Some(usize::try_from(len).unwrap_or(usize::MAX));
                }
            }
        }
        taken
    }
}

/// The body on a stream of its own.
pub struct Body {
    stream: ReceiveStream,
    first: Bytes,
}

impl Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl Body {
    /// Reads a body whose length was announced.
    ///
    /// No more than 32 MiB are reserved ahead of what has really come.
    ///
    /// # Errors
    ///
    /// [`ReadError::TooLong`] if it was announced longer than `len_max`, or comes longer than it
    /// was announced; [`ReadError::Truncated`] if it comes shorter; [`ReadError::Silent`] if nothing
    /// comes for ten seconds. The peer is told to send no more.
    pub async fn read(mut self, len: u64, len_max: usize) -> Result<Bytes, ReadError> {
        let max = u64::try_from(len_max).unwrap_or(u64::MAX);
        let too_long = ReadError::TooLong { len, max };
        let wanted = usize::try_from(len).ok().filter(|wanted| *wanted <= len_max);
        let wanted = wanted.ok_or_else(|| too_long.clone())?;
        let mut body = BytesMut::with_capacity(wanted.min(AHEAD_MAX));
        body.extend_from_slice(&self.first);
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        loop {
            let (count, open) = in_time(receive_some(&mut self.stream, &mut chunks)).await?;
            for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
                if body.len() + chunk.len() > wanted {
                    return Err(ReadError::TooLong { len: len.saturating_add(1), max: len });
                }
                if body.len() + chunk.len() > body.capacity() {
                    body.reserve((wanted - body.len()).min(body.len().max(AHEAD_MAX)));
                }
                body.extend_from_slice(&chunk);
            }
            if !open {
                break;
            }
        }
        if body.len() != wanted {
            return Err(ReadError::Truncated);
        }
        Ok(body.freeze())
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    tokio::time::timeout(SILENCE_MAX, read).await.unwrap_or(Err(ReadError::Silent))
}
