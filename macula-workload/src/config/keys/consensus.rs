//! The keys of `[consensus]` and of `[consensus.kv]`.

use std::time::Duration;

use super::{Error, Item, Key, limit, ms, put, said_at, spot};
use crate::config::Config;
use macula_platform::consensus::Role;
use macula_platform::kv;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The most of anything that is counted.
const COUNT_MAX: u64 = u32::MAX as u64;

/// The most permits that the runtime has on a small machine.
const PERMITS_MAX: u64 = 100_000_000;

const ROLES: &[(&str, Role)] = &[
    ("auto", Role::Auto),
    ("founder", Role::Founder),
    ("voter", Role::Voter),
    ("client", Role::Client),
];

/// A span that is kept as a number of milliseconds.
pub(super) fn millis(
    target: &mut u64,
    item: &Item<'_>,
    min: Duration,
    max: Duration,
) -> Result<(), Error> {
    let span = item.duration_in(min, max)?;
    *target = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Ok(())
}

/// The keys of `[consensus]`.
pub(in crate::config) static CONSENSUS: &[Key<Config>] = &[
    Key { name: "role", read: |c, item| put(&mut c.consensus.group.role, item.word(ROLES)) },
    Key { name: "folder", read: |c, item| put(&mut c.consensus.folder, spot(item)) },
    Key {
        name: "heartbeat",
        read: |c, item| millis(&mut c.consensus.group.heartbeat_ms, item, ms(10), SECOND * 5),
    },
    Key {
        name: "lease",
        read: |c, item| millis(&mut c.consensus.group.lease_ms, item, ms(50), MINUTE),
    },
    Key {
        name: "election_band",
        read: |c, item| millis(&mut c.consensus.group.election_band_ms, item, ms(10), SECOND * 10),
    },
    Key {
        name: "ask_within",
        read: |c, item| millis(&mut c.consensus.group.ask_within_ms, item, ms(10), SECOND * 10),
    },
    Key {
        name: "snapshot_entries",
        read: |c, item| limit(&mut c.consensus.group.snapshot_entries, item, 10, COUNT_MAX),
    },
    Key {
        name: "snapshot_kib",
        read: |c, item| limit(&mut c.consensus.group.snapshot_kib, item, 64, COUNT_MAX),
    },
    Key {
        name: "kept_entries",
        read: |c, item| limit(&mut c.consensus.group.kept_entries, item, 0, COUNT_MAX),
    },
    Key {
        name: "kv",
        read: |c, item| {
            said_at(c, "consensus.kv", item, |c| item.table(&mut c.consensus.group.kv, KV))
        },
    },
];

/// The keys of `[consensus.kv]`.
pub(in crate::config) static KV: &[Key<kv::Config>] = &[
    Key {
        name: "requests_max",
        read: |kv, item| limit(&mut kv.requests_max, item, 1, PERMITS_MAX),
    },
    Key { name: "watches_max", read: |kv, item| limit(&mut kv.watches_max, item, 1, PERMITS_MAX) },
    Key {
        name: "in_flight_kib_max",
        read: |kv, item| limit(&mut kv.in_flight_kib_max, item, 8_192, PERMITS_MAX),
    },
    Key {
        name: "asks_per_s_max",
        read: |kv, item| limit(&mut kv.asks_per_s_max, item, 1, COUNT_MAX),
    },
    Key { name: "within", read: |kv, item| millis(&mut kv.within_ms, item, ms(100), MINUTE * 10) },
    Key { name: "attempt", read: |kv, item| millis(&mut kv.attempt_ms, item, ms(50), MINUTE * 10) },
    Key {
        name: "watch_wait",
        read: |kv, item| millis(&mut kv.watch_wait_ms, item, ms(100), MINUTE),
    },
    Key {
        name: "watch_events_max",
        read: |kv, item| limit(&mut kv.watch_events_max, item, 1, 1_000),
    },
    Key { name: "sessions_max", read: |kv, item| limit(&mut kv.sessions_max, item, 1, 64) },
];
