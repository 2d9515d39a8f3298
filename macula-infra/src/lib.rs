//! The infrastructure tier: bytes between nodes.
//!
//! Its rooms stand upon one another in this order: [`transport`] makes verified connections,
//! [`link`] puts one to work, [`pool`] keeps one to each peer, and [`remote`] calls actors over
//! them. [`mesh`] is what the tiers above see, and [`tier`] the part of the tree that runs it all.

pub mod contact;
pub mod dht;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod pool;
pub mod remote;
pub mod tier;
pub mod transport;
