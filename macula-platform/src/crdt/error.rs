//! What a client is told.

use std::sync::Arc;

use super::limits::Refused;
use super::proto::Failed;

/// Why a client has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was refused, and nothing changed; or too few members were reached, and what was written stays
    /// and goes on to the others.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The key has no bucket: it begins with the name of one, and a `/`.
    #[error("{key:?} names no bucket: `bucket/key` does")]
    NoBucket {
        /// The key.
        key: Arc<str>,
    },
    /// No bucket has so long a name. Nothing changed.
    #[error("the name of the bucket has {len} bytes, and at most {len_max} are possible")]
    BucketTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The node holds as many buckets as it may. Nothing changed.
    #[error("{buckets_max} buckets are held, and {bucket:?} would be one more")]
    BucketsMax {
        /// Which one was to be held.
        bucket: Arc<str>,
        /// The limit.
        buckets_max: usize,
    },
    /// What the bucket has on disk is damaged, or cannot be read or written. It is left as it is, and
    /// served by nobody.
    #[error("the bucket {bucket:?} is not served: {why}")]
    Closed {
        /// Which.
        bucket: Arc<str>,
        /// Why.
        why: String,
    },
    /// There was no answer, as when the replicator is down for long. What was written stays written.
    #[error("the replicator gave no answer")]
    NoAnswer,
    /// The element or value cannot be put into bytes. Nothing was written.
    #[error("what was to be written under {key:?} cannot be encoded: {why}")]
    Encode {
        /// The key.
        key: Arc<str>,
        /// What the encoder said.
        why: String,
    },
    /// The bytes are not of the type that was asked for. They are as they were.
    #[error("what is under {key:?} cannot be decoded: {why}")]
    Decode {
        /// The key.
        key: Arc<str>,
        /// What the decoder said.
        why: String,
    },
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Failed(Failed::Refused(refused))
    }
}
