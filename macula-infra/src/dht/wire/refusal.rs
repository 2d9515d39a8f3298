//! Refusals: why an operation was not done, as a code with its numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dht::rules::millis;
use crate::dht::signed;

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

impl From<signed::Refusal> for Refusal {
    fn from(refusal: signed::Refusal) -> Self {
        use signed::Refusal as Judged;
        match refusal {
            Judged::Forged => Self::Forged,
            Judged::Malformed(error) => Self::Malformed { text: text(&error) },
            error @ Judged::TooManyAddresses { .. } => Self::Malformed { text: text(&error) },
            Judged::OtherRealm => Self::OtherRealm,
            Judged::Oversized(over) => {
                Self::Oversized { len: length(over.len), max: length(over.max) }
            }
            Judged::WrongKey { .. } => Self::WrongKey,
            Judged::FromTheFuture { .. } => Self::FromTheFuture,
            Judged::Expired { .. } => Self::Expired,
            Judged::LivesTooLong { .. } => Self::LivesTooLong,
            Judged::Invalid(why) => Self::Invalid { text: text(&why) },
        }
    }
}

impl Refusal {
    /// It in one word, which is also what travels.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Forged => code::FORGED,
            Self::Malformed { .. } => code::MALFORMED,
            Self::OtherRealm => code::OTHER_REALM,
            Self::Oversized { .. } => code::OVERSIZED,
            Self::WrongKey => code::WRONG_KEY,
            Self::Expired => code::EXPIRED,
            Self::FromTheFuture => code::FROM_THE_FUTURE,
            Self::LivesTooLong => code::LIVES_TOO_LONG,
            Self::Invalid { .. } => code::INVALID,
            Self::Older { .. } => code::OLDER,
            Self::ConditionFailed { .. } => code::CONDITION_FAILED,
            Self::Conflict { .. } => code::CONFLICT,
            Self::Full => code::FULL,
            Self::Busy { .. } => code::BUSY,
            Self::NoRoom => code::NO_ROOM,
            Self::Unsupported => code::UNSUPPORTED,
            Self::Other { code } => code,
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
        let coded = Self { code: refusal.code().to_owned(), ..Self::default() };
        match refusal {
            Refusal::Malformed { text } | Refusal::Invalid { text } => Self { text, ..coded },
            Refusal::Oversized { len, max } => Self { len: Some(len), max: Some(max), ..coded },
            Refusal::Older { stored } | Refusal::Conflict { stored } => {
                Self { sequence: Some(stored), ..coded }
            }
            Refusal::ConditionFailed { stored } => Self { sequence: stored, ..coded },
            Refusal::Busy { retry_in } => Self { retry_ms: Some(millis(retry_in)), ..coded },
            Refusal::Forged
            | Refusal::OtherRealm
            | Refusal::WrongKey
            | Refusal::Expired
            | Refusal::FromTheFuture
            | Refusal::LivesTooLong
            | Refusal::Full
            | Refusal::NoRoom
            | Refusal::Unsupported
            | Refusal::Other { .. } => coded,
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
