//! Bodies: MessagePack with named fields, written straight into a buffer and read with caps.

use bytes::buf::Writer;
use bytes::{BufMut as _, Bytes, BytesMut};
use rmp_serde::config::{DefaultConfig, StructMapConfig};
use rmp_serde::{Deserializer, Serializer};
use serde::{Deserialize, Serialize};

use super::Limits;
use super::error::{BodyError, EncodeError};
use super::frame::{Flags, HEADER_LEN, Header, Kind, VERSION};
use super::scan::{DEPTH_CAP, scan};

/// Room for most bodies, in bytes, so that a small one is written without growing its buffer.
const BODY_LEN_USUAL: usize = 256;

/// The longest reason that is kept of why a body is no value of its type, in characters.
const REASON_CHARS_MAX: usize = 256;

/// Writes MessagePack with named fields to the end of a buffer.
type Appender<'a> = Serializer<Writer<&'a mut BytesMut>, StructMapConfig<DefaultConfig>>;

fn appender(out: &mut BytesMut) -> Appender<'_> {
    Serializer::new(out.writer()).with_struct_map()
}

/// Appends a frame: a header, and `body` in MessagePack with named fields. Gives the number of bytes
/// that were appended.
///
/// # Errors
///
/// [`EncodeError`], if the body exceeds the limits or has no form in MessagePack; `out` holds what
/// it held.
///
/// # Panics
///
/// If `body` does while it is encoded; `out` holds what it held.
pub fn encode_frame<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: Kind,
    flags: Flags,
    id: u64,
    body: &T,
    limits: &Limits,
) -> Result<usize, EncodeError> {
    let draft = Draft { kept: out.len(), out };
    draft.out.put_bytes(0, HEADER_LEN);
    body.serialize(&mut appender(draft.out))
        .map_err(|error| EncodeError::Body(error.to_string()))?;
    let appended = draft.out.len() - draft.kept;
    let header = header(kind, flags, id, appended - HEADER_LEN, limits)?;
    check(draft.out.get(draft.kept + HEADER_LEN..).unwrap_or_default(), limits)?;
    draft.keep(&header);
    Ok(appended)
}

/// A frame at the end of a buffer, which is taken off again unless it is kept: on an error, and
/// when a value panics while it is encoded, since others may share the buffer.
struct Draft<'a> {
    out: &'a mut BytesMut,
    /// How many bytes stay.
    kept: usize,
}

impl Draft<'_> {
    fn keep(mut self, header: &[u8; HEADER_LEN]) {
        if let Some(place) = self.out.get_mut(self.kept..self.kept + HEADER_LEN) {
            place.copy_from_slice(header);
        }
        self.kept = self.out.len();
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.kept);
    }
}

/// Appends a frame whose body is encoded already. Gives the number of bytes that were appended.
///
/// # Errors
///
/// [`EncodeError::TooLong`], if the body is longer than [`Limits::frame_len_max`]; `out` holds what
/// it held.
pub fn encode_raw(
    out: &mut BytesMut,
    kind: Kind,
    flags: Flags,
    id: u64,
    body: &[u8],
    limits: &Limits,
) -> Result<usize, EncodeError> {
    let header = header(kind, flags, id, body.len(), limits)?;
    out.reserve(HEADER_LEN + body.len());
    out.put_slice(&header);
    out.put_slice(body);
    Ok(HEADER_LEN + body.len())
}

fn header(
    kind: Kind,
    flags: Flags,
    id: u64,
    len: usize,
    limits: &Limits,
) -> Result<[u8; HEADER_LEN], EncodeError> {
    let max = limits.frame_len_max;
    let body_len = u32::try_from(len).ok().filter(|_| len <= max);
    let body_len = body_len.ok_or(EncodeError::TooLong { len, max })?;
    Ok(Header { version: VERSION, kind, flags, id, body_len }.encode())
}

/// Whether a reader with the same limits takes what was written. A body that is too short to be too
/// deep or to have too many elements is not walked over.
fn check(body: &[u8], limits: &Limits) -> Result<(), EncodeError> {
    if body.len() <= limits.depth_max.min(limits.count_max).min(DEPTH_CAP) {
        return Ok(());
    }
    scan(body, limits).map_err(|error| match error {
        BodyError::TooDeep { max, .. } => EncodeError::TooDeep { max },
        BodyError::TooMany { max, .. } => EncodeError::TooMany { max },
        error => EncodeError::Body(error.to_string()),
    })
}

/// Encodes a body of at most `len_max` bytes, in MessagePack with named fields, within the other
/// caps of [`Limits::for_body`].
///
/// # Errors
///
/// [`EncodeError`], if it is longer, deeper or has more elements, or has no form in MessagePack.
pub fn to_body<T: Serialize + ?Sized>(value: &T, len_max: usize) -> Result<Bytes, EncodeError> {
    to_body_within(value, &Limits::for_body(len_max))
}

/// As [`to_body`], within caps of the caller's choice.
///
/// # Errors
///
/// As [`to_body`].
pub fn to_body_within<T: Serialize + ?Sized>(
    value: &T,
    limits: &Limits,
) -> Result<Bytes, EncodeError> {
    let max = limits.frame_len_max;
    let mut out = BytesMut::with_capacity(BODY_LEN_USUAL.min(max));
    value
        .serialize(&mut appender(&mut out))
        .map_err(|error| EncodeError::Body(error.to_string()))?;
    if out.len() > max {
        return Err(EncodeError::TooLong { len: out.len(), max });
    }
    check(&out, limits)?;
    Ok(out.freeze())
}

/// Reads a body, after it was [scanned](scan).
///
/// Fields that `T` does not know are passed over; those that it misses are serde's business, so a
/// field that was added later wants `#[serde(default)]`.
///
/// # Errors
///
/// [`BodyError`]: a cap that was hit, with the offset, or [`BodyError::Invalid`] if the body is
/// sound but no `T`.
pub fn from_body<'a, T: Deserialize<'a>>(body: &'a [u8], limits: &Limits) -> Result<T, BodyError> {
    scan(body, limits)?;
    let mut deserializer = Deserializer::from_read_ref(body);
    // The scan has capped the depth. The reader refuses the level at which its own counter comes to
    // zero, and counts an extension as a level where the scan does not.
    deserializer.set_max_depth(limits.depth_max.min(DEPTH_CAP) + 2);
    T::deserialize(&mut deserializer).map_err(|error| BodyError::Invalid(reason(&error)))
}

/// What the reader says. It may quote the body in full and with escapes, and what a peer has sent
/// decides neither how long an error is nor where its lines end.
fn reason(error: &rmp_serde::decode::Error) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    error.to_string().chars().take(REASON_CHARS_MAX).map(plain).collect()
}
