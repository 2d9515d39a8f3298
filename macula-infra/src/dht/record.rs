//! Records: values under a name, signed by their author.
//!
//! A record is believed for its signature and for the [`Rules`], whoever has handed it over. Its
//! sequence number says which of two is newer; an author never uses one twice. When two records
//! have one sequence number all the same, whoever stores keeps the first one that came (so that
//! compare-and-set means something), and whoever reads takes the one that most nodes have, or else
//! the one that [`Verified::supersedes`] the other.

use std::borrow::Cow;
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

/// What a record is signed for.
const CONTEXT: &str = "macula dht record 1";

/// How many bytes a signed record has beside its body: the author and the signature.
const SEAL_LEN: usize = 96;

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
        Key::of_name(self.realm, &self.space, &self.name)
    }

    /// Signs it with its author's key. Bounds are not looked at.
    ///
    /// # Errors
    ///
    /// [`SignError`], if the key is another node's or the record far too long.
    pub fn sign(&self, keypair: &Keypair) -> Result<Signed, SignError> {
        let signer = keypair.node_id();
        if signer != self.author {
            return Err(SignError::NotTheAuthor { author: self.author, signer });
        }
        let body = Body {
            realm: self.realm,
            space: Cow::Borrowed(&self.space),
            name: serde_bytes::Bytes::new(&self.name),
            sequence: self.sequence,
            expires_ms: millis(self.expires_at),
            value: serde_bytes::Bytes::new(&self.value),
        };
        let body = to_body(&body, SIGNED_LEN_MAX)?;
        Ok(Signed(Envelope::seal(keypair, CONTEXT, body)))
    }
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its author has not signed it.
    #[error("forged: the signature is not its author's")]
    Forged,
    /// What its author has signed is no record.
    #[error("its body is no record: {0}")]
    Malformed(BodyError),
    /// It belongs to another realm.
    #[error("it is of another realm")]
    OtherRealm,
    /// It is too long.
    #[error("oversized: {0}")]
    Oversized(#[from] Oversized),
    /// It is not what is kept under the key.
    #[error("it belongs under the key {belongs}, and not under {asked}")]
    WrongKey {
        /// Where it belongs.
        belongs: Key,
        /// Where it was found.
        asked: Key,
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
        /// How long it would live.
        ttl: Duration,
        /// How long it may live.
        max: Duration,
    },
    /// The validator of its key space does not take it.
    #[error("not valid in its key space: {0}")]
    Invalid(Cow<'static, str>),
}

/// A record with its author's signature, as it travels. Nothing of it is believed yet.
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
        let record = self.decode(body, &rules.limits)?;
        if record.realm != rules.realm {
            return Err(Refusal::OtherRealm);
        }
        check_sizes(&record, &rules.limits)?;
        let belongs = record.key();
        if let Some(asked) = key.filter(|asked| *asked != belongs) {
            return Err(Refusal::WrongKey { belongs, asked });
        }
        check_times(&record, since_epoch, &rules.limits)?;
        let content = Content::Record(&record.value);
        let entry = Entry { name: &record.name, author: record.author, content };
        rules.validators.validate(&record.space, &entry).map_err(Refusal::Invalid)?;
        let (digest, len) = (digest(body), body.len() + SEAL_LEN);
        Ok(Verified { record, key: belongs, digest, len, signed: self.clone() })
    }

    /// The record, whose value is a slice of the signed body.
    fn decode(&self, bytes: &Bytes, limits: &Limits) -> Result<Record, Refusal> {
        let strings = limits.value_len_max + limits.name_len_max + limits.space_len_max;
        let limits = wire::Limits {
            frame_len_max: strings + BODY_EXTRA_LEN_MAX,
            depth_max: 4,
            count_max: 128,
        };
        let body: Body<'_> = from_body(bytes, &limits).map_err(|error| match error {
            BodyError::TooLong { len, max } => Oversized { part: Part::Whole, len, max }.into(),
            error => Refusal::Malformed(error),
        })?;
        Ok(Record {
            realm: body.realm,
            space: body.space.into_owned(),
            name: body.name.to_vec(),
            author: self.author(),
            sequence: body.sequence,
            expires_at: Duration::from_millis(body.expires_ms),
            value: bytes.slice_ref(body.value),
        })
    }
}

fn check_sizes(record: &Record, limits: &Limits) -> Result<(), Oversized> {
    Oversized::check(Part::Value, record.value.len(), limits.value_len_max)?;
    Oversized::check(Part::Name, record.name.len(), limits.name_len_max)?;
    Oversized::check(Part::Space, record.space.len(), limits.space_len_max)
}

fn check_times(record: &Record, since_epoch: Duration, limits: &Limits) -> Result<(), Refusal> {
    let ttl = record.expires_at.saturating_sub(since_epoch);
    if ttl.is_zero() {
        return Err(Refusal::Expired { ago: since_epoch.saturating_sub(record.expires_at) });
    }
    let max = limits.record_ttl_max + limits.skew_max;
    if ttl > max { Err(Refusal::LivesTooLong { ttl, max }) } else { Ok(()) }
}

/// A record that is believed: only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    record: Record,
    key: Key,
    digest: [u8; 32],
    len: usize,
    signed: Signed,
}

impl Verified {
    /// The record.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Where it is kept.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The hash of what was signed: two records are the same if they have the same author and this.
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

    /// The record alone.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.record
    }

    /// Whether a reader who was given both takes this one: for its sequence number, or else, so
    /// that all readers agree, for its digest.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.record.sequence, self.digest) > (other.record.sequence, other.digest)
    }
}

#[cfg(test)]
pub(super) mod tests;
