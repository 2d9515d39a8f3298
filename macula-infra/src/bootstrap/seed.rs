//! Seeds, as configuration writes them.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;

/// The longest name of a host, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// Where a node of the mesh is said to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seed {
    /// At this address.
    Address(SocketAddr),
    /// At any of the addresses that the name has (A and AAAA records).
    Host {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
}

/// A text is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no seed: it has to be an address or a host with a port, such as \"10.0.0.1:7000\""
)]
pub struct InvalidSeed(String);

impl FromStr for Seed {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, InvalidSeed> {
        let invalid = || InvalidSeed(text.chars().take(HOST_LEN_MAX).collect());
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(invalid()) } else { Ok(Self::Address(address)) };
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_name = (1..=HOST_LEN_MAX).contains(&name.len()) && name.chars().all(legal);
        if is_name { Ok(Self::Host { name: name.to_owned(), port }) } else { Err(invalid()) }
    }
}

impl Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => Display::fmt(address, f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        for text in ["10.0.0.1:7000", "[::1]:7000", "seed.example.org:7000", "localhost:1"] {
            assert_eq!(text.parse::<Seed>().unwrap().to_string(), text);
        }
        for bad in ["", "10.0.0.1", "10.0.0.1:0", "host", ":7", "a b:7", "host:70000", "host:0"] {
            assert!(bad.parse::<Seed>().is_err(), "{bad}");
        }
    }
}
