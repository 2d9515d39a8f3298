//! The pub/sub suite: messages of 128 bytes from one node to others, beside frames of the same length
//! on one raw QUIC stream in the same run. All nodes are in this process, and verified.
//!
//! The baseline is what the QUIC library alone does: a task makes frames and gives each to one stream
//! without waiting for anything, and another one cuts them out of what comes. That is a write for each
//! frame. `one_to_one_of_bulk` says what is left above it: the same bytes in writes of 256 frames, which nobody
//! makes and nobody reads. No message can be told from another there, so it bounds what any protocol
//! can do, and is no measure of one.

mod flows;
mod nodes;

use macula_workload::identity::EphemeralRealm;
use macula_workload::pubsub::PublishOptions;
use macula_workload::transport::raw::Pair;

use self::flows::Feed;
use self::nodes::{Nodes, Sharing};
use super::Amounts;
use super::report::{Measure, Suite, quantile};

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// How many bytes a message carries.
const BODY_LEN: usize = 128;

/// How many bytes the frame of one message has: its header and its body.
const FRAME_LEN: usize = macula_core::wire::HEADER_LEN + BODY_LEN;

/// How many frames are written at one time where they are not made one by one.
const FRAMES: usize = 256;

/// How many nodes subscribe where many do.
const AUDIENCE: usize = 32;

/// How many subscriptions there are where there are many.
const SUBSCRIPTIONS: usize = 100_000;

/// Runs the suite.
pub(super) fn run(amounts: Amounts) -> anyhow::Result<Suite> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let results = runtime.block_on(measure(amounts.scale))?;
    Ok(Suite::new("pubsub", results))
}

/// What one round measured, in messages a second; latencies in microseconds.
#[derive(Default)]
struct Samples {
    frames: Vec<f64>,
    bulk: Vec<f64>,
    one_to_one: Vec<f64>,
    framed: Vec<f64>,
    written: Vec<f64>,
    acknowledged: Vec<f64>,
    wildcards: Vec<f64>,
    latency: Vec<f64>,
    fan_out: Vec<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds
}

async fn measure(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let realm = EphemeralRealm::new()?;
    let raw = Pair::connect(&realm.member()?, &realm.member()?).await?;
    let nodes = Nodes::start(&realm, 1, Sharing::All).await?;
    let part = |whole: usize| (whole / scale / ROUNDS).max(100);
    let mut samples = Samples::default();
    let (count, promised) = (part(5_000_000), PublishOptions::at_least_once());
    let plain = PublishOptions::default();
    let mut feed = nodes.feed("feed").await?;
    feed.run(part(500_000), plain).await?;
    // One after the other in each round, so that a slow moment of the machine hits all.
    for _ in 0..ROUNDS {
        let took = raw.frames(count, BODY_LEN).await?;
        samples.frames.push(rate(count, took.as_secs_f64()));
        samples.one_to_one.push(feed.run(count, plain).await?);
        samples.acknowledged.push(feed.run(count, promised).await?);
        let took = raw.bulk(1, count * FRAME_LEN, FRAMES * FRAME_LEN).await?;
        samples.bulk.push(rate(count, took.as_secs_f64()));
    }
    let half = quantile(&mut samples.one_to_one, 0.5) / 2.0;
    samples.latency = feed.latencies(part(2_000_000), half).await?;
    let subscriptions = (SUBSCRIPTIONS / scale).max(100);
    let others = nodes.subscribe_beside(subscriptions)?;
    let mut wild = nodes.feed("w.feed.one").await?;
    for _ in 0..ROUNDS {
        samples.wildcards.push(wild.run(count / 2, promised).await?);
    }
    drop((others, wild, feed));
    nodes.stop().await?;
    let count = part(1_000_000);
    samples.framed = unbatched(&realm, count, Sharing::Writes).await?;
    samples.written = unbatched(&realm, count, Sharing::Nothing).await?;
    fan_out(&realm, (AUDIENCE / scale).max(2), part(200_000), &mut samples).await?;
    Ok(report(samples))
}

/// The same with one message in each batch.
async fn unbatched(
    realm: &EphemeralRealm,
    count: usize,
    sharing: Sharing,
) -> anyhow::Result<Vec<f64>> {
    let nodes = Nodes::start(realm, 1, sharing).await?;
    let mut feed: Feed = nodes.feed("feed").await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(feed.run(count, PublishOptions::default()).await?);
    }
    drop(feed);
    nodes.stop().await?;
    Ok(rates)
}

async fn fan_out(
    realm: &EphemeralRealm,
    audience: usize,
    count: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let nodes = Nodes::start(realm, audience, Sharing::All).await?;
    let mut feed = nodes.feed("feed").await?;
    for _ in 0..ROUNDS {
        samples.fan_out.push(feed.run(count, PublishOptions::at_least_once()).await?);
    }
    drop(feed);
    nodes.stop().await
}

fn report(mut samples: Samples) -> Vec<Measure> {
    let mut median = |of: fn(&mut Samples) -> &mut Vec<f64>| quantile(of(&mut samples), 0.5);
    let one_to_one = median(|samples| &mut samples.one_to_one);
    let frames = median(|samples| &mut samples.frames);
    let bulk = median(|samples| &mut samples.bulk);
    let framed = median(|samples| &mut samples.framed);
    let written = median(|samples| &mut samples.written);
    let acknowledged = median(|samples| &mut samples.acknowledged);
    let wildcards = median(|samples| &mut samples.wildcards);
    let fan_out = median(|samples| &mut samples.fan_out);
    let latency = median(|samples| &mut samples.latency);
    let p99 = quantile(&mut samples.latency, 0.99);
    let raw = "frames pipelined on one raw stream";
    vec![
        Measure::new("one_to_one", "1/s", one_to_one).against(raw, frames),
        Measure::new("acknowledged", "1/s", acknowledged).against(raw, frames),
        Measure::new("one_to_one_of_bulk", "1/s", one_to_one)
            .against("their bytes on one raw stream, 256 frames in a write", bulk)
            .note("nobody makes or reads those frames"),
        Measure::new("latency", "us", latency).p99(p99).note("at half of one_to_one"),
        Measure::new("batching_gain", "1/s", one_to_one)
            .against("one write for each message", written),
        Measure::new("batching_of_messages", "1/s", one_to_one)
            .against("one frame for each message, which share writes", framed),
        Measure::new("fan_out_32", "1/s", fan_out)
            .against("one subscriber, acknowledged", acknowledged)
            .note("deliveries to 32 nodes, acknowledged"),
        Measure::new("wildcards_100k", "1/s", wildcards)
            .against("one subscription, acknowledged", acknowledged)
            .note("one of 100,001 subscriptions matches, and the others differ in the last segment only, acknowledged"),
    ]
}
