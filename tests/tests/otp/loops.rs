//! A child whose restart keeps failing, while others want something of its supervisor.

use std::time::Duration;

use macula_core::supervision::{
    AdminError, Backoff, ChildSpec, ChildState, ExitReason, Presence, Strategy, Supervisor,
    SupervisorHandle,
};

use crate::support::{
    Begin, Do, Kid, Log, all, calm, counts, id, key, kid, named, plain, pool, start, states, stop,
    top,
};
use ChildState::{Down, Restarting, Running};

/// A child with a wait between its restarts, so that the loop can be looked at.
fn looping(log: &Log) -> (ChildSpec, Kid) {
    let wait = Backoff { jitter: 0.0, ..Backoff::exponential(SECOND, SECOND) };
    kid("loop", log, |worker| worker.backoff(wait))
}

const SECOND: Duration = Duration::from_secs(1);

/// A supervisor that may restart as often as the test takes.
fn patient(supervisor: Supervisor, strategy: Strategy) -> Supervisor {
    supervisor.strategy(strategy).intensity(10_000, SECOND)
}

/// Makes the loop begin, and waits until it has failed a few times.
async fn begin_loop(child: &Kid) {
    child.always(Begin::Fail);
    child.does(Do::fail()).await;
    tokio::time::sleep(SECOND * 3).await;
    assert!(child.attempts() > 3);
    assert_eq!(child.handle.presence(), Presence::Restarting);
}

/// What a supervisor answers about a child in the loop.
async fn answers(supervisor: &SupervisorHandle, spec: ChildSpec) {
    let name = named("loop");
    let present = supervisor.start_child(spec).await;
    assert_eq!(present, Err(AdminError::AlreadyPresent(name.clone())));
    let restarting = AdminError::Restarting(name);
    assert_eq!(supervisor.restart_child(id("loop")).await, Err(restarting.clone()));
    assert_eq!(supervisor.delete_child(id("loop")).await, Err(restarting));
}

#[tokio::test(start_paused = true)]
async fn hanging_restart_loop() {
    let log = Log::default();
    let ((spec, child), (other_spec, other)) = (looping(&log), plain("other", &log));
    let supervisor = patient(top(), Strategy::OneForOne);
    let root = start(supervisor.child(spec.clone()).child(other_spec)).await;
    begin_loop(&child).await;
    let expected = all([("loop", Restarting), ("other", Running)]);
    assert_eq!(states(root.handle()).await, expected);
    assert_eq!(counts(root.handle()).await, [2, 1, 0, 2]);
    answers(root.handle(), spec).await;
    root.handle().terminate_child(id("loop")).await.unwrap();
    let attempts = child.attempts();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(child.attempts(), attempts, "the loop is over");
    let expected = all([("loop", Down), ("other", Running)]);
    assert_eq!(states(root.handle()).await, expected);
    assert_eq!(other.life(), 1);

    child.always(Begin::Run);
    root.handle().restart_child(id("loop")).await.unwrap();
    begin_loop(&child).await;
    stop(&root).await;
    assert_eq!(log.last_end("other"), Some(ExitReason::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn hanging_restart_loop_rest_for_one() {
    let log = Log::default();
    let ((a_spec, a), (c_spec, c)) = (plain("a", &log), plain("c", &log));
    let (spec, child) = looping(&log);
    let supervisor = patient(top(), Strategy::RestForOne);
    let root = start(supervisor.child(a_spec).child(spec.clone()).child(c_spec)).await;
    begin_loop(&child).await;
    let expected = all([("a", Running), ("loop", Restarting), ("c", Down)]);
    assert_eq!(states(root.handle()).await, expected);
    assert_eq!(counts(root.handle()).await, [3, 1, 0, 3]);
    answers(root.handle(), spec).await;
    root.handle().terminate_child(id("loop")).await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    let expected = all([("a", Running), ("loop", Down), ("c", Down)]);
    assert_eq!(states(root.handle()).await, expected);
    assert_eq!((a.life(), c.handle.presence()), (1, Presence::Down));

    child.always(Begin::Run);
    root.handle().restart_child(id("loop")).await.unwrap();
    root.handle().restart_child(id("c")).await.unwrap();
    begin_loop(&child).await;
    // An earlier child that fails in the middle of the loop is not kept waiting for its end.
    a.does(Do::fail()).await;
    assert!(a.answers().await);
    child.always(Begin::Run);
    tokio::time::sleep(SECOND * 2).await;
    let expected = all([("a", Running), ("loop", Running), ("c", Running)]);
    assert_eq!(states(root.handle()).await, expected);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_restart_loop_simple() {
    let log = Log::default();
    let root = start(patient(pool(), Strategy::OneForOne)).await;
    let (spec, child) = looping(&log);
    let started = root.handle().start_child(spec.clone()).await.unwrap();
    let (other_spec, other) = plain("other", &log);
    root.handle().start_child(other_spec).await.unwrap();
    begin_loop(&child).await;
    let expected = all([("loop", Restarting), ("other", Running)]);
    assert_eq!(states(root.handle()).await, expected);
    assert_eq!(counts(root.handle()).await, [2, 1, 0, 2]);
    let (restarted, deleted) = (
        root.handle().restart_child(id("loop")).await,
        root.handle().delete_child(id("loop")).await,
    );
    assert_eq!((restarted, deleted), (Err(AdminError::Dynamic), Err(AdminError::Dynamic)));
    root.handle().terminate_child(key(&started)).await.unwrap();
    let attempts = child.attempts();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(child.attempts(), attempts);
    assert_eq!(states(root.handle()).await, all([("other", Running)]));

    child.always(Begin::Run);
    root.handle().start_child(spec).await.unwrap();
    begin_loop(&child).await;
    stop(&root).await;
    calm().await;
    assert!(!other.is_up());
}
