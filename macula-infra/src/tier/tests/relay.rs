//! Nodes that nobody can dial call one another over others.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::super::{Config, Discovery, transport};
use super::discovery::{WITHIN, has_members};
use super::rpc::{announced, topic};
use super::{Node, authority, credentials, node_of};
use crate::bootstrap::{self, Seed};
use crate::dht::rules::space;
use crate::relay;
use crate::remote::{CallError, Context};
use crate::rpc::{CallOptions, Options, StreamReceiver, StreamSender};
use crate::transport::overlay::is_overlay;

fn seeds(through: Option<&Node>) -> Vec<Seed> {
    let address = through.and_then(|other| other.infra.mesh.listening().first().copied());
    address.into_iter().map(Seed::Address).collect()
}

/// A node that joins through another; it relays, or it cannot be dialled.
async fn joined(seed: u8, seeds: Vec<Seed>, serves: bool) -> Node {
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

/// How long nothing may go on when a relay is lost.
const FAILOVER_MAX: Duration = Duration::from_secs(3);

/// A relay in a runtime of its own, so that it can be killed as a process is.
struct Relay {
    node: Node,
    runtime: Runtime,
}

impl Relay {
    async fn joined(seed: u8, through: Option<&Node>) -> Self {
        let seeds = seeds(through);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.spawn(joined(seed, seeds, true)).await.unwrap();
        Self { node, runtime }
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn stop(self) {
        self.node.root.stop().await;
        self.kill();
    }
}

/// Two relays, and two nodes that cannot be dialled and have places at both.
async fn apart() -> ([Relay; 2], [Node; 2]) {
    let first = Relay::joined(1, None).await;
    let second = Relay::joined(2, Some(&first.node)).await;
    let (one, two) = (&first.node, &second.node);
    let here = joined(3, seeds(Some(one)), false).await;
    let there = joined(4, seeds(Some(one)), false).await;
    for node in [one, two, &here, &there] {
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
    ([first, second], [here, there])
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
    let carried = relays.iter().map(|relay| relay.node.infra.mesh.relay().carried());
    assert!(carried.map(|carried| carried.circuits).sum::<usize>() >= 1);
    stop(relays, [here, there]).await;
}

async fn stop(relays: impl IntoIterator<Item = Relay>, nodes: [Node; 2]) {
    for relay in relays {
        relay.stop().await;
    }
    for node in nodes {
        node.root.stop().await;
    }
}

/// The sum so far, for each number.
async fn sum(
    mut numbers: StreamReceiver<u64>,
    mut sums: StreamSender<u64>,
    _: Context,
) -> Result<(), CallError> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await? {
        sum += number;
        sums.send(&sum).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_over_the_other_relay_when_one_is_killed() {
    goes_on_without_one(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_over_the_other_relay_when_one_is_stopped() {
    goes_on_without_one(true).await;
}

async fn goes_on_without_one(is_stopped: bool) {
    let (relays, [here, there]) = apart().await;
    let (to, back) = (there.infra.mesh.node(), here.infra.mesh.node());
    let rpc = there.infra.mesh.rpc();
    rpc.advertise_stream(&topic("sum"), &Options::default(), sum).unwrap().keep();
    announced(&there).await;
    let long = CallOptions { within: WITHIN, ..CallOptions::default() };
    let opened = here.infra.mesh.rpc().open::<u64, u64>(&topic("sum"), &long).await;
    let (mut numbers, mut sums) = opened.unwrap();
    let counter = there.infra.mesh.remote(back).handle::<u64, u64>("counter");
    let links = || here.infra.mesh.links().into_iter().find(|link| link.node() == to).unwrap().id;
    let link = links();
    let (mut relays, mut expected) = (Vec::from(relays), 0);
    for number in 0..200_u64 {
        if number == 100 {
            let via = here.infra.mesh.relay().via(to).unwrap();
            let place = relays.iter().position(|relay| relay.node.infra.mesh.node() == via);
            let relay = relays.swap_remove(place.unwrap());
            if is_stopped {
                drop(tokio::spawn(relay.stop()));
            } else {
                relay.kill();
            }
        }
        numbers.send(&number).await.unwrap();
        expected += number;
        let next = tokio::time::timeout(FAILOVER_MAX, sums.next()).await;
        assert_eq!(next, Ok(Ok(Some(expected))), "number {number}");
        assert_eq!(counter.call_within(FAILOVER_MAX, &1).await, Ok(number + 1));
    }
    numbers.finish();
    assert_eq!(sums.next().await, Ok(None));
    assert_eq!(links(), link, "the connection is the same");
    let left: Vec<_> = relays.iter().map(|relay| relay.node.infra.mesh.node()).collect();
    let withdrawn = async {
        while here.infra.mesh.relay().reached(to).await.as_ref() != Some(&left) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, withdrawn).await.expect("the lost relay stands in no record");
    assert_eq!(there.infra.mesh.relay().places(), left);
    stop(relays, [here, there]).await;
}
