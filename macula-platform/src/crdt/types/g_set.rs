//! The grow-only set.

use std::sync::Arc;

use crate::crdt::contract::Delta;
use crate::crdt::limits::Refused;
use crate::crdt::write::Write;

use super::OrSet;

/// A set of which no element is ever removed, but with the whole key or map in which it stands.
///
/// As in Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive study of Convergent and Commutative
/// Replicated Data Types* (INRIA RR-7506, 2011), section 3.3.1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GSet(OrSet);

impl GSet {
    /// Whether an element is in the set.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        self.0.contains(element)
    }

    /// The elements in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<[u8]>> {
        self.0.iter()
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A delta that adds an element.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the element is too long, or new and there is no room for it.
    pub fn add(
        &self,
        element: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        Ok(self.0.add(element, write)?.map(Self))
    }
}

crdt_type!(GSet, OrSet, "g-set");
