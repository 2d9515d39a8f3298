//! A child that does not go on is as good as crashed.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use macula_core::supervision::proto::Change;
use macula_core::supervision::{ChildState, ExitReason, Start, TreeOptions, What, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use crate::support::{
    Ask, Log, Script, Step, alone, await_event, id, ms, next_end, scripted, start, timed, top,
    worker,
};

const BOUND: Duration = ms(100);
const HUNG: ExitReason = ExitReason::Hung { bound: BOUND };

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_replaced_within_its_bound() {
    let (root, handle) = alone(worker("a", &Log::default()).liveness(BOUND)).await;
    let mut events = root.events();
    handle.cast(Ask::Do(Step::Hang)).unwrap();
    let (life, took) = timed(handle.next_life(1)).await;
    assert_eq!(life, Some(2));
    assert!((ms(100)..=ms(130)).contains(&took), "{took:?}");
    assert_eq!(next_end(&mut events).await, HUNG);
    let info = root.handle().which_child(id("a")).await.unwrap();
    assert_eq!(info.last_exit.as_deref(), Some(&HUNG));
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_hangs_after_its_start() {
    let post_start = |life| if life == 1 { Step::Hang } else { Step::Go };
    let script = Script { post_start, ..Script::default() };
    let (root, handle) = alone(scripted("a", &Log::default(), script).liveness(BOUND)).await;
    let (life, took) = timed(handle.next_life(1)).await;
    assert_eq!(life, Some(2));
    assert!(took <= ms(130), "{took:?}");
    let info = root.handle().which_child(id("a")).await.unwrap();
    assert_eq!(info.last_exit.as_deref(), Some(&HUNG));
}

/// It has left its mailbox and has no shutdown bound, since nobody asked it to stop.
#[tokio::test(start_paused = true)]
async fn so_is_one_that_hangs_while_it_ends_by_itself() {
    let post_stop = |life| if life == 1 { Step::Hang } else { Step::Go };
    let script = Script { post_stop, ..Script::default() };
    let (_root, handle) = alone(scripted("a", &Log::default(), script).liveness(BOUND)).await;
    handle.cast(Ask::Stop(None)).unwrap();
    let (life, took) = timed(handle.next_life(1)).await;
    assert_eq!(life, Some(2));
    assert!(took <= ms(130), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_hangs_in_its_restart() {
    let pre_start = |life| if life == 2 { Step::Hang } else { Step::Go };
    let script = Script { pre_start, ..Script::default() };
    let log = Log::default();
    let (root, handle) = alone(scripted("a", &log, script).liveness(BOUND)).await;
    let mut events = root.events();
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    let (life, took) = timed(handle.next_life(1)).await;
    assert_eq!((life, took), (Some(3), BOUND));
    let reason = await_event(&mut events, |event| match &event.what {
        What::Life(Change::StartFailed { reason }) => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.await, HUNG);
    assert_eq!(log.count("close a 2"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_hangs_has_failed() {
    let script = Script { pre_start: |_| Step::Hang, ..Script::default() };
    let hung = top().child(scripted("a", &Log::default(), script).liveness(BOUND));
    let (error, took) = timed(hung.start(TreeOptions::default())).await;
    assert_eq!(took, BOUND);
    assert_eq!(error.unwrap_err().to_string(), format!("child a failed to start: {HUNG}"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_child_is_never_killed() {
    let (_root, handle) = alone(worker("a", &Log::default()).liveness(BOUND)).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(handle.incarnation(), 1);
    handle.call(Ask::Seen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nor_is_one_that_is_busy_with_many_short_messages() {
    let (_root, handle) = alone(worker("a", &Log::default()).liveness(BOUND)).await;
    for _ in 0..200 {
        handle.cast(Ask::Do(Step::Nap(ms(90)))).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    handle.call(Ask::Seen).await.unwrap();
    assert_eq!(handle.incarnation(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_asked_for_meanwhile_keeps_its_own_bound() {
    let log = Log::default();
    let hanging = worker("a", &log).liveness(BOUND);
    let (root, handle) = alone(hanging).await;
    handle.cast(Ask::Do(Step::Hang)).unwrap();
    tokio::time::sleep(ms(50)).await;
    let (reason, took) = timed(root.stop()).await;
    assert_eq!((reason, took), (ExitReason::Shutdown, Duration::from_secs(5)));
    assert_eq!(log.count("exit a killed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_without_a_bound_may_take_for_ever() {
    let (_root, handle) = alone(worker("a", &Log::default())).await;
    handle.cast(Ask::Do(Step::Hang)).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(handle.incarnation(), 1);
}

/// Blocks its thread until it is told not to.
struct Blocker(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Actor for Blocker {
    type Msg = ();
    type State = ();
    type Arguments = mpsc::Sender<&'static str>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        lives: Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        lives.try_send("begins").unwrap();
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<()>,
        (): (),
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // An actor that never awaits, which no kill can reach.
        self.0.lock().unwrap().recv().ok();
        Ok(())
    }
}

/// In real time: code that never yields cannot be killed, so that nothing may replace it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_cannot_be_killed_is_stuck_and_not_replaced_before_it_ends() {
    let (lives, mut begun) = mpsc::channel(8);
    let (release, wall) = sync_channel(1);
    let wall = parking_lot::Mutex::new(Some(wall));
    let blocker = Worker::with("a", move |_| {
        // Later lives get a wall that is open.
        let wall = wall.lock().take().unwrap_or_else(|| sync_channel(1).1);
        Ok(Start::Run(Blocker(std::sync::Mutex::new(wall)), lives.clone()))
    });
    let (spec, handle) = blocker.unwrap().liveness(ms(20)).split();
    let root = start(top().child(spec)).await;
    let mut events = root.events();
    assert_eq!(begun.recv().await, Some("begins"));
    handle.cast(()).unwrap();
    await_event(&mut events, |event| (event.what == What::Life(Change::Stuck)).then_some(())).await;
    let info = root.handle().which_child(id("a")).await.unwrap();
    assert_ne!(info.state, ChildState::Restarting);
    assert!(begun.try_recv().is_err(), "a replacement started beside it");
    release.send(()).unwrap();
    assert_eq!(begun.recv().await, Some("begins"));
    assert_eq!(handle.next_life(1).await, Some(2));
    root.stop().await;
}
