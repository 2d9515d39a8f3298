//! Refusals: why an operation was not done, as a code with its numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dht::rules::millis;
use crate::dht::{provider, record};

/// The longest text of a refusal, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// Why a node has not done an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The signature is not the author's.
    #[error("forged: the signature is not its author's")]
    Forged,
    /// What is signed is no record or provider.
    #[error("malformed: {text}")]
    Malformed {
        /// More about it.
        text: String,
    },
    /// It is of another realm.
    #[error("it is of another realm")]
    OtherRealm,
    /// It is too long.
    #[error("oversized: {len} bytes, at most {max} are taken")]
    Oversized {
        /// How long a part of it is, in bytes.
        len: u64,
        /// How long that may be, in bytes.
        max: u64,
    },
    /// It does not belong under the key.
    #[error("it belongs under another key")]
    WrongKey,
    /// It is over.
    #[error("it has expired")]
    Expired,
    /// It was issued later than now.
    #[error("it is from the future")]
    FromTheFuture,
    /// It wants to live for too long.
    #[error("it would live for too long")]
    LivesTooLong,
    /// The validator of its key space does not take it.
    #[error("not valid in its key space: {text}")]
    Invalid {
        /// What the validator says.
        text: String,
    },
    /// A newer one is kept.
    #[error("one with sequence number {stored} is newer")]
    Older {
        /// The sequence number of the newer one; of a provider, its issue in milliseconds.
        stored: u64,
    },
    /// The condition does not hold.
    #[error("the condition does not hold: {}", found(*.stored))]
    ConditionFailed {
        /// The sequence number of what is kept, if anything is.
        stored: Option<u64>,
    },
    /// Another one with this sequence number is kept.
    #[error("another one with sequence number {stored} came first")]
    Conflict {
        /// The sequence number.
        stored: u64,
    },
    /// The node keeps as much as it can.
    #[error("the node has no room for it")]
    Full,
    /// The node has too much to do for this peer.
    #[error("the node is busy, for {} ms at least", .retry_in.as_millis())]
    Busy {
        /// When it may be asked again.
        retry_in: Duration,
    },
    /// The reply had no room for the result: ask again.
    #[error("the reply had no room for the result")]
    NoRoom,
    /// The node does not know, or does not do, such an operation.
    #[error("the node does not do this")]
    Unsupported,
    /// A reason that this node does not know.
    #[error("refused: {code}")]
    Other {
        /// Its code.
        code: String,
    },
}

fn found(stored: Option<u64>) -> String {
    stored.map_or_else(|| "nothing is kept".to_owned(), |n| format!("sequence number {n} is kept"))
}

fn text(of: &impl std::fmt::Display) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    of.to_string().chars().take(TEXT_CHARS_MAX).map(plain).collect()
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl From<record::Refusal> for Refusal {
    fn from(refusal: record::Refusal) -> Self {
        match refusal {
            record::Refusal::Forged => Self::Forged,
            record::Refusal::Malformed(error) => Self::Malformed { text: text(&error) },
            record::Refusal::OtherRealm => Self::OtherRealm,
            record::Refusal::Oversized(over) => {
                Self::Oversized { len: length(over.len), max: length(over.max) }
            }
            record::Refusal::WrongKey { .. } => Self::WrongKey,
            record::Refusal::Expired { .. } => Self::Expired,
            record::Refusal::LivesTooLong { .. } => Self::LivesTooLong,
            record::Refusal::Invalid(why) => Self::Invalid { text: text(&why) },
        }
    }
}

impl From<provider::Refusal> for Refusal {
    fn from(refusal: provider::Refusal) -> Self {
        match refusal {
            provider::Refusal::Forged => Self::Forged,
            provider::Refusal::Malformed(error) => Self::Malformed { text: text(&error) },
            provider::Refusal::OtherRealm => Self::OtherRealm,
            provider::Refusal::Oversized(over) => {
                Self::Oversized { len: length(over.len), max: length(over.max) }
            }
            error @ provider::Refusal::TooManyAddresses { .. } => {
                Self::Malformed { text: text(&error) }
            }
            provider::Refusal::WrongKey { .. } => Self::WrongKey,
            provider::Refusal::FromTheFuture { .. } => Self::FromTheFuture,
            provider::Refusal::Expired { .. } => Self::Expired,
            provider::Refusal::LivesTooLong { .. } => Self::LivesTooLong,
            provider::Refusal::Invalid(why) => Self::Invalid { text: text(&why) },
        }
    }
}

