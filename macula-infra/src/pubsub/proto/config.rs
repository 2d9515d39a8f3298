//! The settings of pub/sub.

use super::archive;
use super::word::BATCH_ENTRIES_MAX;
use crate::bounds::{Invalid, number};

/// The most bytes that are kept, in all and of one topic: 1 GiB.
const KEPT_LEN_MAX: usize = 1 << 30;

/// The most topics of which something is kept.
const KEPT_TOPICS_MAX: usize = 1_000_000;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How much is kept for those who subscribe later.
    pub kept: archive::Limits,
    /// How many messages share a frame at most: 1 to 512.
    pub batch_messages_max: usize,
    /// A bug to plant.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::Bug>,
}

impl Default for Config {
    /// The usual limits of what is kept, and up to 512 messages in a frame.
    fn default() -> Self {
        Self {
            kept: archive::Limits::default(),
            batch_messages_max: BATCH_ENTRIES_MAX,
            #[cfg(any(test, feature = "turmoil"))]
            bug: None,
        }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        number("batch_messages_max", self.batch_messages_max, 1, BATCH_ENTRIES_MAX)?;
        number("kept_topic_len_max", self.kept.topic_len_max, 0, KEPT_LEN_MAX)?;
        number("kept_len_max", self.kept.len_max, 0, KEPT_LEN_MAX)?;
        number("batch_messages_max", self.batch_messages_max, 1, BATCH_ENTRIES_MAX)?;
        number("kept_topics_max", self.kept.topics_max, 0, KEPT_TOPICS_MAX)
    }
}
