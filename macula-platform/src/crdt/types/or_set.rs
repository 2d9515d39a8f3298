//! The observed-remove set.

use std::sync::Arc;

use crate::crdt::contract::Delta;
use crate::crdt::limits::Refused;
use crate::crdt::write::Write;

use super::{EwFlag, OrMap};

/// A set where an addition wins over a removal that has not seen it. A removed element leaves nothing
/// behind.
///
/// As in Bieniusa et al., *An optimized conflict-free replicated set* (INRIA RR-8083, 2012).
///
/// ```
/// use macula_platform::crdt::bucket::Bucket;
/// use macula_platform::crdt::types::OrSet;
/// # use macula_core::replica::ReplicaId;
/// # use std::time::Duration;
/// # let now = Duration::from_secs(1_700_000_000);
///
/// let mut here = Bucket::new(ReplicaId { node: 1, incarnation: 1 }, Default::default())?;
/// let mut there = Bucket::new(ReplicaId { node: 2, incarnation: 1 }, Default::default())?;
///
/// let added = here.update("lobby", now, |set: &OrSet, write| set.add(*b"ada", write))?;
/// there.join(&added, now)?;
/// // Two who do not hear each other: one removes ada, the other adds her once more.
/// let removed = there.update("lobby", now, |set: &OrSet, _| Ok(set.remove(b"ada")))?;
/// let again = here.update("lobby", now, |set: &OrSet, write| set.add(*b"ada", write))?;
/// there.join(&again, now)?;
/// here.join(&removed, now)?;
/// assert!(here.read::<OrSet>("lobby")?.is_some_and(|set| set.contains(b"ada")));
/// assert!(there.read::<OrSet>("lobby")?.is_some_and(|set| set.contains(b"ada")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrSet(OrMap<EwFlag>);

impl OrSet {
    /// Whether an element is in the set.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        self.0.contains(element)
    }

    /// The elements in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<[u8]>> {
        self.0.iter().map(|(element, _)| element)
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

    /// A delta that adds an element. One that is there is added again, so that removals that have not
    /// seen this do not remove it.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the element is too long, or new and there is no room for it.
    pub fn add(
        &self,
        element: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        Ok(self.0.update(element, write, EwFlag::enable)?.map(Self))
    }

    /// A delta that removes an element, as far as it is known here to be in the set.
    #[must_use]
    pub fn remove(&self, element: &[u8]) -> Delta<Self> {
        self.0.remove(element).map(Self)
    }
}

crdt_type!(OrSet, OrMap<EwFlag>, "or-set");
