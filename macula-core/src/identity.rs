//! Who a node is: one Ed25519 key (RFC 8032), and all that hangs on it.
//!
//! A [`NodeId`] is the public key. Certificates, records, membership and access all name a node by
//! it. A [`Keypair`] signs; an [`Envelope`] is a signed body. A realm's [`Authority`] issues
//! [`Certificate`]s (RFC 5280, RFC 8410) for its nodes and takes them back with revocation lists;
//! without one a node vouches for itself ([`self_signed`]). Keys live in files that nobody but
//! their owner may read ([`mod@file`]).
//!
//! Nothing here asks for the time: whoever does tells it, as a [`Duration`](std::time::Duration)
//! since the Unix epoch.

mod authority;
mod certificate;
mod envelope;
pub mod file;
mod keypair;
mod node_id;

pub use authority::{
    Authority, InvalidRealm, IssueError, Revocation, check_name, crl_from_pem, crl_to_pem,
    self_signed,
};
pub use certificate::{Certificate, Facts, InvalidPin, MalformedCertificate, SpkiPin, Validity};
pub use envelope::Envelope;
pub use keypair::{InvalidKey, Keypair, NoEntropy};
pub use node_id::{BadSignature, InvalidNodeId, NodeId, Signature};

/// The BLAKE3 hash of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// The BLAKE3 hash of some bytes under a key, which nobody without the key can tell from chance.
#[must_use]
pub fn keyed_digest(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, bytes).as_bytes()
}

#[cfg(test)]
mod tests;
