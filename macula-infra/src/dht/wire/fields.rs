//! Keys as bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteArray;

use crate::dht::key::Key;

/// A key, as 32 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyBytes(pub(super) Key);

impl Serialize for KeyBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = ByteArray::<32>::deserialize(deserializer)?;
        Ok(Self(Key::from_bytes(bytes.into_array())))
    }
}
