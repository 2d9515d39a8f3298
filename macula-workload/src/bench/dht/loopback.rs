//! Real nodes: how many operations a second, and what batching, memory and patience make of them.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use macula_workload::dht::Dht;
use macula_workload::dht::proto::node::Quorum;
use macula_workload::dht::proto::records::Condition;
use macula_workload::dht::proto::requests;
use macula_workload::dht::rules::space;
use macula_workload::dht::wire::{CONTACTS_MAX, Op, OpResult, Reply, Request};
use macula_workload::identity::EphemeralRealm;

use super::ROUNDS;
use super::cluster::Cluster;
use super::load::{TTL, What, ask, call, name};
use crate::bench::report::{Measure, quantile};

/// How many ask at one time.
const CALLERS: usize = 64;

/// How many ask at one time where it is asked how long they wait.
const FEW: usize = 4;

/// How long older systems held all operations back, to gather them.
const FIXED_DELAY: Duration = Duration::from_millis(100);

/// What was measured, one sample for each round; latencies are in microseconds.
#[derive(Default)]
struct Samples {
    put: Vec<f64>,
    get: Vec<f64>,
    cached: Vec<f64>,
    find: Vec<f64>,
    raw_put: Vec<f64>,
    raw_get: Vec<f64>,
    raw_find: Vec<f64>,
    unbatched: Vec<f64>,
    latency: Vec<f64>,
    fixed_latency: Vec<f64>,
}

/// How many bytes a question and its answer have.
#[derive(Clone, Copy)]
struct Bytewise {
    question: usize,
    answer: usize,
}

pub(super) async fn measure(scale: usize) -> anyhow::Result<Vec<Measure>> {
    let realm = EphemeralRealm::new()?;
    let usual = requests::Config::default();
    let batched = Cluster::start(&realm, usual).await?;
    let unbatched = requests::Config { batch_max: 1, ..usual };
    let unbatched = Cluster::start(&realm, unbatched).await?;
    let fixed = requests::Config { fixed_delay: Some(FIXED_DELAY), ..usual };
    let fixed = Cluster::start(&realm, fixed).await?;
    for cluster in [&batched, &unbatched, &fixed] {
        prepare(cluster).await?;
    }
    let samples = rounds([&batched, &unbatched, &fixed], scale).await?;
    for cluster in [batched, unbatched, fixed] {
        cluster.stop().await;
    }
    Ok(report(samples))
}

/// Puts all records, and makes the nodes that serve provide under all names.
async fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    ask(cluster.dht(), What::Put { before: 0 }, CALLERS, 1).await?;
    for caller in 0..CALLERS {
        for server in cluster.servers() {
            let name = name(caller);
            let provide = server.provide((space::ANY, &name), Bytes::new(), TTL, Quorum::Majority);
            anyhow::ensure!(provide.await?.is_reached(), "a provider that is not known");
        }
    }
    Ok(())
}

/// One after the other in each round, so that a slow moment of the machine hits all.
async fn rounds(
    [batched, unbatched, fixed]: [&Cluster; 3],
    scale: usize,
) -> anyhow::Result<Samples> {
    let part = |whole: usize| (whole / scale / ROUNDS / CALLERS).max(1);
    let few = (200 / scale / ROUNDS).max(1);
    let dht = batched.dht();
    let [put, get, find] = sizes(dht).await?;
    let mut samples = Samples::default();
    let mut before = 1;
    for _ in 0..ROUNDS {
        let each = part(100_000);
        samples.raw_put.push(plain(batched, put, each).await?);
        samples.raw_get.push(plain(batched, get, each).await?);
        samples.raw_find.push(plain(batched, find, each).await?);
        let each = part(8_000);
        samples.put.push(ask(dht, What::Put { before }, CALLERS, each).await?.rate());
        before += each as u64;
        let each = part(40_000);
        samples.get.push(ask(dht, What::Get, CALLERS, each).await?.rate());
        samples.unbatched.push(ask(unbatched.dht(), What::Get, CALLERS, each).await?.rate());
        samples.find.push(ask(dht, What::Find, CALLERS, each).await?.rate());
        let each = part(400_000);
        samples.cached.push(ask(dht, What::GetCached, CALLERS, each).await?.rate());
        let times = ask(dht, What::Get, FEW, few).await?;
        samples.latency.extend(micros(times.each));
        let times = ask(fixed.dht(), What::Get, FEW, few).await?;
        samples.fixed_latency.extend(micros(times.each));
    }
    Ok(samples)
}

