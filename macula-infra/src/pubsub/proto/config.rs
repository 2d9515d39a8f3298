//! The settings of pub/sub.

use super::archive;
use super::word::{BATCH_ENTRIES_MAX, FAILURES_MAX, Window};
use crate::bounds::{Invalid, number};

/// The most messages that can share a frame.
pub const BATCH_MESSAGES_MAX: usize = BATCH_ENTRIES_MAX;

/// The most bytes that are kept, in all and of one topic: 1 GiB.
pub const KEPT_LEN_MAX: usize = 1 << 30;

/// The most topics of which something is kept.
pub const KEPT_TOPICS_MAX: usize = 1_000_000;

/// The most messages of which a credit or a queue can be.
pub const MESSAGES_MAX: usize = 65_536;

/// The fewest bytes of which a credit or a queue can be: 64 KiB.
pub const LEN_MIN: usize = 64 << 10;

/// The most bytes of which a credit or a queue can be: 1 GiB.
pub const LEN_MAX: usize = 1 << 30;

/// The most nodes that can get a topic's messages directly.
pub const DIRECT_MAX: usize = 1_024;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How much is kept for those who subscribe later. What is kept of one topic is no more than
    /// what is kept in all.
    pub kept: archive::Limits,
    /// How many messages share a frame at most: 1 to 512.
    pub batch_messages_max: usize,
    /// How many messages a publisher's node may have under way to this one that are not handed on,
    /// of each priority and promise: 1 to 8,192, as many as a report can say that they failed.
    pub credit_messages: u32,
    /// How many bytes those may have, except that the last one may be longer: 64 KiB to 1 GiB.
    pub credit_len: u32,
    /// How many messages wait at this node for one other, of each priority and promise: 1 to 65,536.
    pub queue_messages_max: usize,
    /// How many bytes those may have, except that the last one may be longer: 64 KiB to 1 GiB.
    pub queue_len_max: usize,
    /// Up to how many other nodes get a topic's messages from this one directly: 1 to 1,024. If there
    /// are more they get them from one another.
    pub direct_max: usize,
    /// A bug to plant.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::Bug>,
}

impl Default for Config {
    /// The usual limits of what is kept, and up to 512 messages in a frame; a credit of 2,048 messages
    /// and 1 MiB, queues of 2,048 messages and 4 MiB, and 32 nodes that get messages directly.
    fn default() -> Self {
        Self {
            kept: archive::Limits::default(),
            batch_messages_max: BATCH_ENTRIES_MAX,
            credit_messages: 2_048,
            credit_len: 1 << 20,
            queue_messages_max: 2_048,
            queue_len_max: 4 << 20,
            direct_max: 32,
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
        let credit = |credit| usize::try_from(credit).unwrap_or(usize::MAX);
        number("batch_messages_max", self.batch_messages_max, 1, BATCH_ENTRIES_MAX)?;
        number("credit_messages", credit(self.credit_messages), 1, FAILURES_MAX)?;
        number("credit_len", credit(self.credit_len), LEN_MIN, LEN_MAX)?;
        number("queue_messages_max", self.queue_messages_max, 1, MESSAGES_MAX)?;
        number("queue_len_max", self.queue_len_max, LEN_MIN, LEN_MAX)?;
        number("direct_max", self.direct_max, 1, DIRECT_MAX)?;
        number("kept_len_max", self.kept.len_max, 0, KEPT_LEN_MAX)?;
        number("kept_topic_len_max", self.kept.topic_len_max, 0, self.kept.len_max)?;
        number("kept_topics_max", self.kept.topics_max, 0, KEPT_TOPICS_MAX)
    }

    /// The credit that publishers get.
    pub(crate) const fn window(&self) -> Window {
        Window { messages: self.credit_messages, bytes: self.credit_len }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, DIRECT_MAX, LEN_MIN, MESSAGES_MAX};
    use crate::pubsub::proto::archive::Limits;

    #[test]
    fn what_cannot_stand_is_refused_with_what_could() {
        let usual = Config::default();
        usual.check().unwrap();
        let kept = |topic_len_max, len_max| Limits { topic_len_max, len_max, ..usual.kept };
        let bad = [
            (Config { batch_messages_max: 0, ..usual }, "batch_messages_max is 0"),
            (Config { credit_messages: 0, ..usual }, "credit_messages is 0"),
            (Config { credit_messages: 8_193, ..usual }, "credit_messages is 8193"),
            (Config { credit_len: 1, ..usual }, "credit_len is 1"),
            (
                Config { queue_messages_max: MESSAGES_MAX + 1, ..usual },
                "queue_messages_max is 65537",
            ),
            (Config { queue_len_max: LEN_MIN - 1, ..usual }, "queue_len_max is 65535"),
            (Config { direct_max: DIRECT_MAX + 1, ..usual }, "direct_max is 1025"),
            (Config { kept: kept(9, 8), ..usual }, "kept_topic_len_max is 9"),
        ];
        for (config, begins) in bad {
            let told = config.check().unwrap_err().to_string();
            assert!(told.starts_with(begins), "{told}");
        }
    }
}
