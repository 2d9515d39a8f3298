//! The infrastructure tier: bytes between nodes.
//!
//! Its rooms stand upon one another in this order: [`transport`] makes verified connections,
//! [`link`] puts one to work, [`pool`] keeps one to each peer, and [`remote`] calls actors over
//! them. The services stand beside one another on top of these: [`membership`] says who is there,
//! [`dht`] finds nodes, records and providers, [`bootstrap`] finds the mesh, [`names`] whoever serves
//! an actor, [`port`] is how the tier above asks a node, [`rpc`] calls procedures, whoever provides them, [`pubsub`] publishes and subscribes, and
//! [`relay`] reaches nodes over others. [`mesh`] is what the tiers above see, and [`tier`] the part of
//! the tree that runs it all.

pub mod access;
mod announcing;
pub mod bootstrap;
pub mod bounds;
mod budget;
pub mod contact;
mod desk;
pub mod dht;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod names;
pub mod pool;
pub mod port;
mod post;
pub mod pubsub;
pub mod relay;
pub mod remote;
mod round_trip;
pub mod rpc;
pub mod tier;
mod tokens;
pub mod transport;
