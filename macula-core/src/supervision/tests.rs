//! The supervisor as an actor: what its own parts must do together.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{Absence, Mailbox, Presence, Strategy, Supervisor, TreeOptions, Worker};

#[derive(Debug)]
struct Counter;

enum Msg {
    Add(u64),
    Get(RpcReplyPort<u64>),
    Panic,
}

impl Actor for Counter {
    type Msg = Msg;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<Msg>, start: u64) -> Result<u64, ActorProcessingErr> {
        Ok(start)
    }

    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Add(n) => *count += n,
            Msg::Get(port) => drop(port.send(*count)),
            Msg::Panic => panic!("asked to"),
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_a_panic() {
    let worker = Worker::new("counter", || (Counter, 10)).unwrap();
    let worker = worker.mailbox(Mailbox { absence: Absence::Stash(8), ..Mailbox::default() });
    let (spec, handle) = worker.split();
    let root = Supervisor::new("top").unwrap().strategy(Strategy::OneForAll).child(spec);
    let root = root.start(TreeOptions::default()).await.unwrap();
    handle.cast(Msg::Add(5)).unwrap();
    assert_eq!(handle.call(Msg::Get).await, Ok(15));
    handle.cast(Msg::Panic).unwrap();
    assert_eq!(handle.call(Msg::Get).await, Ok(10));
    assert_eq!(handle.incarnation(), 2);
    let stats = handle.stats();
    assert_eq!((stats.waiting, stats.accepted, stats.dead_letters), (0, 4, 0));
    assert_eq!((stats.refused, stats.unavailable), (0, 0));
    let reason = tokio::time::timeout(Duration::from_secs(20), root.stop()).await.unwrap();
    assert_eq!(reason, super::ExitReason::Shutdown);
    assert_eq!(handle.presence(), Presence::Down);
}
