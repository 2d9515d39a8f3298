//! Two nodes in one process: one serves an actor, the other asks it, waits in vain, and watches it.

use std::time::Duration;

use macula_workload::identity::EphemeralRealm;
use macula_workload::prelude::*;
use macula_workload::remote::{CallError, DownReason, ReplyTo};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Counts points.
struct Scoreboard;

enum Ask {
    /// Adds points, and answers with all of them.
    Add(u32, ReplyTo<u32>),
    /// Never answers.
    Ponder(ReplyTo<u32>),
    Fail,
}

impl Actor for Scoreboard {
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
        points: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Add(more, reply) => {
                *points += more;
                reply.send(*points)?;
            }
            // The caller's deadline travels with its question. When it has passed nobody waits.
            Ask::Ponder(reply) => reply.cancelled().await,
            Ask::Fail => return Err("asked to fail".into()),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Both nodes are of one realm, so they believe one another.
    let realm = EphemeralRealm::new()?;
    let here = Node::builder().credentials(realm.member()?).start().await?;
    let there = Node::builder().credentials(realm.member()?).start().await?;

    // That node serves an actor, under two names. It is served while `_names` is held.
    let actor = there.spawn(Worker::new("scoreboard", || (Scoreboard, ()))?).await?;
    let _names = (
        there.serve("scoreboard", &actor, Ask::Add)?,
        there.serve("scoreboard/ponder", &actor, |(): (), reply| Ask::Ponder(reply))?,
    );

    // This one knows its id and where to dial it.
    here.mesh().introduce(there.id(), there.mesh().listening());
    let scoreboard = here.remote(there.id()).handle::<u32, u32>("scoreboard");
    scoreboard.call(&3).await?;
    macula_examples::say(&format!("ada has {} points", scoreboard.call(&4).await?));

    // A call has a deadline, and says whether it may have been handled.
    let ponder = here.remote(there.id()).handle::<(), u32>("scoreboard/ponder");
    let error = ponder.call_within(Duration::from_millis(100), &()).await;
    anyhow::ensure!(matches!(error, Err(CallError::TimedOut { .. })), "an answer: {error:?}");
    macula_examples::say(&error.err().map(|error| error.to_string()).unwrap_or_default());

    // Whoever watches a life is told of its end, once.
    let mut monitor = scoreboard.monitor().await?;
    let life = monitor.incarnation();
    actor.cast(Ask::Fail)?;
    let down = monitor.down().await;
    if let Some(DownReason::Ended { reason, .. }) = down.map(|down| down.reason) {
        macula_examples::say(&format!("life {life} of scoreboard is down: {reason}"));
    }

    // Its supervisor starts it again, and the same handle reaches its next life.
    actor.next_life(life).await;
    let points = scoreboard.call(&5).await?;
    macula_examples::say(&format!("after a restart: ada has {points} points"));
    here.stop().await?;
    there.stop().await?;
    Ok(())
}
