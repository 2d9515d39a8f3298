//! What happens in a tree, for people, logs and tools.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::path::Path;

use super::exit::ExitReason;
use super::policy::{ChildKind, Restart};
use super::proto::{Change, Context};

/// Why messages became dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The mailbox was full and drops its oldest.
    Overflow,
    /// The actor ended before it handled them.
    Ended,
}

/// Something that happened in a tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// To whom.
    pub path: Path,
    /// In which of its lives; 0 where a supervisor speaks of itself, and for dead letters.
    pub incarnation: u64,
    /// What.
    pub what: What,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A step in an actor's life.
    Life(Change),
    /// A crash report.
    Report(Report),
    /// Messages that nobody handled.
    DeadLetters {
        /// How many.
        count: u64,
        /// Why.
        reason: DeadReason,
    },
}

/// A crash report: OTP's supervisor report, in one structured form.
///
/// Its texts are bounded: a reason's by [`REASON_LEN_MAX`](super::exit::REASON_LEN_MAX), a path's
/// by the depth of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The supervisor that reports.
    pub supervisor: Path,
    /// The situation.
    pub context: Context,
    /// Why.
    pub reason: ExitReason,
    /// Whom it is about.
    pub offender: Offender,
}

/// The child that a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offender {
    /// Its path.
    pub path: Path,
    /// What it is.
    pub kind: ChildKind,
    /// When it is restarted.
    pub restart: Restart,
    /// Which of its lives.
    pub incarnation: u64,
    /// How often it was restarted.
    pub restarts: u64,
}

impl Display for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ChildTerminated => "child_terminated",
            Self::StartError => "start_error",
            Self::ShutdownError => "shutdown_error",
            Self::Meltdown => "meltdown",
            Self::Stuck => "stuck",
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { supervisor, context, reason, offender } = self;
        let Offender { path, incarnation, restarts, .. } = offender;
        write!(
            f,
            "supervisor {supervisor}: {context}: {path} (incarnation {incarnation}, restarted \
             {restarts} times): {reason}"
        )
    }
}
