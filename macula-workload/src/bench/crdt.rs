//! The suite of replicated types: what an update costs beside a plain collection, what goes over the wire,
//! what a comparison of two replicas costs in proportion to what differs, and whether memory stays as it is.

mod beside;
mod mesh;
mod nodes;
mod soak;
mod sync;
mod updates;

use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::replica::ReplicaId;
use macula_workload::crdt::bucket::Bucket;
use macula_workload::crdt::limits::Limits;

use super::Amounts;
use super::report::{Suite, quantile};

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// What the calendar says, since the Unix epoch.
const WALL: Duration = Duration::from_secs(1_700_000_000);

/// Runs the suite.
pub(super) fn run(amounts: Amounts) -> anyhow::Result<Suite> {
    let mut results = Vec::from(soak::measure(amounts.scale)?);
    results.extend(updates::measure(amounts.scale)?);
    results.extend(beside::measure(amounts.scale)?);
    results.extend(sync::measure(amounts)?);
    results.push(mesh::measure(amounts)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    results.push(runtime.block_on(nodes::measure(amounts.scale))?);
    Ok(Suite { seed: Some(amounts.seed), ..Suite::new("crdt", results) })
}

/// A bucket of a replica, without any limit that matters.
fn bucket(node: u64) -> anyhow::Result<Bucket> {
    let limits = Limits { elements_max: 1 << 30, ..Limits::default() };
    Ok(Bucket::new(ReplicaId { node, incarnation: 1 }, limits)?)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn number(count: usize) -> f64 {
    count as f64
}

/// How often in a second something is done, which is done so often in each round: the median of them.
fn rate(
    count: usize,
    mut round: impl FnMut(&mut dyn FnMut()) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        // A round prepares first, and says when it begins.
        let mut begin: Option<Instant> = None;
        round(&mut || begin = Some(TokioClock.now()))?;
        let took = begin.map_or(Duration::ZERO, |begin| TokioClock.now() - begin);
        rates.push(number(count) / took.as_secs_f64().max(1e-9));
    }
    Ok(quantile(&mut rates, 0.5))
}
