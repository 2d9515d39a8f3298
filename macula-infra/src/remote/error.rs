//! Why a call has no answer, and whether it may have been handled all the same.

use std::time::Duration;

use super::wire::{Failure, code};
use crate::pool::LinkError;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It was not taken. It was not handled.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// There is no way to the actor now. It was not handled.
    #[error("unavailable: {0}")]
    Unavailable(Unavailability),
    /// No answer in time. It may have been handled.
    #[error("no answer within {}", macula_core::clock::shown(*.within))]
    TimedOut {
        /// How long was waited.
        within: Duration,
    },
    /// It was under way when something ended. It may have been handled.
    #[error("interrupted: {0}")]
    Interrupted(Interruption),
    /// The handler says that it failed, and how. It was handled.
    #[error("failed: {0}")]
    Failed(String),
    /// The handler panicked. The actor's supervisor starts it again.
    #[error("the handler panicked")]
    RemotePanic,
    /// The question, the answer or an item of a stream is longer than is taken. A question that is was
    /// not handled, and an item was not sent.
    #[error("the {what} has {len} bytes, and at most {max} are taken")]
    TooLarge {
        /// `question`, `answer` or `item`.
        what: &'static str,
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// The other node does not understand the question, or it cannot be encoded. It was not handled.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The answer is not of the type that was expected, or cannot be encoded. The question was
    /// handled.
    #[error("the answer is not understood: {0}")]
    NotUnderstood(String),
}

/// Why a call was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no room on the way: the connection or a lane is full, or too much of the caller's is
    /// under way.
    #[error("busy: {0}")]
    Busy(String),
    /// Whoever was asked has as much work as it takes, and nothing else is wrong with it.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// The caller may not.
    #[error("forbidden: {0}")]
    Forbidden(String),
}

/// Why there is no way to an actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailability {
    /// No address of the node is known.
    #[error("no address of the node is known")]
    NoAddress,
    /// The node could not be reached.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// The node failed lately, and is not tried again before `retry_in` is over.
    #[error("the node failed lately; it is tried again in {}", macula_core::clock::shown(*.retry_in))]
    BackingOff {
        /// How long it takes.
        retry_in: Duration,
    },
    /// This node has as many connections as it may.
    #[error("this node has {live} connections, at most {high} are allowed")]
    Full {
        /// How many there are.
        live: usize,
        /// How many may be.
        high: usize,
    },
    /// The directory does not say which node serves the name.
    #[error("it is not known which node serves it: {0}")]
    NotFound(String),
    /// Nobody is known to provide the procedure.
    #[error("nobody provides {0:?}")]
    NoProvider(String),
    /// Nothing is served under the name.
    #[error("nothing is served as {0:?}")]
    NotServed(String),
    /// The rules of access of this node do not allow the other one to serve the name.
    #[error("the node is not trusted with the name: {0}")]
    Unentitled(String),
    /// The actor is being restarted, or is down.
    #[error("the actor is not there: {0}")]
    Absent(String),
    /// A part of this node is being restarted, or the node stops.
    #[error("this node is not ready: {0}")]
    NotReady(String),
    /// This node has stopped, and connects to none any more.
    #[error("this node has stopped")]
    Stopped,
}

/// What came between a question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
    /// The actor ended with the question, or dropped it without an answer.
    #[error("the actor dropped the question, or ended with it")]
    Dropped,
    /// The other side of the stream has ended it, and takes no more.
    #[error("the stream has ended")]
    Ended,
    /// The answer was dropped: as much as may wait for the connection already did.
    #[error("the answer was dropped: too much waits for the connection")]
    Unsent,
}

impl CallError {
    /// Whether the question may have been handled although there is no answer.
    #[must_use]
    pub const fn may_have_run(&self) -> bool {
        match self {
            Self::TimedOut { .. }
            | Self::Interrupted(_)
            | Self::Failed(_)
            | Self::RemotePanic
            | Self::NotUnderstood(_) => true,
            Self::TooLarge { what, .. } => what.len() == "answer".len(),
            Self::Refused(_) | Self::Unavailable(_) | Self::Unsupported(_) => false,
        }
    }

