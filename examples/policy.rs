//! Restart policy from TOML: the same words as in code, by path in the tree.

use macula_workload::prelude::*;
use macula_workload::{Config, config};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// An actor that fails whenever it hears something.
struct Fragile;

impl Actor for Fragile {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<()>,
        (): (),
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Err("I told you so".into())
    }
}

const POLICY: &str = r#"
[supervision."workload"]
intensity = 20
period = "10s"

[supervision."workload/fragile"]
restart = "permanent"
shutdown = "1s"
backoff = { initial = "20ms", max = "100ms", jitter = 0.0, reset_after = "1m" }
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // In code the worker would never be restarted. The configuration knows better.
    let worker = Worker::new("fragile", || (Fragile, ()))?.restart(Restart::Temporary);
    let (spec, fragile) = worker.split();
    let node =
        Node::builder().config(Config::parse("policy", POLICY)?).workload(spec).start().await?;

    for life in 1..=3 {
        fragile.cast(())?;
        let next = fragile.next_life(life).await;
        anyhow::ensure!(next == Some(life + 1), "not restarted: {next:?}");
        macula_examples::say(&format!("fragile is back, in its life number {}", life + 1));
    }
    node.stop().await?;

    // The bad day: a typo is refused before anything starts, with its place and what is legal.
    let refused: config::Error =
        match Config::parse("policy", "[supervision.workload]\nintensty = 5\n") {
            Ok(_) => anyhow::bail!("the typo was not seen"),
            Err(error) => error,
        };
    macula_examples::say(&refused.to_string());
    Ok(())
}
