//! Who wrote something: a replica is one life of one node's state.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One life of one node's replicated state.
///
/// A node that forgot what it had written must not go on as the replica that wrote it, so the
/// incarnation grows with every life. Replicas are ordered by node and then by incarnation, which
/// breaks ties between timestamps. It prints as `node.incarnation`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[expect(
    clippy::module_name_repetitions,
    reason = "it is imported by name, where `Id` says nothing"
)]
pub struct ReplicaId {
    /// The node, unique in its mesh.
    pub node: u64,
    /// Which life of the node's state; it only grows.
    pub incarnation: u64,
}

impl ReplicaId {
    /// The replica of a node's next life.
    #[must_use]
    pub const fn next_life(self) -> Self {
        Self { node: self.node, incarnation: self.incarnation.saturating_add(1) }
    }
}

impl Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::ReplicaId;

    #[test]
    fn the_node_counts_before_the_incarnation() {
        let old = ReplicaId { node: 2, incarnation: 9 };
        assert!(old < ReplicaId { node: 3, incarnation: 1 });
        assert!(old < old.next_life());
        assert_eq!(old.next_life().to_string(), "2.10");
    }
}
