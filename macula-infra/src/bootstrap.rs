//! How a node that knows addresses finds its mesh.
//!
//! As long as the node is alone, its seeds are resolved (addresses, names of hosts, and services in
//! the DNS) and dialled, with a back-off and for ever.
//! Whoever answers there proves who it is like any peer, and the membership goes on from it. A node
//! that has company dials seeds at which no member is known, slowly and for ever: so two meshes that
//! have never met become one as soon as a seed of one is found from the other. Whoever was a member
//! once is asked for by the membership itself.

mod actor;
mod dns;
mod seed;

use std::net::SocketAddr;
use std::time::Duration;

use crate::bounds::{Invalid, span};

pub(crate) use actor::{Parts, worker};
pub use seed::{InvalidSeed, Seed};

/// The configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where nodes of the mesh are.
    pub seeds: Vec<Seed>,
    /// Who is asked for the names of seeds (DNS, RFC 1035), if not the system's resolver.
    pub nameserver: Option<SocketAddr>,
    /// How long after the first attempt the next follows. 10 ms to `retry_max`.
    pub retry_initial: Duration,
    /// The longest time between two attempts. Up to 1 h.
    pub retry_max: Duration,
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let (shortest, longest) = (Duration::from_millis(10), Duration::from_secs(3_600));
        span("retry_max", self.retry_max, shortest, longest)?;
        span("retry_initial", self.retry_initial, shortest, self.retry_max)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            nameserver: None,
            retry_initial: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
        }
    }
}
