//! The name of a type, which is kept with each key.

use std::cmp::Ordering;
use std::fmt::{Debug, Display};
use std::sync::Arc;

/// The longest name of a kind, in bytes.
pub(super) const KIND_LEN_CAP: usize = 128;

/// What a key is: the name of its CRDT's type, such as `or-set` or `or-map(pn-counter)`.
///
/// All nodes must mean the same by it, so a user's type has a name that nobody else takes, and
/// another one once its encoding changes: `shop.cart/2`. Clones are cheap.
#[derive(Clone)]
pub struct Kind(Name);

#[derive(Clone)]
enum Name {
    Constant(&'static str),
    Made(Arc<str>),
}

impl Kind {
    /// The kind of this name, which is 1 to 128 bytes of printable ASCII without spaces. One of
    /// another name can be used on this node, and no other node takes it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(Name::Constant(name))
    }

    /// The kind of maps to values of this one.
    #[must_use]
    pub fn mapped(&self) -> Self {
        Self(Name::Made(format!("or-map({self})").into()))
    }

    /// The kind of pairs of this one and another.
    #[must_use]
    pub fn paired(&self, other: &Self) -> Self {
        Self(Name::Made(format!("pair({self},{other})").into()))
    }

    /// A name that came from elsewhere; none if it cannot be one.
    pub(super) fn checked(name: &[u8]) -> Option<Self> {
        let good = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        let name = std::str::from_utf8(name).ok().filter(|_| good)?;
        Some(Self(Name::Made(name.into())))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Constant(name) => name,
            Name::Made(name) => name,
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Kind {}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
