//! Bugs that tests plant in elections: a harness counts once it has found them.

use super::Config;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The time until which it leads is counted from when a keep-alive was answered.
    CountsFromTheAnswer,
    /// Whoever hears that it is elected is not asked whether that is still so.
    TellsTheLate,
    /// The lease is let go while somebody still acts under the token.
    LetsGoTooEarly,
}

impl Config {
    /// Whether a bug was planted.
    #[cfg(test)]
    pub(in crate::election) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(in crate::election) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
