//! Why a request has no result.

use std::sync::Arc;

use macula_core::supervision::CallError;

use super::BUCKET;
use crate::crdt;
use crate::crdt::limits::Refused;
use crate::crdt::proto::Failed;

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was refused. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The actor gave no answer. After a timeout, or when the actor ended with the question, the request may
    /// have been carried out.
    #[error("the registers gave no answer: {0}")]
    Call(#[from] CallError),
    /// The value cannot be put into bytes. Nothing was sent.
    #[error("the value for {key:?} cannot be encoded: {why}")]
    Encode {
        /// The key.
        key: Arc<str>,
        /// What the encoder said.
        why: String,
    },
    /// The bytes are not a value of the type that was asked for. The register is as it was.
    #[error("the value of {key:?} cannot be decoded: {why}")]
    Decode {
        /// The key.
        key: Arc<str>,
        /// What the decoder said.
        why: String,
    },
    /// The replicated types do not serve the registers.
    #[error("the registers are not served: {0}")]
    Types(crdt::Error),
}

impl From<crdt::Error> for Error {
    fn from(error: crdt::Error) -> Self {
        match error {
            crdt::Error::Failed(Failed::Refused(Refused::KeyTooLong { len, len_max })) => {
                let own = |len: usize| len.saturating_sub(BUCKET.len() + 1);
                Self::Refused(Refused::KeyTooLong { len: own(len), len_max: own(len_max) })
            }
            crdt::Error::Failed(Failed::Refused(refused)) => Self::Refused(refused),
            other => Self::Types(other),
        }
    }
}
