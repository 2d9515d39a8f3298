//! Frames out of a stream of bytes, however it is cut.

use std::fmt::Debug;

use bytes::{Buf as _, Bytes, BytesMut};

use super::Limits;
use super::error::DecodeError;
use super::frame::{Frame, HEADER_LEN, Header, VERSION};

/// Cuts frames out of a stream of chunks.
///
/// The body of a frame that lies in one chunk is a slice of it. A frame over several chunks is put
/// together in one buffer, which gets its length only after that was checked against
/// [`Limits::frame_len_max`]. Between frames a decoder holds no memory but its own.
///
/// If all frames are taken out before the next chunk is pushed, what is held is never more than the
/// newest chunk, or the beginning of one frame.
///
/// # After an error
///
/// Where a frame would begin is not known any more. The decoder lets go of all that it holds, takes
/// nothing more, and gives the same error for ever.
pub struct Decoder {
    limits: Limits,
    /// What is left of the newest chunk.
    pub(super) chunk: Bytes,
    /// The beginning of a frame that goes on in the chunk.
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
    /// A decoder at the beginning of a stream. It allocates nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, chunk: Bytes::new(), partial: BytesMut::new(), failed: None }
    }

    /// Takes the next chunk, of any length.
    ///
    /// What is left of the last one is copied: take all frames out of it first. A decoder that has
    /// failed drops the chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_some() {
            return;
        }
        self.partial.extend_from_slice(&self.chunk);
        self.chunk = chunk;
    }

    /// The next frame, or none until more chunks have come.
    ///
    /// A kind that nobody knows is no error.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Version`] and [`DecodeError::TooLong`], as soon as the header is there; the
    /// same for ever.
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

    /// Whether the stream may end here, once all frames are taken out.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] in the middle of a frame, or the error that made the decoder fail.
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
        let whole = if held < HEADER_LEN { HEADER_LEN } else { whole_len(&Header::decode(&start)) };
        Err(DecodeError::Truncated { missing: whole.saturating_sub(held) })
    }

    /// A frame at the beginning of the chunk; what there is of it waits if it is not whole.
    fn sliced(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some(bytes) = self.chunk.first_chunk::<HEADER_LEN>() else {
            self.keep(HEADER_LEN);
            return Ok(None);
        };
        let header = self.checked(bytes)?;
        let whole = whole_len(&header);
        if self.chunk.len() < whole {
            self.keep(whole);
            return Ok(None);
        }
        let mut body = self.chunk.split_to(whole);
        body.advance(HEADER_LEN);
        Ok(Some(framed(&header, body)))
    }

    /// A frame that began in an earlier chunk.
    fn assembled(&mut self) -> Result<Option<Frame>, DecodeError> {
        self.fill(HEADER_LEN);
        let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = self.checked(bytes)?;
        let whole = whole_len(&header);
        self.fill(whole);
        let mut body = match self.partial.len() {
            len if len < whole => return Ok(None),
            // The frame takes the buffer with it, so that a stream between frames has none.
            len if len == whole => std::mem::take(&mut self.partial),
            _ => self.partial.split_to(whole),
        };
        body.advance(HEADER_LEN);
        Ok(Some(framed(&header, body.freeze())))
    }

    /// Moves the chunk, which has less than `whole` bytes, to a buffer for so many.
    fn keep(&mut self, whole: usize) {
        if !self.chunk.is_empty() {
            self.partial.reserve(whole);
            self.partial.extend_from_slice(&self.chunk);
        }
        self.chunk = Bytes::new();
    }

    /// Takes out of the chunk what the frame lacks to `whole` bytes.
    fn fill(&mut self, whole: usize) {
        let lacks = whole.saturating_sub(self.partial.len());
        self.partial.reserve(lacks);
        let taken = self.chunk.split_to(lacks.min(self.chunk.len()));
        self.partial.extend_from_slice(&taken);
    }

    fn checked(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, DecodeError> {
        let header = Header::decode(bytes);
        if header.version != VERSION {
            return Err(DecodeError::Version { found: header.version });
        }
        let max = self.limits.frame_len_max;
        match usize::try_from(header.body_len).unwrap_or(usize::MAX) {
            len if len > max => Err(DecodeError::TooLong { len, max }),
            _ => Ok(header),
        }
    }
}

/// How long a frame is with its header, in bytes.
fn whole_len(header: &Header) -> usize {
    usize::try_from(header.body_len).unwrap_or(usize::MAX).saturating_add(HEADER_LEN)
}

/// An empty body is no slice, which would keep its chunk in memory.
fn framed(header: &Header, body: Bytes) -> Frame {
    let body = if body.is_empty() { Bytes::new() } else { body };
    Frame { kind: header.kind, flags: header.flags, id: header.id, body }
}
