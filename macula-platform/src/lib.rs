//! The platform tier of Macula: agreement and shared state.
//!
//! What lives here knows nodes, keys and values, and knows nothing of bytes between nodes: this
//! crate has no line for a transport in its manifest. Replicated state comes in two kinds. What
//! must be agreed upon stands below `consensus`; what may be written anywhere at any time, and
//! converges, stands below `replicator`. [`tier::spec`] builds the whole as one child of a root.

pub mod consensus;
pub mod crdt;
pub mod election;
pub mod kv;
pub mod minder;
pub mod raft;
pub mod registers;
pub mod singleton;
pub mod tier;
