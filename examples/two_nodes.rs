//! Two nodes in two terminals. Make their folders first:
//!
//! ```text
//! macula init first --listen 127.0.0.1:7000
//! macula init second --join first
//! cargo run -p macula-examples --example two_nodes -- serve first
//! cargo run -p macula-examples --example two_nodes -- call second NODE_ID 127.0.0.1:7000
//! ```
//!
//! Without arguments both nodes are in this process.

use std::net::SocketAddr;
use std::path::Path;

use macula_workload::identity::EphemeralRealm;
use macula_workload::prelude::*;
use macula_workload::remote::{ReplyTo, Serving};
use macula_workload::{Config, NodeId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// The name under which the greeter is served.
const NAME: &str = "greeter";

/// Greets whoever asks, from any node.
struct Greeter;

struct Greet(String, ReplyTo<String>);

impl Actor for Greeter {
    type Msg = Greet;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Greet>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Greet>,
        Greet(from, reply): Greet,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // A caller that has gone away is no reason to fail.
        reply.send(format!("hello from {from}")).ok();
        Ok(())
    }
}

/// Starts a greeter on a node, and serves it for as long as the answer is held.
async fn greeter(node: &Node) -> anyhow::Result<Serving> {
    let greeter = node.spawn(Worker::new("greeter", || (Greeter, ()))?).await?;
    Ok(node.serve(NAME, &greeter, Greet)?)
}

/// Asks the greeter of another node.
async fn ask(node: &Node, other: NodeId, at: Vec<SocketAddr>) -> anyhow::Result<()> {
    node.mesh().introduce(other, at);
    let greeter = node.remote(other).handle::<String, String>(NAME);
    macula_examples::say(&greeter.call(&"the other node".to_owned()).await?);
    Ok(())
}

/// The configuration in a folder that `macula init` has made.
fn config(folder: &str) -> anyhow::Result<Config> {
    Ok(Config::load(Some(&Path::new(folder).join("macula.toml")), [], &[])?)
}

async fn serve(folder: &str) -> anyhow::Result<()> {
    let node = Node::builder().config(config(folder)?).start().await?;
    let _serving = greeter(&node).await?;
    macula_examples::say(&format!("{} listens at {:?}", node.id(), node.mesh().listening()));
    tokio::signal::ctrl_c().await?;
    node.stop().await?;
    Ok(())
}

async fn call(folder: &str, other: &str, at: &str) -> anyhow::Result<()> {
    let mut config = config(folder)?;
    // A node that listens nowhere only dials.
    config.transport.listen.clear();
    let node = Node::builder().config(config).start().await?;
    ask(&node, other.parse()?, vec![at.parse()?]).await?;
    node.stop().await?;
    Ok(())
}

async fn both() -> anyhow::Result<()> {
    let realm = EphemeralRealm::new()?;
    let first = Node::builder().credentials(realm.member()?).start().await?;
    let second = Node::builder().credentials(realm.member()?).start().await?;
    let _serving = greeter(&first).await?;
    ask(&second, first.id(), first.mesh().listening()).await?;
    first.stop().await?;
    second.stop().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => both().await,
        ["serve", folder] => serve(folder).await,
        ["call", folder, other, at] => call(folder, other, at).await,
        _ => anyhow::bail!("legal: serve DIR, call DIR NODE_ID ADDR, or nothing at all"),
    }
}
