//! Why something was not published or subscribed to.

use std::time::Duration;

use super::message::PAYLOAD_LEN_MAX;
use super::proto::word::GROUP_LEN_MAX;

/// Why a message was not published. Nobody gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The payload is too long.
    #[error("a payload of {len} bytes, at most {PAYLOAD_LEN_MAX} are taken")]
    TooLarge {
        /// How long it is, in bytes.
        len: usize,
    },
    /// This node may not publish to the topic.
    #[error("{0}")]
    Forbidden(String),
    /// There was no room for it before its time was over.
    #[error("no room for it within {}", macula_core::clock::shown(*.within))]
    Expired {
        /// How long that is.
        within: Duration,
    },
    /// As many topics as may be are published to.
    #[error("{max} topics are published to, and no more may be")]
    TooManyTopics {
        /// How many may be.
        max: usize,
    },
}

/// Why somebody was not subscribed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The name of the queue group is too long, or empty.
    #[error("a group's name has 1 to {GROUP_LEN_MAX} bytes, and this one has {len}")]
    Group {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The queue is too short or too long.
    #[error("a queue has room for 1 to {max} {what}, and not for {found}")]
    Queue {
        /// Messages or bytes.
        what: &'static str,
        /// How many it was to have room for.
        found: usize,
        /// How many it may.
        max: usize,
    },
    /// This node may not subscribe to the pattern.
    #[error("{0}")]
    Forbidden(String),
    /// There are as many subscriptions as may be.
    #[error("{max} subscriptions, and no more may be")]
    Full {
        /// How many may be.
        max: usize,
    },
}
