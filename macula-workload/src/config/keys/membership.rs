//! The keys of `[membership]`.

use std::time::Duration;

use super::{Key, limit, ms, span};
use macula_infra::membership::Config;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// How many members there may be, and how many departed are remembered.
const MEMBERS_MAX: u64 = 1_000_000;

/// The keys of `[membership]`.
pub(in crate::config) static MEMBERSHIP: &[Key<Config>] = &[
    Key {
        name: "probe_interval",
        read: |m, item| span(&mut m.probe_interval, item, ms(50), MINUTE * 10),
    },
    Key {
        name: "timeout_min",
        read: |m, item| span(&mut m.timeout_min, item, ms(10), SECOND * 10),
    },
    Key {
        name: "timeout_max",
        read: |m, item| span(&mut m.timeout_max, item, ms(10), SECOND * 10),
    },
    Key { name: "relays", read: |m, item| limit(&mut m.relays, item, 1, 16) },
    Key {
        name: "suspicion_min",
        read: |m, item| span(&mut m.suspicion_min, item, ms(100), MINUTE * 10),
    },
    Key {
        name: "suspicion_max",
        read: |m, item| span(&mut m.suspicion_max, item, ms(100), MINUTE * 10),
    },
    Key { name: "confirmations", read: |m, item| limit(&mut m.confirmations, item, 0, 16) },
    Key { name: "push_fanout", read: |m, item| limit(&mut m.push_fanout, item, 1, 16) },
    Key { name: "transmit_factor", read: |m, item| limit(&mut m.transmit_factor, item, 1, 16) },
    Key { name: "sync_interval", read: |m, item| span(&mut m.sync_interval, item, SECOND, HOUR) },
    Key {
        name: "reconnect_interval",
        read: |m, item| span(&mut m.reconnect_interval, item, ms(100), HOUR),
    },
    Key {
        name: "join_backoff_initial",
        read: |m, item| span(&mut m.join_backoff_initial, item, ms(10), HOUR),
    },
    Key {
        name: "join_backoff_max",
        read: |m, item| span(&mut m.join_backoff_max, item, ms(10), HOUR),
    },
    Key { name: "members_max", read: |m, item| limit(&mut m.members_max, item, 1, MEMBERS_MAX) },
    Key { name: "departed_max", read: |m, item| limit(&mut m.departed_max, item, 1, MEMBERS_MAX) },
    Key {
        name: "peer_rate_per_s",
        read: |m, item| limit(&mut m.peer_rate_per_s, item, 10, 1_000_000),
    },
    Key { name: "peer_burst", read: |m, item| limit(&mut m.peer_burst, item, 100, 10_000_000) },
];
