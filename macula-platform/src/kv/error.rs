//! Why a client has no answer.

use super::command::Refusal;

/// What a client is told. [`may_be_done`](Self::may_be_done) says whether what was asked for may have
/// been done all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be done, and nothing of it was.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was not done in time, and will not be: no voter took it.
    #[error("no voter took it in time: {0}")]
    NotDone(String),
    /// There was no answer in time. It may have been done, or be done yet.
    #[error("whether it was done is not known: {0}")]
    Unknown(String),
    /// The rules of access of the voter that was asked, or of this node, do not allow it. Nothing was done.
    #[error("{0}")]
    Forbidden(String),
    /// Another change of the group is under way. Nothing was done.
    #[error("another change of the group is under way")]
    Changing,
    /// The change of the group cannot be made. A part of it may have been: it can be asked for again.
    #[error("the group is not changed: {0}")]
    NoChange(String),
    /// The value cannot be put into bytes. Nothing was sent.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
    /// The bytes are not a value of the type that was asked for. They are as they were.
    #[error("the value of revision {revision} cannot be decoded: {why}")]
    Decode {
        /// When it was put.
        revision: u64,
        /// What the decoder said.
        why: String,
    },
}

impl Error {
    /// Whether it may have been done all the same, or be done yet.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::NoChange(_))
    }
}

/// Why a watch has no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Events after this revision are forgotten, so that some may have been missed. The watch has ended:
    /// read what is there, and watch from that revision on.
    #[error("events after revision {after} are forgotten up to {oldest}: some may be missed")]
    Gap {
        /// Up to where the watch has all.
        after: u64,
        /// From where on events are remembered.
        oldest: u64,
    },
    /// No voter has answered for a while. Nothing is missed: it goes on with the next call.
    #[error("no voter answers: {0}")]
    NoAnswer(String),
    /// It cannot be watched. The watch has ended.
    #[error(transparent)]
    Refused(Refusal),
}
