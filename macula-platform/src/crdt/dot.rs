//! The name of one update.

use std::fmt::Display;

use macula_core::replica::ReplicaId;

/// One update of one replica in one bucket: no two updates of a bucket have the same dot.
///
/// The order is by replica, then by counter. It prints as `node.incarnation:counter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dot {
    /// Who made the update.
    pub replica: ReplicaId,
    /// Which of that replica's updates it is, from 1.
    pub counter: u64,
}

impl Display for Dot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.replica, self.counter)
    }
}
