//! Nodes that nobody can dial call one another over others.

use std::time::Duration;

use super::super::{Config, Discovery, transport};
use super::discovery::{WITHIN, has_members};
use super::{Node, authority, credentials, node_of};
use crate::bootstrap::{self, Seed};
use crate::dht::rules::space;
use crate::relay;
use crate::transport::overlay::is_overlay;

/// A node that joins through another; it relays, or it cannot be dialled.
async fn joined(seed: u8, through: Option<&Node>, serves: bool) -> Node {
    let seeds = through.and_then(|other| other.infra.mesh.listening().first().copied());
    let seeds = seeds.into_iter().map(Seed::Address).collect();
    let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
    let mut relay = relay::Config { places: 2, uses: relay::Use::Auto, ..relay::Config::default() };
    relay.gives.serve = serves;
    let discovery = Discovery { bootstrap, relay, ..Discovery::default() };
    let mut transport = transport::Config::default();
    if !serves {
        transport.listen.clear();
    }
    let config = Config { discovery, transport, ..Config::new(credentials(&authority(), seed), 1) };
    node_of(config).await
}

/// Two relays, and two nodes that cannot be dialled and have places at both.
async fn apart() -> ([Node; 2], [Node; 2]) {
    let one = joined(1, None, true).await;
    let two = joined(2, Some(&one), true).await;
    let here = joined(3, Some(&one), false).await;
    let there = joined(4, Some(&one), false).await;
    for node in [&one, &two, &here, &there] {
        has_members(node, 3).await;
    }
    for node in [&here, &there] {
        let placed = async {
            while node.infra.mesh.relay().places().len() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (dht, id) = (one.infra.mesh.dht(), node.infra.mesh.node());
            while dht.get(space::NODE, id.as_bytes(), true).await.unwrap().record.is_none() {}
        };
        tokio::time::timeout(WITHIN, placed).await.expect("two places");
    }
    ([one, two], [here, there])
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_cannot_be_dialled_call_each_other() {
    let (relays, [here, there]) = apart().await;
    let to = there.infra.mesh.node();
    let counter = here.infra.mesh.remote(to).handle::<u64, u64>("counter").wait_for_ready();
    assert_eq!(counter.call_within(WITHIN, &5).await, Ok(5));
    let links = here.infra.mesh.links();
    let link = links.iter().find(|link| link.node() == to).unwrap();
    assert!(is_overlay(link.peer().address) && link.peer().trusted);
    let back = there.infra.mesh.remote(here.infra.mesh.node()).handle::<u64, u64>("counter");
    assert_eq!(back.call(&7).await, Ok(7), "over the same connection");
    let carried = relays.iter().map(|relay| relay.infra.mesh.relay().carried());
    assert!(carried.map(|carried| carried.circuits).sum::<usize>() >= 1);
    for node in relays.into_iter().chain([here, there]) {
        node.root.stop().await;
    }
}
