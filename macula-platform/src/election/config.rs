//! What a candidate may say about its candidacy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Error;

/// The least [`Options::ttl_ms`].
pub(super) const TTL_MS_MIN: u64 = 1_000;

/// The most.
pub(super) const TTL_MS_MAX: u64 = 3_600_000;

/// What a candidate says about its candidacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// For how long who leads holds that without a word from the group, in milliseconds. 1,000 to
    /// 3,600,000. When a leader's node is lost, another one leads about a tenth later than this.
    pub ttl_ms: u64,
}

impl Default for Options {
    /// Five seconds.
    fn default() -> Self {
        Self { ttl_ms: 5_000 }
    }
}

impl Options {
    /// As a span.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if (TTL_MS_MIN..=TTL_MS_MAX).contains(&self.ttl_ms) {
            Ok(())
        } else {
            Err(Error::Ttl(self.ttl_ms))
        }
    }
}
