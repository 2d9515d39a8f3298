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
use macula_workload::remote::RemoteHandle;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use super::ROUNDS;
use super::cluster::Cluster;
use super::load::{TTL, What, ask, call, name};
use crate::bench::report::{Measure, quantile};

/// How many ask at one time.
const CALLERS: usize = 64;

/// How many ask at one time where it is seen what batching brings: about as many as one node has
/// room for, which lets 256 operations wait for each peer.
const MANY: usize = 256;

/// How many ask at one time where it is seen how long they wait.
const FEW: usize = 4;

/// How long older systems held all operations back, to gather them.
const FIXED_DELAY: Duration = Duration::from_millis(100);

/// What was measured of one kind of operation: so many a second, a sample for each round.
#[derive(Default)]
struct Rates {
    batched: Vec<f64>,
    unbatched: Vec<f64>,
    plain: Vec<f64>,
}

/// What was measured; latencies are in microseconds.
#[derive(Default)]
struct Samples {
    put: Rates,
    get: Rates,
    find: Rates,
    lookup: Rates,
    cached: Vec<f64>,
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
    let mut providing = JoinSet::new();
    for server in cluster.servers() {
        for caller in 0..CALLERS {
            let server = server.clone();
            providing.spawn(async move {
                let name = (space::ANY, &name(caller)[..]);
                server.provide(name, Bytes::new(), TTL, Quorum::Majority).await
            });
        }
    }
    while let Some(provided) = providing.join_next().await {
        anyhow::ensure!(provided??.is_reached(), "a provider that is not known");
    }
    Ok(())
}

/// One after the other in each round, so that a slow moment of the machine hits all.
async fn rounds(
    [batched, unbatched, fixed]: [&Cluster; 3],
    scale: usize,
) -> anyhow::Result<Samples> {
    let part = |whole: usize, callers: usize| (whole / scale / ROUNDS / callers).max(1);
    let [put, get, find] = sizes(batched.dht()).await?;
    let plain_put = Plain::new(batched, put)?;
    let plain_get = Plain::new(batched, get)?;
    let plain_find = Plain::new(batched, find)?;
    let pair = [batched.dht(), unbatched.dht()];
    let mut samples = Samples::default();
    let mut before = 1;
    for _ in 0..ROUNDS {
        let each = part(4_000, CALLERS);
        samples.put.plain.push(plain_put.ask(part(80_000, CALLERS)).await?);
        samples.put.both(pair, What::Put { before }, CALLERS, each).await?;
        before += each as u64;
        samples.get.plain.push(plain_get.ask(part(80_000, CALLERS)).await?);
        samples.get.both(pair, What::Get, CALLERS, part(16_000, CALLERS)).await?;
        samples.find.plain.push(plain_find.ask(part(80_000, CALLERS)).await?);
        samples.find.both(pair, What::Find, CALLERS, part(8_000, CALLERS)).await?;
        samples.lookup.both(pair, What::Lookup, MANY, part(20_000, MANY)).await?;
        let cached = ask(batched.dht(), What::GetCached, CALLERS, part(400_000, CALLERS)).await?;
        samples.cached.push(cached.rate());
        let times = ask(batched.dht(), What::Get, FEW, part(400, FEW)).await?;
        samples.latency.extend(micros(times.each));
        let times = ask(fixed.dht(), What::Get, FEW, part(400, FEW)).await?;
        samples.fixed_latency.extend(micros(times.each));
    }
    Ok(samples)
}

impl Rates {
    /// Asks the same of both clusters.
    async fn both(
        &mut self,
        [batched, unbatched]: [&Dht; 2],
        what: What,
        callers: usize,
        each: usize,
    ) -> anyhow::Result<()> {
        self.batched.push(ask(batched, what, callers, each).await?.rate());
        self.unbatched.push(ask(unbatched, what, callers, each).await?.rate());
        Ok(())
    }

    /// What they come to beside plain calls.
    fn beside_plain(&mut self, name: &'static str, plain: &'static str) -> Measure {
        Measure::new(name, "1/s", quantile(&mut self.batched, 0.5))
            .against(plain, quantile(&mut self.plain, 0.5))
    }

    /// What they come to beside those of which each is a request of its own.
    fn beside_unbatched(&mut self, name: &'static str) -> Measure {
        Measure::new(name, "1/s", quantile(&mut self.batched, 0.5))
            .against("one operation in each request", quantile(&mut self.unbatched, 0.5))
    }
}

/// Plain calls with as many bytes.
struct Plain {
    handles: Vec<RemoteHandle<ByteBuf, ByteBuf>>,
    len: usize,
}

impl Plain {
    fn new(cluster: &Cluster, Bytewise { question, answer }: Bytewise) -> anyhow::Result<Self> {
        Ok(Self { handles: cluster.plain(answer)?, len: question })
    }

    async fn ask(&self, each: usize) -> anyhow::Result<f64> {
        Ok(call(&self.handles, self.len, CALLERS, each).await?.rate())
    }
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
    let (latency, fixed) =
        (quantile(&mut samples.latency, 0.5), quantile(&mut samples.fixed_latency, 0.5));
    let question = "a plain call with the bytes of one question and its answer";
    let cached = quantile(&mut samples.cached, 0.5);
    vec![
        samples.put.beside_plain("put", "a plain call with the bytes of one store").note(
            "64 callers at one node; each put asks all five others who is closest, and has them \
             keep it; what one peer may ask is not bounded here",
        ),
        samples
            .get
            .beside_plain("get", question)
            .note("not from memory; each asks three nodes at once, and the first answer will do"),
        samples.find.beside_plain("find_providers", question).note(
            "each asks three nodes at once, and checks the signatures of the five providers that \
             the first names",
        ),
        samples.put.beside_unbatched("put_batching"),
        samples.get.beside_unbatched("get_batching").note(
            "operations that wait in a queue are taken back when another answer will do, and so \
             fewer are sent unbatched: it is less work, and not only more requests",
        ),
        samples.find.beside_unbatched("find_batching").note("likewise"),
        samples
            .lookup
            .beside_unbatched("batching_gain")
            .note("lookups of 256 callers at one node, the same operations on both sides"),
        Measure::new("cache_gain", "1/s", cached)
            .against("gets that are not from memory", quantile(&mut samples.get.batched, 0.5)),
        Measure::new("get_latency", "us", latency)
            .p99(quantile(&mut samples.latency, 0.99))
            .against("with a fixed delay of 100 ms", fixed),
        Measure::new("latency_vs_fixed_delay", "% lower", 100.0 * (1.0 - latency / fixed))
            .note("the median of gets that are not from memory, of 4 callers at one node"),
    ]
}
