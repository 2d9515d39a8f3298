//! What can go wrong between nodes.

use std::net::SocketAddr;
use std::time::Duration;

use macula_core::identity::NodeId;

use super::connection::Closed;
use super::tls::Refusal;
use crate::bounds::Invalid;

/// Why an endpoint did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot stand.
    #[error("transport: {0}")]
    Config(#[from] Invalid),
    /// A socket could not be made.
    #[error("cannot bind UDP socket {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The QUIC or TLS library refused.
    #[error("cannot start QUIC: {0}")]
    Quic(String),
}

/// Why a dial made no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// This node does not believe the peer.
    #[error("the peer at {address} is refused: {refusal}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        refusal: Refusal,
    },
    /// The peer does not believe this node, or will not have it now.
    #[error("the peer at {address} refuses this node: {why}")]
    RefusedByPeer {
        /// Where.
        address: SocketAddr,
        /// What it said.
        why: String,
    },
    /// The peer has no room for a connection.
    #[error("the peer at {address} is busy: {why}")]
    Busy {
        /// Where.
        address: SocketAddr,
        /// What it said.
        why: String,
    },
    /// Nobody answers.
    #[error("nobody answers at {address}: {closed}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What happened.
        closed: Closed,
    },
    /// The handshake took too long.
    #[error("no handshake with {address} within {}", macula_core::clock::shown(*.within))]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// The bound.
        within: Duration,
    },
    /// The other side speaks, but not as it should.
    #[error("the peer at {address} does not keep to the protocol: {what}")]
    Protocol {
        /// Where.
        address: SocketAddr,
        /// What it did.
        what: String,
    },
    /// No socket of this node reaches such an address.
    #[error("this node has no socket for the addresses of {address}")]
    NoSocket {
        /// Where.
        address: SocketAddr,
    },
    /// Whoever dialled has given up.
    #[error("the dial was given up")]
    GivenUp,
    /// The endpoint is down, and will be back.
    #[error("the endpoint of this node is restarting")]
    Down,
}

/// Who has arrived, for logs: `node at address`.
pub(super) fn named(node: NodeId, address: SocketAddr) -> String {
    format!("{} at {address}", node.short())
}
