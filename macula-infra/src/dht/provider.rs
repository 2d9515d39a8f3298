//! Providers: nodes that have what a name stands for, with their own signature.
//!
//! A node issues its entry anew before it expires, and withdraws it when it stops. The newest issue
//! of a node counts, so its clock is its sequence number. A withdrawal is an issue that is over from
//! the beginning; it is kept for as long as what it withdraws could be replayed.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Envelope, Keypair, NodeId, digest};
use macula_core::wire::{self, BodyError, from_body, to_body};
use serde::{Deserialize, Serialize};

use super::key::{Key, RealmId};
use super::rules::{
    BODY_EXTRA_LEN_MAX, Content, Entry, Limits, Oversized, Part, Rules, SIGNED_LEN_MAX, SignError,
    millis,
};
use crate::contact::{ADDRESSES_MAX, Contact};

/// What a provider is signed for.
const CONTEXT: &str = "macula dht provider 1";

/// How many bytes a signed provider has beside its body: the author and the signature.
const SEAL_LEN: usize = 96;

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
        Key::of_name(self.realm, &self.space, &self.name)
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
        let signer = keypair.node_id();
        if signer != self.node() {
            return Err(SignError::NotTheAuthor { author: self.node(), signer });
        }
        let body = Body {
            realm: self.realm,
            space: Cow::Borrowed(&self.space),
            name: serde_bytes::Bytes::new(&self.name),
            addresses: self.contact.addresses.clone(),
            metadata: serde_bytes::Bytes::new(&self.metadata),
            issued_ms: millis(self.issued_at),
            expires_ms: millis(self.expires_at),
        };
        let body = to_body(&body, SIGNED_LEN_MAX)?;
        Ok(Signed(Envelope::seal(keypair, CONTEXT, body)))
    }
}

/// Why a provider is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its node has not signed it.
    #[error("forged: the signature is not its node's")]
    Forged,
    /// What its node has signed is no provider.
    #[error("its body is no provider: {0}")]
    Malformed(BodyError),
    /// It belongs to another realm.
    #[error("it is of another realm")]
    OtherRealm,
    /// It is too long.
    #[error("oversized: {0}")]
    Oversized(#[from] Oversized),
    /// It has more addresses than a contact may have.
    #[error("it has {len} addresses, at most {ADDRESSES_MAX} are taken")]
    TooManyAddresses {
        /// How many.
        len: usize,
    },
    /// It is not what is kept under the key.
    #[error("it belongs under the key {belongs}, and not under {asked}")]
    WrongKey {
        /// Where it belongs.
        belongs: Key,
        /// Where it was found.
        asked: Key,
    },
    /// It was issued later than now.
    #[error("it was issued {} s from now", .ahead.as_secs())]
    FromTheFuture {
        /// How much later.
        ahead: Duration,
    },
    /// It is over.
    #[error("it expired {} s ago", .ago.as_secs())]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// It wants to be kept for too long.
    #[error("it would live for {} s, at most {} s are granted", .ttl.as_secs(), .max.as_secs())]
    LivesTooLong {
        /// How long it would live since it was issued.
        ttl: Duration,
        /// How long it may live.
        max: Duration,
    },
    /// The validator of its key space does not take it.
    #[error("not valid in its key space: {0}")]
    Invalid(Cow<'static, str>),
}

/// A provider with its node's signature, as it travels. Nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signed(Envelope);

impl Signed {
    /// Who is said to have signed it.
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.0.author()
    }

    /// Looks at it, at a moment since the Unix epoch, and believes it or not. With a key, it has to
    /// be what is kept under that key.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the first of its reasons that holds, in the order in which they are declared.
    pub fn verify(
        &self,
        since_epoch: Duration,
        key: Option<Key>,
        rules: &Rules,
    ) -> Result<Verified, Refusal> {
        let body = self.0.open(CONTEXT).map_err(|_signature| Refusal::Forged)?;
        let provider = self.decode(body, &rules.limits)?;
        if provider.realm != rules.realm {
            return Err(Refusal::OtherRealm);
        }
        check_sizes(&provider, &rules.limits)?;
        let belongs = provider.key();
        if let Some(asked) = key.filter(|asked| *asked != belongs) {
            return Err(Refusal::WrongKey { belongs, asked });
        }
        let kept_until = check_times(&provider, since_epoch, &rules.limits)?;
        let content = Content::Provider(&provider.metadata);
        let entry = Entry { name: &provider.name, author: provider.node(), content };
        rules.validators.validate(&provider.space, &entry).map_err(Refusal::Invalid)?;
        let (digest, len) = (digest(body), body.len() + SEAL_LEN);
        Ok(Verified { provider, key: belongs, kept_until, digest, len, signed: self.clone() })
    }

    fn decode(&self, bytes: &Bytes, limits: &Limits) -> Result<Provider, Refusal> {
        let strings = limits.metadata_len_max + limits.name_len_max + limits.space_len_max;
        let limits = wire::Limits {
            frame_len_max: strings + ADDRESSES_MAX * ADDRESS_LEN_MAX + BODY_EXTRA_LEN_MAX,
            depth_max: 8,
            count_max: 1024,
        };
        let body: Body<'_> = from_body(bytes, &limits).map_err(|error| match error {
            BodyError::TooLong { len, max } => Oversized { part: Part::Whole, len, max }.into(),
            error => Refusal::Malformed(error),
        })?;
        let len = body.addresses.len();
        if len > ADDRESSES_MAX {
            return Err(Refusal::TooManyAddresses { len });
        }
        Ok(Provider {
            realm: body.realm,
            space: body.space.into_owned(),
            name: body.name.to_vec(),
            contact: Contact::new(self.author(), body.addresses),
            metadata: bytes.slice_ref(body.metadata),
            issued_at: Duration::from_millis(body.issued_ms),
            expires_at: Duration::from_millis(body.expires_ms),
        })
    }
}

