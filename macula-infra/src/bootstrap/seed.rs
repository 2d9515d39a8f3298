//! Seeds, as configuration writes them.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;

use macula_core::identity::NodeId;

/// The longest name of a host, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// The longest part of it between two dots, in bytes.
const LABEL_LEN_MAX: usize = 63;

/// Where a node of the mesh is said to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
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
    /// At any of the hosts and ports that the service has (SRV records, RFC 2782).
    Service {
        /// The name, such as `_macula._udp.example.org`.
        name: String,
    },
    /// This very node is at that place. Where nodes are trusted by their ids a seed has to say whom
    /// it means.
    Node {
        /// The node.
        node: NodeId,
        /// An address or a host.
        place: Box<Self>,
    },
}

/// A text is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no seed: it has to be an address or a host with a port, such as \"10.0.0.1:7000\", \
     alone or after \"<node id>@\", or a service, such as \"_macula._udp.example.org\""
)]
pub struct InvalidSeed(String);

impl FromStr for Seed {
    type Err = InvalidSeed;

    fn from_str(text: &str) -> Result<Self, InvalidSeed> {
        let invalid = || InvalidSeed(text.chars().take(HOST_LEN_MAX).collect());
        if let Some((node, place)) = text.split_once('@') {
            let node = node.parse().map_err(|_not_an_id| invalid())?;
            return match place.parse() {
                Ok(place @ (Self::Address(_) | Self::Host { .. })) => {
                    Ok(Self::Node { node, place: Box::new(place) })
                }
                Ok(_) | Err(_) => Err(invalid()),
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let is_place = address.port() != 0 && !address.ip().is_unspecified();
            return if is_place { Ok(Self::Address(address)) } else { Err(invalid()) };
        }
        if text.starts_with('_') {
            let labels = text.split('.').take_while(|label| label.starts_with('_')).count();
            let is_service = labels == 2 && text.split('.').count() > 2 && is_name(text);
            return if is_service {
                Ok(Self::Service { name: text.to_owned() })
            } else {
                Err(invalid())
            };
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        if is_name(name) { Ok(Self::Host { name: name.to_owned(), port }) } else { Err(invalid()) }
    }
}

/// Whether it is a name of labels (RFC 1035, with `_` as in RFC 2782), with or without the dot of
/// the root.
fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.chars().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    text.len() <= HOST_LEN_MAX && labels.split('.').all(is_label)
}

impl Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => Display::fmt(address, f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service { name } => f.write_str(name),
            Self::Node { node, place } => write!(f, "{node}@{place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;
    use macula_core::identity::Keypair;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        let id = Keypair::from_seed([1; 32]).node_id();
        let (by_address, by_host) = (format!("{id}@[::1]:7000"), format!("{id}@host:1"));
        let good = ["10.0.0.1:7000", "[::1]:7000", "seed.example.org:7000", "localhost:1"];
        let others = ["_macula._udp.example.org", "_m._tcp.localhost", &by_address, &by_host];
        for text in good.into_iter().chain(others) {
            assert_eq!(text.parse::<Seed>().unwrap().to_string(), text);
        }
        let bad = ["", "10.0.0.1", "10.0.0.1:0", "host", ":7", "a b:7", "host:70000", "host:0"];
        let nowhere = ["0.0.0.0:7000", "[::]:7000", "a..b:7", ".a:7", "-a.b:7", "a.b-:7", "..:7"];
        let long = format!("{}:7", "a".repeat(64));
        let no_service = ["_macula._udp", "_macula.example.org", "_m._udp.a:7", "_m._udp.a b"];
        let (no_place, twice) = (format!("{id}@"), format!("{id}@{id}@host:1"));
        let service = format!("{id}@_macula._udp.example.org");
        let no_node = ["@10.0.0.1:7000", "me@10.0.0.1:7000", &no_place, &twice, &service];
        let nowhere = nowhere.into_iter().chain([long.as_str()]);
        for bad in bad.into_iter().chain(nowhere).chain(no_service).chain(no_node) {
            assert!(bad.parse::<Seed>().is_err(), "{bad}");
        }
    }
}
