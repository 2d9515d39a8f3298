//! Names in the tree: the id of a child among its siblings, and the path from the root.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes.
pub const ID_LEN_MAX: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("an id must not be empty")]
    Empty,
    /// Too many bytes.
    #[error("an id has at most {ID_LEN_MAX} bytes, and this one has {0}")]
    TooLong(usize),
    /// A character outside the alphabet.
    #[error("an id has only letters, digits and `_ - . : # @`, and {0:?} holds {1:?}")]
    Character(String, char),
}

/// The name of a child, unique among its siblings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChildId(Arc<str>);

impl ChildId {
    /// Checks a text and makes it an id.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if it is empty, longer than [`ID_LEN_MAX`] bytes, or has a character that
    /// does not belong.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        let text = text.into();
        let legal = |c: char| c.is_alphanumeric() || "_-.:#@".contains(c);
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if text.len() > ID_LEN_MAX {
            return Err(InvalidId::TooLong(text.len()));
        }
        match text.chars().find(|&c| !legal(c)) {
            Some(c) => Err(InvalidId::Character(text.to_string(), c)),
            None => Ok(Self(text)),
        }
    }

    /// The id that a dynamic supervisor gives to a child that brings none.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("#{number}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChildId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl From<ChildId> for String {
    fn from(id: ChildId) -> Self {
        id.0.to_string()
    }
}

impl std::borrow::Borrow<str> for ChildId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Display for ChildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for ChildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&*self.0, f)
    }
}

/// Where an actor stands in the tree: ids from below the root, joined by `/`. The root is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Path(Arc<str>);

impl Path {
    /// The root of a tree.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path, checking each of its ids.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] for the first part that is not an id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if !text.is_empty() {
            for part in text.split('/') {
                ChildId::new(part)?;
            }
        }
        Ok(Self(text.into()))
    }

    /// The path of a child.
    #[must_use]
    pub fn join(&self, id: &ChildId) -> Self {
        if self.0.is_empty() {
            Self(Arc::clone(&id.0))
        } else {
            Self(format!("{self}/{id}").into())
        }
    }

    /// The path as text; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` is `other` or stands above it.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        self.0.is_empty()
            || other
                .0
                .strip_prefix(&*self.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The last id, or `root`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.rsplit('/').next() {
            Some("") | None => "root",
            Some(name) => name,
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "root" } else { &self.0 })
    }
}

impl Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChildId, ID_LEN_MAX, InvalidId, Path};

    #[test]
    fn an_id_is_checked() {
        assert_eq!(ChildId::new("").unwrap_err(), InvalidId::Empty);
        assert_eq!(ChildId::new("a/b").unwrap_err(), InvalidId::Character("a/b".into(), '/'));
        assert_eq!(ChildId::new("x".repeat(ID_LEN_MAX + 1)).unwrap_err(), InvalidId::TooLong(129));
        assert_eq!(ChildId::new("room-7").unwrap().as_str(), "room-7");
    }

    #[test]
    fn a_path_knows_what_is_below_it() {
        let rooms = Path::parse("workload/rooms").unwrap();
        assert!(rooms.holds(&Path::parse("workload/rooms/7").unwrap()));
        assert!(!rooms.holds(&Path::parse("workload/rooms7").unwrap()));
        assert!(Path::root().holds(&rooms));
        assert_eq!(rooms.name(), "rooms");
        assert_eq!(Path::root().to_string(), "root");
        assert!(Path::parse("a//b").is_err());
    }
}
