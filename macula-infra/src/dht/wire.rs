//! What travels between nodes of the table: a request of up to 64 operations, and as many results.
//!
//! On the wire an operation is a word and what belongs to it. A word that a node does not know is
//! [`Op::Unknown`] to it, which it refuses as unsupported, so that a newer peer may ask anything. So
//! it is with results. Wire types only ever gain fields.
//!
//! Nothing is asked without an answer: for each operation there is one result, in the same order.

mod fields;
mod op;
mod refusal;
mod result;

use bytes::Bytes;
use macula_core::wire::{BodyError, EncodeError, Limits, from_body, to_body};
use serde::{Deserialize, Serialize};

use super::signed::SIGNED_LEN_MAX;

pub use op::Op;
pub use refusal::Refusal;
pub use result::{OpKind, OpResult};

/// How many operations a request has at most.
pub const OPS_MAX: usize = 64;

/// How many contacts, or providers, a result has at most.
pub const CONTACTS_MAX: usize = 20;

/// The longest body of a request or a reply, in bytes.
pub const BODY_LEN_MAX: usize = SIGNED_LEN_MAX;

/// How many bytes a body has at most beside its operations or results.
const ENVELOPE_LEN_MAX: usize = 32;

/// The caps on what is read.
const LIMITS: Limits = Limits { frame_len_max: BODY_LEN_MAX, depth_max: 16, count_max: 65_536 };

/// Operations for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// At most [`OPS_MAX`], in any order.
    pub ops: Vec<Op>,
}

/// Their results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// One for each operation, in the same order.
    pub results: Vec<OpResult>,
}

/// Why a body is no request or reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is no body, or of another kind.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// It has too many operations or results.
    #[error("{len} operations, at most {OPS_MAX} are taken")]
    TooMany {
        /// How many it has.
        len: usize,
    },
}

const fn check_count(len: usize) -> Result<(), Malformed> {
    if len > OPS_MAX { Err(Malformed::TooMany { len }) } else { Ok(()) }
}

impl Request {
    /// Encodes it.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if it is longer than [`BODY_LEN_MAX`].
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        to_body(self, BODY_LEN_MAX)
    }

    /// Reads one, within all bounds.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let request: Self = from_body(body, &LIMITS)?;
        check_count(request.ops.len())?;
        Ok(request)
    }
}

impl Reply {
    /// A reply of which each result has room: those that do not fit any more are refused with
    /// [`Refusal::NoRoom`], and may be asked for anew.
    #[must_use]
    pub fn fitting(results: impl IntoIterator<Item = OpResult>) -> Self {
        let refused = OpResult::Refused(Refusal::NoRoom);
        let spare = ENVELOPE_LEN_MAX + OPS_MAX * refused.encoded_len();
        let mut left = BODY_LEN_MAX.saturating_sub(spare);
        let fit = |result: OpResult| match left.checked_sub(result.encoded_len()) {
            Some(rest) => {
                left = rest;
                result
            }
            None => refused.clone(),
        };
        Self { results: results.into_iter().take(OPS_MAX).map(fit).collect() }
    }

    /// Encodes it.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if it is longer than [`BODY_LEN_MAX`], which a [fitting](Self::fitting) one
    /// is not.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        to_body(self, BODY_LEN_MAX)
    }

    /// Reads one, within all bounds.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let reply: Self = from_body(body, &LIMITS)?;
        check_count(reply.results.len())?;
        Ok(reply)
    }
}

/// How many bytes something takes on the wire.
fn encoded_len<T: Serialize>(value: &T) -> usize {
    to_body(value, BODY_LEN_MAX).map_or(usize::MAX, |body| body.len())
}

#[cfg(test)]
mod tests;
