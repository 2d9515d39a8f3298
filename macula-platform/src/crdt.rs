//! CRDTs: state that every node may write at any time, and that converges.
//!
//! A replica takes an update at once, without asking anybody. The update goes to others as a *delta*,
//! which may be lost, doubled and reordered. Replicas that have seen the same updates have the same
//! state, whatever the order. What that costs is that nobody can say no: a sum can go below zero, and
//! two can take the same thing. State that needs such a rule belongs to [`kv`](crate::kv).
//!
//! # How it works
//!
//! Each update has a [`Dot`](dot::Dot): the replica that made it, and its number among that replica's updates.
//! A state consists of what updates brought, each under its dot; a [`Context`](context::Context) is the set of dots that
//! a replica has seen. Of a dot that is in the context and not in the state a replica knows that it was
//! replaced or removed. This is the whole memory of what was removed: there are no tombstones, and what
//! is removed can come again under new dots.
//!
//! A [`bucket`] is a group of keys with one context for all. A [`Delta`](contract::Delta) has a context of its own, with
//! the new dots and those that they take the place of. To apply a delta, and to bring two replicas
//! together, is the same operation, [`Crdt::join`].
//!
//! All types are made of two parts: dots with payloads ([`store`]), and maps. So all can be values of
//! maps, all can be removed in the same way, and all have an encoding ([`codec`]) that nodes can join
//! which do not know the type. A type never drops what is live: which of several values is read is
//! decided by the one who reads.
//!
//! When to use it, and when not, is in the [`guide`].
//!
//! # Rooms
//!
//! [`types`] are the types; [`Crdt`] is what a user's own type implements, by the words of [`contract`],
//! [`dot`], [`context`] and [`kind`]. [`write`](mod@write) gives mutators dots and stamps. [`state`] is a
//! state of any type; [`bucket`] is what a replica has; [`limits`] says how much is taken; [`proto`] is what
//! replicas say to each other. All of that is pure.
//!
//! [`Crdts`] is what a node's users have, and a [`Key`] of it what is read and changed. What they share is
//! held outside the actor that carries frames, which [`tree`] puts into a node's tree; [`settings`] and
//! [`config`] say how.
//!
//! # Trust
//!
//! Members are nodes of one realm that the rules of access let into a bucket, and they trust each other. Bytes
//! that mean nothing, and numbers that cannot be, end nobody and are counted; but whoever may write may also
//! remove all that there is, and a member that lies about what it has seen can hold up others, or have them
//! forget or begin anew. Buckets that not all nodes may write are kept apart by those rules.
//!
//! # Sources
//!
//! Almeida, Shoker and Baquero, *Delta state replicated data types* (JPDC 2018), for the whole;
//! Bieniusa et al., *An optimized conflict-free replicated set* (INRIA RR-8083, 2012), for doing
//! without tombstones; Gonçalves, Almeida, Baquero and Fonte, *Anti-entropy without Merkle trees,
//! deletes without tombstones* (SRDS 2017), for one context for many keys.

mod actor;
pub mod bucket;
mod changes;
mod client;
pub mod codec;
pub mod config;
pub mod context;
pub mod contract;
mod disk;
pub mod dot;
mod error;
pub mod guide;
pub mod kind;
#[cfg(test)]
mod laws;
pub mod limits;
mod metrics;
pub mod proto;
mod service;
mod session;
pub mod settings;
pub mod stamps;
pub mod state;
pub mod store;
pub mod tree;
mod typed;
pub mod types;
mod vault;
pub mod write;

pub use changes::Changes;
pub use client::{Crdts, Delivery, Key, Subscription};
pub use contract::Crdt;
pub use error::Error;
pub use proto::{Failed, Level};
pub use session::Session;
pub use settings::Settings;
pub use tree::Replicator;

#[cfg(test)]
pub(crate) mod tests;
