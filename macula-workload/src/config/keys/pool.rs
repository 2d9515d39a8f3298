//! The keys of `[pool]`.

use std::time::Duration;

use super::{Key, limit, ms, put, span};
use crate::pool::Config;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// The keys of `[pool]`.
pub(in crate::config) static POOL: &[Key<Config>] = &[
    Key { name: "live_high", read: |p, item| limit(&mut p.live_high, item, 1, 100_000) },
    Key { name: "live_low", read: |p, item| limit(&mut p.live_low, item, 0, 100_000) },
    Key { name: "room_wait", read: |p, item| span(&mut p.room_wait, item, Duration::ZERO, MINUTE) },
    Key { name: "dials_max", read: |p, item| limit(&mut p.dials_max, item, 1, 10_000) },
    Key { name: "race_delay", read: |p, item| span(&mut p.race_delay, item, ms(10), ms(10_000)) },
    Key { name: "idle_ttl", read: |p, item| span(&mut p.idle_ttl, item, ms(1_000), DAY) },
    Key { name: "lifetime", read: |p, item| span(&mut p.lifetime, item, ms(10_000), DAY * 30) },
    Key {
        name: "drain_timeout",
        read: |p, item| span(&mut p.drain_timeout, item, ms(100), MINUTE * 10),
    },
    Key {
        name: "backoff_initial",
        read: |p, item| span(&mut p.backoff_initial, item, ms(1), MINUTE),
    },
    Key { name: "backoff_max", read: |p, item| span(&mut p.backoff_max, item, ms(1), HOUR) },
    Key { name: "jitter", read: |p, item| put(&mut p.jitter, item.number_in(0.0, 1.0)) },
    Key {
        name: "backoff_reset",
        read: |p, item| span(&mut p.backoff_reset, item, Duration::ZERO, HOUR),
    },
    Key { name: "peers_max", read: |p, item| limit(&mut p.peers_max, item, 16, 1_000_000) },
];
