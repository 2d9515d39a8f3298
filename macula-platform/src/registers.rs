//! Last-writer-wins registers: a table of values under keys that needs nobody's consent to write.
//!
//! A write is taken at once and stamped with a hybrid logical clock and the name of this replica.
//! Two replicas that have seen the same writes, in whatever order and however often, hold the same
//! table: of two writes the one with the greater stamp stays ([`Register::merge`]). What is lost is
//! the other one. State that must not lose a write under concurrency belongs to consensus.
//!
//! The rooms: [`proto`] is the table as a machine, told of everything and asking for nothing; a
//! [`Vault`] holds the machine, so that it outlives the actor; the actor takes one [`Message`] at a
//! time; [`Registers`] is the client. A removed register leaves its stamp behind, so that an older
//! write that is still on its way cannot bring it back; these stamps count for `keys_max`.
//!
//! Replication stands behind [`Registers::deltas`], the lane of local changes, and
//! [`Registers::merge`], where those of others come in. Both may be repeated and reordered, and a
//! delta that is lost is found again by comparing tables.
//!
//! On registers and their convergence: Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive
//! study of Convergent and Commutative Replicated Data Types* (INRIA RR-7506, 2011), section 3.2.1.

mod actor;
mod client;
mod config;
mod error;
pub mod proto;
mod register;
mod table;
mod vault;

pub use actor::{Message, worker};
pub use client::{Changes, Delivery, Registers};
pub use config::{Config, InvalidConfig};
pub use error::{Error, Refused};
pub use proto::Stats;
pub use register::{Change, Origin, Register};
pub use table::Page;
pub use vault::Vault;

#[cfg(test)]
mod tests;
