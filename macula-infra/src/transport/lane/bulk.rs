//! Bodies that are too long for a frame, each on a stream of its own.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use macula_core::wire::{Decoder, EncodeError, Flags, Frame, Kind, Limits, encode_frame};
use s2n_quic::stream::ReceiveStream;
use serde::Serialize;

use super::BULK;
use super::reader::{ReadError, receive, receive_some};
use crate::transport::connection::{Closed, Opener};

/// How much of a body is reserved before it has come, in bytes. Memory that nothing is written to
/// costs an honest system nothing but addresses.
const AHEAD_MAX: usize = 32 * 1024 * 1024;

/// How many chunks of a body are taken at once.
const CHUNKS: usize = 32;

/// The longest piece of a body that the QUIC stack is given at once, in bytes.
const PIECE: usize = 256 * 1024;

/// Why a long body was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// What tells about the body cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Sends one frame and then a body on a stream of their own, and waits until the QUIC stack has
/// taken it all.
///
/// # Errors
///
/// [`BulkError`].
///
/// # Cancel safety
///
/// If the future is dropped the stream is reset, and the peer hears nothing of the body.
pub async fn send_bulk<T: Serialize + ?Sized>(
    opener: &Opener,
    (kind, flags, id): (Kind, Flags, u64),
    about: &T,
    mut body: Bytes,
    limits: &Limits,
) -> Result<(), BulkError> {
    let mut head = BytesMut::from(&[BULK][..]);
    encode_frame(&mut head, kind, flags, id, about, limits)?;
    let mut stream = opener.open().await?;
    let closed = |error: s2n_quic::stream::Error| match ReadError::from_quic(&error) {
        ReadError::Closed(closed) => closed,
        other => Closed::Other(other.to_string()),
    };
    stream.send(head.freeze()).await.map_err(closed)?;
    while !body.is_empty() {
        let piece = body.split_to(PIECE.min(body.len()));
        stream.send(piece).await.map_err(closed)?;
    }
    stream.finish().map_err(closed)?;
    Ok(())
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
                chunk = receive(&mut self.stream).await?.ok_or(ReadError::Truncated)?;
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
    /// was announced; [`ReadError::Truncated`] if it comes shorter.
    pub async fn read(mut self, len: u64, len_max: usize) -> Result<Bytes, ReadError> {
        let max = u64::try_from(len_max).unwrap_or(u64::MAX);
        let too_long = ReadError::TooLong { len, max };
        let wanted = usize::try_from(len).ok().filter(|wanted| *wanted <= len_max);
        let wanted = wanted.ok_or_else(|| too_long.clone())?;
        let mut body = BytesMut::with_capacity(wanted.min(AHEAD_MAX));
        body.extend_from_slice(&self.first);
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        loop {
            let (count, open) = receive_some(&mut self.stream, &mut chunks).await?;
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
