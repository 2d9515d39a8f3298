//! What the group keeps of an election: one key, made by who leads.

use bytes::Bytes;
use macula_core::identity::NodeId;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::leadership::Token;
use super::limits::{NAME_LEN_MAX, PREFIX};
use super::proto::Holder;
use crate::kv::command::Item;

pub(super) fn check(name: &str) -> Result<(), Error> {
    let is_name = (1..=NAME_LEN_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if is_name {
        return Ok(());
    }
    let mut shown = name.to_owned();
    shown.truncate(shown.floor_char_boundary(NAME_LEN_MAX));
    Err(Error::Name(shown))
}

/// The key of an election.
pub(super) fn key(name: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{name}"))
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its node.
    pub node: NodeId,
    /// Its token.
    pub token: Token,
    /// Whether an operator has asked it to resign.
    pub is_asked_to_resign: bool,
}

/// The value of an election's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    #[serde(with = "serde_bytes")]
    node: [u8; 32],
    /// Set by an operator.
    is_asked_to_resign: bool,
}

impl Claim {
    pub(super) fn of(node: NodeId) -> Self {
        Self { node: *node.as_bytes(), is_asked_to_resign: false }
    }

    pub(super) const fn asked_to_resign(self) -> Self {
        Self { is_asked_to_resign: true, ..self }
    }

    pub(super) fn read(value: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(value).ok()
    }

    /// As bytes. Nothing in it can fail to be written.
    pub(super) fn write(&self) -> Bytes {
        rmp_serde::to_vec_named(self).map(Bytes::from).unwrap_or_default()
    }
}

/// Who leads, as its key says; none if somebody else has put something there.
pub(super) fn leader(item: &Item) -> Option<Leader> {
    let Claim { node, is_asked_to_resign } = Claim::read(&item.value)?;
    let node = NodeId::from_bytes(node).ok()?;
    Some(Leader { node, token: Token(item.created), is_asked_to_resign })
}

/// What a candidate has to know of the key.
pub(super) fn holder(item: &Item) -> Holder {
    let is_asked = Claim::read(&item.value).is_some_and(|claim| claim.is_asked_to_resign);
    Holder { token: Token(item.created), is_asked }
}

#[cfg(test)]
mod tests {
    use super::{NAME_LEN_MAX, check};

    #[test]
    fn names_are_short_and_can_be_read() {
        assert!(["a", "game/match maker", "ü"].into_iter().all(|name| check(name).is_ok()));
        let long = "x".repeat(NAME_LEN_MAX + 1);
        for wrong in ["", "a\0", "a\nb", &long] {
            let told = check(wrong).unwrap_err().to_string();
            assert!(told.len() < NAME_LEN_MAX + 100, "{told}");
        }
    }
}
