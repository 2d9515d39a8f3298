//! Nodes that nobody can dial call one another over others.

use std::collections::BTreeSet;
use std::time::Duration;

use macula_core::identity::{Authority, Keypair, NodeId, Validity};
use tokio::runtime::{Builder, Runtime};

use super::super::{Config, Discovery, transport};
use super::discovery::{WITHIN, has_members};
use super::rpc::{announced, topic};
use super::{NOW, Node, authority, believing, credentials, node_of};
use crate::bootstrap::{self, Seed};
use crate::dht::rules::space;
use crate::relay::{self, Carried};
use crate::remote::{CallError, Context};
use crate::rpc::{CallOptions, Options, StreamReceiver, StreamSender};
use crate::transport::overlay::is_overlay;
use crate::transport::tls::Credentials;

fn seeds(through: Option<&Node>) -> Vec<Seed> {
    let address = through.and_then(|other| other.infra.mesh.listening().first().copied());
    address.into_iter().map(Seed::Address).collect()
}

/// A node that joins through another; it relays, or it cannot be dialled.
async fn joined(seed: u8, seeds: Vec<Seed>, serves: bool) -> Node {
    joined_as(credentials(&authority(), seed), seeds, serves).await
}

async fn joined_as(credentials: Credentials, seeds: Vec<Seed>, serves: bool) -> Node {
    let bootstrap = bootstrap::Config { seeds, ..bootstrap::Config::default() };
    let mut relay = relay::Config { places: 2, uses: relay::Use::Auto, ..relay::Config::default() };
    relay.gives.serve = serves;
    let discovery = Discovery { bootstrap, relay, ..Discovery::default() };
    let mut transport = transport::Config::default();
    if !serves {
        transport.listen.clear();
    }
    let config = Config { discovery, transport, ..Config::new(credentials, 1) };
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

/// All believe each other, so that it is the relay alone that keeps realms apart.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_realms_at_a_relay_that_both_use() {
    let home = authority();
    let valid = Validity::from_now(NOW, Duration::from_secs(86_400));
    let away = Authority::with_key("away", Keypair::from_seed([98; 32]), valid).unwrap();
    let relay = joined_as(believing(&[&home, &away], &home, 1), Vec::new(), true).await;
    let hidden =
        |seed, by| joined_as(believing(&[&home, &away], by, seed), seeds(Some(&relay)), false);
    let (here, there) = (hidden(3, &home).await, hidden(4, &home).await);
    let stranger = hidden(5, &away).await;
    let relaying = relay.infra.mesh.relay();
    let placed = async {
        while relaying.carried().reservations < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, placed).await.expect("all have places");
    for node in [&relay, &here, &there, &stranger] {
        has_members(node, 3).await;
    }
    let to = there.infra.mesh.node();
    let counter = here.infra.mesh.remote(to).handle::<u64, u64>("counter").wait_for_ready();
    assert_eq!(counter.call_within(WITHIN, &5).await, Ok(5));
    let away = stranger.infra.mesh.node();
    here.infra.mesh.connect(away).await.unwrap_err();
    stranger.infra.mesh.connect(to).await.unwrap_err();
    assert_eq!(relaying.carried(), Carried { reservations: 3, circuits: 1 });
    let links = stranger.infra.mesh.links();
    assert!(links.iter().all(|link| link.node() == relay.infra.mesh.node()), "{links:?}");
    // Both tried, and so it is put down at the relay, which tells them no more than of any absent node.
    let audit = relay.infra.mesh.access().audit().recent();
    let tried: BTreeSet<_> = audit
        .iter()
        .filter(|entry| entry.action == "relay")
        .map(|entry| (entry.node, entry.name.clone()))
        .collect();
    let here_id = here.infra.mesh.node();
    for crossed in [(Some(here_id), away.to_string()), (Some(away), to.to_string())] {
        assert!(tried.contains(&crossed), "{crossed:?} is not of {tried:?}");
    }
    let is_of_home = |node: &str| [here_id, to].iter().any(|home| home.to_string() == node);
    let within_home =
        |(node, to): &&(Option<NodeId>, String)| *node != Some(away) && is_of_home(to);
    assert_eq!(tried.iter().find(within_home), None, "what stays in a realm is carried");
    for node in [here, there, stranger, relay] {
        node.root.stop().await;
    }
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

/// A stream ends with its connection, so that one which goes on shows that its connection does.
/// Which that is may not be asked: both sides may have dialled, and one of the two is then let go.
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
