//! What a handle costs: casts and calls through one, beside a raw reference.

use std::sync::Arc;
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::supervision::{Handle, Mailbox, Supervisor, TreeOptions, Worker};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef};
use tokio::sync::Notify;

use super::ROUNDS;
use super::actors::{Sink, Work};
use crate::bench::report::{Measure, quantile};

const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn measure(casts: usize, calls: usize) -> anyhow::Result<Vec<Measure>> {
    let done = Arc::new(Notify::new());
    let arguments = (casts as u64, Arc::clone(&done));
    let raw = Actor::spawn(None, Sink, arguments.clone()).await?.0;

    let worker = Worker::new("sink", move || (Sink, arguments.clone()))?;
    let worker = worker.mailbox(Mailbox { capacity: casts, ..Mailbox::default() });
    let (spec, handle) = worker.split();
    let root = Supervisor::new("top")?.child(spec).start(TreeOptions::default()).await?;

    let (mut cast, mut raw_cast) = (Vec::new(), Vec::new());
    let (mut call, mut raw_call) = (Vec::new(), Vec::new());
    // One after the other in each round, so that a slow moment of the machine hits both.
    for _ in 0..ROUNDS {
        raw_cast.push(raw_casts(&raw, casts, &done).await?);
        cast.push(handle_casts(&handle, casts, &done).await?);
        raw_call.push(raw_calls(&raw, calls).await?);
        call.push(handle_calls(&handle, calls).await?);
    }
    raw.stop(None);
    root.stop().await;
    let (median, raw_median) = (quantile(&mut call, 0.5), quantile(&mut raw_call, 0.5));
    Ok(vec![
        Measure::new("cast", "1/s", quantile(&mut cast, 0.5))
            .against("cast to a raw ActorRef", quantile(&mut raw_cast, 0.5)),
        Measure::new("call", "1/s", median).against("call of a raw ActorRef", raw_median),
        Measure::new("call_round_trip", "us", 1e6 / median)
            .against("call of a raw ActorRef", 1e6 / raw_median),
    ])
}

fn rate(count: usize, elapsed: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let count = count as f64;
    count / elapsed.as_secs_f64()
}

async fn raw_casts(raw: &ActorRef<Work>, casts: usize, done: &Arc<Notify>) -> anyhow::Result<f64> {
    let (raw, begin) = (raw.clone(), TokioClock.now());
    let sender = tokio::spawn(async move {
        for _ in 0..casts {
            raw.cast(Work::Count)?;
        }
        anyhow::Ok(())
    });
    done.notified().await;
    sender.await??;
    Ok(rate(casts, TokioClock.now() - begin))
}

async fn handle_casts(
    handle: &Handle<Work>,
    casts: usize,
    done: &Arc<Notify>,
) -> anyhow::Result<f64> {
    let (handle, begin) = (handle.clone(), TokioClock.now());
    let sender = tokio::spawn(async move {
        for _ in 0..casts {
            handle.cast(Work::Count)?;
        }
        anyhow::Ok(())
    });
    done.notified().await;
    sender.await??;
    Ok(rate(casts, TokioClock.now() - begin))
}

async fn raw_calls(raw: &ActorRef<Work>, calls: usize) -> anyhow::Result<f64> {
    let (raw, begin) = (raw.clone(), TokioClock.now());
    tokio::spawn(async move {
        for number in 0..calls as u64 {
            let answer = raw.call(|port| Work::Echo(number, port), Some(CALL_TIMEOUT)).await?;
            anyhow::ensure!(answer == CallResult::Success(number), "a wrong answer");
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(rate(calls, TokioClock.now() - begin))
}

async fn handle_calls(handle: &Handle<Work>, calls: usize) -> anyhow::Result<f64> {
    let (handle, begin) = (handle.clone(), TokioClock.now());
    tokio::spawn(async move {
        for number in 0..calls as u64 {
            let answer = handle.call_within(CALL_TIMEOUT, |port| Work::Echo(number, port)).await?;
            anyhow::ensure!(answer == number, "a wrong answer");
        }
        anyhow::Ok(())
    })
    .await??;
    Ok(rate(calls, TokioClock.now() - begin))
}
