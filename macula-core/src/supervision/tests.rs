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

#[tokio::test(start_paused = true)]
async fn a_spec_runs_only_once_at_a_time() {
    let root = Supervisor::dynamic("top", 8).unwrap().start(TreeOptions::default()).await.unwrap();
    let (spec, handle) = Worker::unnamed(|| (Counter, 1)).split();
    root.handle().start_child(spec.clone()).await.unwrap();
    let refused = root.handle().start_child(spec).await.unwrap_err();
    assert!(refused.to_string().contains("already runs"), "{refused}");
    assert_eq!(handle.call(Msg::Get).await, Ok(1), "the first is not disturbed");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_is_started_and_restarted_only_if_something_is_so() {
    use super::{AdminError, ChildSpec, ExitReason};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let may = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&may);
    let (spec, handle) = Worker::new("counter", || (Counter, 1)).unwrap().split();
    let spec: ChildSpec = spec.start_if(move || match asked.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(ExitReason::shutdown_with("not now")),
    });
    let root = Supervisor::dynamic("top", 8).unwrap().start(TreeOptions::default()).await.unwrap();
    let refused = root.handle().start_child(spec.clone()).await.unwrap_err();
    assert_eq!(refused, AdminError::StartFailed(ExitReason::shutdown_with("not now")));
    may.store(true, Ordering::Relaxed);
    root.handle().start_child(spec).await.unwrap();
    assert_eq!(handle.call(Msg::Get).await, Ok(1));
    may.store(false, Ordering::Relaxed);
    handle.cast(Msg::Panic).unwrap();
    // The failed starts are more than the supervisor allows for.
    assert!(matches!(root.wait().await, ExitReason::Meltdown { .. }));
    assert_eq!(handle.incarnation(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waits_for_room_in_a_full_stash_lets_others_run() {
    use super::{Backoff, Overflow};
    let mailbox =
        Mailbox { overflow: Overflow::Wait, absence: Absence::Stash(1), ..Mailbox::default() };
    let second = Duration::from_secs(1);
    let worker = Worker::new("counter", || (Counter, 0)).unwrap().mailbox(mailbox);
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(second, second) };
    let (spec, handle) = worker.backoff(backoff).split();
    let root = Supervisor::new("top").unwrap().child(spec);
    let root = root.start(TreeOptions::default()).await.unwrap();
    let life = handle.incarnation();
    handle.cast(Msg::Panic).unwrap();
    while handle.presence() == Presence::Up {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        handle.send(Msg::Add(1)).await.unwrap();
    }
    assert_eq!(handle.next_life(life).await, Some(life + 1));
    assert_eq!(handle.call(Msg::Get).await, Ok(3));
    root.stop().await;
}

/// A message whose end is as bad as its life.
struct Bomb(Option<RpcReplyPort<()>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0.is_some(), "boom");
    }
}

struct Careless;

impl Actor for Careless {
    type Msg = Bomb;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Bomb>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Bomb>,
        mut bomb: Bomb,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match &mut bomb.0 {
            Some(port) if port.is_closed() => Err("nobody waits".into()),
            Some(_) => std::future::pending().await,
            None => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_panics_when_dropped_does_not_hide_the_end() {
    let (spec, handle) = Worker::new("careless", || (Careless, ())).unwrap().split();
    let root = Supervisor::new("top").unwrap().child(spec);
    let root = root.start(TreeOptions::default()).await.unwrap();
    let life = handle.incarnation();
    let (port, answer) = tokio::sync::oneshot::channel();
    handle.cast(Bomb(Some(port.into()))).unwrap();
    tokio::task::yield_now().await;
    handle.cast(Bomb(None)).unwrap();
    handle.actor_ref().unwrap().kill();
    assert_eq!(handle.next_life(life).await, Some(life + 1));
    assert!(answer.await.is_err());
    root.stop().await;
}
