//! Supervision of ractor actors: OTP's, complete, and what OTP lacks.
//!
//! A [`Supervisor`] has children: [`Worker`]s, which are ordinary ractor actors, and other
//! supervisors. It starts them in order, restarts those that fail as their policy says, and stops
//! them in reverse order. When restarts come too often it gives up, and its own supervisor decides.
//! The words, the defaults and the decisions are those of OTP's `supervisor`.
//!
//! # The parts
//!
//! - [`proto`] is the supervisor as a pure machine: what to start, stop and kill, and when. It knows
//!   nothing of actors, and the simulator and the property tests drive it alone.
//! - The actor behind a supervisor is that machine in a [`Shell`](crate::shell::Shell), with effects
//!   that start, stop and kill actors.
//! - A child has a *place* in the tree, which outlives its incarnations: its mailbox, its path, its
//!   count of lives. A [`Handle`] is a way to the place and so survives every restart.
//! - An incarnation ends when the last thing that belongs to it is dropped: the actor, its state,
//!   and for a supervisor its whole subtree. Only then its supervisor hears of it, and only then a
//!   replacement starts.
//!
//! # What OTP lacks
//!
//! [`Backoff`] between restarts, which any request or stop interrupts; typed [`ExitReason`]s;
//! bounded [`Mailbox`]es that know what became of every message; a liveness bound, past which an
//! actor counts as hung and is replaced; clean-up that also runs after a panic or a kill
//! ([`Worker::on_exit`]); partitions ([`PartitionSupervisor`]), tasks ([`TaskSupervisor`]), policy by
//! path ([`Overrides`]), a stream of [`Event`]s and a picture of the tree ([`Root::snapshot`]).
//!
//! # What a kill cannot do
//!
//! A kill is met at an actor's next await. Code that never awaits outlives it: it is reported as
//! stuck five seconds later, nothing replaces it while it lives, and a stop goes on without it.

mod actor;
pub mod error;
pub mod event;
pub mod exit;
mod guard;
mod handle;
mod mailbox;
mod overrides;
mod partition;
pub mod policy;
pub mod proto;
mod slot;
mod spec;
mod supervisor;
mod task;
mod tree;
mod worker;

pub use error::{AdminError, StartError};
pub use event::{Event, Report, What};
pub use exit::{ExitReason, Ignore};
pub use handle::{CallError, Handle, SendError};
pub use mailbox::{Absence, Mailbox, Overflow};
pub use overrides::{Override, Overrides};
pub use partition::{PARTITIONS_MAX, PartitionError, PartitionSupervisor, Partitions};
pub use policy::{
    AutoShutdown, Backoff, ChildKind, ChildPolicy, Flags, Restart, Shutdown, Strategy,
};
pub use proto::{ChildInfo, ChildState, Counts, Key, Target};
pub use slot::{MailboxStats, Presence};
pub use spec::{ChildSpec, Start, StartContext, Worker};
pub use supervisor::{Init, Root, StartedChild, Supervisor, SupervisorHandle};
pub use task::{Task, TaskStream, TaskSupervisor, Tasks};
pub use tree::{TreeNode, TreeOptions};

#[cfg(test)]
mod tests;
