//! The settings of pub/sub.

use super::archive;
use crate::bounds::{Invalid, number};

/// The most bytes that are kept, in all and of one topic: 1 GiB.
const KEPT_LEN_MAX: usize = 1 << 30;

/// The most topics of which something is kept.
const KEPT_TOPICS_MAX: usize = 1_000_000;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// How much is kept for those who subscribe later.
    pub kept: archive::Limits,
    /// A bug to plant.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::Bug>,
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        number("kept_topic_len_max", self.kept.topic_len_max, 0, KEPT_LEN_MAX)?;
        number("kept_len_max", self.kept.len_max, 0, KEPT_LEN_MAX)?;
        number("kept_topics_max", self.kept.topics_max, 0, KEPT_TOPICS_MAX)
    }
}
