//! Bugs that tests plant in logs: a harness counts once it has found them.

use super::LogStore;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What is acknowledged need not be on disk.
    AcknowledgesEarly,
    /// What is applied need not be on disk.
    AppliesEarly,
}

impl LogStore {
    /// Plants a bug, unless there is one.
    #[cfg(test)]
    pub(in super::super) fn plant(&self, bug: Bug) {
        let _: &Bug = self.0.bug.get_or_init(|| bug);
    }

    /// Whether a bug was planted.
    #[cfg(test)]
    pub(in super::super) fn has(&self, bug: Bug) -> bool {
        self.0.bug.get() == Some(&bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(in super::super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
