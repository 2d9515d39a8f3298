//! `macula call`: one question to an actor on another node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::path::{InvalidId, Path};
use macula_workload::remote::{CallError, Unavailability};
use macula_workload::{Config, Node, NodeId};
use serde_json::Value;

use super::{Failure, load, log, print, runtime, some_time};

/// How often it is looked whether the mesh has said where the node is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// The node to ask, by its id.
    #[arg(value_name = "NODE_ID")]
    node: NodeId,
    /// The name under which the actor is served there, such as node/ping.
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// The question, in JSON.
    #[arg(value_name = "JSON")]
    question: String,
    /// The configuration whose identity asks. No other process may run as that node.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set one key, over file and environment.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where the node can be dialled, besides what the configuration says of it.
    #[arg(long = "at", value_name = "ADDR")]
    addresses: Vec<SocketAddr>,
    /// How long to wait for the answer, connecting included.
    #[arg(long, value_name = "DURATION", default_value = "5s",
          value_parser = some_time)]
    within: Duration,
}

/// A name under which an actor can be served.
fn name(text: &str) -> Result<String, InvalidId> {
    match text {
        "" => Err(InvalidId::Empty),
        text => Path::parse(text).map(|_path| text.to_owned()),
    }
}

pub(super) fn run(args: &CallArgs) -> Result<(), Failure> {
    let question: Value = serde_json::from_str(&args.question)
        .with_context(|| format!("the question is no JSON: {}", args.question))
        .map_err(Failure::Usage)?;
    let mut config = load(Some(&args.config), &args.sets)?;
    config.transport.listen = Vec::new();
    log("warn").map_err(Failure::Usage)?;
    runtime()?.block_on(call(args, config, &question))
}

async fn call(args: &CallArgs, config: Config, question: &Value) -> Result<(), Failure> {
    let joins = args.addresses.is_empty() && !config.mesh.bootstrap.seeds.is_empty();
    let node = match Node::builder().config(config).start().await {
        Ok(node) => node,
        Err(error) => return Err(super::unstarted(error)),
    };
    let answer = ask(&node, args, question, joins).await;
    // What was answered counts, however the node ends.
    let stopped = node.stop().await;
    print(&answer?.to_string())?;
    stopped.map_err(anyhow::Error::from)?;
    Ok(())
}

async fn ask(
    node: &Node,
    args: &CallArgs,
    question: &Value,
    joins: bool,
) -> Result<Value, Failure> {
    if node.id() == args.node {
        let text = "this configuration is of that very node; ask with the identity of another";
        return Err(Failure::Usage(anyhow!(text)));
    }
    node.mesh().introduce(args.node, args.addresses.iter().copied());
    let actor = node.remote(args.node).handle::<Value, Value>(&args.name);
    if !joins {
        return Ok(actor.call_within(args.within, question).await.map_err(anyhow::Error::from)?);
    }
    // Where it is, the mesh says in a moment.
    let actor = actor.wait_for_ready();
    let deadline = TokioClock.now() + args.within;
    loop {
        let left = deadline.saturating_duration_since(TokioClock.now());
        match actor.call_within(left, question).await {
            Err(CallError::Unavailable(Unavailability::NoAddress)) if left > LOOK_EVERY => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            answer => return Ok(answer.map_err(anyhow::Error::from)?),
        }
    }
}
