//! Calls: one after the other, many at a time, over a new connection each, and long ones.

use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::identity::EphemeralRealm;
use macula_workload::remote::RemoteHandle;
use macula_workload::transport::raw::Pair;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use super::nodes::Nodes;
use super::{BODY_LEN, ROUNDS, named};
use crate::bench::report::{Measure, quantile};

/// How many call at one time.
const CALLERS: usize = 64;

/// How long a long body is, in bytes.
const BULK_LEN: usize = 1024 * 1024;

/// How long a very long one is.
const HUGE_LEN: usize = 16 * 1024 * 1024;

/// How many long bodies are under way at one time.
const BULK_CALLERS: usize = 4;

/// What one round measured.
#[derive(Default)]
struct Samples {
    sequential: Vec<f64>,
    raw_sequential: Vec<f64>,
    callers: Vec<f64>,
    raw_callers: Vec<f64>,
    connects: Vec<f64>,
    bulk: Vec<f64>,
    huge: Vec<f64>,
    raw_bulk: Vec<f64>,
    named: Vec<f64>,
    streaming: Vec<f64>,
    raw_streaming: Vec<f64>,
    relayed: Relayed,
}

/// The same, between two nodes that a third carries.
#[derive(Default)]
struct Relayed {
    sequential: Vec<f64>,
    callers: Vec<f64>,
    bulk: Vec<f64>,
}

pub(super) async fn measure(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let realm = EphemeralRealm::new()?;
    let nodes = Nodes::direct(&realm).await?;
    let relayed = Box::pin(Nodes::relayed(&realm)).await?;
    let mut raw = Pair::connect(&realm.member()?, &realm.member()?).await?;
    let mut samples = Samples::default();
    let part = |whole: usize| (whole / scale / ROUNDS).max(1);
    sequential(&nodes.echo, part(2_000)).await?;
    sequential(&relayed.echo, part(2_000)).await?;
    // One after the other in each round, so that a slow moment of the machine hits both.
    for _ in 0..ROUNDS {
        samples.raw_sequential.extend(micros(raw.ping_pong(part(20_000), BODY_LEN).await?));
        samples.sequential.extend(micros(sequential(&nodes.echo, part(20_000)).await?));
        samples.named.extend(micros(named::sequential(&nodes.one, part(20_000)).await?));
        let items = part(1_000_000);
        let raw_time = raw.bulk(1, items * BODY_LEN, BULK_LEN).await?;
        samples.raw_streaming.push(rate(items, raw_time));
        samples.streaming.push(rate(items, named::stream(&nodes.one, items).await?));
        let each = (part(400_000) / CALLERS).max(1);
        let raw_time = raw.stream_per_request(CALLERS, each, BODY_LEN).await?;
        samples.raw_callers.push(rate(each * CALLERS, raw_time));
        samples.callers.push(rate(each * CALLERS, concurrent(&nodes.echo, each).await?));
        let calls = part(2_000);
        samples.connects.push(rate(calls, raw.connect_per_call(calls, BODY_LEN).await?));
        let bodies = (part(200) / BULK_CALLERS).max(1);
        let each = bodies * HUGE_LEN;
        let len = each * BULK_CALLERS;
        samples.raw_bulk.push(gigabits(len, raw.bulk(BULK_CALLERS, each, BULK_LEN).await?));
        let more = bodies * HUGE_LEN / BULK_LEN;
        samples.bulk.push(gigabits(len, bulk(&nodes.swallow, more, BULK_LEN).await?));
        samples.huge.push(gigabits(len, bulk(&nodes.swallow, bodies, HUGE_LEN).await?));
        carried(&relayed, &part, &mut samples.relayed).await?;
    }
    nodes.stop().await?;
    relayed.stop().await?;
    Ok(report(samples))
}

/// A round over a relay: with a tenth of the calls.
async fn carried(
    nodes: &Nodes,
    part: &impl Fn(usize) -> usize,
    samples: &mut Relayed,
) -> anyhow::Result<()> {
    samples.sequential.extend(micros(sequential(&nodes.echo, part(2_000)).await?));
    let each = (part(40_000) / CALLERS).max(1);
    samples.callers.push(rate(each * CALLERS, concurrent(&nodes.echo, each).await?));
    let bodies = (part(200) / BULK_CALLERS).max(1);
    let len = bodies * BULK_CALLERS * BULK_LEN;
    samples.bulk.push(gigabits(len, bulk(&nodes.swallow, bodies, BULK_LEN).await?));
    Ok(())
}

