//! Diversity: how many nodes of one network a table takes.
//!
//! Node ids cost nothing, addresses do. So the nodes of one address prefix can only fill a small
//! part of a bucket and of a table (Marcus, Heilman and Goldberg, *Low-Resource Eclipse Attacks on
//! Ethereum's Peer-to-Peer Network*, IACR ePrint 2018/236).

use std::net::{IpAddr, Ipv4Addr};

use super::peer::Peer;
use crate::bounds::{Invalid, number};

/// The network that an address is in: the first 24 bits (IPv4) or 48 bits (IPv6), which is about
/// what one customer of a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// The first 24 bits.
    V4([u8; 3]),
    /// The first 48 bits.
    V6([u8; 6]),
}

/// How many nodes of one prefix there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In a bucket, and as many again in its replacement cache. 1 to 64.
    pub bucket_max: usize,
    /// In the whole table. 1 to 5,120.
    pub table_max: usize,
    /// Whether loopback, private and link-local addresses are limited too. They are not by default,
    /// so that a mesh can live in one machine or behind one router.
    pub private: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bucket_max: 2, table_max: 10, private: false }
    }
}

impl Limits {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        number("table.prefix_bucket_max", self.bucket_max, 1, 64)?;
        number("table.prefix_table_max", self.table_max, 1, 5_120)
    }

    /// The prefix under which a peer counts: that of its first address, which is where it was
    /// reached. None if it does not count.
    #[must_use]
    pub fn prefix(&self, peer: &Peer) -> Option<Prefix> {
        let ip = peer.address()?.ip().to_canonical();
        (self.private || !is_private(ip)).then(|| Prefix::of(ip))
    }
}

impl Prefix {
    /// The prefix of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// Whether an address means something only nearby (RFC 1918, 3927, 4193, 4291, 6598).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether an address is in 100.64.0.0/10, which carriers and overlay networks use within.
const fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}
