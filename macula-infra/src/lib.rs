//! The infrastructure tier of Macula: bytes between nodes.
//!
//! What lives here knows addresses, connections and frames, and nothing of what the frames are
//! for. Its parts start in the order of their dependencies and fall in the same order: if the
//! transport is lost, whatever stands on it begins anew. [`tier::spec`] builds the whole as one
//! child of a root.

pub mod tier;
