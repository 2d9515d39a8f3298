//! The keys of `[pubsub]`.

use super::{Key, limit};
use macula_infra::pubsub::Config;
use macula_infra::pubsub::config::{
    BATCH_MESSAGES_MAX, DIRECT_MAX, KEPT_LEN_MAX, KEPT_TOPICS_MAX, LEN_MAX, LEN_MIN, MESSAGES_MAX,
};

/// The keys of `[pubsub]`.
pub(in crate::config) static PUBSUB: &[Key<Config>] = &[
    Key {
        name: "queue_messages_max",
        read: |p, item| limit(&mut p.queue_messages_max, item, 1, MESSAGES_MAX as u64),
    },
    Key {
        name: "queue_len_max",
        read: |p, item| limit(&mut p.queue_len_max, item, LEN_MIN as u64, LEN_MAX as u64),
    },
    Key {
        name: "credit_messages",
        read: |p, item| limit(&mut p.credit_messages, item, 1, MESSAGES_MAX as u64),
    },
    Key {
        name: "credit_len",
        read: |p, item| limit(&mut p.credit_len, item, LEN_MIN as u64, LEN_MAX as u64),
    },
    Key {
        name: "batch_messages_max",
        read: |p, item| limit(&mut p.batch_messages_max, item, 1, BATCH_MESSAGES_MAX as u64),
    },
    Key {
        name: "direct_max",
        read: |p, item| limit(&mut p.direct_max, item, 1, DIRECT_MAX as u64),
    },
    Key {
        name: "kept_len_max",
        read: |p, item| limit(&mut p.kept.len_max, item, 0, KEPT_LEN_MAX as u64),
    },
    Key {
        name: "kept_topic_len_max",
        read: |p, item| limit(&mut p.kept.topic_len_max, item, 0, KEPT_LEN_MAX as u64),
    },
    Key {
        name: "kept_topics_max",
        read: |p, item| limit(&mut p.kept.topics_max, item, 0, KEPT_TOPICS_MAX as u64),
    },
];