/// The words of [`WireRefusal::code`].
mod code {
    pub(super) const FORGED: &str = "forged";
    pub(super) const MALFORMED: &str = "malformed";
    pub(super) const OTHER_REALM: &str = "other_realm";
    pub(super) const OVERSIZED: &str = "oversized";
    pub(super) const WRONG_KEY: &str = "wrong_key";
    pub(super) const EXPIRED: &str = "expired";
    pub(super) const FROM_THE_FUTURE: &str = "from_the_future";
    pub(super) const LIVES_TOO_LONG: &str = "lives_too_long";
    pub(super) const INVALID: &str = "invalid";
    pub(super) const OLDER: &str = "older";
    pub(super) const CONDITION_FAILED: &str = "condition_failed";
    pub(super) const CONFLICT: &str = "conflict";
    pub(super) const FULL: &str = "full";
    pub(super) const BUSY: &str = "busy";
    pub(super) const NO_ROOM: &str = "no_room";
    pub(super) const UNSUPPORTED: &str = "unsupported";
}

/// A code, and what belongs to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WireRefusal {
    code: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
}

impl From<Refusal> for WireRefusal {
    fn from(refusal: Refusal) -> Self {
        let coded = |code: &str| Self { code: code.to_owned(), ..Self::default() };
        let sequence = |code: &str, n: Option<u64>| Self { sequence: n, ..coded(code) };
        match refusal {
            Refusal::Forged => coded(code::FORGED),
            Refusal::Malformed { text } => Self { text, ..coded(code::MALFORMED) },
            Refusal::OtherRealm => coded(code::OTHER_REALM),
            Refusal::Oversized { len, max } => {
                Self { len: Some(len), max: Some(max), ..coded(code::OVERSIZED) }
            }
            Refusal::WrongKey => coded(code::WRONG_KEY),
            Refusal::Expired => coded(code::EXPIRED),
            Refusal::FromTheFuture => coded(code::FROM_THE_FUTURE),
            Refusal::LivesTooLong => coded(code::LIVES_TOO_LONG),
            Refusal::Invalid { text } => Self { text, ..coded(code::INVALID) },
            Refusal::Older { stored } => sequence(code::OLDER, Some(stored)),
            Refusal::ConditionFailed { stored } => sequence(code::CONDITION_FAILED, stored),
            Refusal::Conflict { stored } => sequence(code::CONFLICT, Some(stored)),
            Refusal::Full => coded(code::FULL),
            Refusal::Busy { retry_in } => {
                Self { retry_ms: Some(millis(retry_in)), ..coded(code::BUSY) }
            }
            Refusal::NoRoom => coded(code::NO_ROOM),
            Refusal::Unsupported => coded(code::UNSUPPORTED),
            Refusal::Other { code } => coded(&code),
        }
    }
}

impl From<WireRefusal> for Refusal {
    fn from(wire: WireRefusal) -> Self {
        let stored = wire.sequence.unwrap_or(0);
        match wire.code.as_str() {
            code::FORGED => Self::Forged,
            code::MALFORMED => Self::Malformed { text: text(&wire.text) },
            code::OTHER_REALM => Self::OtherRealm,
            code::OVERSIZED => {
                Self::Oversized { len: wire.len.unwrap_or(0), max: wire.max.unwrap_or(0) }
            }
            code::WRONG_KEY => Self::WrongKey,
            code::EXPIRED => Self::Expired,
            code::FROM_THE_FUTURE => Self::FromTheFuture,
            code::LIVES_TOO_LONG => Self::LivesTooLong,
            code::INVALID => Self::Invalid { text: text(&wire.text) },
            code::OLDER => Self::Older { stored },
            code::CONDITION_FAILED => Self::ConditionFailed { stored: wire.sequence },
            code::CONFLICT => Self::Conflict { stored },
            code::FULL => Self::Full,
            code::BUSY => {
                Self::Busy { retry_in: Duration::from_millis(wire.retry_ms.unwrap_or(0)) }
            }
            code::NO_ROOM => Self::NoRoom,
            code::UNSUPPORTED => Self::Unsupported,
            _ => Self::Other { code: text(&wire.code) },
        }
    }
}
