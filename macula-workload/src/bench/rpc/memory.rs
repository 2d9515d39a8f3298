//! What an idle connection costs, both ends together.

use macula_infra::link::Idle;
use macula_workload::identity::EphemeralRealm;
use macula_workload::transport::raw::Pair;

use crate::bench::report::{Measure, resident_bytes};

/// How many connections come before the first look, so that what is paid once is not counted.
const BEFORE: usize = 50;

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
pub(super) async fn measure(connections: usize) -> anyhow::Result<Measure> {
    let realm = EphemeralRealm::new()?;
    let raw = Pair::connect(&realm.member()?, &realm.member()?).await?;
    let warm = raw.idle(BEFORE).await?;
    let begin = resident_bytes()?;
    let idle = raw.idle(connections).await?;
    let raw_bytes = resident_bytes()?.saturating_sub(begin);
    drop((warm, idle, raw));

    let mut ours =
        Idle::start(realm.member()?, realm.member()?).await.map_err(anyhow::Error::from_boxed)?;
    ours.grow(BEFORE).await.map_err(anyhow::Error::from_boxed)?;
    let begin = resident_bytes()?;
    ours.grow(connections).await.map_err(anyhow::Error::from_boxed)?;
    let bytes = resident_bytes()?.saturating_sub(begin);
    ours.stop().await;
    Ok(Measure::new("idle_connection_memory", "B", bytes as f64 / connections as f64)
        .against("two raw ends", raw_bytes as f64 / connections as f64))
}
