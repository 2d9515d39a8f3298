//! Trust by pin: a node believes those whose key it knows, without any authority.

use macula_workload::identity::{Keypair, pin_of, pinned};
use macula_workload::prelude::*;
use macula_workload::remote::ReplyTo;
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Doubles numbers.
struct Doubler;

struct Double(u32, ReplyTo<u32>);

impl Actor for Doubler {
    type Msg = Double;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Double>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Double>,
        Double(number, reply): Double,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        reply.send(number.saturating_mul(2)).ok();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (host, friend, stranger) =
        (Keypair::generate()?, Keypair::generate()?, Keypair::generate()?);
    let (host_pin, friend_pin) = (pin_of(&host)?, pin_of(&friend)?);
    macula_examples::say(&format!("the host is {host_pin}"));

    // Both others know the host, and the host knows only its friend.
    let host = Node::builder().credentials(pinned(host, [friend_pin])?).start().await?;
    let friend = Node::builder().credentials(pinned(friend, [host_pin])?).start().await?;
    let stranger = Node::builder().credentials(pinned(stranger, [host_pin])?).start().await?;
    let doubler = host.spawn(Worker::new("doubler", || (Doubler, ()))?).await?;
    let _serving = host.serve("doubler", &doubler, Double)?;

    for node in [&friend, &stranger] {
        node.mesh().introduce(host.id(), host.mesh().listening());
    }
    let answer = friend.remote(host.id()).handle::<u32, u32>("doubler").call(&21).await?;
    macula_examples::say(&format!("a friend is answered: {answer}"));
    match stranger.remote(host.id()).handle::<u32, u32>("doubler").call(&21).await {
        Ok(answer) => anyhow::bail!("a stranger got an answer: {answer}"),
        Err(error) => macula_examples::say(&format!("a stranger is not: {error}")),
    }
    for node in [stranger, friend, host] {
        node.stop().await?;
    }
    Ok(())
}
