//! Three nodes, over QUIC on the loopback interface: how long it takes until what one has written is on both
//! others.

use anyhow::Context as _;
use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::bootstrap::Seed;
use macula_workload::crdt::{Level, Subscription};
use macula_workload::identity::EphemeralRealm;
use macula_workload::{Config, Node};

use crate::bench::report::{Measure, quantile};

/// How often it is measured.
const WRITES: usize = 2_000;

/// How long the nodes may take to meet, in looks of 10 ms.
const LOOKS_MAX: usize = 6_000;

async fn start(realm: &EphemeralRealm, seed: Option<&Node>) -> anyhow::Result<Node> {
    let mut config = Config::default();
    config.crdt.settings.hold = vec!["bench".to_owned()];
    config.crdt.settings.bucket.greet_ms = 50;
    let addresses = seed.into_iter().flat_map(|node| node.mesh().listening());
    config.mesh.bootstrap.seeds = addresses.map(Seed::Address).collect();
    Ok(Node::builder().config(config).credentials(realm.member()?).start().await?)
}

async fn met(nodes: &[Node; 3]) -> anyhow::Result<()> {
    for node in nodes {
        let mut looks = 0;
        while node.crdt().stats("bench").await?.in_touch < 2 {
            looks += 1;
            anyhow::ensure!(looks < LOOKS_MAX, "the nodes do not meet");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

async fn heard(subscription: &mut Subscription) -> anyhow::Result<()> {
    let delivery = subscription.next().await.context("the bucket is not served")?;
    anyhow::ensure!(!delivery.is_local && delivery.lost == 0, "another change came");
    Ok(())
}

pub(super) async fn measure(scale: usize) -> anyhow::Result<Measure> {
    let realm = EphemeralRealm::new()?;
    let first = start(&realm, None).await?;
    let (second, third) = (start(&realm, Some(&first)).await?, start(&realm, Some(&first)).await?);
    let nodes = [first, second, third];
    met(&nodes).await?;
    let [first, second, third] = &nodes;
    let mut here = second.crdt().subscribe("bench", "bench/").await?;
    let mut there = third.crdt().subscribe("bench", "bench/").await?;
    let counter = first.crdt().counter("bench/counter");
    let (mut times, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..(WRITES / scale).max(10) {
        let begin = TokioClock.now();
        counter.count(1).await?;
        heard(&mut here).await?;
        heard(&mut there).await?;
        times.push((TokioClock.now() - begin).as_secs_f64() * 1e3);
        let begin = TokioClock.now();
        counter.clone().at(Level::All).count(1).await?;
        waits.push((TokioClock.now() - begin).as_secs_f64() * 1e3);
        heard(&mut here).await?;
        heard(&mut there).await?;
    }
    for node in nodes {
        node.stop().await?;
    }
    Ok(Measure::new("converge_3", "ms", quantile(&mut times, 0.5))
        .p99(quantile(&mut times, 0.99))
        .against("a write that waits until all have it", quantile(&mut waits, 0.5))
        .note("from a write on one node until both others have told their subscribers"))
}
