//! The keys of `[mesh]` and of `[admin]`.

use std::time::Duration;

use super::super::error::Problem;
use super::super::item::seed;
use super::{Key, ms, put, span, spot};
use crate::config::{Admin, Mesh};
use macula_infra::membership::update::Role;

const ROLES: &[(&str, Role)] =
    &[("server", Role::Server), ("client", Role::Client), ("bootstrap", Role::Bootstrap)];

const HOUR: Duration = Duration::from_secs(3_600);

/// The keys of `[mesh]`.
pub(in crate::config) static MESH: &[Key<Mesh>] = &[
    Key {
        name: "realm",
        read: |mesh, item| {
            let text = item.string("a name in quotes, or \"auto\"")?;
            mesh.realm = match text {
                "auto" => None,
                name => Some(
                    macula_core::identity::check_name(name)
                        .map_err(|_invalid| {
                            let found = name.to_owned();
                            item.fault(Problem::NotRealm { found })
                        })?
                        .to_owned(),
                ),
            };
            Ok(())
        },
    },
    Key { name: "role", read: |mesh, item| put(&mut mesh.role, item.word(ROLES)) },
    Key { name: "advertise", read: |mesh, item| put(&mut mesh.advertise, item.places()) },
    Key { name: "seeds", read: |mesh, item| put(&mut mesh.bootstrap.seeds, item.each(seed)) },
    Key {
        name: "nameserver",
        read: |mesh, item| put(&mut mesh.bootstrap.nameserver, item.address_or_none()),
    },
    Key {
        name: "retry_initial",
        read: |mesh, item| span(&mut mesh.bootstrap.retry_initial, item, ms(10), HOUR),
    },
    Key {
        name: "retry_max",
        read: |mesh, item| span(&mut mesh.bootstrap.retry_max, item, ms(10), HOUR),
    },
    Key { name: "table_file", read: |mesh, item| put(&mut mesh.table_file, spot(item)) },
];

/// The keys of `[admin]`.
pub(in crate::config) static ADMIN: &[Key<Admin>] =
    &[Key { name: "socket", read: |admin, item| put(&mut admin.socket, spot(item)) }];
