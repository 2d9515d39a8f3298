//! What is believed and kept: bounds, and who may write what in which key space.
//!
//! The node that stores and the node that reads hold the same [`Rules`] against what they are
//! given, so that neither has to trust the other.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::wire::EncodeError;

use super::key::RealmId;
use crate::bounds::{Invalid, number, span};

/// The key spaces that every node knows.
pub mod space {
    /// The name is a node's id, and only that node writes.
    pub const NODE: &str = "node";
    /// The name begins with the author's id, and only the author writes.
    pub const OWN: &str = "own";
    /// Names for people and programs: anyone writes.
    pub const NAME: &str = "name";
    /// Nodes that relay for others.
    pub const RELAY: &str = "relay";
    /// What the patterns of subscriptions begin with: anyone writes.
    pub const SUB: &str = "sub";
    /// Anything: anyone writes.
    pub const ANY: &str = "any";
}

/// The bounds of what is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest value of a record, in bytes. 1 to 65,536.
    pub value_len_max: usize,
    /// The longest metadata of a provider, in bytes. 0 to 1,024.
    pub metadata_len_max: usize,
    /// The longest name, in bytes. 64 to 512.
    pub name_len_max: usize,
    /// The longest name of a key space, in bytes. 4 to 64.
    pub space_len_max: usize,
    /// How long a record may live from now on. 1 min to 30 d.
    pub record_ttl_max: Duration,
    /// How long a provider may live from when it was issued. 1 min to 1 d.
    pub provider_ttl_max: Duration,
    /// How far the clocks of two nodes may be apart. Up to 1 h.
    pub skew_max: Duration,
}

impl Default for Limits {
    /// 64 KiB for a value, 1 KiB for metadata, 512 bytes for a name, 64 for a space; 48 hours for a
    /// record, one hour for a provider, 5 minutes between clocks.
    fn default() -> Self {
        Self {
            value_len_max: 65_536,
            metadata_len_max: 1024,
            name_len_max: 512,
            space_len_max: 64,
            record_ttl_max: Duration::from_secs(48 * 3600),
            provider_ttl_max: Duration::from_secs(3600),
            skew_max: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let secs = Duration::from_secs;
        number("value_len_max", self.value_len_max, 1, 65_536)?;
        number("metadata_len_max", self.metadata_len_max, 0, 1_024)?;
        number("name_len_max", self.name_len_max, 64, 512)?;
        number("space_len_max", self.space_len_max, 4, 64)?;
        span("record_ttl_max", self.record_ttl_max, secs(60), secs(30 * 86_400))?;
        span("provider_ttl_max", self.provider_ttl_max, secs(60), secs(86_400))?;
        span("skew_max", self.skew_max, secs(0), secs(3_600))
    }
}

/// What a validator looks at. The signature was checked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name in the key space.
    pub name: &'a [u8],
    /// Who has signed it.
    pub author: NodeId,
    /// What it is.
    pub content: Content<'a>,
}

/// What is written under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A record with this value.
    Record(&'a [u8]),
    /// A provider with this metadata.
    Provider(&'a [u8]),
}

/// Says what may be written in a key space.
pub trait Validator: Debug + Send + Sync {
    /// Looks at an entry.
    ///
    /// # Errors
    ///
    /// Why it is not taken, in a few words.
    fn validate(&self, entry: &Entry<'_>) -> Result<(), Cow<'static, str>>;
}

/// The validators of the key spaces that every node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Anyone.
    Anyone,
    /// The node whose id is the name.
    Named,
    /// The node whose id the name begins with.
    Prefixed,
}

impl Validator for Writers {
    fn validate(&self, entry: &Entry<'_>) -> Result<(), Cow<'static, str>> {
        let author = entry.author.as_bytes().as_slice();
        match self {
            Self::Anyone => Ok(()),
            Self::Named if entry.name == author => Ok(()),
            Self::Prefixed if entry.name.starts_with(author) => Ok(()),
            Self::Named => Err("only the node of that name may write here".into()),
            Self::Prefixed => Err("the name does not begin with its author's id".into()),
        }
    }
}

/// The name in the space [`OWN`](space::OWN) that a node calls `rest`.
#[must_use]
pub fn own_name(author: NodeId, rest: &[u8]) -> Vec<u8> {
    [author.as_bytes(), rest].concat()
}

/// Which validator belongs to which key space.
#[derive(Debug, Clone)]
pub struct Validators {
    by_space: BTreeMap<String, Arc<dyn Validator>>,
    unknown_allowed: bool,
}

impl Default for Validators {
    /// Those of the six spaces that every node knows; other spaces are refused.
    fn default() -> Self {
        let none = Self { by_space: BTreeMap::new(), unknown_allowed: false };
        none.with(space::NODE, Writers::Named)
            .with(space::OWN, Writers::Prefixed)
            .with(space::NAME, Writers::Anyone)
            .with(space::RELAY, Writers::Anyone)
            .with(space::SUB, Writers::Anyone)
            .with(space::ANY, Writers::Anyone)
    }
}

impl Validators {
    /// With one more space, or another validator for a known one.
    #[must_use]
    pub fn with(mut self, space: &str, validator: impl Validator + 'static) -> Self {
        self.by_space.insert(space.to_owned(), Arc::new(validator));
        self
    }

    /// Anyone may write anything in spaces that are not known.
    #[must_use]
    pub fn allowing_unknown(mut self) -> Self {
        self.unknown_allowed = true;
        self
    }

    /// Whether anything may be written in a space.
    #[must_use]
    pub fn knows(&self, space: &str) -> bool {
        self.unknown_allowed || self.by_space.contains_key(space)
    }

    /// The spaces that have a validator.
    pub fn spaces(&self) -> impl Iterator<Item = &str> {
        self.by_space.keys().map(String::as_str)
    }

    /// Asks the validator of a space.
    ///
    /// # Errors
    ///
    /// What it says, or that the space is not known.
    pub fn validate(&self, space: &str, entry: &Entry<'_>) -> Result<(), Cow<'static, str>> {
        match self.by_space.get(space) {
            Some(validator) => validator.validate(entry),
            None if self.unknown_allowed => Ok(()),
            None => Err("the key space is not known here".into()),
        }
    }
}

/// What a node holds against all records and providers.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The realm in which it is.
    pub realm: RealmId,
    /// The bounds.
    pub limits: Limits,
    /// Who may write what.
    pub validators: Validators,
}

impl Rules {
    /// The usual rules in a realm.
    #[must_use]
    pub fn new(realm: RealmId) -> Self {
        Self { realm, limits: Limits::default(), validators: Validators::default() }
    }
}

/// What is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The value or the metadata.
    Value,
    /// The name.
    Name,
    /// The name of the key space.
    Space,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Value => "value",
            Self::Name => "name",
            Self::Space => "key space",
        })
    }
}

/// A part that is longer than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its {part} has {len} bytes, at most {max} are taken")]
pub struct Oversized {
    /// Which part.
    pub part: Part,
    /// How long it is, in bytes.
    pub len: usize,
    /// How long it may be, in bytes.
    pub max: usize,
}

impl Oversized {
    pub(super) const fn check(part: Part, len: usize, max: usize) -> Result<(), Self> {
        if len > max { Err(Self { part, len, max }) } else { Ok(()) }
    }
}

/// Why something was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key is not its author's.
    #[error("it is {author}'s, and the key is that of {signer}; nothing was signed")]
    NotTheAuthor {
        /// Whose it is.
        author: NodeId,
        /// Whose key it was.
        signer: NodeId,
    },
    /// It is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The milliseconds of a moment since the Unix epoch.
pub(super) fn millis(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
