//! Why an actor ended, as a type and not as a text.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::path::ChildId;

/// The longest text that a reason keeps, in bytes. The rest is cut.
pub const REASON_LEN_MAX: usize = 4096;

/// How many causes of an error are kept.
pub const CAUSES_MAX: usize = 16;

/// Why an actor ended.
///
/// It is itself an error, so that an actor can end with a reason of its choice by returning it:
/// `return Err(ExitReason::Shutdown.into())`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum ExitReason {
    /// It had nothing left to do.
    #[error("normal")]
    Normal,
    /// It was asked to stop, and did.
    #[error("shutdown")]
    Shutdown,
    /// It was asked to stop, or chose to, and said more.
    #[error("shutdown: {info}")]
    ShutdownWith {
        /// What was said.
        info: String,
    },
    /// It was killed, and had no chance to clean up by itself.
    #[error("killed")]
    Killed,
    /// A panic ended it.
    #[error("panic: {message}{}", At(.location.as_deref()))]
    Panic {
        /// The panic's message.
        message: String,
        /// `file:line:column`, where the panic hook could see it.
        location: Option<String>,
    },
    /// A handler returned an error.
    #[error("error: {message}{}", Causes(.causes))]
    Error {
        /// The error's message.
        message: String,
        /// Its sources, the nearest first.
        causes: Vec<String>,
    },
    /// A child could not be started, and its supervisor with it.
    #[error("child {child} failed to start: {reason}")]
    StartFailed {
        /// The child.
        child: ChildId,
        /// Why it failed.
        reason: Box<Self>,
    },
    /// Its task was cancelled from outside, as when the runtime ends.
    #[error("cancelled")]
    Cancelled,
    /// A supervisor restarted more often than its intensity allows, and gave up.
    #[error("meltdown: more than {intensity} restarts in {}", humantime::format_duration(*.period))]
    Meltdown {
        /// How many restarts are allowed.
        intensity: u32,
        /// In which period.
        period: Duration,
    },
    /// It did not answer within its liveness bound, and was killed.
    #[error("hung: no sign of life for {}", humantime::format_duration(*.bound))]
    Hung {
        /// The bound that it declared.
        bound: Duration,
    },
}

struct At<'a>(Option<&'a str>);

impl Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |location| write!(f, " at {location}"))
    }
}

struct Causes<'a>(&'a [String]);

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl ExitReason {
    /// OTP's `normal`.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }

    /// OTP's `shutdown` and `{shutdown, _}`. A supervisor that gave up is one of them, as in OTP:
    /// it ended in good order, and its parent decides.
    #[must_use]
    pub const fn is_shutdown(&self) -> bool {
        matches!(self, Self::Shutdown | Self::ShutdownWith { .. } | Self::Meltdown { .. })
    }

    /// Whether a transient child is restarted after it.
    #[must_use]
    pub const fn is_abnormal(&self) -> bool {
        !self.is_normal() && !self.is_shutdown()
    }

    /// A short word for the kind of reason: a label that has few values.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::ShutdownWith { .. } => "shutdown_with",
            Self::Killed => "killed",
            Self::Panic { .. } => "panic",
            Self::Error { .. } => "error",
            Self::StartFailed { .. } => "start_failed",
            Self::Cancelled => "cancelled",
            Self::Meltdown { .. } => "meltdown",
            Self::Hung { .. } => "hung",
        }
    }

    /// A shutdown that says more. The text is cut at [`REASON_LEN_MAX`].
    #[must_use]
    pub fn shutdown_with(info: impl Into<String>) -> Self {
        Self::ShutdownWith { info: cut(info.into()) }
    }

    /// A panic. Both texts are cut at [`REASON_LEN_MAX`].
    #[must_use]
    pub fn panic(message: impl Into<String>, location: Option<String>) -> Self {
        Self::Panic { message: cut(message.into()), location: location.map(cut) }
    }

    /// An error with its whole chain, or the reason itself if the error is one.
    ///
    /// At most [`CAUSES_MAX`] causes are kept, each cut at [`REASON_LEN_MAX`].
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        if let Some(reason) = error.downcast_ref::<Self>() {
            return reason.clone();
        }
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        Self::Error {
            message: cut(error.to_string()),
            causes: causes.take(CAUSES_MAX).map(|cause| cut(cause.to_string())).collect(),
        }
    }

    /// What the text of ractor's `stop(Some(text))` means.
    ///
    /// `shutdown` and `shutdown: info` are shutdowns, `killed` is a kill, ractor's own words for a
    /// drained and for a cancelled actor are what they say, and any other text is an error: OTP
    /// counts every other term as abnormal too.
    #[must_use]
    pub fn from_stop(text: Option<&str>) -> Self {
        match text {
            None | Some("Drained" | "normal") => Self::Normal,
            Some("shutdown") => Self::Shutdown,
            Some("killed") => Self::Killed,
            Some("actor_task_cancelled") => Self::Cancelled,
            Some(text) => text.strip_prefix("shutdown: ").map_or_else(
                || Self::Error { message: cut(text.to_owned()), causes: Vec::new() },
                Self::shutdown_with,
            ),
        }
    }
}

/// Why an actor that was never started has no reason: it chose not to run.
///
/// An actor's `pre_start` that returns this as its error is not failed but *ignored*, OTP's word
/// for a child that is listed and not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the child chose not to run")]
pub struct Ignore;

/// A reason that many hold.
pub(crate) type SharedReason = Arc<ExitReason>;

fn cut(mut text: String) -> String {
    if text.len() > REASON_LEN_MAX {
        let end = (0..=REASON_LEN_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ExitReason, REASON_LEN_MAX};
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk is full")]
    struct Disk;

    #[derive(Debug, thiserror::Error)]
    #[error("could not save")]
    struct Save(#[source] Disk);

    #[test]
    fn an_error_keeps_its_chain() {
        let reason = ExitReason::from_error(&Save(Disk));
        assert_eq!(reason.to_string(), "error: could not save: the disk is full");
        assert!(reason.is_abnormal());
    }

    #[test]
    fn a_reason_that_travels_as_an_error_is_itself() {
        let boxed: Box<dyn std::error::Error + Send + Sync> =
            ExitReason::shutdown_with("bye").into();
        assert_eq!(ExitReason::from_error(&*boxed), ExitReason::shutdown_with("bye"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let ExitReason::Panic { message, .. } = ExitReason::panic("é".repeat(5000), None) else {
            panic!("not a panic");
        };
        assert!(message.len() <= REASON_LEN_MAX + '…'.len_utf8());
    }

    #[test]
    fn what_otp_calls_abnormal_is_abnormal() {
        let meltdown = ExitReason::Meltdown { intensity: 1, period: Duration::from_secs(5) };
        for calm in [ExitReason::Normal, ExitReason::Shutdown, meltdown] {
            assert!(!calm.is_abnormal(), "{calm}");
        }
        for rough in [ExitReason::Killed, ExitReason::Cancelled, ExitReason::panic("x", None)] {
            assert!(rough.is_abnormal(), "{rough}");
        }
    }

    #[test]
    fn the_words_of_a_ractor_stop_are_understood() {
        assert_eq!(ExitReason::from_stop(None), ExitReason::Normal);
        assert_eq!(
            ExitReason::from_stop(Some("shutdown: lunch")),
            ExitReason::shutdown_with("lunch")
        );
        assert!(ExitReason::from_stop(Some("boom")).is_abnormal());
    }
}
