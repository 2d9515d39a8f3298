//! The registers of a node: last-writer-wins values behind an actor that takes typed messages.
//!
//! They are [`LwwRegister`]s of the replicated types, in the bucket [`BUCKET`]: the register `rooms/7` is the
//! key `registers/rooms/7` there, so `node.crdt().register::<T>("registers/rooms/7")` and `macula crdt get
//! registers/rooms/7` have the same. All nodes that use their registers share them, and they are on disk
//! where `[crdt] durable` names the bucket. A write is taken at once, at [`Level::Local`]; of two that did not
//! see each other the later one is read by all.
//!
//! What is here is only the way to ask for them: [`Registers`] sends a [`Message`] to the actor, which answers
//! one after the other. A workload that wants other types, levels or sessions has them of
//! [`Crdts`](crate::crdt::Crdts).
//!
//! [`LwwRegister`]: crate::crdt::types::LwwRegister
//! [`Level::Local`]: crate::crdt::Level::Local

mod actor;
mod changes;
mod client;
mod error;

pub use actor::{Message, worker};
pub use changes::{Change, Changes, Delivery, Origin};
pub use client::{Register, Registers};
pub use error::Error;

/// The bucket in which they are.
pub const BUCKET: &str = "registers";

#[cfg(test)]
mod tests;
