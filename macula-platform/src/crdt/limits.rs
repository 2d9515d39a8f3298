//! How much is taken, and the errors that say what is too much.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// The longest key of a bucket that a reader takes, in bytes. What writers take is configured, and
/// is less.
pub const KEY_LEN_CAP: usize = 4 << 10;

/// The longest element of a set and key of a map that a reader takes, in bytes.
pub const ELEMENT_LEN_CAP: usize = 64 << 10;

/// The longest value of a register that a reader takes, in bytes.
pub const VALUE_LEN_CAP: usize = 1 << 20;

/// How deep maps may be nested in maps.
pub const DEPTH_CAP: usize = 16;

/// What a replica takes from those who write at it.
///
/// What others have written is taken up to the caps of this module, whatever the limits here say:
/// two replicas with different limits converge all the same. For the same reason a set can come to
/// have more than `elements_max` elements, when replicas add to it that do not hear each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest key of a bucket, in bytes: 1 to [`KEY_LEN_CAP`].
    pub key_len_max: usize,
    /// How many keys a bucket may have. At least 1.
    pub keys_max: usize,
    /// The longest element of a set and key of a map, in bytes: 1 to [`ELEMENT_LEN_CAP`].
    pub element_len_max: usize,
    /// How many elements one set or map may have; of an LWW-Element-Set removed ones count too. At
    /// least 1.
    pub elements_max: usize,
    /// The longest value of a register, in bytes: 1 to [`VALUE_LEN_CAP`].
    pub value_len_max: usize,
    /// How many bytes the state of one key may weigh, about. It goes to others as a whole when states are
    /// compared, so it has to fit into a message
    /// ([`message_len_max`](super::config::Config::message_len_max)) also after several have written what
    /// they may. At least 1.
    pub key_weight_max: usize,
    /// How many bytes a bucket may weigh, about. What others have written is taken up to twice as
    /// much, and then refused, so that replicas with different limits differ from there on. At least
    /// 1.
    pub weight_max: usize,
    /// How many spans the context of a bucket may have. A delta from elsewhere that would make it
    /// more is refused, and is had by a comparison of states later. At least 1.
    pub spans_max: usize,
}

impl Default for Limits {
    /// 512 bytes for a key, 1,048,576 keys, 4 KiB for an element, 100,000 elements, 64 KiB for a
    /// value, 16 MiB for a key, 1 GiB for a bucket, 1,048,576 spans.
    fn default() -> Self {
        Self {
            key_len_max: 512,
            keys_max: 1 << 20,
            element_len_max: 4 << 10,
            elements_max: 100_000,
            value_len_max: 64 << 10,
            key_weight_max: 16 << 20,
            weight_max: 1 << 30,
            spans_max: 1 << 20,
        }
    }
}

impl Limits {
    /// Whether something can be written under these limits, and others take what is.
    ///
    /// # Errors
    ///
    /// The first [`InvalidLimit`] found.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let limits = [
            ("key_len_max", self.key_len_max, KEY_LEN_CAP),
            ("keys_max", self.keys_max, usize::MAX),
            ("element_len_max", self.element_len_max, ELEMENT_LEN_CAP),
            ("elements_max", self.elements_max, usize::MAX),
            ("value_len_max", self.value_len_max, VALUE_LEN_CAP),
            ("key_weight_max", self.key_weight_max, usize::MAX),
            ("weight_max", self.weight_max, usize::MAX),
            ("spans_max", self.spans_max, usize::MAX),
        ];
        match limits.into_iter().find(|&(_, value, cap)| value == 0 || value > cap) {
            Some((limit, value, cap)) => Err(InvalidLimit { limit, value, cap }),
            None => Ok(()),
        }
    }

    /// Whether a key is neither empty nor too long.
    pub(super) const fn check_key(&self, key: &str) -> Result<(), Refused> {
        let (len, len_max) = (key.len(), self.key_len_max);
        match len {
            0 => Err(Refused::KeyEmpty),
            _ if len > len_max => Err(Refused::KeyTooLong { len, len_max }),
            _ => Ok(()),
        }
    }

    pub(super) const fn check_element(&self, element: &[u8]) -> Result<(), Refused> {
        let (len, len_max) = (element.len(), self.element_len_max);
        if len > len_max {
            return Err(Refused::ElementTooLong { len, len_max });
        }
        Ok(())
    }

    pub(super) const fn check_value(&self, value: &[u8]) -> Result<(), Refused> {
        let (len, len_max) = (value.len(), self.value_len_max);
        if len > len_max {
            return Err(Refused::ValueTooLong { len, len_max });
        }
        Ok(())
    }

    /// Whether there is room for one more element beside `elements`.
    pub(super) const fn check_room(&self, elements: usize) -> Result<(), Refused> {
        let elements_max = self.elements_max;
        if elements >= elements_max {
            return Err(Refused::ElementsMax { elements, elements_max });
        }
        Ok(())
    }
}

