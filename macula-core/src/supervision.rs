//! Supervision.

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
