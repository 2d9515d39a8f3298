//! The keys of `[transport]` and `[transport.admission]`.

use std::time::Duration;

use super::{Error, Item, Key, limit, ms, put, span};
use crate::transport::{Admission, Config, Congestion};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The most of anything that is admitted.
const ADMITTED_MAX: u64 = 1_000_000;

const HOUR: Duration = Duration::from_secs(3_600);

const CONGESTIONS: &[(&str, Congestion)] =
    &[("cubic", Congestion::Cubic), ("bbr", Congestion::Bbr)];

/// The keys of `[transport]`.
pub(in crate::config) static TRANSPORT: &[Key<Config>] = &[
    Key { name: "listen", read: |t, item| put(&mut t.listen, item.addresses()) },
    Key {
        name: "handshake_timeout",
        read: |t, item| {
            let max = Duration::from_secs(60);
            span(&mut t.handshake_timeout, item, ms(100), max)
        },
    },
    Key { name: "idle_timeout", read: |t, item| span(&mut t.idle_timeout, item, ms(500), HOUR) },
    Key { name: "keep_alive", read: |t, item| span(&mut t.keep_alive, item, ms(100), HOUR) },
    Key { name: "mtu_max", read: |t, item| limit(&mut t.mtu_max, item, 1_228, 9_216) },
    Key {
        name: "connection_window",
        read: |t, item| limit(&mut t.connection_window, item, 64 * KIB, GIB),
    },
    Key { name: "stream_window", read: |t, item| limit(&mut t.stream_window, item, 64 * KIB, GIB) },
    Key {
        name: "send_buffer",
        read: |t, item| limit(&mut t.send_buffer, item, 64 * KIB, 64 * MIB),
    },
    Key { name: "streams_max", read: |t, item| limit(&mut t.streams_max, item, 8, 10_000) },
    Key { name: "congestion", read: |t, item| put(&mut t.congestion, item.word(CONGESTIONS)) },
    Key { name: "frame_len_max", read: |t, item| limit(&mut t.frame_len_max, item, KIB, MIB) },
    Key { name: "body_len_max", read: |t, item| limit(&mut t.body_len_max, item, KIB, GIB) },
    Key {
        name: "lane_len_max",
        read: |t, item| limit(&mut t.lane_len_max, item, 64 * KIB, 64 * MIB),
    },
    Key { name: "admission", read: admission },
];

/// The keys of `[transport.admission]`.
pub(in crate::config) static ADMISSION: &[Key<Admission>] = &[
    Key {
        name: "connections_max",
        read: |a, item| limit(&mut a.connections_max, item, 1, ADMITTED_MAX),
    },
    Key {
        name: "connections_per_address_max",
        read: |a, item| limit(&mut a.connections_per_address_max, item, 1, ADMITTED_MAX),
    },
    Key {
        name: "handshakes_retry",
        read: |a, item| limit(&mut a.handshakes_retry, item, 0, ADMITTED_MAX),
    },
    Key {
        name: "handshakes_max",
        read: |a, item| limit(&mut a.handshakes_max, item, 1, ADMITTED_MAX),
    },
    Key {
        name: "attempts_per_address_per_s",
        read: |a, item| limit(&mut a.attempts_per_address_per_s, item, 1, ADMITTED_MAX),
    },
];

fn admission(transport: &mut Config, item: &Item<'_>) -> Result<(), Error> {
    item.table(&mut transport.admission, ADMISSION).map(drop)
}
