//! The infrastructure tier: bytes between nodes.
//!
//! Its rooms stand upon one another in this order: [`transport`] makes verified connections,
//! [`link`] puts one to work, [`pool`] keeps one to each peer, and [`remote`] calls actors over
//! them. The services stand beside one another on top of these: [`membership`] says who is there,
//! [`dht`] finds nodes, records and providers, [`bootstrap`] finds the mesh, and [`names`] whoever
//! serves an actor. [`mesh`] is what the tiers above see, and [`tier`] the part of the tree that
//! runs it all.

mod announcing;
pub mod bootstrap;
pub mod bounds;
pub mod contact;
mod desk;
pub mod dht;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod names;
pub mod pool;
mod post;
pub mod pubsub;
pub mod remote;
pub mod tier;
pub mod transport;
