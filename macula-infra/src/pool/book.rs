//! Where peers can be dialled: what configuration says, and what they say themselves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::DashMap;
use macula_core::identity::NodeId;

use crate::transport::overlay::is_overlay;

/// How many addresses of one peer are kept. The oldest that were learned give way.
const ADDRESSES_MAX: usize = 8;

/// How many peers are known. More are not learned.
const PEERS_MAX: usize = 100_000;

#[derive(Debug, Clone, Default)]
struct Entry {
    /// Told by configuration or by the program: kept for ever.
    given: Vec<SocketAddr>,
    /// Told by the peer: the newest first.
    learned: VecDeque<SocketAddr>,
}

/// Where peers can be dialled. Clones are the same book.
#[derive(Debug, Clone, Default)]
pub struct AddressBook(Arc<DashMap<NodeId, Entry>>);

impl AddressBook {
    /// Adds addresses of a peer, which are kept.
    pub fn add(&self, peer: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut entry = self.0.entry(peer).or_default();
        for address in addresses {
            if entry.given.len() < ADDRESSES_MAX && !entry.given.contains(&address) {
                entry.given.push(address);
            }
        }
    }

    /// Takes what a connected peer says of itself. An address that it does not know better than
    /// "any of mine" is the one that it was seen at, with its port.
    pub(crate) fn learn(&self, peer: NodeId, seen: SocketAddr, listen: &[SocketAddr]) {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            return;
        }
        let mut entry = self.0.entry(peer).or_default();
        for said in listen.iter().rev().filter(|said| said.port() != 0) {
            let is_known = !said.ip().is_unspecified();
            if !is_known && is_overlay(seen) {
                continue;
            }
            let ip = if is_known { said.ip() } else { seen.ip() };
            // What is said of a loopback address by somebody far away leads nowhere.
            if ip.is_loopback() && !seen.ip().is_loopback() {
                continue;
            }
            let address = SocketAddr::new(ip, said.port());
            entry.learned.retain(|known| *known != address);
            entry.learned.push_front(address);
        }
        entry.learned.truncate(ADDRESSES_MAX);
    }

    /// Takes what others say of a peer. It gives way to what the peer says itself.
    pub(crate) fn hear(&self, peer: NodeId, addresses: &[SocketAddr]) {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            return;
        }
        let mut entry = self.0.entry(peer).or_default();
        for address in addresses.iter().filter(|address| address.port() != 0) {
            if !entry.given.contains(address) && !entry.learned.contains(address) {
                entry.learned.push_back(*address);
            }
        }
        while entry.learned.len() > ADDRESSES_MAX {
            // The newest hearsay goes first, but for the last that came.
            entry.learned.remove(ADDRESSES_MAX - 1);
        }
    }

    /// Where to dial a peer, the best first.
    #[must_use]
    pub fn addresses(&self, peer: NodeId) -> Vec<SocketAddr> {
        let entry = self.0.get(&peer).map(|entry| entry.value().clone()).unwrap_or_default();
        let mut addresses = entry.given;
        for address in entry.learned {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        // What goes over others is the last resort.
        addresses.sort_by_key(|address| is_overlay(*address));
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// The peers of whom an address is known.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        let mut peers: Vec<NodeId> = self.0.iter().map(|entry| *entry.key()).collect();
        peers.sort_unstable();
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_MAX, AddressBook};
    use macula_core::identity::Keypair;
    use std::net::SocketAddr;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_given_comes_before_what_was_learned() {
        let (book, peer) = (AddressBook::default(), Keypair::from_seed([1; 32]).node_id());
        book.learn(peer, at("10.0.0.7:5000"), &[at("0.0.0.0:7400"), at("10.0.0.9:7400")]);
        book.add(peer, [at("10.0.0.1:7400")]);
        let known = book.addresses(peer);
        assert_eq!(known, [at("10.0.0.1:7400"), at("10.0.0.7:7400"), at("10.0.0.9:7400")]);
        book.learn(peer, at("10.0.0.7:5000"), &[at("127.0.0.1:1")]);
        assert_eq!(book.addresses(peer), known);
    }

    #[test]
    fn a_peer_cannot_fill_the_book() {
        let (book, peer) = (AddressBook::default(), Keypair::from_seed([1; 32]).node_id());
        for port in 1..100 {
            book.learn(peer, at("10.0.0.7:5000"), &[SocketAddr::new(at("10.0.0.1:1").ip(), port)]);
        }
        assert_eq!(book.addresses(peer).len(), ADDRESSES_MAX);
        assert_eq!(book.addresses(peer).first(), Some(&at("10.0.0.1:99")));
    }
}