fn report(mut samples: Samples) -> Vec<Measure> {
    let p99 = quantile(&mut samples.sequential, 0.99);
    let sequential = quantile(&mut samples.sequential, 0.5);
    let raw_sequential = quantile(&mut samples.raw_sequential, 0.5);
    let callers = quantile(&mut samples.callers, 0.5);
    let connects = quantile(&mut samples.connects, 0.5);
    let raw_bulk = quantile(&mut samples.raw_bulk, 0.5);
    let bulk = quantile(&mut samples.bulk, 0.5);
    let named_p99 = quantile(&mut samples.named, 0.99);
    let named = quantile(&mut samples.named, 0.5);
    let streaming = quantile(&mut samples.streaming, 0.5);
    let raw_streaming = quantile(&mut samples.raw_streaming, 0.5);
    let relayed = &mut samples.relayed;
    let relayed_p99 = quantile(&mut relayed.sequential, 0.99);
    let direct = "directly";
    let connection = "a new connection for each call";
    vec![
        Measure::new("sequential", "us", sequential)
            .p99(p99)
            .against("ping-pong on one raw stream", raw_sequential),
        Measure::new("discovered_call", "us", named)
            .p99(named_p99)
            .against("a call of the actor on its node", sequential)
            .note("by name to its reply, cached"),
        Measure::new("streaming", "1/s", streaming)
            .against("as many bytes on one raw stream", raw_streaming),
        Measure::new("callers_64", "1/s", callers)
            .against("a raw stream for each request", quantile(&mut samples.raw_callers, 0.5)),
        Measure::new("connect_per_call", "1/s", connects),
        Measure::new("pooled_gain_sequential", "1/s", 1e6 / sequential)
            .against(connection, connects),
        Measure::new("pooled_gain_64", "1/s", callers).against(connection, connects),
        Measure::new("bulk", "Gbit/s", bulk).against("as many raw streams", raw_bulk),
        Measure::new("bulk_16_mib", "Gbit/s", quantile(&mut samples.huge, 0.5))
            .against("as many raw streams", raw_bulk),
        Measure::new("relayed_sequential", "us", quantile(&mut relayed.sequential, 0.5))
            .p99(relayed_p99)
            .against(direct, sequential),
        Measure::new("relayed_64", "1/s", quantile(&mut relayed.callers, 0.5))
            .against(direct, callers),
        Measure::new("relayed_bulk", "Gbit/s", quantile(&mut relayed.bulk, 0.5))
            .against(direct, bulk),
    ]
}

fn micros(times: Vec<Duration>) -> impl Iterator<Item = f64> {
    times.into_iter().map(|time| time.as_secs_f64() * 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn gigabits(len: usize, time: Duration) -> f64 {
    rate(len * 8, time) / 1e9
}

async fn sequential(
    echo: &RemoteHandle<ByteBuf, ByteBuf>,
    calls: usize,
) -> anyhow::Result<Vec<Duration>> {
    let echo = echo.clone();
    tokio::spawn(async move {
        let question = ByteBuf::from(vec![7; BODY_LEN]);
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let begin = TokioClock.now();
            let answer = echo.call(&question).await?;
            times.push(TokioClock.now() - begin);
            anyhow::ensure!(answer == question, "a wrong answer");
        }
        Ok(times)
    })
    .await?
}

async fn concurrent(
    echo: &RemoteHandle<ByteBuf, ByteBuf>,
    each: usize,
) -> anyhow::Result<Duration> {
    let begin = TokioClock.now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let echo = echo.clone();
        callers.spawn(async move {
            let question = ByteBuf::from(vec![7; BODY_LEN]);
            for _ in 0..each {
                let answer = echo.call(&question).await?;
                anyhow::ensure!(answer.len() == BODY_LEN, "a wrong answer");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(TokioClock.now() - begin)
}

async fn bulk(
    swallow: &RemoteHandle<ByteBuf, ByteBuf>,
    bodies: usize,
    len: usize,
) -> anyhow::Result<Duration> {
    let within = Duration::from_secs(60);
    let begin = TokioClock.now();
    let mut callers = JoinSet::new();
    for _ in 0..BULK_CALLERS {
        let swallow = swallow.clone();
        callers.spawn(async move {
            let body = ByteBuf::from(vec![7; len]);
            for _ in 0..bodies {
                swallow.call_within(within, &body).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(TokioClock.now() - begin)
}
