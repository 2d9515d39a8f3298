//! The keys of `[dht]` and of the tables below it, which are named as the parts of the table are.

use std::time::Duration;

use super::{Error, Item, Key, limit, ms, put, said_at, span};
use crate::config::Config;
use macula_infra::dht::proto::{cache, limits, providers, published, records, requests, table};
use macula_infra::dht::wire::OPS_MAX;

const KIB: u64 = 1_024;
const GIB: u64 = KIB * KIB * KIB;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The most of anything that is stored.
const STORED_MAX: u64 = 10_000_000;

/// The least room for what is stored, in bytes: that of the longest record, and more.
const STORED_LEN_MIN: u64 = 128 * KIB;

/// The keys of `[dht]`.
pub(in crate::config) static DHT: &[Key<Config>] = &[
    Key {
        name: "k",
        read: |c, item| {
            limit(&mut c.dht.node.table.k, item, 1, 64)?;
            c.dht.node.lookup.k = c.dht.node.table.k;
            Ok(())
        },
    },
    Key { name: "alpha", read: |c, item| limit(&mut c.dht.node.lookup.alpha, item, 1, 16) },
    Key { name: "paths", read: |c, item| limit(&mut c.dht.node.lookup.paths, item, 1, 8) },
    Key { name: "agree", read: |c, item| limit(&mut c.dht.node.agree, item, 1, 20) },
    Key {
        name: "query_timeout",
        read: |c, item| span(&mut c.dht.node.query_timeout, item, ms(100), SECOND * 25),
    },
    Key {
        name: "value_len_max",
        read: |c, item| limit(&mut c.dht.limits.value_len_max, item, 1, 64 * KIB),
    },
    Key {
        name: "record_ttl_max",
        read: |c, item| span(&mut c.dht.limits.record_ttl_max, item, MINUTE, DAY * 30),
    },
    Key {
        name: "provider_ttl_max",
        read: |c, item| span(&mut c.dht.limits.provider_ttl_max, item, MINUTE, DAY),
    },
    Key {
        name: "skew_max",
        read: |c, item| span(&mut c.dht.limits.skew_max, item, Duration::ZERO, HOUR),
    },
    Key { name: "table", read: |c, item| part(c, item, |c| &mut c.dht.node.table, TABLE) },
    Key { name: "requests", read: |c, item| part(c, item, |c| &mut c.dht.node.requests, REQUESTS) },
    Key { name: "records", read: |c, item| part(c, item, |c| &mut c.dht.node.records, RECORDS) },
    Key {
        name: "providers",
        read: |c, item| part(c, item, |c| &mut c.dht.node.providers, PROVIDERS),
    },
    Key {
        name: "published",
        read: |c, item| part(c, item, |c| &mut c.dht.node.published, PUBLISHED),
    },
    Key { name: "limits", read: |c, item| part(c, item, |c| &mut c.dht.node.limits, LIMITS) },
    Key { name: "cache", read: |c, item| part(c, item, |c| &mut c.dht.node.cache, CACHE) },
];

/// The keys of `[dht.table]`.
pub(in crate::config) static TABLE: &[Key<table::Config>] = &[
    Key { name: "refresh_after", read: |t, item| span(&mut t.refresh_after, item, MINUTE, DAY) },
    Key {
        name: "refresh_own_after",
        read: |t, item| span(&mut t.refresh_own_after, item, SECOND * 10, DAY),
    },
    Key { name: "prefix_bucket_max", read: |t, item| limit(&mut t.limits.bucket_max, item, 1, 64) },
    Key {
        name: "prefix_table_max",
        read: |t, item| limit(&mut t.limits.table_max, item, 1, 5_120),
    },
    Key { name: "prefix_private", read: |t, item| put(&mut t.limits.private, item.boolean()) },
];

