//! The keys of `[pool]`.

use std::time::Duration;

use super::{Key, limit, ms, put};
use crate::pool::Config;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// The keys of `[pool]`.
pub(in crate::config) static POOL: &[Key<Config>] = &[
    Key { name: "live_high", read: |p, item| limit(&mut p.live_high, item, 1, 100_000) },
    Key { name: "live_low", read: |p, item| limit(&mut p.live_low, item, 0, 100_000) },
    Key {
        name: "room_wait",
        read: |p, item| put(&mut p.room_wait, item.duration_in(Duration::ZERO, MINUTE)),
    },
    Key { name: "dials_max", read: |p, item| limit(&mut p.dials_max, item, 1, 10_000) },
    Key {
        name: "race_delay",
        read: |p, item| put(&mut p.race_delay, item.duration_in(ms(10), ms(10_000))),
    },
    Key {
        name: "idle_ttl",
        read: |p, item| put(&mut p.idle_ttl, item.duration_in(ms(1_000), DAY)),
    },
    Key {
        name: "lifetime",
        read: |p, item| put(&mut p.lifetime, item.duration_in(ms(10_000), DAY * 30)),
    },
    Key {
        name: "drain_timeout",
        read: |p, item| put(&mut p.drain_timeout, item.duration_in(ms(100), MINUTE * 10)),
    },
    Key {
        name: "backoff_initial",
        read: |p, item| put(&mut p.backoff_initial, item.duration_in(ms(1), MINUTE)),
    },
    Key {
        name: "backoff_max",
        read: |p, item| put(&mut p.backoff_max, item.duration_in(ms(1), HOUR)),
    },
    Key { name: "jitter", read: |p, item| put(&mut p.jitter, item.number_in(0.0, 1.0)) },
    Key {
        name: "backoff_reset",
        read: |p, item| put(&mut p.backoff_reset, item.duration_in(Duration::ZERO, HOUR)),
    },
    Key { name: "peers_max", read: |p, item| limit(&mut p.peers_max, item, 16, 1_000_000) },
];
