//! The name of a node, which is its public key.

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many characters of a node's name its short form has.
const SHORT_LEN: usize = 10;

/// How many characters a node's name has.
const TEXT_LEN: usize = 52;

/// Base32 (RFC 4648) in lower case and without padding.
fn base32() -> Encoding {
    let mut lower = Specification::new();
    lower.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The specification is a constant that is good.
    lower.encoding().unwrap_or(BASE32_NOPAD)
}

/// How many keys each thread remembers that it has found to be good: 256 KiB.
const CHECKED_MAX: usize = 8_192;

thread_local! {
    static CHECKED: RefCell<Checked> = const { RefCell::new(Checked(Vec::new())) };
}

/// Keys that were found to be good. To check one takes ten microseconds, and nodes name one another
/// again and again, twenty in each answer. A key has one place, where the next one replaces it.
struct Checked(Vec<Option<[u8; 32]>>);

impl Checked {
    fn place(bytes: &[u8; 32]) -> usize {
        let [first, second, ..] = *bytes;
        usize::from(u16::from_le_bytes([first, second])) % CHECKED_MAX
    }

    fn holds(&self, bytes: &[u8; 32]) -> bool {
        self.0.get(Self::place(bytes)).is_some_and(|checked| checked.as_ref() == Some(bytes))
    }

    fn note(&mut self, bytes: [u8; 32]) {
        self.0.resize(CHECKED_MAX, None);
        if let Some(place) = self.0.get_mut(Self::place(&bytes)) {
            *place = Some(bytes);
        }
    }
}

/// Why something is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNodeId {
    /// A name has 52 characters.
    #[error("a node id has {TEXT_LEN} characters, and this has {0}")]
    Length(usize),
    /// A character that base32 does not have, or that cannot stand where it does.
    #[error("a node id is lower-case base32 (a to z, 2 to 7), and character {position} is not")]
    Character {
        /// Which, from 1.
        position: usize,
    },
    /// The bytes are no public key, or a weak one.
    #[error("the bytes are no Ed25519 public key that can be an identity")]
    Key,
}

/// A node: its 32-byte Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Takes the bytes of a public key.
    ///
    /// # Errors
    ///
    /// [`InvalidNodeId::Key`] if they are no point on the curve, or one of small order, whose
    /// signatures prove nothing.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidNodeId> {
        if CHECKED.with_borrow(|checked| checked.holds(&bytes)) {
            return Ok(Self(bytes));
        }
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => {
                CHECKED.with_borrow_mut(|checked| checked.note(bytes));
                Ok(Self(bytes))
            }
            Ok(_) | Err(_) => Err(InvalidNodeId::Key),
        }
    }

    pub(super) fn of(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten characters of its name: enough for people, and not for programs.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(SHORT_LEN).collect()
    }

    /// Whether the node has signed a message (RFC 8032, with the strict checks that leave one
    /// message one signature).
    ///
    /// # Errors
    ///
    /// [`BadSignature`] if it has not.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_key| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature).map_err(|_wrong| BadSignature)
    }
}

impl Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&base32().encode(&self.0))
    }
}

impl Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        if text.len() != TEXT_LEN {
            return Err(InvalidNodeId::Length(text.chars().count()));
        }
        let bytes = base32()
            .decode(text.as_bytes())
            .map_err(|error| InvalidNodeId::Character { position: error.position + 1 })?;
        Self::from_bytes(bytes.try_into().map_err(|_length| InvalidNodeId::Key)?)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        let bytes = serde_bytes::ByteArray::<32>::deserialize(deserializer)?;
        Self::from_bytes(bytes.into_array()).map_err(D::Error::custom)
    }
}

/// A signature does not belong to the message and the node that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not that of the node over this message")]
pub struct BadSignature;

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub(super) [u8; 64]);

impl Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature")
    }
}

impl Signature {
    /// Takes its bytes. Whether it is a signature shows when it is verified.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(serde_bytes::ByteArray::<64>::deserialize(deserializer)?.into_array()))
    }
}
