//! What most programs need: `use macula_workload::prelude::*`.

pub use macula_core::supervision::{
    Backoff, ExitReason, Handle, Mailbox, Restart, Shutdown, Strategy, Supervisor, Worker,
};

pub use crate::node::Node;
pub use crate::remote::{CallError, RemoteHandle, ReplyTo};
pub use macula_core::identity::NodeId;