fn check_sizes(provider: &Provider, limits: &Limits) -> Result<(), Oversized> {
    Oversized::check(Part::Value, provider.metadata.len(), limits.metadata_len_max)?;
    Oversized::check(Part::Name, provider.name.len(), limits.name_len_max)?;
    Oversized::check(Part::Space, provider.space.len(), limits.space_len_max)
}

/// Until when it is kept: a withdrawal for as long as what it withdraws could live.
fn check_times(
    provider: &Provider,
    since_epoch: Duration,
    limits: &Limits,
) -> Result<Duration, Refusal> {
    let ahead = provider.issued_at.saturating_sub(since_epoch);
    if ahead > limits.skew_max {
        return Err(Refusal::FromTheFuture { ahead });
    }
    let max = limits.provider_ttl_max;
    let kept_until = if provider.is_withdrawal() {
        provider.issued_at + max + limits.skew_max
    } else {
        provider.expires_at
    };
    if kept_until <= since_epoch {
        return Err(Refusal::Expired { ago: since_epoch.saturating_sub(kept_until) });
    }
    let ttl = provider.expires_at.saturating_sub(provider.issued_at);
    if ttl > max { Err(Refusal::LivesTooLong { ttl, max }) } else { Ok(kept_until) }
}

/// A provider that is believed: only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    provider: Provider,
    key: Key,
    kept_until: Duration,
    digest: [u8; 32],
    len: usize,
    signed: Signed,
}

impl Verified {
    /// The provider.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Where it is kept.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Until when it is kept, since the Unix epoch; a withdrawal outlives its own end.
    #[must_use]
    pub const fn kept_until(&self) -> Duration {
        self.kept_until
    }

    /// The hash of what was signed.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How many bytes it takes to keep it, about.
    #[must_use]
    pub const fn stored_len(&self) -> usize {
        self.len
    }

    /// It, as it travels.
    #[must_use]
    pub const fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The provider alone.
    #[must_use]
    pub fn into_provider(self) -> Provider {
        self.provider
    }
}

#[cfg(test)]
pub(super) mod tests;