/// The keys of `[dht.requests]`.
pub(in crate::config) static REQUESTS: &[Key<requests::Config>] = &[
    Key { name: "window", read: |r, item| limit(&mut r.window, item, 1, 64) },
    Key {
        name: "batch_max",
        read: |r, item| {
            let max = u64::try_from(OPS_MAX).unwrap_or(u64::MAX);
            limit(&mut r.batch_max, item, 1, max)
        },
    },
    Key {
        name: "timeout_initial",
        read: |r, item| span(&mut r.timeout_initial, item, ms(1), MINUTE),
    },
    Key { name: "timeout_min", read: |r, item| span(&mut r.timeout_min, item, ms(1), MINUTE) },
    Key { name: "timeout_max", read: |r, item| span(&mut r.timeout_max, item, ms(1), MINUTE) },
    Key { name: "attempts_max", read: |r, item| limit(&mut r.attempts_max, item, 1, 16) },
    Key { name: "retry_per_mille", read: |r, item| limit(&mut r.retry_per_mille, item, 0, 1_000) },
    Key { name: "retry_burst", read: |r, item| limit(&mut r.retry_burst, item, 0, 10_000) },
];

/// The keys of `[dht.records]`.
pub(in crate::config) static RECORDS: &[Key<records::Config>] = &[
    Key { name: "count_max", read: |r, item| limit(&mut r.count_max, item, 1, STORED_MAX) },
    Key { name: "bytes_max", read: |r, item| limit(&mut r.bytes_max, item, STORED_LEN_MIN, GIB) },
    Key {
        name: "author_count_max",
        read: |r, item| limit(&mut r.author_count_max, item, 1, STORED_MAX),
    },
    Key {
        name: "author_bytes_max",
        read: |r, item| limit(&mut r.author_bytes_max, item, STORED_LEN_MIN, GIB),
    },
    Key {
        name: "replicate_every",
        read: |r, item| span(&mut r.replicate_every, item, SECOND, DAY * 7),
    },
];

/// The keys of `[dht.providers]`.
pub(in crate::config) static PROVIDERS: &[Key<providers::Config>] = &[
    Key { name: "count_max", read: |p, item| limit(&mut p.count_max, item, 1, STORED_MAX) },
    Key { name: "bytes_max", read: |p, item| limit(&mut p.bytes_max, item, STORED_LEN_MIN, GIB) },
    Key { name: "key_count_max", read: |p, item| limit(&mut p.key_count_max, item, 1, STORED_MAX) },
    Key {
        name: "node_count_max",
        read: |p, item| limit(&mut p.node_count_max, item, 1, STORED_MAX),
    },
];

/// The keys of `[dht.published]`.
pub(in crate::config) static PUBLISHED: &[Key<published::Config>] = &[
    Key { name: "count_max", read: |p, item| limit(&mut p.count_max, item, 1, 1_000_000) },
    Key { name: "record_every", read: |p, item| span(&mut p.record_every, item, SECOND, DAY * 7) },
    Key {
        name: "provider_part",
        read: |p, item| put(&mut p.provider_part, item.number_in(0.1, 0.75)),
    },
];

/// The keys of `[dht.limits]`.
pub(in crate::config) static LIMITS: &[Key<limits::Config>] = &[
    Key { name: "rate_per_s", read: |l, item| limit(&mut l.rate_per_s, item, 1, 1_000_000) },
    Key { name: "burst", read: |l, item| limit(&mut l.burst, item, 1, 10_000_000) },
    Key { name: "ignored_for", read: |l, item| span(&mut l.ignored_for, item, SECOND, DAY * 30) },
    Key { name: "ignored_max", read: |l, item| span(&mut l.ignored_max, item, SECOND, DAY * 30) },
];

/// The keys of `[dht.cache]`.
pub(in crate::config) static CACHE: &[Key<cache::Config>] = &[
    Key { name: "ttl", read: |c, item| span(&mut c.ttl, item, Duration::ZERO, HOUR) },
    Key {
        name: "negative_ttl",
        read: |c, item| span(&mut c.negative_ttl, item, Duration::ZERO, HOUR),
    },
    Key { name: "count_max", read: |c, item| limit(&mut c.count_max, item, 0, 1_000_000) },
    Key { name: "bytes_max", read: |c, item| limit(&mut c.bytes_max, item, 0, GIB) },
];

/// Reads the table of one part.
fn part<T>(
    config: &mut Config,
    item: &Item<'_>,
    of: fn(&mut Config) -> &mut T,
    keys: &[Key<T>],
) -> Result<(), Error> {
    let path = format!("dht.{}", item.name());
    said_at(config, &path, item, |config| item.table(of(config), keys))
}
