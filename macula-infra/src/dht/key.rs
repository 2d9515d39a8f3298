//! Keys, and the distance between them.

use std::fmt::{Debug, Display};

use data_encoding::HEXLOWER;
use macula_core::identity::{NodeId, digest};
use serde::{Deserialize, Serialize};

/// What a node's place is hashed with.
const NODE: &[u8] = b"macula dht node 1\0";

/// What a record's place is hashed with.
const RECORD: &[u8] = b"macula dht record 1\0";

/// How many buckets a table can have: one for each length of a common prefix.
pub const BITS: usize = 256;

/// A realm, as the hash of its name: it goes into every key, so that the names of one realm are
/// unknown in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RealmId(#[serde(with = "bytes")] [u8; 32]);

impl RealmId {
    /// The realm of a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(digest(&[b"macula realm 1\0", name.as_bytes()].concat()))
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Debug for RealmId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RealmId({})", HEXLOWER.encode(&self.0))
    }
}

/// A place in the key space: where a node is, and where records are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(#[serde(with = "bytes")] [u8; 32]);

/// How far two keys are from each other: their bits, exclusively or-ed, as one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; 32]);

impl Key {
    /// A key of given bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where a node is. It is the same in every realm.
    #[must_use]
    pub fn of_node(node: NodeId) -> Self {
        Self(digest(&[NODE, node.as_bytes()].concat()))
    }

    /// Where what has a name in a realm's key space is kept.
    #[must_use]
    pub fn of_name(realm: RealmId, space: &str, name: &[u8]) -> Self {
        let space_len = u64::try_from(space.len()).unwrap_or(u64::MAX).to_be_bytes();
        Self(digest(&[RECORD, &realm.0, &space_len, space.as_bytes(), name].concat()))
    }

    /// How far another key is.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut bytes = self.0;
        bytes.iter_mut().zip(other.0).for_each(|(byte, other)| *byte ^= other);
        Distance(bytes)
    }

    /// How many bits two keys have in common, from the first on.
    #[must_use]
    pub fn common_prefix(&self, other: &Self) -> usize {
        self.distance(other).leading_zeros()
    }

    /// The key with one bit the other way round, counted from the first.
    #[must_use]
    pub fn with_flipped(mut self, bit: usize) -> Self {
        if let Some(byte) = self.0.get_mut(bit / 8) {
            *byte ^= 0x80 >> (bit % 8);
        }
        self
    }
}

impl Distance {
    /// From a key to itself.
    pub const ZERO: Self = Self([0; 32]);

    /// How many bits are zero, from the first on.
    #[must_use]
    pub fn leading_zeros(&self) -> usize {
        let whole = self.0.iter().take_while(|byte| **byte == 0).count();
        let rest = self.0.get(whole).map_or(0, |byte| byte.leading_zeros());
        whole * 8 + usize::try_from(rest).unwrap_or(0)
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

impl Debug for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Thirty-two bytes as one string of bytes, and not as thirty-two numbers.
mod bytes {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use serde_bytes::ByteArray;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        Ok(ByteArray::<32>::deserialize(from)?.into_array())
    }
}

#[cfg(test)]
mod tests {
    use super::{BITS, Key, RealmId};

    #[test]
    fn realms_spaces_and_names_do_not_run_together() {
        let (one, two) = (RealmId::named("one"), RealmId::named("two"));
        let keys = [
            Key::of_name(one, "name", b"a"),
            Key::of_name(two, "name", b"a"),
            Key::of_name(one, "nam", b"ea"),
            Key::of_name(one, "name", b"b"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != key));
        }
    }

    #[test]
    fn a_flipped_bit_is_where_the_common_prefix_ends() {
        let key = Key::of_name(RealmId::named("one"), "", b"");
        for bit in 0..BITS {
            assert_eq!(key.common_prefix(&key.with_flipped(bit)), bit);
        }
        assert_eq!(key.common_prefix(&key), BITS);
    }
}
