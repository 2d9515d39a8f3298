//! What a supervisor answers when it cannot do what it was asked.

use crate::path::{ChildId, InvalidId};

use super::exit::ExitReason;
use super::policy::IllegalPolicy;

/// Why a request to a supervisor was refused. Unless a variant says otherwise, nothing changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum AdminError {
    /// OTP's `already_present`: a child of this id is listed, and not running.
    #[error("child {0} is already listed, and not running: restart or delete it")]
    AlreadyPresent(ChildId),
    /// OTP's `{already_started, _}`: a child of this id runs.
    #[error("child {0} already runs")]
    AlreadyStarted(ChildId),
    /// OTP's `running`: the child runs, so it can be neither restarted nor deleted.
    #[error("child {0} runs: terminate it first")]
    Running(ChildId),
    /// OTP's `restarting`: the child waits for its next start.
    #[error("child {0} is being restarted: terminate it first")]
    Restarting(ChildId),
    /// OTP's `not_found`: no such child.
    #[error("no child {0}")]
    NotFound(String),
    /// OTP's `simple_one_for_one`: children of a dynamic supervisor keep no spec.
    #[error("a dynamic supervisor keeps no spec of a child that does not run")]
    Dynamic,
    /// The child's start failed. A child that was new is not listed; one that was there still is.
    #[error("the child failed to start: {0}")]
    StartFailed(ExitReason),
    /// As many children as the supervisor allows are there.
    #[error("the supervisor has its maximum of {0} children")]
    ChildrenMax(usize),
    /// The spec has no meaning.
    #[error(transparent)]
    Illegal(#[from] IllegalPolicy),
    /// Two specs have one id.
    #[error("two children have the id {0}")]
    DuplicateId(ChildId),
    /// A child of a supervisor with a list has no id.
    #[error("a child of a supervisor with a list needs an id")]
    MissingId,
    /// The id is not one.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// Whoever made the tree wants no such child in it.
    #[error("{0}")]
    Refused(&'static str),
    /// The supervisor is ending.
    #[error("the supervisor is shutting down")]
    ShuttingDown,
    /// Too many requests wait for the supervisor.
    #[error("too many requests wait for the supervisor")]
    Busy,
    /// The supervisor does not run at the moment; whether the request took effect is not known if
    /// it had been accepted before.
    #[error("the supervisor does not run")]
    Unavailable,
}

/// Why a tree, or a supervisor with a list, did not start. What had started was stopped again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum StartError {
    /// A flag or a child's spec has no meaning.
    #[error("supervisor {supervisor}: {source}")]
    Illegal {
        /// The supervisor whose spec it is.
        supervisor: String,
        /// What is wrong.
        source: AdminError,
    },
    /// The supervisor's `init` said that it should not run. OTP's `ignore`.
    #[error("the supervisor chose not to run")]
    Ignored,
    /// A start failed; the reason names the child, and its child, down to the cause.
    #[error("{0}")]
    Failed(ExitReason),
}
