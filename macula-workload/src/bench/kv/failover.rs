//! From a leader's end to the next acknowledged write.

use std::time::Duration;

use anyhow::ensure;
use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::kv::Kv;

use super::cluster::Cluster;

/// How long a write may take in all before the run is given up.
const WITHIN: Duration = Duration::from_secs(60);

/// Kills so many leaders one after the other, each when all voters are well, and gives how long it took
/// until the next write was acknowledged, in milliseconds.
pub(super) async fn measure(cluster: &mut Cluster, count: usize) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let leader = cluster.settled().await?;
        // A connection to the leader is there, as in the middle of a load.
        cluster.kv().put("failover/before", number.to_string()).await?;
        let began = TokioClock.now();
        cluster.kill(leader)?;
        insist(cluster.kv(), number).await?;
        took.push((TokioClock.now() - began).as_secs_f64() * 1e3);
        cluster.restart(leader)?;
    }
    cluster.settled().await?;
    for number in 0..count {
        let found = cluster.kv().get(key(number)).await?;
        ensure!(found.is_some(), "the acknowledged write {number} is lost");
    }
    Ok(took)
}

fn key(number: usize) -> String {
    format!("failover/{number}")
}

/// Writes until it is acknowledged.
async fn insist(kv: &Kv, number: usize) -> anyhow::Result<()> {
    let end = TokioClock.now() + WITHIN;
    while let Err(error) = kv.put(key(number), "acknowledged").await {
        ensure!(TokioClock.now() < end, "no write is acknowledged: {error}");
    }
    Ok(())
}
