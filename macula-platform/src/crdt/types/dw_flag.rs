//! The disable-wins flag.

use crate::crdt::contract::{Crdt, Delta};
use crate::crdt::limits::Refused;
use crate::crdt::store::DotFun;
use crate::crdt::write::Write;

/// A flag that is disabled if anybody disabled it and nobody who saw that enabled it. One that was
/// never written is enabled.
///
/// As in Almeida, Shoker and Baquero, *Delta state replicated data types* (JPDC 2018).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DwFlag(DotFun<()>);

impl DwFlag {
    /// Whether it is enabled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_bottom()
    }

    /// A delta that disables it.
    ///
    /// # Errors
    ///
    /// [`Refused::DotsSpent`].
    pub fn disable(&self, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        Ok(self.0.put((), write, |_| true)?.map(Self))
    }

    /// A delta that enables it, as far as it is known here to be disabled.
    #[must_use]
    pub fn enable(&self) -> Delta<Self> {
        self.reset()
    }
}

crdt_type!(DwFlag, DotFun<()>, "dw-flag");
