//! Bugs that tests plant in the choice: a harness counts once it has found them.

use super::chooser::Chooser;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A question that may have been handled is asked again, whatever it is.
    RepeatsAll,
    /// Calls beyond the first ones cost nothing.
    SpendsNothing,
    /// Whoever was given up is counted on.
    ForgetsTheEnd,
    /// An open circuit is asked.
    AsksTheOpen,
}

impl Chooser {
    /// Whether a bug was planted.
    #[cfg(test)]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
