//! `macula run`: a node until a signal.

use anyhow::Context as _;
use macula_workload::supervision::{Event, ExitReason};
use macula_workload::{Config, Node};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;

use super::{Failure, RunArgs, log, print, runtime};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    // A variable that is not text is none of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::load(args.config.as_deref(), env, &args.sets)
        .map_err(|errors| Failure::Usage(errors.into()))?;
    log("info").map_err(Failure::Usage)?;
    if args.check {
        return check(&config);
    }
    runtime()?.block_on(serve(config, args.json))
}

/// Says whether the configuration fits the tree of a node.
fn check(config: &Config) -> Result<(), Failure> {
    let tree = macula_workload::node::declared_tree().map_err(anyhow::Error::from)?;
    config.overrides(&tree).map_err(|errors| Failure::Usage(errors.into()))?;
    Ok(print("the configuration is good")?)
}

async fn serve(config: Config, json: bool) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let node = match Node::builder().config(config).start().await {
        Ok(node) => node,
        Err(error @ macula_workload::node::Error::Config(_)) => {
            return Err(Failure::Usage(error.into()));
        }
        Err(error) => return Err(Failure::Ran(error.into())),
    };
    tracing::info!(actors = node.snapshot().await.len(), "the node is up");
    let events = node.events();
    let told = tokio::spawn(async move { if json { tell(events).await } else { Ok(()) } });
    let done = until_stopped(node, &mut stop).await;
    // A tree that has ended says nothing more, and what it said last is told. One that is given up
    // on may go on talking, and is cut off.
    if matches!(done, Ok(Ended::InOrder | Ended::ByItself(_))) {
        told.await.context("the events could not be told")??;
    }
    match done? {
        Ended::InOrder => Ok(()),
        Ended::ByItself(reason) => {
            Err(Failure::Ran(anyhow::anyhow!("the node ended by itself: {reason}")))
        }
    }
}

/// How a node's tree ended.
enum Ended {
    InOrder,
    ByItself(ExitReason),
}

/// Waits for the first signal and stops the node in order, unless it ends by itself or a second
/// signal comes.
async fn until_stopped(node: Node, stop: &mut Stop) -> Result<Ended, Failure> {
    tokio::select! {
        name = stop.next() => tracing::info!(signal = name, "stopping in order"),
        reason = node.wait() => return Ok(Ended::ByItself(reason)),
    }
    tokio::select! {
        ended = node.stop() => {
            let reason = ended.map_err(anyhow::Error::from)?;
            tracing::info!(%reason, "the node has stopped");
            Ok(Ended::InOrder)
        }
        name = stop.next() => {
            Err(Failure::Ran(anyhow::anyhow!("a second signal ({name}): not waited for")))
        }
    }
}

/// Prints each event as it comes, until the tree has ended.
async fn tell(mut events: broadcast::Receiver<Event>) -> anyhow::Result<()> {
    loop {
        match events.recv().await {
            Ok(event) => print(&serde_json::to_string(&event)?)?,
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                print(&serde_json::to_string(&serde_json::json!({ "lost_events": lost }))?)?;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

/// The two signals that ask a node to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
