//! What it costs two replicas that were apart to come together, in bytes for each key that differs.

use std::ops::Bound;
use std::time::Duration;

use anyhow::Context as _;
use macula_core::sim::{Address, Sim};
use macula_workload::crdt::bucket::put_state;
use macula_workload::crdt::codec::Encoder;
use macula_workload::crdt::config::Config;
use macula_workload::crdt::limits::Limits;
use macula_workload::crdt::proto::Change;
use macula_workload::crdt::types::GCounter;

use super::mesh::{Group, converged, group, write};
use super::number;
use crate::bench::Amounts;
use crate::bench::report::Measure;

/// How many keys there are.
const KEYS: usize = 1_000_000;

/// How long the two are apart: until the one counts as silent for the other, so that nothing is pushed.
const APART: Duration = Duration::from_secs(60);

/// Nothing is done but by comparisons, and these when there is cause.
const SELDOM_MS: u64 = 24 * 3_600_000;

fn config() -> Config {
    let limits = Limits { keys_max: 2 * KEYS, ..Limits::default() };
    Config { limits, sync_ms: SELDOM_MS, collect_ms: SELDOM_MS, retire_ms: 0, ..Config::default() }
}

fn key(number: usize) -> String {
    format!("players/{number:08}/score")
}

fn count(sim: &mut Sim<Group>, at: Address, number: usize) {
    let count = Change::of(|sum: &GCounter, write| sum.increment(1, write));
    write(sim, at, &key(number), count);
}

/// How many bytes a key has with its state.
fn len_of(sim: &Sim<Group>, at: Address, number: usize) -> anyhow::Result<usize> {
    let (key, mut out) = (key(number), Encoder::default());
    let bucket = sim.machine(at).context("no such replica")?.0.bucket();
    let (key, entry) = bucket.entries(Bound::Included(&*key)).next().context("no such key")?;
    put_state(&mut out, key, entry.state());
    Ok(out.len())
}

/// How many bytes the two send for each of so many keys that differ; and how many each of those has.
fn differing(sim: &mut Sim<Group>, keys: usize, differ: usize) -> anyhow::Result<(f64, f64)> {
    sim.sever(&[&[Address(0)]]);
    let mut size = 0;
    for turn in 0..differ {
        let (at, number) = (Address(u32::from(turn % 2 == 0)), turn * (keys / differ));
        count(sim, at, number);
        size += len_of(sim, at, number)?;
    }
    sim.run_until(sim.now() + APART)?;
    let before = sim.sent().bytes;
    sim.mend();
    converged(sim)?;
    let sent = usize::try_from(sim.sent().bytes - before)?;
    Ok((number(sent) / number(differ), number(size) / number(differ)))
}

pub(super) fn measure(amounts: Amounts) -> anyhow::Result<Vec<Measure>> {
    let keys = (KEYS / amounts.scale).max(1_000);
    let mut sim = group(amounts.seed, 2, config())?;
    // The second one comes when all is there, and is sent all.
    sim.crash(Address(1));
    (0..keys).for_each(|number| count(&mut sim, Address(0), number));
    let before = sim.sent().bytes;
    sim.start(Address(1));
    converged(&mut sim)?;
    let all = number(usize::try_from(sim.sent().bytes - before)?);
    let mut measured = |name, whole_name, few: usize, note| {
        let differ = (few / amounts.scale).clamp(10, keys);
        let (sent, size) = differing(&mut sim, keys, differ)?;
        let whole = sent * number(differ);
        anyhow::Ok([
            Measure::new(name, "B", sent)
                .against("the state of a key that differs, with the key", size)
                .note(note),
            Measure::new(whole_name, "B", whole).against("sending all", all),
        ])
    };
    let results = [
        measured("sync_bytes_10", "sync_10_of_all", 10, "for each of 10 keys of 1,000,000")?,
        measured("sync_bytes_1k", "sync_1k_of_all", 1_000, "for each of 1,000 keys")?,
        measured("sync_bytes_100k", "sync_100k_of_all", 100_000, "for each of 100,000 keys")?,
    ];
    Ok(results.into_iter().flatten().collect())
}
