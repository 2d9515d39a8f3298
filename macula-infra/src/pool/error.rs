//! Why there is no connection to a peer.

use std::time::Duration;

/// Why there is no connection to a peer now. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No address of the peer is known.
    #[error("no address of the node is known")]
    NoAddress,
    /// The peer failed lately, and is not tried yet.
    #[error("the node failed lately; it is tried again in {}", macula_core::clock::shown(*.retry_in))]
    BackingOff {
        /// When it is tried again.
        retry_in: Duration,
    },
    /// As many connections as may be are live, and none can be let go.
    #[error("there are {live} connections, at most {high} are allowed")]
    Full {
        /// How many there are.
        live: usize,
        /// How many may be.
        high: usize,
    },
    /// All of the peer's addresses were dialled, and none led to it.
    #[error("{why}")]
    Failed {
        /// Why the last of them did not.
        why: String,
    },
    /// The pool cannot answer now.
    #[error("{0}")]
    NotReady(&'static str),
}
