//! Three nodes that know one address: an actor is found by its name, and found again when its node
//! goes and another serves the name.

use macula_examples::join;
use macula_workload::identity::EphemeralRealm;
use macula_workload::names::LocateError;
use macula_workload::prelude::*;
use macula_workload::remote::ReplyTo;
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Says on which node it is.
struct Whereabouts;

struct Where(ReplyTo<String>);

impl Actor for Whereabouts {
    type Msg = Where;
    type State = &'static str;
    type Arguments = &'static str;

    async fn pre_start(
        &self,
        _: ActorRef<Where>,
        place: &'static str,
    ) -> Result<&'static str, ActorProcessingErr> {
        Ok(place)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Where>,
        Where(reply): Where,
        place: &mut &'static str,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that has gone away is no reason to fail.
        reply.send((*place).to_owned()).ok();
        Ok(())
    }
}

/// Serves an actor of a node, under a name that all nodes can find.
async fn serve(node: &Node, place: &'static str) -> anyhow::Result<()> {
    let worker = Worker::new("whereabouts", move || (Whereabouts, place))?;
    let actor = node.spawn(worker).await?;
    node.serve("workload/whereabouts", &actor, |(): (), reply| Where(reply))?.keep();
    node.mesh().announced().await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let realm = EphemeralRealm::new()?;
    let one = join(&realm, None).await?;
    let (two, three) = tokio::try_join!(join(&realm, Some(&one)), join(&realm, Some(&one)))?;

    let nobody = three.locate("workload/whereabouts").await;
    anyhow::ensure!(matches!(nobody, Err(LocateError::Nobody(_))), "served already: {nobody:?}");

    serve(&two, "two").await?;
    // For a second it is believed that nobody does; this handle waits.
    let actor = three.named::<(), String>("workload/whereabouts").wait_for_ready();
    macula_examples::say(&format!("found on {}", actor.call(&()).await?));

    // Its node goes, and another serves the name. The same handle finds it.
    serve(&one, "one").await?;
    two.stop().await?;
    macula_examples::say(&format!("found on {}", actor.call(&()).await?));
    three.stop().await?;
    one.stop().await?;
    Ok(())
}
