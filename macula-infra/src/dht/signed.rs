//! What an author has signed: how records and providers are sealed, and why they are believed.
//!
//! Both are a [`Statement`]: something under a name, with a content and an end. It travels as
//! [`Signed`], of which nothing is believed, and becomes [`Verified`] once its signature and the
//! [`Rules`] hold. Nobody has to be trusted who hands it over.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Envelope, Keypair, NodeId, digest};
use macula_core::wire::{self, BodyError, EncodeError, from_body};
use serde::{Deserialize, Serialize};

use super::key::{Key, RealmId};
use super::rules::{Content, Entry, Limits, Oversized, Part, Rules, SignError};
use crate::contact::ADDRESSES_MAX;

/// The longest thing that is signed at all, in bytes.
pub(super) const SIGNED_LEN_MAX: usize = 1 << 20;

/// How many bytes a signed body has at most beside its strings: names of fields, and numbers.
const BODY_EXTRA_LEN_MAX: usize = 512;

/// How many bytes there are beside a body: the author and the signature.
const SEAL_LEN: usize = 96;

/// Something that its author says under a name.
pub trait Statement: Debug + Clone + PartialEq + Eq + Sized {
    /// What it is signed for. A signature is good for nothing else.
    const CONTEXT: &'static str;

    /// Who says it.
    fn author(&self) -> NodeId;

    /// In which realm and key space, and under which name.
    fn place(&self) -> (RealmId, &str, &[u8]);

    /// What, as validators see it.
    fn content(&self) -> Content<'_>;

    /// The bytes that are signed. Bounds are not looked at.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if there are far too many.
    fn encode(&self) -> Result<Bytes, EncodeError>;

    /// Reads signed bytes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`], and [`Refusal::Oversized`] if they are more than the bounds allow.
    fn decode(author: NodeId, bytes: &Bytes, limits: &Limits) -> Result<Self, Refusal>;

    /// Until when it is kept, if it may be kept now; both since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    fn kept_until(&self, since_epoch: Duration, limits: &Limits) -> Result<Duration, Refusal>;
}

/// Where a statement is kept.
pub(super) fn key_of<T: Statement>(what: &T) -> Key {
    let (realm, space, name) = what.place();
    Key::of_name(realm, space, name)
}

/// Signs a statement with its author's key.
pub(super) fn seal<T: Statement>(what: &T, keypair: &Keypair) -> Result<Signed<T>, SignError> {
    let (author, signer) = (what.author(), keypair.node_id());
    if signer != author {
        return Err(SignError::NotTheAuthor { author, signer });
    }
    Ok(Signed::from(Envelope::seal(keypair, T::CONTEXT, what.encode()?)))
}

/// Why something that was signed is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its author has not signed it.
    #[error("forged: the signature is not its author's")]
    Forged,
    /// What its author has signed is something else.
    #[error("its body cannot be read: {0}")]
    Malformed(BodyError),
    /// It has more addresses than a contact may have.
    #[error("it has {len} addresses, at most {ADDRESSES_MAX} are taken")]
    TooManyAddresses {
        /// How many.
        len: usize,
    },
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
        /// How long it would live.
        ttl: Duration,
        /// How long it may live.
        max: Duration,
    },
    /// The validator of its key space does not take it.
    #[error("not valid in its key space: {0}")]
    Invalid(Cow<'static, str>),
}

/// Reads the body of a statement whose strings have at most so many bytes in all.
pub(super) fn body<'a, B: Deserialize<'a>>(bytes: &'a [u8], strings: usize) -> Result<B, Refusal> {
    let frame_len_max = strings + BODY_EXTRA_LEN_MAX;
    let caps = wire::Limits { frame_len_max, depth_max: 8, count_max: 1_024 };
    from_body(bytes, &caps).map_err(|error| match error {
        BodyError::TooLong { len, max } => Oversized { part: Part::Whole, len, max }.into(),
        error => Refusal::Malformed(error),
    })
}

/// A statement with its author's signature, as it travels. Nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Signed<T> {
    envelope: Envelope,
    of: PhantomData<T>,
}

impl<T> From<Envelope> for Signed<T> {
    /// What is said to be one.
    fn from(envelope: Envelope) -> Self {
        Self { envelope, of: PhantomData }
    }
}

impl<T: Statement> Signed<T> {
    /// Who is said to have signed it.
    #[must_use]
    pub const fn author(&self) -> NodeId {
        self.envelope.author()
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
    ) -> Result<Verified<T>, Refusal> {
        let body = self.envelope.open(T::CONTEXT).map_err(|_signature| Refusal::Forged)?;
        let what = T::decode(self.author(), body, &rules.limits)?;
        let (realm, space, name) = what.place();
        if realm != rules.realm {
            return Err(Refusal::OtherRealm);
        }
        check_sizes(&what, &rules.limits)?;
        let belongs = key_of(&what);
        if let Some(asked) = key.filter(|asked| *asked != belongs) {
            return Err(Refusal::WrongKey { belongs, asked });
        }
        let kept_until = what.kept_until(since_epoch, &rules.limits)?;
        let entry = Entry { name, author: what.author(), content: what.content() };
        rules.validators.validate(space, &entry).map_err(Refusal::Invalid)?;
        let (digest, len) = (digest(body), body.len() + SEAL_LEN);
        Ok(Verified { what, key: belongs, kept_until, digest, len, signed: self.clone() })
    }
}

fn check_sizes<T: Statement>(what: &T, limits: &Limits) -> Result<(), Oversized> {
    let (content, max) = match what.content() {
        Content::Record(value) => (value, limits.value_len_max),
        Content::Provider(metadata) => (metadata, limits.metadata_len_max),
    };
    Oversized::check(Part::Value, content.len(), max)?;
    let (_, space, name) = what.place();
    Oversized::check(Part::Name, name.len(), limits.name_len_max)?;
    Oversized::check(Part::Space, space.len(), limits.space_len_max)
}

/// A statement that is believed: only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    what: T,
    key: Key,
    kept_until: Duration,
    digest: [u8; 32],
    len: usize,
    signed: Signed<T>,
}

impl<T> Verified<T> {
    /// What is said.
    #[must_use]
    pub const fn what(&self) -> &T {
        &self.what
    }

    /// Where it is kept.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Until when it is kept, since the Unix epoch.
    #[must_use]
    pub const fn kept_until(&self) -> Duration {
        self.kept_until
    }

    /// The hash of what was signed: two are the same if they have the same author and this.
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
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// What is said, alone.
    #[must_use]
    pub fn into_what(self) -> T {
        self.what
    }
}
