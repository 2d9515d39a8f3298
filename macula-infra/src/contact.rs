//! A node, and where it can be reached: what nodes tell one another about third ones.
//!
//! A contact is hearsay until its node has been dialled: a connection is made only if the node at
//! the address proves to be the one that was expected.

use std::net::SocketAddr;

use macula_core::identity::NodeId;
use serde::{Deserialize, Serialize};

use crate::transport::overlay::is_overlay;

/// How many addresses a contact has at most.
pub const ADDRESSES_MAX: usize = 8;

/// A node, and where it can be reached, the best address first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// The node.
    pub node: NodeId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
}

impl Contact {
    /// A node with its addresses, of which the first [`ADDRESSES_MAX`] are kept.
    #[must_use]
    pub fn new(node: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { node, addresses: addresses.into_iter().take(ADDRESSES_MAX).collect() }
    }

    /// The same node, without what goes over others.
    #[must_use]
    pub fn directly(&self) -> Self {
        let direct = self.addresses.iter().copied().filter(|address| !is_overlay(*address));
        Self::new(self.node, direct)
    }
}
