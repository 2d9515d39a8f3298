//! The supervision suite: how fast a crash is healed, what a handle costs, and what many children
//! cost, each beside plain ractor in the same run.

mod actors;
mod children;
mod messages;
mod restarts;

use super::Amounts;
use super::report::Suite;

/// How often a measurement is repeated; the median counts.
const ROUNDS: usize = 5;

/// Runs the suite.
pub(super) fn run(amounts: Amounts) -> anyhow::Result<Suite> {
    // Crash reports go to a subscriber that keeps none: the panics' texts are made and not printed.
    let silent =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::sink);
    // Somebody may have set one before, which does as well.
    drop(silent.try_init());
    // Raw ractor's panics are not printed either, so that both sides pay for the same.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scale = amounts.scale;
    let results = runtime.block_on(async {
        // The children come first: their memory is measured while the heap is still small.
        let children = children::measure(100_000 / scale).await?;
        let mut results = restarts::measure(20_000 / scale).await?;
        results.extend(messages::measure(400_000 / scale, 40_000 / scale).await?);
        results.extend(children);
        anyhow::Ok(results)
    })?;
    Ok(Suite::new("supervision", results))
}
