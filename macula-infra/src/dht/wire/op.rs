//! Operations.

use serde::{Deserialize, Serialize};

use super::fields::KeyBytes;
use super::result::OpKind;
use super::{CONTACTS_MAX, encoded_len};
use crate::dht::key::Key;
use crate::dht::proto::records::Condition;
use crate::dht::{provider, record};

/// How many bytes stored cost as much as one more lookup in a table.
const BYTES_PER_COST: usize = 4096;

/// How much of a word that is not known is kept, in characters.
pub(super) const WORD_CHARS_MAX: usize = 64;

/// What a node is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WireOp", try_from = "WireOp")]
pub enum Op {
    /// To say that it is there.
    Ping,
    /// To name the nodes that are closest to a key.
    FindNode {
        /// The key.
        target: Key,
    },
    /// To give the record at a key, or else to name the closest nodes.
    FindValue {
        /// The key.
        key: Key,
    },
    /// To keep a record.
    Store {
        /// The record.
        record: record::Signed,
        /// What has to hold of what is kept.
        condition: Condition,
    },
    /// To name providers of a key, and the closest nodes.
    FindProviders {
        /// The key.
        key: Key,
        /// How many at most: 1 to 20.
        max: usize,
    },
    /// To keep, or take out, a provider.
    Provide {
        /// The provider.
        provider: provider::Signed,
    },
    /// Something that this node does not know.
    Unknown {
        /// The word for it.
        word: String,
    },
}

impl Op {
    /// What kind of result answers it; none if this node does not know.
    #[must_use]
    pub const fn kind(&self) -> Option<OpKind> {
        match self {
            Self::Ping => Some(OpKind::Ping),
            Self::FindNode { .. } => Some(OpKind::FindNode),
            Self::FindValue { .. } => Some(OpKind::FindValue),
            Self::Store { .. } => Some(OpKind::Store),
            Self::FindProviders { .. } => Some(OpKind::FindProviders),
            Self::Provide { .. } => Some(OpKind::Provide),
            Self::Unknown { .. } => None,
        }
    }

    /// How many bytes it takes on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        encoded_len(self)
    }

    /// What it costs the node that does it, in lookups in its table.
    #[must_use]
    pub fn cost(&self) -> u32 {
        let bytes =
            |op: &Self| u32::try_from(op.encoded_len() / BYTES_PER_COST).unwrap_or(u32::MAX);
        match self {
            Self::Ping | Self::Unknown { .. } => 1,
            Self::FindNode { .. } | Self::FindValue { .. } | Self::FindProviders { .. } => 2,
            // A signature is checked.
            Self::Store { .. } | Self::Provide { .. } => bytes(self).saturating_add(4),
        }
    }
}

/// The words of [`WireOp::op`].
mod word {
    pub(super) const PING: &str = "ping";
    pub(super) const FIND_NODE: &str = "find_node";
    pub(super) const FIND_VALUE: &str = "find_value";
    pub(super) const STORE: &str = "store";
    pub(super) const FIND_PROVIDERS: &str = "find_providers";
    pub(super) const PROVIDE: &str = "provide";
}

/// A word, and what belongs to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct WireOp {
    op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<record::Signed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<provider::Signed>,
    /// The record is stored only if there is none.
    #[serde(skip_serializing_if = "is_false")]
    if_absent: bool,
    /// The record is stored only if there is one with this sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    if_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl From<Op> for WireOp {
    fn from(op: Op) -> Self {
        let named = |word: &str| Self { op: word.to_owned(), ..Self::default() };
        match op {
            Op::Ping => named(word::PING),
            Op::FindNode { target } => {
                Self { key: Some(KeyBytes(target)), ..named(word::FIND_NODE) }
            }
            Op::FindValue { key } => Self { key: Some(KeyBytes(key)), ..named(word::FIND_VALUE) },
            Op::Store { record, condition } => Self {
                record: Some(record),
                if_absent: condition == Condition::Absent,
                if_sequence: match condition {
                    Condition::Sequence(sequence) => Some(sequence),
                    Condition::Any | Condition::Absent => None,
                },
                ..named(word::STORE)
            },
            Op::FindProviders { key, max } => Self {
                key: Some(KeyBytes(key)),
                max: u64::try_from(max).ok(),
                ..named(word::FIND_PROVIDERS)
            },
            Op::Provide { provider } => Self { provider: Some(provider), ..named(word::PROVIDE) },
            Op::Unknown { word } => Self { op: word, ..Self::default() },
        }
    }
}

impl TryFrom<WireOp> for Op {
    type Error = &'static str;

    fn try_from(wire: WireOp) -> Result<Self, Self::Error> {
        let key = || wire.key.map(|key| key.0).ok_or("an operation without its key");
        Ok(match wire.op.as_str() {
            word::PING => Self::Ping,
            word::FIND_NODE => Self::FindNode { target: key()? },
            word::FIND_VALUE => Self::FindValue { key: key()? },
            word::STORE => Self::Store {
                record: wire.record.ok_or("a store without its record")?,
                condition: match (wire.if_absent, wire.if_sequence) {
                    (false, None) => Condition::Any,
                    (true, None) => Condition::Absent,
                    (false, Some(sequence)) => Condition::Sequence(sequence),
                    (true, Some(_)) => return Err("a store with two conditions"),
                },
            },
            word::FIND_PROVIDERS => {
                let max = wire
                    .max
                    .map_or(CONTACTS_MAX, |max| usize::try_from(max).unwrap_or(CONTACTS_MAX));
                Self::FindProviders { key: key()?, max: max.clamp(1, CONTACTS_MAX) }
            }
            word::PROVIDE => {
                Self::Provide { provider: wire.provider.ok_or("no provider to keep")? }
            }
            _ => Self::Unknown { word: wire.op.chars().take(WORD_CHARS_MAX).collect() },
        })
    }
}
