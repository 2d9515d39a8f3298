//! Records: values under a name, signed by their author.
//!
//! A record is believed for its signature and for the [`Rules`](super::rules::Rules), whoever has handed it over. Its
//! sequence number says which of two is newer; an author never uses one twice. When two records
//! have one sequence number all the same, whoever stores keeps the first one that came (so that
//! compare-and-set means something), and whoever reads takes the one that most nodes have, or else
//! the one that [`Verified::supersedes`] the other.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::wire::{EncodeError, to_body};
use serde::{Deserialize, Serialize};

use super::key::{Key, RealmId};
use super::rules::{Content, Limits, SignError, millis};
use super::signed::{self, SIGNED_LEN_MAX, Statement};

pub use super::signed::Refusal;

/// A record with its author's signature, as it travels.
pub type Signed = signed::Signed<Record>;

/// A record that is believed.
pub type Verified = signed::Verified<Record>;

/// A value under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In which realm.
    pub realm: RealmId,
    /// In which key space.
    pub space: String,
    /// Under which name.
    pub name: Vec<u8>,
    /// Who has written it.
    pub author: NodeId,
    /// A greater one is newer.
    pub sequence: u64,
    /// From when on it is nothing any more, since the Unix epoch, in whole milliseconds.
    pub expires_at: Duration,
    /// The value: at most 64 KiB.
    pub value: Bytes,
}

/// What is signed. It only ever gains fields.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    realm: RealmId,
    space: Cow<'a, str>,
    #[serde(borrow)]
    name: &'a serde_bytes::Bytes,
    sequence: u64,
    expires_ms: u64,
    #[serde(borrow)]
    value: &'a serde_bytes::Bytes,
}

impl Record {
    /// Where it is kept.
    #[must_use]
    pub fn key(&self) -> Key {
        signed::key_of(self)
    }

    /// Signs it with its author's key. Bounds are not looked at.
    ///
    /// # Errors
    ///
    /// [`SignError`], if the key is another node's or the record far too long.
    pub fn sign(&self, keypair: &Keypair) -> Result<Signed, SignError> {
        signed::seal(self, keypair)
    }
}

impl Statement for Record {
    const CONTEXT: &'static str = "macula dht record 1";

    fn author(&self) -> NodeId {
        self.author
    }

    fn place(&self) -> (RealmId, &str, &[u8]) {
        (self.realm, &self.space, &self.name)
    }

    fn content(&self) -> Content<'_> {
        Content::Record(&self.value)
    }

    fn encode(&self) -> Result<Bytes, EncodeError> {
        let body = Body {
            realm: self.realm,
            space: Cow::Borrowed(&self.space),
            name: serde_bytes::Bytes::new(&self.name),
            sequence: self.sequence,
            expires_ms: millis(self.expires_at),
            value: serde_bytes::Bytes::new(&self.value),
        };
        to_body(&body, SIGNED_LEN_MAX)
    }

    /// The value is a slice of the signed bytes.
    fn decode(author: NodeId, bytes: &Bytes, limits: &Limits) -> Result<Self, Refusal> {
        let strings = limits.value_len_max + limits.name_len_max + limits.space_len_max;
        let body: Body<'_> = signed::body(bytes, strings)?;
        Ok(Self {
            realm: body.realm,
            space: body.space.into_owned(),
            name: body.name.to_vec(),
            author,
            sequence: body.sequence,
            expires_at: Duration::from_millis(body.expires_ms),
            value: bytes.slice_ref(body.value),
        })
    }

    fn kept_until(&self, since_epoch: Duration, limits: &Limits) -> Result<Duration, Refusal> {
        let ttl = self.expires_at.saturating_sub(since_epoch);
        if ttl.is_zero() {
            return Err(Refusal::Expired { ago: since_epoch.saturating_sub(self.expires_at) });
        }
        let max = limits.record_ttl_max + limits.skew_max;
        if ttl > max { Err(Refusal::LivesTooLong { ttl, max }) } else { Ok(self.expires_at) }
    }
}

impl Verified {
    /// The record.
    #[must_use]
    pub const fn record(&self) -> &Record {
        self.what()
    }

    /// Whether a reader who was given both takes this one: for its sequence number, or else, so
    /// that all readers agree, for its digest.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.record().sequence, self.digest()) > (other.record().sequence, other.digest())
    }
}

#[cfg(test)]
pub(super) mod tests;
