//! The receiving end of a lane.

use std::fmt::Debug;

use bytes::Bytes;
use macula_core::wire::{DecodeError, Decoder, Frame, Limits};
use s2n_quic::stream::ReceiveStream;

use super::{BULK, BulkReader, Lane};
use crate::transport::connection::Closed;

/// Why a lane cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The peer reset the stream, as when it gives up on a long body.
    #[error("the peer has reset the stream")]
    Reset,
    /// What came is no frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream is none that is known here.
    #[error("a stream begins with {0:#04x}, which names no lane")]
    UnknownLane(u8),
    /// The body is longer than is taken.
    #[error("a body of {len} bytes, at most {max} are taken")]
    TooLong {
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// Nothing of a long body comes any more.
    #[error("nothing of the body comes any more")]
    Silent,
    /// The stream ended before it should.
    #[error("the stream ended too early")]
    Truncated,
}

impl ReadError {
    pub(in crate::transport) fn from_quic(error: &s2n_quic::stream::Error) -> Self {
        match error {
            s2n_quic::stream::Error::ConnectionError { error, .. } => {
                Self::Closed(Closed::from_quic(error))
            }
            _ => Self::Reset,
        }
    }
}

/// A stream that has said what it is for.
#[derive(Debug)]
pub enum Incoming {
    /// A lane.
    Lane(Lane, Reader),
    /// One long body.
    Bulk(BulkReader),
}

/// Reads the first byte of a stream.
pub(in crate::transport) async fn incoming(
    mut stream: ReceiveStream,
    limits: Limits,
) -> Result<Incoming, ReadError> {
    let mut chunk = loop {
        let chunk = receive(&mut stream).await?.ok_or(ReadError::Truncated)?;
        if !chunk.is_empty() {
            break chunk;
        }
    };
    let first = chunk.split_to(1).first().copied().unwrap_or_default();
    let mut decoder = Decoder::new(limits);
    if first == BULK {
        return Ok(Incoming::Bulk(BulkReader::new(stream, chunk, limits)));
    }
    let lane = Lane::from_number(first).ok_or(ReadError::UnknownLane(first))?;
    decoder.push(chunk);
    Ok(Incoming::Lane(lane, Reader { stream, decoder }))
}

pub(super) async fn receive(stream: &mut ReceiveStream) -> Result<Option<Bytes>, ReadError> {
    stream.receive().await.map_err(|error| ReadError::from_quic(&error))
}

/// Takes as many chunks as there are, and says how many, and whether more may come.
pub(super) async fn receive_some(
    stream: &mut ReceiveStream,
    chunks: &mut [Bytes],
) -> Result<(usize, bool), ReadError> {
    stream.receive_vectored(chunks).await.map_err(|error| ReadError::from_quic(&error))
}

/// Reads the frames of a lane.
pub struct Reader {
    stream: ReceiveStream,
    decoder: Decoder,
}

impl Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// The next frame; none once the peer has ended the lane in good order.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; nothing more can be read after one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match receive(&mut self.stream).await? {
                Some(chunk) => self.decoder.push(chunk),
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}
