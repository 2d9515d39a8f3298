//! The keys of `[relay]`.

use std::time::Duration;

use super::{Key, limit, put, span};
use macula_infra::relay::ledger::KIB_PER_S_MAX;
use macula_infra::relay::{Config, Use};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How many places a relay gives.
const PLACES_MAX: u64 = 100_000;

/// How many circuits it has.
const CIRCUITS_MAX: u64 = 1_000_000;

/// How many KiB in a second can be told.
const KIB_MAX: u64 = KIB_PER_S_MAX as u64;

const USES: &[(&str, Use)] = &[("auto", Use::Auto), ("always", Use::Always), ("never", Use::Never)];

/// The keys of `[relay]`.
pub(in crate::config) static RELAY: &[Key<Config>] = &[
    Key { name: "use", read: |r, item| put(&mut r.uses, item.word(USES)) },
    Key { name: "places", read: |r, item| limit(&mut r.places, item, 2, 8) },
    Key { name: "serve", read: |r, item| put(&mut r.gives.serve, item.boolean()) },
    Key {
        name: "reservations_max",
        read: |r, item| limit(&mut r.gives.reservations_max, item, 1, PLACES_MAX),
    },
    Key {
        name: "reservations_per_realm_max",
        read: |r, item| limit(&mut r.gives.reservations_per_realm_max, item, 1, PLACES_MAX),
    },
    Key { name: "lifetime", read: |r, item| span(&mut r.gives.lifetime, item, SECOND * 20, DAY) },
    Key {
        name: "circuits_max",
        read: |r, item| limit(&mut r.gives.circuits_max, item, 1, CIRCUITS_MAX),
    },
    Key {
        name: "circuits_per_node_max",
        read: |r, item| limit(&mut r.gives.circuits_per_node_max, item, 1, CIRCUITS_MAX),
    },
    Key {
        name: "circuits_per_realm_max",
        read: |r, item| limit(&mut r.gives.circuits_per_realm_max, item, 1, CIRCUITS_MAX),
    },
    Key {
        name: "circuit_idle",
        read: |r, item| span(&mut r.gives.circuit_idle, item, SECOND * 5, HOUR),
    },
    Key {
        name: "circuit_lifetime",
        read: |r, item| {
            let expected = "a duration such as \"1h\", or \"none\"";
            let read = item.duration_or(&[("none", None)], expected, Some)?;
            r.gives.circuit_lifetime = match read {
                Some(_) => Some(item.duration_in(SECOND * 10, DAY * 30)?),
                None => None,
            };
            Ok(())
        },
    },
    Key { name: "kib_per_s", read: |r, item| limit(&mut r.gives.kib_per_s, item, 1, KIB_MAX) },
    Key {
        name: "realm_kib_per_s",
        read: |r, item| limit(&mut r.gives.realm_kib_per_s, item, 1, KIB_MAX),
    },
];
