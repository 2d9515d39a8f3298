//! Spawn an actor under supervision, talk to it, break it, and talk to it again.

use macula_workload::prelude::*;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Greets people, and counts them.
struct Greeter;

enum Ask {
    Greet(&'static str, RpcReplyPort<String>),
    Fail,
}

impl Actor for Greeter {
    type Msg = Ask;
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<u32, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Ask>,
        ask: Ask,
        greeted: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Greet(who, reply) => {
                *greeted += 1;
                reply.send(format!("hello {who}, you are number {greeted}"))?;
                Ok(())
            }
            Ask::Fail => Err("asked to fail".into()),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let greeter = node.spawn(Worker::new("greeter", || (Greeter, ()))?).await?;

    for who in ["ada", "bob"] {
        macula_examples::say(&greeter.call(|reply| Ask::Greet(who, reply)).await?);
    }
    let life = greeter.incarnation();
    greeter.cast(Ask::Fail)?;
    let next = greeter.next_life(life).await;
    anyhow::ensure!(next == Some(life + 1), "the greeter did not come back: {next:?}");

    // The same handle; the state began anew.
    let greeting = greeter.call(|reply| Ask::Greet("eve", reply)).await?;
    macula_examples::say(&greeting);
    anyhow::ensure!(greeting == "hello eve, you are number 1", "an odd greeting");
    node.stop().await?;
    Ok(())
}
