//! What the end of a child means, by its restart type and its reason.

use macula_core::supervision::event::What;
use macula_core::supervision::proto::{Change, Context};
use macula_core::supervision::{
    ChildState, ExitReason, Restart, StartError, Supervisor, TreeOptions,
};

use crate::support::{
    Begin, Do, Log, all, boom, counts, of, plain, reports, start, states, stop, top,
};

/// What is left of a child that ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Restarted,
    Listed,
    Gone,
}

async fn after(restart: Restart, how: impl Fn() -> Do, then: Then, reported: bool) {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (of(restart, "a", &log), plain("b", &log));
    let root = start(top().child(a_spec).child(b_spec)).await;
    let mut events = root.events();
    a.does(how()).await;
    let (down, up) = (("a", ChildState::Down), ("a", ChildState::Running));
    let b_runs = ("b", ChildState::Running);
    let (expected, four) = match then {
        Then::Restarted => (all([up, b_runs]), [2, 2, 0, 2]),
        Then::Listed => (all([down, b_runs]), [2, 1, 0, 2]),
        Then::Gone => (all([b_runs]), [1, 1, 0, 1]),
    };
    assert_eq!(states(root.handle()).await, expected, "{restart:?} {:?}", how());
    assert_eq!(counts(root.handle()).await, four);
    let lives = if then == Then::Restarted { 2 } else { 1 };
    assert_eq!((a.attempts(), b.life(), a.is_up()), (lives, 1, then == Then::Restarted));
    let told = reports(&mut events);
    assert_eq!(told.len(), usize::from(reported), "{told:?}");
    assert!(told.iter().all(|(context, ..)| *context == Context::ChildTerminated));
    stop(&root).await;
}

async fn after_normal(restart: Restart, then: Then) {
    after(restart, || Do::End(ExitReason::Normal), then, restart == Restart::Permanent).await;
}

async fn after_shutdown(restart: Restart, then: Then) {
    for reason in [ExitReason::Shutdown, ExitReason::shutdown_with("enough")] {
        let how = || Do::End(reason.clone());
        after(restart, how, then, restart == Restart::Permanent).await;
    }
}

async fn after_abnormal(restart: Restart, then: Then) {
    for how in [Do::fail as fn() -> Do, || Do::Panic, || Do::Kill] {
        after(restart, how, then, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn external_start_no_progress_log() {
    let log = Log::default();
    let root = start(top()).await;
    let mut events = root.events();
    root.handle().start_child(plain("a", &log).0).await.unwrap();
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].what, What::Life(Change::Started));
    drop(events);
    root.handle().start_child(plain("b", &log).0).await.unwrap();
    let mut late = root.events();
    assert_eq!(reports(&mut late), [], "a start is no news to those who come later");
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn permanent_normal() {
    after_normal(Restart::Permanent, Then::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn transient_normal() {
    after_normal(Restart::Transient, Then::Listed).await;
}

#[tokio::test(start_paused = true)]
async fn temporary_normal() {
    after_normal(Restart::Temporary, Then::Gone).await;
}

#[tokio::test(start_paused = true)]
async fn permanent_shutdown() {
    after_shutdown(Restart::Permanent, Then::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn transient_shutdown() {
    after_shutdown(Restart::Transient, Then::Listed).await;
}

#[tokio::test(start_paused = true)]
async fn temporary_shutdown() {
    after_shutdown(Restart::Temporary, Then::Gone).await;
}

#[tokio::test(start_paused = true)]
async fn faulty_application_shutdown() {
    let log = Log::default();
    let ((fine, _), (broken, b)) = (plain("fine", &log), plain("broken", &log));
    b.always(Begin::Fail);
    let inner = Supervisor::new("inner").unwrap().child(fine).child(broken);
    let error = top().child(inner).start(TreeOptions::default()).await.unwrap_err();
    let StartError::Failed(ExitReason::StartFailed { child, reason }) = &error else {
        panic!("{error}")
    };
    assert_eq!(child.as_str(), "inner");
    let ExitReason::StartFailed { child, reason } = &**reason else { panic!("{reason}") };
    assert_eq!((child.as_str(), &**reason), ("broken", &boom()));
    let text = "child inner failed to start: child broken failed to start: error: boom";
    assert_eq!(error.to_string(), text);
    assert_eq!(log.ends(), [("fine".to_owned(), ExitReason::Shutdown)]);
    assert_eq!(b.attempts(), 1, "a first start is not tried again");
}

#[tokio::test(start_paused = true)]
async fn permanent_abnormal() {
    after_abnormal(Restart::Permanent, Then::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn transient_abnormal() {
    after_abnormal(Restart::Transient, Then::Restarted).await;
}

#[tokio::test(start_paused = true)]
async fn temporary_abnormal() {
    after_abnormal(Restart::Temporary, Then::Gone).await;
}