    /// A word for the kind of error: the label of counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Overloaded(_)) => "overloaded",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::Interrupted(_) => "interrupted",
            Self::Failed(_) => "failed",
            Self::RemotePanic => "remote_panic",
            Self::TooLarge { .. } => "too_large",
            Self::Unsupported(_) => "unsupported",
            Self::NotUnderstood(_) => "not_understood",
        }
    }

    pub(super) fn too_large(what: &'static str, len: usize, max: usize) -> Self {
        let wide = |of| u64::try_from(of).unwrap_or(u64::MAX);
        Self::TooLarge { what, len: wide(len), max: wide(max) }
    }

    /// What a failure on the wire means; `within` is how long the caller wanted to wait.
    pub(crate) fn from_wire(failure: Failure, within: Duration) -> Self {
        let Failure { code, text, len, max } = failure;
        match code.as_str() {
            code::BUSY => Self::Refused(Refusal::Busy(text)),
            code::OVERLOADED => Self::Refused(Refusal::Overloaded(text)),
            code::FAILED => Self::Failed(text),
            code::FORBIDDEN => Self::Refused(Refusal::Forbidden(text)),
            code::NOT_SERVED => Self::Unavailable(Unavailability::NotServed(text)),
            code::ABSENT => Self::Unavailable(Unavailability::Absent(text)),
            code::EXPIRED => Self::TimedOut { within },
            code::PANIC => Self::RemotePanic,
            code::TOO_LARGE if text == "question" => Self::TooLarge { what: "question", len, max },
            code::TOO_LARGE => Self::TooLarge { what: "answer", len, max },
            code::UNSUPPORTED => Self::Unsupported(text),
            code::NOT_UNDERSTOOD => Self::NotUnderstood(text),
            code::UNSENT => Self::Interrupted(Interruption::Unsent),
            _ => Self::Interrupted(Interruption::Dropped),
        }
    }

    /// How it is told on the wire.
    pub(crate) fn to_wire(&self) -> Failure {
        let failure =
            |code: &str, text: String| Failure { code: code.to_owned(), text, len: 0, max: 0 };
        match self {
            Self::Refused(Refusal::Busy(text)) => failure(code::BUSY, text.clone()),
            Self::Refused(Refusal::Overloaded(text)) => failure(code::OVERLOADED, text.clone()),
            Self::Refused(Refusal::Forbidden(text)) => failure(code::FORBIDDEN, text.clone()),
            Self::Failed(text) => failure(code::FAILED, text.clone()),
            Self::Unavailable(Unavailability::NotServed(name)) => {
                failure(code::NOT_SERVED, name.clone())
            }
            Self::Unavailable(other) => failure(code::ABSENT, other.to_string()),
            Self::TimedOut { .. } => failure(code::EXPIRED, String::new()),
            Self::RemotePanic => failure(code::PANIC, String::new()),
            Self::TooLarge { what, len, max } => {
                Failure { len: *len, max: *max, ..failure(code::TOO_LARGE, (*what).to_owned()) }
            }
            Self::Unsupported(text) => failure(code::UNSUPPORTED, text.clone()),
            Self::Interrupted(Interruption::Unsent) => failure(code::UNSENT, String::new()),
            Self::Interrupted(_) => failure(code::DROPPED, String::new()),
            Self::NotUnderstood(text) => failure(code::NOT_UNDERSTOOD, text.clone()),
        }
    }
}

impl From<LinkError> for CallError {
    fn from(error: LinkError) -> Self {
        Self::Unavailable(match error {
            LinkError::NoAddress => Unavailability::NoAddress,
            LinkError::BackingOff { retry_in } => Unavailability::BackingOff { retry_in },
            LinkError::Full { live, high } => Unavailability::Full { live, high },
            LinkError::Failed { why } => Unavailability::Unreachable(why),
            LinkError::NotReady(why) => Unavailability::NotReady(why.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CallError, Interruption, Refusal, Unavailability};
    use std::time::Duration;

    #[test]
    fn what_the_other_side_tells_arrives_as_it_was() {
        let within = Duration::from_secs(5);
        let told = [
            CallError::Refused(Refusal::Busy("full".to_owned())),
            CallError::Refused(Refusal::Overloaded("3 run".to_owned())),
            CallError::Refused(Refusal::Forbidden("no role".to_owned())),
            CallError::Failed("no such player".to_owned()),
            CallError::Unavailable(Unavailability::NotServed("a/b".to_owned())),
            CallError::TimedOut { within },
            CallError::Interrupted(Interruption::Dropped),
            CallError::Interrupted(Interruption::Unsent),
            CallError::RemotePanic,
            CallError::TooLarge { what: "question", len: 9, max: 8 },
            CallError::TooLarge { what: "answer", len: 9, max: 8 },
            CallError::Unsupported("a map".to_owned()),
            CallError::NotUnderstood("too deep".to_owned()),
        ];
        for error in told {
            assert_eq!(CallError::from_wire(error.to_wire(), within), error);
        }
        let absent = CallError::Unavailable(Unavailability::Absent("down".to_owned()));
        let told = CallError::from_wire(absent.to_wire(), within);
        assert!(matches!(told, CallError::Unavailable(Unavailability::Absent(_))), "{told:?}");
    }

    #[test]
    fn a_question_that_was_never_taken_was_not_handled() {
        let too_large = |what| CallError::TooLarge { what, len: 9, max: 8 };
        assert!(!too_large("question").may_have_run());
        assert!(too_large("answer").may_have_run());
        assert!(!CallError::Refused(Refusal::Busy(String::new())).may_have_run());
        assert!(CallError::TimedOut { within: Duration::ZERO }.may_have_run());
    }
}
