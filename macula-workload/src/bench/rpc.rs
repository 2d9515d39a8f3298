//! The RPC suite: calls to an actor on another node, and what connections cost, each beside raw
//! QUIC in the same run. Both sides are in this process, and verified.

mod calls;
mod memory;
mod named;
mod nodes;

use super::Amounts;
use super::report::Suite;

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// How many bytes a question and its answer carry.
const BODY_LEN: usize = 128;

/// Runs the suite.
pub(super) fn run(amounts: Amounts) -> anyhow::Result<Suite> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scale = amounts.scale;
    let results = runtime.block_on(async {
        // Memory comes first, while the heap is still small.
        let memory = memory::measure((1_000 / scale).max(10)).await?;
        let mut results = Box::pin(calls::measure(scale)).await?;
        results.push(memory);
        anyhow::Ok(results)
    })?;
    Ok(Suite::new("rpc", results))
}
