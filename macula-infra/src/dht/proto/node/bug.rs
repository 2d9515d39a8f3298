//! Bugs that tests plant in the table: a harness counts once it has found them.

use super::Config;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Nothing is issued or stored anew.
    NeverPublishesAnew,
    /// When a life of the actor ends, whoever waits for it is not told.
    ForgetsItsCallers,
    /// Each life of the actor numbers its requests as the last one did.
    NumbersAnew,
    /// What a life of the actor has put is not put anew by the next.
    ForgetsWhatItHasPut,
}

impl Config {
    /// Whether a bug was planted.
    #[cfg(any(test, feature = "turmoil"))]
    pub(in crate::dht) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(any(test, feature = "turmoil")))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(in crate::dht) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
