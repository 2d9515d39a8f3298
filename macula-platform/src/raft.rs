//! Agreement: a log that a group of nodes agrees upon, and the state that follows from it.
//!
//! The protocol is Raft (Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm*,
//! 2014), by openraft. This is the only room that names it, and closes round what its version 0.9
//! leaves open:
//!
//! - A member is a node and the [life](types::MemberId) of its log: one whose files are gone is another
//!   member, and has promised nothing.
//! - What is acknowledged is [on disk](media), with a checksum on each row; damage is told, and never
//!   taken for what was there before.
//! - An [`elector`] says when a member stands for election, and asks the others first.
//! - A member [leads](Member::leads) only while most have said so within the lease, and
//!   [reads](Member::read_point) wait for most to say so once more: many of them for one round. A
//!   [lease](Member::lease_until) ends sooner at the leader than at those who gave it.
//! - A leader gives its place [to another one](Member::transfer), who need not wait for the lease.
//! - Members that are not reached are tried again after a while, and snapshots go in
//!   [parts](snapshots::CHUNK_LEN_MAX) that each have their own time.
//!
//! Whoever says that it is a member is believed to be one if it is the node that it says, whether this
//! member knows it or not: one that was away has to listen to a leader that came meanwhile. So all nodes
//! of a realm have to be trusted as far as this; rules that keep the others out are still to come.
//!
//! What is agreed upon are bytes; a [`Replicated`] state gives them their meaning. Members reach one
//! another through the port [`Call`](macula_core::port::Call), and whoever asks is known for certain.
//!
//! ```text
//! propose -> openraft -> log -> disk (one commit for all that waits)
//!               |  \-> network -> Call -> service of another member
//!               v
//!            machine -> state, snapshots
//! ```

mod acks;
pub mod actor;
mod barrier;
mod changes;
mod driving;
pub mod elector;
mod log;
mod machine;
pub mod media;
mod member;
pub(crate) mod metrics;
mod network;
pub mod sealed;
mod service;
pub mod snapshots;
pub mod timer;
pub mod types;
mod wire;

pub use acks::{DRIFT, counted};

/// Whether a folder has what a voter keeps.
pub(crate) fn has_log(folder: &std::path::Path) -> bool {
    folder.join(log::FILE).exists()
}

pub use changes::Members;
pub use machine::Replicated;
pub use member::{Config, Member, Parts, ProposeError, StartError};

#[cfg(test)]
pub(crate) mod tests;
