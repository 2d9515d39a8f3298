//! What many dynamic children cost: to start, in memory, and to stop.

use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::supervision::{Restart, Root, Supervisor, TreeOptions, Worker};
use ractor::Actor;

use super::ROUNDS;
use super::actors::{Idle, Parent, ParentMsg};
use crate::bench::report::{Measure, quantile, resident_bytes};

/// How many starts are under way at the same time: enough to keep the supervisor busy. Of 8, 64 and
/// 1,024, tried on two cores, this did best; the ratio depends on it, and is the best case.
const STARTERS: usize = 8;

pub(super) async fn measure(children: usize) -> anyhow::Result<Vec<Measure>> {
    let whole = cycle(children).await?;
    let small = cycle(children / 10).await?;
    let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
    // One after the other in each round, so that a slow moment of the machine hits both.
    for _ in 0..ROUNDS {
        raw_rates.push(raw_start(children).await?);
        rates.push(cycle(children).await?.start_rate);
    }
    let raw_rate = quantile(&mut raw_rates, 0.5);
    Ok(vec![
        Measure::new("dynamic_start", "1/s", quantile(&mut rates, 0.5))
            .against("raw spawn_linked, one parent in sequence", raw_rate),
        Measure::new("dynamic_memory", "B/child", whole.bytes_per_child),
        Measure::new("dynamic_stop", "s", whole.stop.as_secs_f64()),
        Measure::new(
            "dynamic_stop_growth",
            "x per child",
            whole.stop_per_child / small.stop_per_child,
        ),
    ])
}

struct Cycle {
    start_rate: f64,
    bytes_per_child: f64,
    stop: Duration,
    stop_per_child: f64,
}

async fn raw_start(children: usize) -> anyhow::Result<f64> {
    let parent = Actor::spawn(None, Parent, ()).await?.0;
    let begin = TokioClock.now();
    parent.call(|port| ParentMsg::Start(children, port), None).await?;
    let elapsed = TokioClock.now() - begin;
    parent.stop_children_and_wait(None, None).await;
    parent.stop_and_wait(None, None).await.ok();
    Ok(per_second(children, elapsed))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn cycle(children: usize) -> anyhow::Result<Cycle> {
    let root = Supervisor::dynamic("many", children)?.start(TreeOptions::default()).await?;
    let before = resident_bytes()?;
    let begin = TokioClock.now();
    start_all(&root, children).await?;
    let start_rate = per_second(children, TokioClock.now() - begin);
    let bytes = resident_bytes()?.saturating_sub(before);
    let counts = root.handle().count_children().await?;
    anyhow::ensure!(counts.active == children, "{} of {children} children run", counts.active);
    let begin = TokioClock.now();
    root.stop().await;
    let stop = TokioClock.now() - begin;
    Ok(Cycle {
        start_rate,
        bytes_per_child: bytes as f64 / children as f64,
        stop,
        stop_per_child: stop.as_secs_f64() / children as f64,
    })
}

async fn start_all(root: &Root, children: usize) -> anyhow::Result<()> {
    let starters: Vec<_> = (0..STARTERS)
        .map(|starter| {
            let supervisor = root.handle().clone();
            let share = (children + starter) / STARTERS;
            tokio::spawn(async move {
                for _ in 0..share {
                    let worker = Worker::unnamed(|| (Idle, ())).restart(Restart::Temporary);
                    supervisor.start_child(worker).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for starter in starters {
        starter.await??;
    }
    Ok(())
}
