//! Keys and values that a group agrees upon.
//!
//! The [`state`] is what follows from the group's log: it has no clock and no randomness. A *revision*
//! is the index of the entry that changed something, so it grows for ever, and two changes of one
//! entry have one revision. What was there is gone; what has happened is kept as events, up to a bound,
//! so that a watch can go on from a revision that it knows.
//!
//! Whoever does not know whether a command was applied gives it again under the same number, and gets
//! the answer that it had the first time: its [session](command::Once) remembers it (Ongaro,
//! *Consensus: Bridging Theory and Practice*, 2014, section 6.3).
//!
//! [`Kv`] is what all others use: `get`, `get_at`, `range`, `prefix`, `put`, `put_on`, `delete`,
//! `compare_and_set`, `txn`, `grant`, `keep_alive`, `revoke`, `compact`, `watch`, `typed`, and `operator`
//! for the group itself. It asks the leader's [`Service`], or any voter's where that is enough. What
//! holds of its answers:
//!
//! - An [`Error`] [says](Error::may_be_done) whether what was asked for may be done all the same.
//! - A [lease](Kv::grant) is held until [`Held::until`], which is counted from when this node asked; the
//!   [leader](expiry) waits for longer than that before it deletes what hangs on it.
//! - A [`Watch`] gives each event once and in order, or says that there is a gap.
//!
//! ```text
//! Kv -> ways -> Call, or this node's own -> Service -> Member (raft)
//!                                              |  \-> state, for reads
//!                                              v
//!                                           expiry, at the leader
//! ```

pub mod command;
pub mod limits;
pub mod state;

pub mod actor;
mod changing;
mod checks;
mod client;
mod config;
mod error;
pub mod expiry;
mod groups;
mod leading;
mod metrics;
mod operator;
mod rates;
mod service;
mod session;
mod typed;
mod watch;
mod ways;
mod wire;

pub use client::{Done, Held, Kv, Pages};
pub use config::{Config, InvalidConfig};
pub use error::{Error, WatchError};
pub use operator::Operator;
pub use service::Service;
pub use typed::Typed;
pub use watch::Watch;
pub use ways::{NAME, Parts};
pub use wire::{Level, Status, Stranger};

#[cfg(test)]
pub(crate) mod tests;
