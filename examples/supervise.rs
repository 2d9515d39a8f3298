//! A supervisor of one's own: an order, a strategy, a budget of restarts, and a bound on hangs.

use std::time::Duration;

use macula_workload::prelude::*;
use macula_workload::supervision::What;
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Does as it is told, which is seldom good.
struct Stage;

enum Order {
    Panic,
    Hang,
}

impl Actor for Stage {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    #[expect(clippy::panic, reason = "the panic is what is shown")]
    async fn handle(
        &self,
        _myself: ActorRef<Order>,
        order: Order,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => panic!("out of paper"),
            Order::Hang => std::future::pending().await,
        }
    }
}

fn stage(id: &str) -> anyhow::Result<Worker<Stage>> {
    // A handler that runs for longer than the bound is hung: it is killed and replaced.
    let worker = Worker::new(id, || (Stage, ()))?.liveness(Duration::from_millis(200));
    // It runs whatever ends the actor; ractor's `post_stop` does not after a panic or a kill.
    Ok(worker.on_exit(|reason| macula_examples::say(&format!("cleaned up after: {reason}"))))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let mut events = node.events();

    // A later stage feeds on an earlier one, so a failure takes the later ones along.
    let (reader, reads) = stage("reader")?.split();
    let (parser, parses) = stage("parser")?.split();
    let (writer, writes) = stage("writer")?.split();
    let pipeline = Supervisor::new("pipeline")?
        .strategy(Strategy::RestForOne)
        .intensity(3, Duration::from_secs(10))
        .child(reader)
        .child(parser)
        .child(writer);
    node.spawn_supervisor(pipeline).await?;

    parses.cast(Order::Panic)?;
    parses.next_life(1).await;
    writes.next_life(1).await;
    parses.cast(Order::Hang)?;
    parses.next_life(2).await;
    writes.next_life(2).await;

    let lives = (reads.incarnation(), parses.incarnation(), writes.incarnation());
    anyhow::ensure!(lives == (1, 3, 3), "odd lives: {lives:?}");
    while let Ok(event) = events.try_recv() {
        if let What::Report(report) = event.what {
            macula_examples::say(&report.to_string());
        }
    }
    node.stop().await?;
    Ok(())
}
