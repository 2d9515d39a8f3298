//! Frames out of a stream of bytes, however it is cut.

use std::fmt::Debug;

use bytes::{Buf as _, Bytes, BytesMut};

use super::Limits;
use super::error::DecodeError;
use super::frame::{Frame, HEADER_LEN, Header, VERSION};

/// Cuts frames out of a stream of chunks.
///
/// A frame that lies in one chunk is a slice of it. One that does not is put together in a buffer of
/// its length, which was checked first. After an error the decoder gives the same error for ever.
pub struct Decoder {
    limits: Limits,
    /// What is left of the newest chunk.
    chunk: Bytes,
    /// The beginning of a frame whose end has not come.
    pub(super) partial: BytesMut,
    failed: Option<DecodeError>,
}

impl Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("buffered", &(self.chunk.len() + self.partial.len()))
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, chunk: Bytes::new(), partial: BytesMut::new(), failed: None }
    }

    /// Takes the next chunk. Take all frames out of the last one first: what is left of it when
    /// another comes is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_some() {
            return;
        }
        if !self.chunk.is_empty() {
            self.partial.extend_from_slice(&self.chunk);
        }
        self.chunk = chunk;
    }

    /// The next frame, if it has come in whole.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], the same for ever.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let frame = if self.partial.is_empty() { self.sliced() } else { self.assembled() };
        frame.inspect_err(|error| {
            self.failed = Some(error.clone());
            self.chunk = Bytes::new();
            self.partial = BytesMut::new();
        })
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] in the middle of a frame, or the error that was.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let held = self.partial.len() + self.chunk.len();
        if held == 0 {
            return Ok(());
        }
        let mut start = [0_u8; HEADER_LEN];
        let bytes = self.partial.iter().chain(&self.chunk);
        start.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let wanted = if held < HEADER_LEN {
            HEADER_LEN
        } else {
            HEADER_LEN + usize::try_from(Header::decode(&start).body_len).unwrap_or(usize::MAX)
        };
        Err(DecodeError::Truncated { missing: wanted.saturating_sub(held) })
    }

    /// A frame at the beginning of the chunk; what there is of it waits if it is not whole.
    fn sliced(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some(bytes) = self.chunk.first_chunk::<HEADER_LEN>() else {
            self.keep(HEADER_LEN);
            return Ok(None);
        };
        let (header, len) = self.judged(bytes)?;
        if self.chunk.len() < HEADER_LEN + len {
            self.keep(HEADER_LEN + len);
            return Ok(None);
        }
        self.chunk.advance(HEADER_LEN);
        let body = self.chunk.split_to(len);
        Ok(Some(framed(header, body)))
    }

    /// A frame that began in an earlier chunk.
    fn assembled(&mut self) -> Result<Option<Frame>, DecodeError> {
        self.fill(HEADER_LEN);
        let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (header, len) = self.judged(bytes)?;
        self.fill(HEADER_LEN + len);
        if self.partial.len() < HEADER_LEN + len {
            return Ok(None);
        }
        let mut whole = self.partial.split_to(HEADER_LEN + len);
        whole.advance(HEADER_LEN);
        if self.partial.is_empty() {
            // An idle stream keeps no buffer.
            self.partial = BytesMut::new();
        }
        Ok(Some(framed(header, whole.freeze())))
    }

    /// Keeps what is left of the chunk, in a buffer for `whole` bytes.
    fn keep(&mut self, whole: usize) {
        if !self.chunk.is_empty() {
            self.partial.reserve(whole);
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
        }
    }

    /// Takes out of the chunk what the frame lacks to `whole` bytes.
    fn fill(&mut self, whole: usize) {
        let lacks = whole.saturating_sub(self.partial.len());
        self.partial.reserve(lacks);
        let taken = self.chunk.split_to(lacks.min(self.chunk.len()));
        self.partial.extend_from_slice(&taken);
    }

    fn judged(&self, bytes: &[u8; HEADER_LEN]) -> Result<(Header, usize), DecodeError> {
        let header = Header::decode(bytes);
        if header.version != VERSION {
            return Err(DecodeError::Version { found: header.version });
        }
        let len = usize::try_from(header.body_len).unwrap_or(usize::MAX);
        let max = self.limits.frame_len_max;
        if len > max { Err(DecodeError::TooLong { len, max }) } else { Ok((header, len)) }
    }
}

const fn framed(header: Header, body: Bytes) -> Frame {
    Frame { kind: header.kind, flags: header.flags, id: header.id, body }
}