async fn plain(
    cluster: &Cluster,
    Bytewise { question, answer }: Bytewise,
    each: usize,
) -> anyhow::Result<f64> {
    Ok(call(&cluster.plain(answer)?, question, CALLERS, each).await?.rate())
}

/// What one question to one node and its answer take on the wire: for a put, for a get, and for
/// providers.
async fn sizes(dht: &Dht) -> anyhow::Result<[Bytewise; 3]> {
    let name = name(0);
    let key = dht.key(space::ANY, &name);
    let found = dht.lookup(key).await?;
    let contacts: Vec<_> = found.closest.iter().map(|peer| peer.contact().clone()).collect();
    let record = dht.get(space::ANY, &name, true).await?.record.context("no record")?;
    let record = record.signed().clone();
    let providers = dht.find(space::ANY, &name, CONTACTS_MAX).await?.providers;
    let providers: Vec<_> = providers.iter().map(|found| found.signed().clone()).collect();
    let sized = |op: Op, result: OpResult| {
        let question = Request { ops: vec![op] }.encode()?.len();
        let answer = Reply { results: vec![result] }.encode()?.len();
        anyhow::Ok(Bytewise { question, answer })
    };
    let total = providers.len() as u64;
    Ok([
        sized(
            Op::Store { record: record.clone(), condition: Condition::Any },
            OpResult::Kept { already: false },
        )?,
        sized(Op::FindValue { key }, OpResult::Value { record, contacts: contacts.clone() })?,
        sized(
            Op::FindProviders { key, max: CONTACTS_MAX },
            OpResult::Providers { providers, total, contacts },
        )?,
    ])
}

fn micros(times: Vec<Duration>) -> impl Iterator<Item = f64> {
    times.into_iter().map(|time| time.as_secs_f64() * 1e6)
}

fn report(mut samples: Samples) -> Vec<Measure> {
    let mut median = |samples: &mut Vec<f64>| quantile(samples, 0.5);
    let get = median(&mut samples.get);
    let (latency, fixed) = (median(&mut samples.latency), median(&mut samples.fixed_latency));
    let (p99, fixed_p99) =
        (quantile(&mut samples.latency, 0.99), quantile(&mut samples.fixed_latency, 0.99));
    vec![
        Measure::new("put", "1/s", median(&mut samples.put))
            .against("a plain call with the bytes of one store", median(&mut samples.raw_put))
            .note("64 callers at one node; each put asks five nodes who is closest, and has all keep it"),
        Measure::new("get", "1/s", get)
            .against("a plain call with the bytes of one question", median(&mut samples.raw_get))
            .note("not from memory: each asks three nodes at once, and checks a signature"),
        Measure::new("find_providers", "1/s", median(&mut samples.find))
            .against("a plain call with the bytes of one question", median(&mut samples.raw_find))
            .note("each asks three nodes at once, and checks five signatures for each answer"),
        Measure::new("batching_gain", "1/s", get)
            .against("gets, one operation in each request", median(&mut samples.unbatched)),
        Measure::new("cache_gain", "1/s", median(&mut samples.cached))
            .against("gets that are not from memory", get),
        Measure::new("get_latency", "us", latency)
            .p99(p99)
            .against("with a fixed delay of 100 ms", fixed),
        Measure::new("fixed_delay_latency", "us", fixed).p99(fixed_p99),
        Measure::new("latency_vs_fixed_delay", "% lower", 100.0 * (1.0 - latency / fixed))
            .note("the median of gets that are not from memory, 4 callers at one node"),
    ]
}
