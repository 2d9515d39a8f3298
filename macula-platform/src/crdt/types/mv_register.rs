//! The multi-value register.

use std::sync::Arc;

use crate::crdt::contract::{Crdt, Delta};
use crate::crdt::limits::Refused;
use crate::crdt::store::DotFun;
use crate::crdt::write::Write;

/// A value that each write replaces. Of writes that did not see each other all values are there, until
/// a write has seen them.
///
/// As in Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive study of Convergent and Commutative
/// Replicated Data Types* (INRIA RR-7506, 2011), section 3.2.2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MvRegister(DotFun<Arc<[u8]>>);

impl MvRegister {
    /// The values, in the order of their writers: none if it was never written or was cleared, several
    /// if they were written by replicas that did not see each other's.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<[u8]>> {
        self.0.iter().map(|(_, value)| value)
    }

    /// A delta that writes a value in the place of all that are here.
    ///
    /// # Errors
    ///
    /// [`Refused::ValueTooLong`], [`Refused::DotsSpent`].
    pub fn set(
        &self,
        value: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        let value = value.into();
        write.limits().check_value(&value)?;
        Ok(self.0.put(value, write, |_| true)?.map(Self))
    }

    /// A delta that takes the values away that are here.
    #[must_use]
    pub fn clear(&self) -> Delta<Self> {
        self.reset()
    }
}

crdt_type!(MvRegister, DotFun<Arc<[u8]>>, "mv-register");
