//! `macula run`: a node until a signal.

mod members;

use anyhow::Context as _;
use macula_workload::config::Tls;
use macula_workload::membership::update::Role;
use macula_workload::supervision::{Event, ExitReason};
use macula_workload::{Config, Node, node, relay};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;

use super::{Failure, RunArgs, home, load, log, ping, print, runtime};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut config = load(args.config.as_deref(), &args.sets)?;
    log("info,openraft=off").map_err(Failure::Usage)?;
    if args.check {
        return check(&config);
    }
    let mut args = args.clone();
    let is_anybody = args.config.is_none() && config.tls == Tls::default();
    if is_anybody && let Some((path, is_new)) = home::made()? {
        let made = if is_new { "made now" } else { "as it was" };
        tracing::info!(path = %path.display(), "no configuration is named: this one, {made}");
        config = load(Some(&path), &args.sets)?;
        args.config = Some(path);
    }
    runtime()?.block_on(serve(config, &args))
}

/// Says whether a node can be made of the configuration: it fits the tree, and the files of its
/// identity are good.
fn check(config: &Config) -> Result<(), Failure> {
    config.tls.credentials().map_err(|error| Failure::Usage(error.into()))?;
    let (ping, _) = ping::worker()?;
    let tree = node::declared_tree_with(vec![ping]).map_err(anyhow::Error::from)?;
    config.overrides(&tree).map_err(|errors| Failure::Usage(errors.into()))?;
    Ok(print("the configuration is good")?)
}

async fn serve(config: Config, args: &RunArgs) -> Result<(), Failure> {
    let json = args.json;
    let mut stop = Stop::new()?;
    let mut reload = Reload::new(args, config.clone())?;
    let (ping, handle) = ping::worker()?;
    let serves = config.mesh.role != Role::Bootstrap;
    let is_reached = !config.transport.listen.is_empty() || config.relay.uses != relay::Use::Never;
    let builder = Node::builder().config(config);
    let builder = if serves { builder.workload(ping) } else { builder };
    let node = match builder.start().await {
        Ok(node) => node,
        Err(error) => return Err(super::unstarted(error)),
    };
    if serves {
        ping::serve(&node, &handle)?;
    }
    let actors = node.snapshot().await.len();
    tracing::info!(node = %node.id(), listening = ?node.mesh().listening(), actors, "the node is up");
    if !is_reached {
        tracing::warn!(
            "the node listens nowhere and keeps no place at a relay: it can call others, and only those it has called reach it"
        );
    }
    let members = tokio::spawn(members::tell(node.mesh().membership().clone()));
    let events = node.events();
    let told = tokio::spawn(async move { if json { tell(events).await } else { Ok(()) } });
    let done = until_stopped(node, &mut reload, &mut stop).await;
    members.abort();
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
async fn until_stopped(
    node: Node,
    reload: &mut Reload<'_>,
    stop: &mut Stop,
) -> Result<Ended, Failure> {
    loop {
        tokio::select! {
            name = stop.next() => {
                tracing::info!(signal = name, "stopping in order");
                break;
            }
            _ = reload.hangup.recv() => reload.now(&node),
            reason = node.wait() => return Ok(Ended::ByItself(reason)),
        }
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

/// The signal that asks a node to read anew whom it believes and what it shows.
struct Reload<'a> {
    args: &'a RunArgs,
    /// What is in use.
    config: Config,
    hangup: Signal,
}

impl<'a> Reload<'a> {
    fn new(args: &'a RunArgs, config: Config) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Self { args, config, hangup })
    }

    /// After a failure all is as it was.
    fn now(&mut self, node: &Node) {
        match self.read(node) {
            Ok(()) => {
                let (trust, directory) = (&self.config.tls.trust, &self.config.tls.directory);
                tracing::info!(
                    ?trust,
                    ?directory,
                    "the identity was read anew, and the rules of access"
                );
            }
            Err(error) => {
                let error = super::told(&error);
                tracing::error!(%error, "the identity was not read anew, nor were the rules of access; what was in use still is");
            }
        }
    }

    fn read(&mut self, node: &Node) -> anyhow::Result<()> {
        let mut read = load(self.args.config.as_deref(), &self.args.sets).map_err(|failure| {
            let (Failure::Ran(error) | Failure::Usage(error)) = failure;
            error
        })?;
        read.tls.reload(node.mesh().credentials())?;
        node.mesh().access().replace(read.access.clone());
        self.config.tls = std::mem::take(&mut read.tls);
        read.tls = self.config.tls.clone();
        self.config.access = read.access.clone();
        if !read.says_the_same(&self.config) {
            tracing::warn!(
                "beside [tls] and [access] the configuration has changed too: that takes a restart"
            );
        }
        Ok(())
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
