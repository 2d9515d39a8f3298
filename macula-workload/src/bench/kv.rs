//! The suite of agreement: keys and values that three voters agree upon, each a process of its own of this
//! very binary with its files on one disk, beside that disk and the store by themselves in the same run.

mod cluster;
mod disk;
mod failover;
mod load;

use std::path::Path;
use std::time::Duration;

use macula_workload::kv::Level;

use self::cluster::Cluster;
use self::disk::{Plain, Raw, Sync};
use self::load::{Load, What};
use super::Amounts;
use super::report::{Measure, Suite, quantile};

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// How many bytes a value has.
const VALUE_LEN: usize = 256;

/// How many leaders are killed.
const FAILOVERS: usize = 100;

/// How many watch one prefix.
const WATCHES: usize = 64;

/// What was measured, a sample for each round: so many a second, or latencies in microseconds.
#[derive(Default)]
struct Samples {
    fsync: Vec<f64>,
    fsync_latency: Vec<f64>,
    raw_1: Vec<f64>,
    raw_64: Vec<f64>,
    raw_1024: Vec<f64>,
    quick_64: Vec<f64>,
    sequential: Vec<f64>,
    put_64: Vec<f64>,
    put_1024: Vec<f64>,
    linearizable: Vec<f64>,
    lease: Vec<f64>,
    events: Vec<f64>,
}

/// Runs the suite, with its files in a folder of its own in `folder`.
pub(super) fn run(amounts: Amounts, folder: &Path) -> anyhow::Result<Suite> {
    let place = disk::Place::new(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (samples, failovers) = runtime.block_on(measure(amounts.scale, &place))?;
    let disk = place.described();
    Ok(Suite { disk: Some(disk), ..Suite::new("kv", report(samples, failovers)) })
}

async fn measure(scale: usize, place: &disk::Place) -> anyhow::Result<(Samples, Vec<f64>)> {
    let (mut plain, mut raw) = (Plain::new(place)?, Raw::new(place, Sync::TwoPhases)?);
    let mut quick = Raw::new(place, Sync::OnePhase)?;
    let mut cluster = Cluster::start(place).await?;
    let load = Load::new(cluster.kv().clone(), VALUE_LEN);
    let part = |whole: usize, callers: usize| (whole / scale / ROUNDS / callers).max(1);
    let mut samples = Samples::default();
    load.run(What::Put, 64, 1).await?;
    // One after the other in each round, so that a slow moment of the machine hits all.
    for _ in 0..ROUNDS {
        let appends = plain.append(part(2_000, 1))?;
        samples.fsync.push(rate(appends.len(), appends.iter().sum()));
        samples.fsync_latency.extend(micros(&appends));
        samples.raw_1.extend(micros(&raw.commit(1, part(500, 1))?));
        let commits = raw.commit(64, part(500, 1))?;
        samples.raw_64.push(rate(commits.len() * 64, commits.iter().sum()));
        let commits = quick.commit(64, part(500, 1))?;
        samples.quick_64.push(rate(commits.len() * 64, commits.iter().sum()));
        let commits = raw.commit(1_024, part(100, 1))?;
        samples.raw_1024.push(rate(commits.len() * 1_024, commits.iter().sum()));
        let put = load.run(What::Put, 1, part(1_000, 1)).await?;
        samples.sequential.extend(micros(&put.each));
        samples.put_64.push(load.run(What::Put, 64, part(40_000, 64)).await?.rate());
        samples.put_1024.push(load.run(What::Put, 1_024, part(100_000, 1_024)).await?.rate());
        let get = load.run(What::Get(Level::Linearizable), 64, part(100_000, 64)).await?;
        samples.linearizable.push(get.rate());
        let get = load.run(What::Get(Level::Lease), 64, part(100_000, 64)).await?;
        samples.lease.push(get.rate());
        samples.events.push(load.watched(WATCHES, part(5_000, 1)).await?);
    }
    let failovers = failover::measure(&mut cluster, (FAILOVERS / scale).max(2)).await?;
    cluster.stop().await?;
    Ok((samples, failovers))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn micros(times: &[Duration]) -> impl Iterator<Item = f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e6)
}

fn report(mut samples: Samples, mut failovers: Vec<f64>) -> Vec<Measure> {
    let mut of = |of: fn(&mut Samples) -> &mut Vec<f64>, part| quantile(of(&mut samples), part);
    let (fsync, one_fsync) = (of(|all| &mut all.fsync, 0.5), of(|all| &mut all.fsync_latency, 0.5));
    let fsync_p99 = of(|all| &mut all.fsync_latency, 0.99);
    let (one_commit, p99) = (of(|all| &mut all.raw_1, 0.5), of(|all| &mut all.raw_1, 0.99));
    let (raw_64, raw_1024) = (of(|all| &mut all.raw_64, 0.5), of(|all| &mut all.raw_1024, 0.5));
    let quick_64 = of(|all| &mut all.quick_64, 0.5);
    let (put_64, put_1024) = (of(|all| &mut all.put_64, 0.5), of(|all| &mut all.put_1024, 0.5));
    let linearizable = of(|all| &mut all.linearizable, 0.5);
    let (file, store) = ("appends to a file, each with fdatasync", "raw redb, the same batches");
    vec![
        Measure::new("file_append", "us", one_fsync)
            .p99(fsync_p99)
            .note("256 bytes, written and brought to disk by fdatasync, one after the other"),
        Measure::new("raw_store_1", "us", one_commit)
            .p99(p99)
            .against("one such append", one_fsync)
            .note("a commit of one entry in redb, in two phases as the log's are"),
        Measure::new("raw_store_64_one_phase", "1/s", quick_64)
            .against("in two phases", raw_64)
            .note("how much the log pays for telling damage from what was cut off"),
        Measure::new("put_sequential", "us", of(|all| &mut all.sequential, 0.5))
            .p99(of(|all| &mut all.sequential, 0.99))
            .against("a commit of one entry in raw redb", one_commit)
            .note("one caller on a fourth node, values of 256 bytes"),
        Measure::new("put_64", "1/s", put_64).against(file, fsync).note("64 callers"),
        Measure::new("put_64_of_store", "1/s", put_64).against(store, raw_64),
        Measure::new("put_1024", "1/s", put_1024).against(file, fsync).note("1,024 callers"),
        Measure::new("put_1024_of_store", "1/s", put_1024).against(store, raw_1024),
        Measure::new("get_linearizable_64", "1/s", linearizable)
            .note("64 callers on a fourth node"),
        Measure::new("get_lease_64", "1/s", of(|all| &mut all.lease, 0.5))
            .against("linearizable ones", linearizable),
        Measure::new("watch_fan_out", "1/s", of(|all| &mut all.events, 0.5))
            .note("events told to 64 watches of one prefix, while 64 callers put"),
        Measure::new("failover", "ms", quantile(&mut failovers, 0.5))
            .p99(quantile(&mut failovers, 0.99))
            .note("from a leader's kill -9 to the next acknowledged write, all settings as usual"),
    ]
}
