//! Results.

use serde::{Deserialize, Serialize};

use super::op::WORD_CHARS_MAX;
use super::refusal::{Refusal, WireRefusal};
use super::{CONTACTS_MAX, encoded_len};
use crate::contact::{ADDRESSES_MAX, Contact};
use crate::dht::proto::providers::ProvideOutcome;
use crate::dht::proto::records::PutOutcome;
use crate::dht::{provider, record, signed};

/// The kinds of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// A ping.
    Ping,
    /// A search for nodes.
    FindNode,
    /// A search for a record.
    FindValue,
    /// A record to keep.
    Store,
    /// A search for providers.
    FindProviders,
    /// A provider to keep.
    Provide,
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WireResult", try_from = "WireResult")]
pub enum OpResult {
    /// The node is there.
    Pong,
    /// The closest nodes that it knows; there is no record, if one was asked for.
    Nodes {
        /// At most [`CONTACTS_MAX`], the closest first.
        contacts: Vec<Contact>,
    },
    /// The record, and the closest nodes.
    Value {
        /// The record.
        record: record::Signed,
        /// At most [`CONTACTS_MAX`], the closest first.
        contacts: Vec<Contact>,
    },
    /// Providers, and the closest nodes.
    Providers {
        /// At most [`CONTACTS_MAX`], by chance if there are more.
        providers: Vec<provider::Signed>,
        /// How many the node keeps.
        total: u64,
        /// At most [`CONTACTS_MAX`], the closest first.
        contacts: Vec<Contact>,
    },
    /// The record or provider is kept; or it is withdrawn.
    Kept {
        /// It was kept already.
        already: bool,
    },
    /// It was not done.
    Refused(Refusal),
    /// Something that this node does not know.
    Unknown {
        /// The word for it.
        word: String,
    },
}

impl OpResult {
    /// Whether it can be the answer to an operation of this kind.
    #[must_use]
    pub const fn answers(&self, kind: OpKind) -> bool {
        match self {
            Self::Pong => matches!(kind, OpKind::Ping),
            Self::Nodes { .. } => matches!(kind, OpKind::FindNode | OpKind::FindValue),
            Self::Value { .. } => matches!(kind, OpKind::FindValue),
            Self::Providers { .. } => matches!(kind, OpKind::FindProviders),
            Self::Kept { .. } => matches!(kind, OpKind::Store | OpKind::Provide),
            Self::Refused(_) | Self::Unknown { .. } => true,
        }
    }

    /// How many bytes it takes on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        encoded_len(self)
    }
}

impl From<PutOutcome> for OpResult {
    fn from(outcome: PutOutcome) -> Self {
        match outcome {
            PutOutcome::Stored => Self::Kept { already: false },
            PutOutcome::Same => Self::Kept { already: true },
            PutOutcome::Older { stored } => Self::Refused(Refusal::Older { stored }),
            PutOutcome::ConditionFailed { stored } => {
                Self::Refused(Refusal::ConditionFailed { stored })
            }
            PutOutcome::Conflict { stored } => Self::Refused(Refusal::Conflict { stored }),
            PutOutcome::Full(_) => Self::Refused(Refusal::Full),
            PutOutcome::Expired => Self::Refused(Refusal::Expired),
        }
    }
}

impl From<ProvideOutcome> for OpResult {
    fn from(outcome: ProvideOutcome) -> Self {
        match outcome {
            ProvideOutcome::Stored | ProvideOutcome::Withdrawn => Self::Kept { already: false },
            ProvideOutcome::Same => Self::Kept { already: true },
            ProvideOutcome::Older { stored } => {
                Self::Refused(Refusal::Older { stored: crate::dht::rules::millis(stored) })
            }
            ProvideOutcome::Full(_) => Self::Refused(Refusal::Full),
            ProvideOutcome::Expired => Self::Refused(Refusal::Expired),
        }
    }
}

impl From<signed::Refusal> for OpResult {
    fn from(refusal: signed::Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// The words of [`WireResult::result`].
mod word {
    pub(super) const PONG: &str = "pong";
    pub(super) const NODES: &str = "nodes";
    pub(super) const VALUE: &str = "value";
    pub(super) const PROVIDERS: &str = "providers";
    pub(super) const KEPT: &str = "kept";
    pub(super) const REFUSED: &str = "refused";
}

/// A word, and what belongs to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct WireResult {
    result: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contacts: Vec<Contact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<record::Signed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<provider::Signed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    already: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<WireRefusal>,
}

impl From<OpResult> for WireResult {
    fn from(result: OpResult) -> Self {
        let named = |word: &str| Self { result: word.to_owned(), ..Self::default() };
        match result {
            OpResult::Pong => named(word::PONG),
            OpResult::Nodes { contacts } => Self { contacts, ..named(word::NODES) },
            OpResult::Value { record, contacts } => {
                Self { record: Some(record), contacts, ..named(word::VALUE) }
            }
            OpResult::Providers { providers, total, contacts } => {
                Self { providers, total: Some(total), contacts, ..named(word::PROVIDERS) }
            }
            OpResult::Kept { already } => {
                Self { already: already.then_some(true), ..named(word::KEPT) }
            }
            OpResult::Refused(refusal) => {
                Self { refusal: Some(refusal.into()), ..named(word::REFUSED) }
            }
            OpResult::Unknown { word } => Self { result: word, ..Self::default() },
        }
    }
}

impl TryFrom<WireResult> for OpResult {
    type Error = &'static str;

    fn try_from(wire: WireResult) -> Result<Self, Self::Error> {
        if wire.contacts.len() > CONTACTS_MAX {
            return Err("too many contacts");
        }
        if wire.contacts.iter().any(|contact| contact.addresses.len() > ADDRESSES_MAX) {
            return Err("a contact with too many addresses");
        }
        if wire.providers.len() > CONTACTS_MAX {
            return Err("too many providers");
        }
        let contacts = wire.contacts;
        Ok(match wire.result.as_str() {
            word::PONG => Self::Pong,
            word::NODES => Self::Nodes { contacts },
            word::VALUE => {
                Self::Value { record: wire.record.ok_or("a value without its record")?, contacts }
            }
            word::PROVIDERS => Self::Providers {
                total: wire.total.unwrap_or(0),
                providers: wire.providers,
                contacts,
            },
            word::KEPT => Self::Kept { already: wire.already.unwrap_or(false) },
            word::REFUSED => {
                Self::Refused(wire.refusal.ok_or("a refusal without its reason")?.into())
            }
            _ => Self::Unknown { word: wire.result.chars().take(WORD_CHARS_MAX).collect() },
        })
    }
}
