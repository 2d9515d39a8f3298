//! The keys of `[crdt]`, `[crdt.bucket]` and `[crdt.limits]`.

use std::time::Duration;

use super::consensus::millis;
use super::{Error, Item, Key, limit, ms, put, said_at, spot};
use crate::config::Config;
use macula_platform::crdt;
use macula_platform::crdt::config::FRAME_LEN_MIN;
use macula_platform::crdt::limits::{ELEMENT_LEN_CAP, KEY_LEN_CAP, Limits, VALUE_LEN_CAP};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The most of anything that is counted.
const COUNT_MAX: u64 = u32::MAX as u64;

/// The most bytes of anything that is held: 1 TiB.
const LEN_MAX: u64 = 1 << 40;

/// The longest frame: what is sent by calls fits into one of theirs.
const FRAME_LEN_MAX: u64 = 512 << 10;

/// Names of buckets.
fn names(target: &mut Vec<String>, item: &Item<'_>) -> Result<(), Error> {
    put(target, item.each(|_, text| Ok(text.to_owned())))
}

/// The keys of `[crdt]`.
pub(in crate::config) static CRDT: &[Key<Config>] = &[
    Key { name: "folder", read: |c, item| put(&mut c.crdt.folder, spot(item)) },
    Key { name: "durable", read: |c, item| names(&mut c.crdt.settings.durable, item) },
    Key { name: "hold", read: |c, item| names(&mut c.crdt.settings.hold, item) },
    Key {
        name: "buckets_max",
        read: |c, item| limit(&mut c.crdt.settings.buckets_max, item, 1, COUNT_MAX),
    },
    Key {
        name: "changes_len_max",
        read: |c, item| limit(&mut c.crdt.settings.changes_len_max, item, 1, COUNT_MAX),
    },
    Key {
        name: "within",
        read: |c, item| millis(&mut c.crdt.settings.within_ms, item, ms(1), MINUTE * 60),
    },
    Key {
        name: "bucket",
        read: |c, item| {
            said_at(c, "crdt.bucket", item, |c| item.table(&mut c.crdt.settings.bucket, BUCKET))
        },
    },
    Key {
        name: "limits",
        read: |c, item| {
            let read = |c: &mut Config| item.table(&mut c.crdt.settings.bucket.limits, TAKEN);
            said_at(c, "crdt.limits", item, read)
        },
    },
];

/// The keys of `[crdt.bucket]`.
pub(in crate::config) static BUCKET: &[Key<crdt::config::Config>] = &[
    Key {
        name: "frame_len_max",
        read: |b, item| limit(&mut b.frame_len_max, item, FRAME_LEN_MIN as u64, FRAME_LEN_MAX),
    },
    Key {
        name: "message_len_max",
        read: |b, item| limit(&mut b.message_len_max, item, FRAME_LEN_MIN as u64, LEN_MAX),
    },
    Key { name: "buffer_len_max", read: |b, item| limit(&mut b.buffer_len_max, item, 1, LEN_MAX) },
    Key { name: "members_max", read: |b, item| limit(&mut b.members_max, item, 1, COUNT_MAX) },
    Key { name: "retired_max", read: |b, item| limit(&mut b.retired_max, item, 1, COUNT_MAX) },
    Key { name: "waits_max", read: |b, item| limit(&mut b.waits_max, item, 1, COUNT_MAX) },
    Key { name: "sessions_max", read: |b, item| limit(&mut b.sessions_max, item, 1, COUNT_MAX) },
    Key {
        name: "push_tries_max",
        read: |b, item| limit(&mut b.push_tries_max, item, 1, COUNT_MAX),
    },
    Key {
        name: "step_tries_max",
        read: |b, item| limit(&mut b.step_tries_max, item, 1, COUNT_MAX),
    },
    Key { name: "push_retry", read: |b, item| millis(&mut b.push_retry_ms, item, ms(1), MINUTE) },
    Key { name: "greet", read: |b, item| millis(&mut b.greet_ms, item, ms(1), MINUTE) },
    Key { name: "greet_max", read: |b, item| millis(&mut b.greet_ms_max, item, ms(1), DAY) },
    Key { name: "sync", read: |b, item| millis(&mut b.sync_ms, item, ms(1), DAY) },
    Key { name: "step", read: |b, item| millis(&mut b.step_ms, item, ms(1), MINUTE) },
    Key { name: "collect", read: |b, item| millis(&mut b.collect_ms, item, ms(1), DAY) },
    Key { name: "retire", read: |b, item| millis(&mut b.retire_ms, item, ms(0), DAY * 3_650) },
    Key { name: "skew_max", read: |b, item| millis(&mut b.skew_ms_max, item, SECOND, DAY) },
];

/// The keys of `[crdt.limits]`.
pub(in crate::config) static TAKEN: &[Key<Limits>] = &[
    Key {
        name: "key_len_max",
        read: |l, item| limit(&mut l.key_len_max, item, 1, KEY_LEN_CAP as u64),
    },
    Key { name: "keys_max", read: |l, item| limit(&mut l.keys_max, item, 1, COUNT_MAX) },
    Key {
        name: "element_len_max",
        read: |l, item| limit(&mut l.element_len_max, item, 1, ELEMENT_LEN_CAP as u64),
    },
    Key { name: "elements_max", read: |l, item| limit(&mut l.elements_max, item, 1, COUNT_MAX) },
    Key {
        name: "value_len_max",
        read: |l, item| limit(&mut l.value_len_max, item, 1, VALUE_LEN_CAP as u64),
    },
    Key { name: "key_weight_max", read: |l, item| limit(&mut l.key_weight_max, item, 1, LEN_MAX) },
    Key { name: "weight_max", read: |l, item| limit(&mut l.weight_max, item, 1, LEN_MAX) },
    Key { name: "spans_max", read: |l, item| limit(&mut l.spans_max, item, 1, COUNT_MAX) },
];
