//! Bugs that tests plant in the policy: a harness counts once it has found them.

use super::policy::Policy;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Every wish begins a dial of its own.
    NoSingleFlight,
    /// What is in flight is cut off to make room.
    EvictsTheBusy,
    /// Both sides let go of the connection that they dialled.
    BothLetGo,
    /// No side does.
    NobodyLetsGo,
    /// A connection that was lost is granted on.
    GrantsTheLost,
}

impl Policy {
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
