//! Why an actor ended, as a type: in events, in crash reports and in the answers of a supervisor.

use std::time::Duration;

use macula_core::supervision::proto::Context;
use macula_core::supervision::{
    ExitReason, Report, Restart, StartError, Supervisor, TreeOptions, What, Worker,
};
use parking_lot::Mutex;

use crate::support::{
    Ask, Log, Probe, Script, Step, alone, await_event, id, ms, next_end, reborn, scripted, start,
    top, worker,
};

/// What a permanent worker's supervisor says of an end, in all three places; they must agree.
async fn reason_of(end: Ask) -> ExitReason {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    let mut events = root.events();
    reborn(&handle, end).await;
    let reason = next_end(&mut events).await;
    let report: Report = await_event(&mut events, |event| match &event.what {
        What::Report(report) => Some(report.clone()),
        _ => None,
    })
    .await;
    assert_eq!(report.context, Context::ChildTerminated);
    assert_eq!((&report.reason, report.offender.incarnation), (&reason, 1));
    let info = root.handle().which_child(id("a")).await.unwrap();
    assert_eq!(info.last_exit.as_deref(), Some(&reason));
    reason
}

#[tokio::test(start_paused = true)]
async fn normal() {
    assert_eq!(reason_of(Ask::Stop(None)).await, ExitReason::Normal);
    assert_eq!(reason_of(Ask::End(ExitReason::Normal)).await, ExitReason::Normal);
}

#[tokio::test(start_paused = true)]
async fn shutdown() {
    assert_eq!(reason_of(Ask::Stop(Some("shutdown"))).await, ExitReason::Shutdown);
    assert_eq!(reason_of(Ask::End(ExitReason::Shutdown)).await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn shutdown_with_info() {
    let lunch = ExitReason::shutdown_with("lunch");
    assert_eq!(reason_of(Ask::Stop(Some("shutdown: lunch"))).await, lunch);
    assert_eq!(reason_of(Ask::End(lunch.clone())).await, lunch);
}

#[tokio::test(start_paused = true)]
async fn any_other_text_of_a_stop_is_an_error() {
    let reason = reason_of(Ask::Stop(Some("boom"))).await;
    assert_eq!(reason.to_string(), "error: boom");
}

#[tokio::test(start_paused = true)]
async fn a_panic_tells_its_message_and_its_place() {
    let reason = reason_of(Ask::Do(Step::Panic)).await;
    let ExitReason::Panic { message, location } = reason else { panic!("{reason}") };
    assert_eq!(message, "a step of a life");
    assert!(location.unwrap().contains("support.rs:"));
}

#[tokio::test(start_paused = true)]
async fn an_error_has_its_whole_chain() {
    let reason = reason_of(Ask::Do(Step::Fail)).await;
    assert_eq!(reason.to_string(), "error: could not save: the disk is full");
}

#[tokio::test(start_paused = true)]
async fn killed() {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    let mut events = root.events();
    handle.actor_ref().unwrap().kill();
    assert_eq!(next_end(&mut events).await, ExitReason::Killed);
}

#[tokio::test(start_paused = true)]
async fn killed_while_it_stops() {
    let script = Script { post_stop: |_| Step::Hang, ..Script::default() };
    let (root, handle) = alone(scripted("a", &Log::default(), script)).await;
    let (mut events, cell) = (root.events(), handle.actor_ref().unwrap());
    handle.cast(Ask::Stop(Some("shutdown"))).unwrap();
    tokio::time::sleep(ms(10)).await;
    cell.kill();
    assert_eq!(next_end(&mut events).await, ExitReason::Killed);
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_comes_back_after_an_abnormal_end_only() {
    for (end, back) in [
        (Ask::Stop(None), false),
        (Ask::Stop(Some("shutdown: lunch")), false),
        (Ask::End(ExitReason::Shutdown), false),
        (Ask::Do(Step::Fail), true),
        (Ask::Do(Step::Panic), true),
    ] {
        let transient = worker("a", &Log::default()).restart(Restart::Transient);
        let (_root, handle) = alone(transient).await;
        handle.cast(end).unwrap();
        assert_eq!(handle.next_life(1).await.is_some(), back);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_names_the_child_and_its_child_down_to_the_cause() {
    let script = Script { pre_start: |_| Step::Fail, ..Script::default() };
    let log = Log::default();
    let inner = Supervisor::new("inner").unwrap().child(scripted("leaf", &log, script));
    let error = top().child(worker("first", &log)).child(inner);
    let error = error.start(TreeOptions::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "child inner failed to start: child leaf failed to start: error: could not save: the disk \
         is full"
    );
    let StartError::Failed(ExitReason::StartFailed { child, reason }) = error else {
        panic!("{error}")
    };
    assert_eq!(child.as_str(), "inner");
    assert!(matches!(*reason, ExitReason::StartFailed { child, .. } if child.as_str() == "leaf"));
    assert_eq!(log.count("exit leaf error"), 1);
    assert_eq!(log.count("exit first shutdown"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_start_is_a_failed_start() {
    let script = Script { pre_start: |_| Step::Panic, ..Script::default() };
    let failed = top().child(scripted("a", &Log::default(), script));
    let error = failed.start(TreeOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("panic: a step of a life at "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_start_function_that_panics_or_refuses_is_a_failed_start() {
    let broken = Worker::<Probe>::with("a", |_| panic!("no such thing")).unwrap();
    let error = top().child(broken).start(TreeOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("the start function panicked"), "{error}");
    let refusing = Worker::<Probe>::with("a", |_| Err(ExitReason::shutdown_with("closed")));
    let refusing = top().child(refusing.unwrap());
    let error = refusing.start(TreeOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "child a failed to start: shutdown: closed");
}

#[tokio::test(start_paused = true)]
async fn meltdown() {
    let (spec, handle) = worker("a", &Log::default()).split();
    let inner = Supervisor::new("inner").unwrap().intensity(1, Duration::from_secs(5)).child(spec);
    let root = start(top().child(inner)).await;
    let mut events = root.events();
    reborn(&handle, Ask::Do(Step::Panic)).await;
    reborn(&handle, Ask::Do(Step::Panic)).await;
    let reason = await_event(&mut events, |event| match &event.what {
        What::Report(report) if report.context == Context::Meltdown => Some(report.reason.clone()),
        _ => None,
    });
    let meltdown = ExitReason::Meltdown { intensity: 1, period: Duration::from_secs(5) };
    assert_eq!(reason.await, meltdown);
    let info = root.handle().which_child(id("inner")).await.unwrap();
    assert_eq!(info.last_exit.as_deref(), Some(&meltdown));
    assert_eq!(meltdown.to_string(), "meltdown: more than 1 restarts in 5s");
}

/// The end of a runtime cancels every task; hooks still run, with their reason.
#[test]
fn cancelled() {
    static ENDS: Mutex<Vec<ExitReason>> = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let root = runtime.block_on(async {
        let script = Script { post_stop: |_| Step::Hang, ..Script::default() };
        let log = Log::default();
        let keep = |reason: &ExitReason| ENDS.lock().push(reason.clone());
        let (stopping, handle) = scripted("b", &log, script).on_exit(keep).split();
        let root = start(top().child(worker("a", &log).on_exit(keep)).child(stopping)).await;
        handle.cast(Ask::Stop(None)).unwrap();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        root
    });
    drop(runtime);
    assert_eq!(*ENDS.lock(), [ExitReason::Cancelled, ExitReason::Cancelled]);
    drop(root);
}
