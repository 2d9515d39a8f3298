//! From the message that makes a child panic to its replacement having started, which is its
//! `pre_start`: where OTP's start function returns too.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::supervision::{Supervisor, TreeOptions, Worker};
use ractor::{Actor, ActorRef};
use tokio::sync::mpsc;

use super::actors::{Crash, Fragile, Respawner};
use crate::bench::report::{Measure, quantile};

type Started = mpsc::Receiver<(ActorRef<Crash>, Instant)>;

pub(super) async fn measure(crashes: usize) -> anyhow::Result<Vec<Measure>> {
    let (sender, mut started) = mpsc::channel(4);
    let parent = tokio::spawn(Actor::spawn(None, Respawner, sender)).await??.0;
    let (_, raw) = tokio::spawn(async move { crash(crashes, &mut started).await }).await??;
    parent.stop_and_wait(None, None).await.ok();
    let mut raw = raw;
    let raw_median = quantile(&mut raw, 0.5);

    let (sender, mut started) = mpsc::channel(4);
    let worker = Worker::new("fragile", move || (Fragile, sender.clone()))?;
    let root = Supervisor::new("top")?.intensity(u32::MAX, Duration::from_millis(1)).child(worker);
    let root = root.start(TreeOptions::default()).await?;
    let (elapsed, mut samples) =
        tokio::spawn(async move { crash(crashes, &mut started).await }).await??;
    root.stop().await;

    let median = quantile(&mut samples, 0.5);
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let rate = crashes as f64 / elapsed.as_secs_f64();
    Ok(vec![
        Measure::new("restart_to_ready", "us", median)
            .p99(quantile(&mut samples, 0.99))
            .against("raw ractor, spawned again in the parent's handler", raw_median),
        Measure::new("restarts", "1/s", rate),
    ])
}

/// Crashes a child again and again; each sample is in microseconds.
async fn crash(crashes: usize, started: &mut Started) -> anyhow::Result<(Duration, Vec<f64>)> {
    let mut samples = Vec::with_capacity(crashes);
    let (mut child, begin) = started.recv().await.context("the child did not start")?;
    for _ in 0..crashes {
        let sent = TokioClock.now();
        child.send_message(Crash).ok().context("the child is not there")?;
        let (next, at) = started.recv().await.context("the child was not restarted")?;
        samples.push(at.saturating_duration_since(sent).as_secs_f64() * 1e6);
        child = next;
    }
    Ok((TokioClock.now() - begin, samples))
}
