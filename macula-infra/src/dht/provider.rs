//! Providers: nodes that have what a name stands for, with their own signature.
//!
//! A node issues its entry anew before it expires, and withdraws it when it stops. The newest issue
//! of a node counts, so its clock is its sequence number. A withdrawal is an issue that is over from
//! the beginning; it is kept for as long as what it withdraws could be replayed.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::wire::{EncodeError, to_body};
use serde::{Deserialize, Serialize};

use super::key::{Key, RealmId};
use super::rules::{Content, Limits, SignError, millis};
use super::signed::{self, SIGNED_LEN_MAX, Statement};
use crate::contact::{ADDRESSES_MAX, Contact};

pub use super::signed::Refusal;

/// A provider with its node's signature, as it travels.
pub type Signed = signed::Signed<Provider>;

/// A provider that is believed.
pub type Verified = signed::Verified<Provider>;

/// How many bytes an address takes at most in MessagePack.
const ADDRESS_LEN_MAX: usize = 64;

/// A node that has what a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// In which realm.
    pub realm: RealmId,
    /// In which key space.
    pub space: String,
    /// Under which name.
    pub name: Vec<u8>,
    /// The node, which is the author, and where it can be reached.
    pub contact: Contact,
    /// What the node says about it: at most 1 KiB.
    pub metadata: Bytes,
    /// When it was issued, since the Unix epoch, in whole milliseconds. The newest one counts.
    pub issued_at: Duration,
    /// From when on it is nothing any more, likewise; zero withdraws it.
    pub expires_at: Duration,
}

/// What is signed. It only ever gains fields.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    realm: RealmId,
    space: Cow<'a, str>,
    #[serde(borrow)]
    name: &'a serde_bytes::Bytes,
    addresses: Vec<SocketAddr>,
    #[serde(borrow)]
    metadata: &'a serde_bytes::Bytes,
    issued_ms: u64,
    expires_ms: u64,
}

impl Provider {
    /// Where it is kept.
    #[must_use]
    pub fn key(&self) -> Key {
        signed::key_of(self)
    }

    /// The node that provides.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.contact.node
    }

    /// Whether it takes back what was issued before.
    #[must_use]
    pub const fn is_withdrawal(&self) -> bool {
        self.expires_at.is_zero()
    }

    /// What withdraws this provider, from `issued_at` on.
    #[must_use]
    pub fn withdrawal(&self, issued_at: Duration) -> Self {
        Self {
            contact: Contact::new(self.node(), []),
            metadata: Bytes::new(),
            issued_at: issued_at.max(self.issued_at + Duration::from_millis(1)),
            expires_at: Duration::ZERO,
            ..self.clone()
        }
    }

    /// Signs it with its node's key. Bounds are not looked at.
    ///
    /// # Errors
    ///
    /// [`SignError`], if the key is another node's or the provider far too long.
    pub fn sign(&self, keypair: &Keypair) -> Result<Signed, SignError> {
        signed::seal(self, keypair)
    }
}

impl Statement for Provider {
    const CONTEXT: &'static str = "macula dht provider 1";

    fn author(&self) -> NodeId {
        self.node()
    }

    fn place(&self) -> (RealmId, &str, &[u8]) {
        (self.realm, &self.space, &self.name)
    }

    fn content(&self) -> Content<'_> {
        Content::Provider(&self.metadata)
    }

    fn encode(&self) -> Result<Bytes, EncodeError> {
        let body = Body {
            realm: self.realm,
            space: Cow::Borrowed(&self.space),
            name: serde_bytes::Bytes::new(&self.name),
            addresses: self.contact.addresses.clone(),
            metadata: serde_bytes::Bytes::new(&self.metadata),
            issued_ms: millis(self.issued_at),
            expires_ms: millis(self.expires_at),
        };
        to_body(&body, SIGNED_LEN_MAX)
    }

    /// The metadata are a slice of the signed bytes.
    fn decode(author: NodeId, bytes: &Bytes, limits: &Limits) -> Result<Self, Refusal> {
        let strings = limits.metadata_len_max + limits.name_len_max + limits.space_len_max;
        let body: Body<'_> = signed::body(bytes, strings + ADDRESSES_MAX * ADDRESS_LEN_MAX)?;
        let len = body.addresses.len();
        if len > ADDRESSES_MAX {
            return Err(Refusal::TooManyAddresses { len });
        }
        Ok(Self {
            realm: body.realm,
            space: body.space.into_owned(),
            name: body.name.to_vec(),
            contact: Contact::new(author, body.addresses),
            metadata: bytes.slice_ref(body.metadata),
            issued_at: Duration::from_millis(body.issued_ms),
            expires_at: Duration::from_millis(body.expires_ms),
        })
    }

    /// A withdrawal is kept for as long as what it withdraws could live.
    fn kept_until(&self, since_epoch: Duration, limits: &Limits) -> Result<Duration, Refusal> {
        let ahead = self.issued_at.saturating_sub(since_epoch);
        if ahead > limits.skew_max {
            return Err(Refusal::FromTheFuture { ahead });
        }
        let max = limits.provider_ttl_max;
        let kept_until = if self.is_withdrawal() {
            self.issued_at + max + limits.skew_max
        } else {
            self.expires_at
        };
        if kept_until <= since_epoch {
            return Err(Refusal::Expired { ago: since_epoch.saturating_sub(kept_until) });
        }
        let ttl = self.expires_at.saturating_sub(self.issued_at);
        if ttl > max { Err(Refusal::LivesTooLong { ttl, max }) } else { Ok(kept_until) }
    }
}

impl Verified {
    /// The provider.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        self.what()
    }
}

#[cfg(test)]
pub(super) mod tests;
