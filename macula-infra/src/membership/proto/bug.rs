//! Bugs that tests plant in the machine: a harness counts once it has found them.

use super::swim::Swim;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The departed and the seeds are never asked whether they are back.
    NeverProbesTheDead,
    /// A refutation is signed with the version that was suspected.
    RefutesWithTheSameVersion,
    /// A suspect has the longest time, however many suspect it.
    ConfirmationsDoNotShorten,
}

impl Swim {
    /// Whether a bug was planted.
    #[cfg(any(test, feature = "turmoil"))]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(any(test, feature = "turmoil")))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
