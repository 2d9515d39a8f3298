//! Bugs that tests plant in pub/sub: a harness counts once it has found them.

use super::config::Config;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What was under way to a node that has lost its state is sent again, promised or not.
    ResendsWhatMayBeThere,
    /// What was lost with a connection is not sent again.
    NeverSendsAgain,
    /// A message that a slow subscriber does not get is not counted as dropped.
    ForgetsTheSlow,
    /// A subscription is not told of what was lost with a life of its node's actor.
    ForgetsGaps,
    /// What was with a life of the actor is not counted when that ends.
    ForgetsWhatItHad,
}

impl Config {
    /// Whether a bug was planted.
    #[cfg(any(test, feature = "turmoil"))]
    pub(in crate::pubsub) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Only test builds have bugs on purpose.
    #[cfg(not(any(test, feature = "turmoil")))]
    #[expect(clippy::unused_self, reason = "its twin for tests needs it")]
    pub(in crate::pubsub) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