/// A limit that cannot be. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{limit}` must be 1 to {cap}, and is {value}")]
pub struct InvalidLimit {
    /// Its name.
    pub limit: &'static str,
    /// What it is.
    pub value: usize,
    /// What it may be at most.
    pub cap: usize,
}

/// Something was not taken. The bucket, its clock and its counter of dots are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A key needs a name.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is too long.
    #[error("the key has {len} bytes, and at most {len_max} are allowed")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The key is new, and there is no room for it.
    #[error("the bucket has {keys} keys, and at most {keys_max} are allowed")]
    KeysMax {
        /// How many there are.
        keys: usize,
        /// The limit.
        keys_max: usize,
    },
    /// The element of a set, or the key of a map, is too long.
    #[error("the element has {len} bytes, and at most {len_max} are allowed")]
    ElementTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The element is new, and there is no room for it.
    #[error("there are {elements} elements, and at most {elements_max} are allowed")]
    ElementsMax {
        /// How many there are.
        elements: usize,
        /// The limit.
        elements_max: usize,
    },
    /// The value is too long.
    #[error("the value has {len} bytes, and at most {len_max} are allowed")]
    ValueTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        len_max: usize,
    },
    /// The key is full.
    #[error("the key weighs {weight} bytes, and at most {key_weight_max} are allowed")]
    KeyWeightMax {
        /// What it weighs, in bytes.
        weight: usize,
        /// The limit.
        key_weight_max: usize,
    },
    /// The bucket is full.
    #[error("the bucket weighs {weight} bytes, and at most {weight_max} are allowed")]
    WeightMax {
        /// What it weighs, in bytes.
        weight: usize,
        /// The limit.
        weight_max: usize,
    },
    /// What this replica has counted would not fit into 64 bits.
    #[error("this replica has counted {counted}, and {more} more have no room in 64 bits")]
    CounterFull {
        /// What it has counted.
        counted: u64,
        /// What was to be added.
        more: u64,
    },
    /// All dots that were reserved are used.
    #[error("all dots up to {counter_max} are used, and no more are reserved")]
    DotsSpent {
        /// The last one that was reserved.
        counter_max: u64,
    },
    /// The key is in use for something else.
    #[error("{key:?} is of type {there}, and {asked} was asked for")]
    OtherKind {
        /// The key.
        key: Arc<str>,
        /// What is there.
        there: Kind,
        /// What was asked for.
        asked: Kind,
    },
    /// The kind is not among those that the bucket knows.
    #[error("the kind {0} is not registered here")]
    UnknownKind(Kind),
    /// Too many updates are missing between those that were seen.
    #[error("the context would have {spans} spans, and at most {spans_max} are allowed")]
    SpansMax {
        /// How many there would be.
        spans: usize,
        /// The limit.
        spans_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::{Limits, VALUE_LEN_CAP};

    #[test]
    fn the_defaults_are_legal_and_what_is_not_is_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let error = Limits { keys_max: 0, ..Limits::default() }.check().unwrap_err();
        assert_eq!(error.limit, "keys_max");
        let long = Limits { value_len_max: VALUE_LEN_CAP + 1, ..Limits::default() };
        let error = long.check().unwrap_err();
        assert_eq!(error.to_string(), "`value_len_max` must be 1 to 1048576, and is 1048577");
    }
}
