//! The suite of the distributed hash table: simulated meshes, in which the truth is known and every
//! lookup is compared with it, and real nodes on the loopback interface, beside plain calls over
//! the same connections.

mod cluster;
mod load;
mod loopback;
mod meshes;

use super::Amounts;
use super::report::Suite;

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// Runs the suite.
pub(super) fn run(amounts: Amounts) -> anyhow::Result<Suite> {
    // The meshes come first: their memory is measured while the heap is still small.
    let mut results = meshes::measure(amounts)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    results.extend(runtime.block_on(loopback::measure(amounts.scale))?);
    Ok(Suite { seed: Some(amounts.seed), ..Suite::new("dht", results) })
}
