//! Verified QUIC between nodes: who the other side is, before it is heard.
//!
//! An [`Endpoint`] owns the node's UDP sockets, accepts and dials. Both sides of a [`Connection`]
//! have proved their key in the TLS handshake ([`tls`]) and have exchanged a hello; only then does
//! anything above see it. A connection carries long-lived [`lane`]s, each a QUIC stream of
//! length-prefixed frames, and streams of their own for bodies that are too long for a frame.
//!
//! This is the only room that names the QUIC library (RFC 9000) and the TLS library (RFC 8446,
//! RFC 9001). What is above sees one `Endpoint`, whatever is underneath.

mod actor;
mod admission;
mod config;
mod connection;
mod datagrams;
mod endpoint;
mod error;
mod greeting;
mod io;
pub mod lane;
pub mod metrics;
pub mod overlay;
mod peer_chain;
pub mod raw;
#[cfg(feature = "turmoil")]
mod simulated;
pub mod tls;
mod wire;

pub use actor::{Broken, Current, EndpointActor, Parts, Running, Sink, worker};
pub use config::{Admission, Config, Congestion};
pub use connection::{CloseCode, Closed, Connection, Opener, Pending, Side, Streams};
pub use endpoint::{Arrival, Endpoint, Me};
pub use error::{DialError, StartError};
pub use io::Sockets;
pub use wire::{Goodbye, Pulse, UNSUPPORTED, Unsupported, kind};
