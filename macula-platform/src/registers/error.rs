//! Why a request has no result.

use std::sync::Arc;

use macula_core::hlc::Skewed;
use macula_core::supervision::CallError;

/// The table refused a request. The table, its clock and its subscribers are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A register needs a name.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key, or the prefix of keys, is too long.
    #[error("the key has {len} bytes, and at most {len_max} are allowed")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The value is too long.
    #[error("the value has {len} bytes, and at most {len_max} are allowed")]
    ValueTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The key is new, and there is no room for it.
    #[error("the table has {keys} keys, and at most {keys_max} are allowed")]
    TableFull {
        /// How many there are, those of removed registers among them.
        keys: usize,
        /// The limit.
        keys_max: usize,
    },
    /// There is no room for one more subscriber.
    #[error("there are {subscribers} subscribers, and at most {subscribers_max} are allowed")]
    SubscribersMax {
        /// How many there are.
        subscribers: usize,
        /// The limit.
        subscribers_max: usize,
    },
    /// A register from elsewhere was stamped too far in the future.
    #[error(transparent)]
    Skewed(#[from] Skewed),
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The table refused. Nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The table's actor gave no answer. After a timeout, or when the actor ended with the
    /// question, the request may have been carried out.
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
}
