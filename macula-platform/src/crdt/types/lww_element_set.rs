//! The last-writer-wins element set.

use std::sync::Arc;

use macula_core::hlc::Timestamp;

use crate::crdt::codec::{DecodeError, Reader};
use crate::crdt::contract::{Delta, Tidy};
use crate::crdt::limits::Refused;
use crate::crdt::store::{DotFun, Payload};
use crate::crdt::write::Write;

use super::{OrMap, Stamped};

impl Payload for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = from.offset();
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Form { offset, what: "neither true nor false" }),
        }
    }
}

/// What became of one element: additions and removals, each with its time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Mark(DotFun<Stamped<bool>>);

impl Mark {
    fn is_added(&self) -> bool {
        self.0.winner().is_some_and(|(_, mark)| mark.value)
    }

    fn set(&self, value: bool, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        let at = write.stamp();
        Ok(self.0.put(Stamped { at, value }, write, |_| true)?.map(Self))
    }
}

crdt_type!(Mark, DotFun<Stamped<bool>>, "lww-mark", {
    fn latest(&self) -> Option<Timestamp> {
        self.0.latest()
    }

    /// Takes out what lost and every member has seen, and all of it if that is a removal.
    fn tidy(&self, tidy: &Tidy<'_>, _write: &mut Write<'_>) -> Option<Delta<Self>> {
        let is_stable = tidy.stable.includes(&self.dots());
        if is_stable && !self.is_added() && !self.is_bottom() {
            return Some(self.reset());
        }
        Some(self.0.without_losers(tidy)?.map(Self))
    }
});

/// A set where of an addition and a removal of one element that did not see each other the later one
/// counts, by the clocks of those who made them.
///
/// A removal leaves its time behind, until every member has seen it; it counts for the limit of
/// elements. Where a removal need not win over additions that it has not seen, an
/// [`OrSet`](super::OrSet) does without.
///
/// As in Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive study of Convergent and Commutative
/// Replicated Data Types* (INRIA RR-7506, 2011), section 3.3.3.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LwwElementSet(OrMap<Mark>);

impl LwwElementSet {
    /// Whether an element is in the set.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        self.0.get(element).is_some_and(Mark::is_added)
    }

    /// The elements in order. Those that were removed and are still remembered are passed over.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<[u8]>> {
        self.0.iter().filter(|(_, mark)| mark.is_added()).map(|(element, _)| element)
    }

    /// How many elements are remembered, removed ones among them.
    #[must_use]
    pub fn marks_len(&self) -> usize {
        self.0.len()
    }

    /// A delta that adds an element.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the element is too long, or not remembered and there is no room for it.
    pub fn add(
        &self,
        element: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        self.mark(element, true, write)
    }

    /// A delta that removes an element, and takes back additions elsewhere that are earlier and not
    /// known here.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn remove(
        &self,
        element: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        self.mark(element, false, write)
    }

    fn mark(
        &self,
        element: impl Into<Arc<[u8]>>,
        added: bool,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        Ok(self.0.update(element, write, |mark, write| mark.set(added, write))?.map(Self))
    }
}

crdt_type!(LwwElementSet, OrMap<Mark>, "lww-element-set", {
    fn latest(&self) -> Option<Timestamp> {
        self.0.latest()
    }

    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        Some(self.0.tidy(tidy, write)?.map(Self))
    }
});
