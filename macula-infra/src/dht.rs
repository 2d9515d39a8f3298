//! A distributed hash table: any node, record or provider in the mesh, found in a few steps.
//!
//! Kademlia (Maymounkov and Mazières, IPTPS 2002). Nodes and records have places in one space of
//! 256-bit [keys](key); a record is kept by the nodes that are closest to it, and each node knows
//! many nodes near it and few far away, so that a lookup halves the distance with each step.

mod actor;
mod client;
mod directory;
pub mod key;
mod metrics;
pub mod proto;
pub mod provider;
pub mod record;
pub mod rules;
pub mod signed;
pub mod simulated;
pub mod wire;

pub(crate) use actor::{DhtService, Parts, worker};
pub use client::{Dht, Error};
