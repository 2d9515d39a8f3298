//! The enable-wins flag.

use crate::crdt::contract::{Crdt, Delta};
use crate::crdt::limits::Refused;
use crate::crdt::store::DotFun;
use crate::crdt::write::Write;

/// A flag that is enabled if anybody enabled it and nobody who saw that disabled it. One that was
/// never written is disabled.
///
/// As in Almeida, Shoker and Baquero, *Delta state replicated data types* (JPDC 2018).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EwFlag(DotFun<()>);

impl EwFlag {
    /// Whether it is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.0.is_bottom()
    }

    /// A delta that enables it.
    ///
    /// # Errors
    ///
    /// [`Refused::DotsSpent`].
    pub fn enable(&self, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        Ok(self.0.put((), write, |_| true)?.map(Self))
    }

    /// A delta that disables it, as far as it is known here to be enabled.
    #[must_use]
    pub fn disable(&self) -> Delta<Self> {
        self.reset()
    }
}

crdt_type!(EwFlag, DotFun<()>, "ew-flag");
