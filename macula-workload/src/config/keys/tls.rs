//! The keys of `[tls]` and of `[peers]`. None of them switches verification off.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use macula_core::identity::NodeId;

use super::super::item::{node_id, pin};
use super::{Error, Item, Key, put};
use crate::identity::{Mode, Tls};
use crate::transport::tls::Enforcement;

const MODES: &[(&str, Mode)] =
    &[("realm", Mode::Realm), ("pin", Mode::Pin), ("node-id", Mode::NodeId)];

const ENFORCEMENTS: &[(&str, Enforcement)] =
    &[("enforce", Enforcement::Enforce), ("report", Enforcement::Report)];

/// The keys of `[tls]`.
pub(in crate::config) static TLS: &[Key<Tls>] = &[
    Key { name: "trust", read: |tls, item| put(&mut tls.trust, item.word(MODES)) },
    Key {
        name: "enforcement",
        read: |tls, item| put(&mut tls.enforcement, item.word(ENFORCEMENTS)),
    },
    Key { name: "directory", read: |tls, item| put(&mut tls.directory, item.file_or_none()) },
    Key { name: "pins", read: |tls, item| put(&mut tls.pins, item.each(pin)) },
    Key { name: "pin_and_realm", read: |tls, item| put(&mut tls.pin_and_realm, item.boolean()) },
    Key { name: "allow", read: |tls, item| put(&mut tls.allow, item.each(node_id)) },
    Key {
        name: "join_token_file",
        read: |tls, item| put(&mut tls.join_token_file, item.file_or_none()),
    },
];

/// Reads `[peers]`: the addresses of nodes, by their ids.
pub(super) fn peers(
    peers: &mut BTreeMap<NodeId, Vec<SocketAddr>>,
    item: &Item<'_>,
) -> Result<(), Error> {
    let mut faults = Error::none();
    for (key, value) in item.as_table("a table of addresses by node id")? {
        let item = Item { text: item.text, key, value };
        let node = faults.absorb(item.key_node_id());
        let addresses = faults.absorb(item.places());
        if let (Some(node), Some(addresses)) = (node, addresses) {
            peers.insert(node, addresses);
        }
    }
    faults.or(())
}
