//! A peer: a contact with its key, shared by all parts that know of it.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use macula_core::identity::NodeId;

use crate::contact::{ADDRESSES_MAX, Contact};
use crate::dht::key::Key;

/// A contact and its place in the key space. A clone costs one counter, and the hash for the place
/// is paid for once.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    key: Key,
    contact: Contact,
}

impl Peer {
    /// A contact with its key.
    #[must_use]
    pub fn new(contact: Contact) -> Self {
        Self(Arc::new(Inner { key: Key::of_node(contact.node), contact }))
    }

    /// Where in the key space it is.
    #[must_use]
    pub fn key(&self) -> Key {
        self.0.key
    }

    /// Which node it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.contact.node
    }

    /// The node and its addresses.
    #[must_use]
    pub fn contact(&self) -> &Contact {
        &self.0.contact
    }

    /// The address that counts, which is the first.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.contact.addresses.first().copied()
    }

    /// Whether it can be dialled at all: it has 1 to [`ADDRESSES_MAX`] addresses, and each of them
    /// is one that a single node can have.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let addresses = &self.0.contact.addresses;
        let can_be = |address: &SocketAddr| {
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
        };
        (1..=ADDRESSES_MAX).contains(&addresses.len()) && addresses.iter().all(can_be)
    }

    /// The same node with the addresses of both, taken by turns. So a liar who names false ones
    /// first does not crowd out the true ones.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let (ours, theirs) = (&self.0.contact.addresses, &other.0.contact.addresses);
        if theirs.iter().all(|address| ours.contains(address)) {
            return self.clone();
        }
        let mut both: Vec<SocketAddr> = Vec::with_capacity(ADDRESSES_MAX);
        for turn in 0..ADDRESSES_MAX {
            for address in [ours.get(turn), theirs.get(turn)].into_iter().flatten() {
                if !both.contains(address) {
                    both.push(*address);
                }
            }
        }
        let contact = Contact::new(self.node(), both);
        Self(Arc::new(Inner { key: self.key(), contact }))
    }
}

impl From<Contact> for Peer {
    fn from(contact: Contact) -> Self {
        Self::new(contact)
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.contact == other.0.contact
    }
}

impl Eq for Peer {}

/// The key stands for the rest of it: it is itself a hash, and its first bytes are enough.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _rest) = self.0.key.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*first).hash(state);
    }
}

impl Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{:?}", self.0.contact.node, self.address())
    }
}
