//! How supervisors and children start, or do not.

use macula_core::path::InvalidId;
use macula_core::supervision::{
    AdminError, ChildKind, ChildState, ExitReason, Init, Presence, Restart, Shutdown, StartError,
    StartedChild, Supervisor, TreeOptions, Worker,
};
use std::time::Duration;

use crate::support::{
    Begin, Log, Puppet, all, boom, calm, counts, id, key, kid, named, of, plain, pool, start,
    states, stop, top, worker,
};
use ChildState::{Down, Running};

#[tokio::test(start_paused = true)]
async fn sup_start_normal() {
    let root = start(top()).await;
    assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    let handle = root.handle().clone();
    stop(&root).await;
    assert_ne!(handle.presence(), Presence::Up);
    assert_eq!(handle.count_children().await, Err(AdminError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_init() {
    let log = Log::default();
    let (spec, _) = plain("a", &log);
    let ignored = top().child(spec.clone()).init(|_| Ok(Init::Ignore));
    assert_eq!(ignored.start(TreeOptions::default()).await.unwrap_err(), StartError::Ignored);
    assert!(log.ups().is_empty());

    let inner = Supervisor::new("inner")
        .unwrap()
        .child(spec)
        .init(|context| Ok(if context.incarnation == 1 { Init::Ignore } else { Init::Run }));
    let (inner, handle) = inner.split();
    let root = start(top().child(inner)).await;
    assert_eq!(states(root.handle()).await, all([("inner", Down)]));
    assert_eq!(handle.presence(), Presence::Down);
    root.handle().restart_child(id("inner")).await.unwrap();
    assert_eq!(states(&handle).await, all([("a", Running)]));
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_child() {
    for how in [Begin::Ignore, Begin::IgnoreInside] {
        let log = Log::default();
        let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
        a.script([how]);
        let root = start(top().child(a_spec).child(b_spec)).await;
        assert_eq!(states(root.handle()).await, all([("a", Down), ("b", Running)]));
        assert_eq!(counts(root.handle()).await, [2, 1, 0, 2]);
        assert_eq!(a.handle.ready().await, None);
        assert!(b.answers().await);
        root.handle().restart_child(id("a")).await.unwrap();
        assert!(a.answers().await);
        stop(&root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_temporary_child() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, _)) = (of(Restart::Temporary, "a", &log), plain("b", &log));
    a.always(Begin::Ignore);
    let root = start(top().child(a_spec).child(b_spec)).await;
    assert_eq!(states(root.handle()).await, all([("b", Running)]));
    assert_eq!(counts(root.handle()).await, [1, 1, 0, 1]);
    assert_eq!(a.handle.presence(), Presence::Gone);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_temporary_child_start_child() {
    let log = Log::default();
    let root = start(top()).await;
    let (spec, a) = of(Restart::Temporary, "a", &log);
    a.always(Begin::Ignore);
    assert_eq!(root.handle().start_child(spec).await, Ok(StartedChild::Ignored));
    assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    let (spec, _) = of(Restart::Temporary, "a", &log);
    root.handle().start_child(spec).await.unwrap();
    stop(&root).await;
}

async fn ignored_in_a_pool(restart: Restart) {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, a) = of(restart, "a", &log);
    a.script([Begin::Ignore]);
    assert_eq!(root.handle().start_child(spec.clone()).await, Ok(StartedChild::Ignored));
    assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    assert_eq!(a.handle.presence(), Presence::Gone);
    root.handle().start_child(spec).await.unwrap();
    assert_eq!(counts(root.handle()).await, [1, 1, 0, 1]);
    stop(&root).await;
    assert_eq!(log.ends(), [("a".to_owned(), ExitReason::Shutdown)]);
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_temporary_child_start_child_simple() {
    ignored_in_a_pool(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_ignore_permanent_child_start_child_simple() {
    ignored_in_a_pool(Restart::Permanent).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_error_return() {
    let log = Log::default();
    let (spec, _) = plain("a", &log);
    let refused = top().child(spec.clone()).init(|_| Err(boom()));
    let error = refused.start(TreeOptions::default()).await.unwrap_err();
    assert_eq!(error, StartError::Failed(boom()));
    let senseless = top().intensity(1, Duration::ZERO).child(spec);
    let error = senseless.start(TreeOptions::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Illegal { .. }), "{error}");
    assert!(log.ups().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sup_start_fail() {
    let log = Log::default();
    let (spec, _) = plain("a", &log);
    let broken = top().child(spec).init(|_| panic!("told to"));
    let error = broken.start(TreeOptions::default()).await.unwrap_err();
    let StartError::Failed(reason) = error else { panic!("{error}") };
    assert_eq!(reason.kind(), "panic");
    assert!(log.ups().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sup_start_child_returns_error() {
    let root = start(top()).await;
    for how in [Begin::Fail, Begin::FailInside, Begin::PanicInside] {
        let log = Log::default();
        let (spec, a) = plain("a", &log);
        a.always(how);
        let error = root.handle().start_child(spec).await.unwrap_err();
        assert!(matches!(error, AdminError::StartFailed(_)), "{error}");
        assert_eq!(states(root.handle()).await, all([]));
        assert_eq!(a.handle.presence(), Presence::Gone);
    }
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_restart_child_returns_error() {
    let log = Log::default();
    let (spec, a) = plain("a", &log);
    let root = start(top().child(spec)).await;
    root.handle().terminate_child(id("a")).await.unwrap();
    a.script([Begin::Fail]);
    let error = root.handle().restart_child(id("a")).await.unwrap_err();
    assert_eq!(error, AdminError::StartFailed(boom()));
    assert_eq!(states(root.handle()).await, all([("a", Down)]));
    calm().await;
    assert_eq!(a.attempts(), 2, "an admin's failed start is not tried again");
    root.handle().restart_child(id("a")).await.unwrap();
    assert!(a.answers().await);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_child_returns_error_simple() {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, a) = plain("a", &log);
    a.script([Begin::Fail, Begin::FailInside]);
    for _ in 0..2 {
        let error = root.handle().start_child(spec.clone()).await.unwrap_err();
        assert_eq!(error, AdminError::StartFailed(boom()));
        assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    }
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_map() {
    let log = Log::default();
    let (spec, _) = plain("a", &log);
    let root = start(top().child(spec)).await;
    let child = root.handle().which_child(id("a")).await.unwrap();
    assert_eq!(child.policy.restart, Restart::Permanent);
    assert_eq!(child.policy.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
    assert_eq!(child.policy.kind, ChildKind::Worker);
    assert!(!child.policy.significant);
    let inner = Supervisor::new("inner").unwrap();
    root.handle().start_child(inner).await.unwrap();
    let child = root.handle().which_child(id("inner")).await.unwrap();
    assert_eq!(child.policy.shutdown, Shutdown::Infinity);
    assert_eq!(child.policy.kind, ChildKind::Supervisor);
    let error = root.handle().which_child(id("b")).await.unwrap_err();
    assert_eq!(error, AdminError::NotFound("b".to_owned()));
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_map_simple() {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, _) = kid("a", &log, |worker| worker.shutdown(Shutdown::Brutal));
    let a = key(&root.handle().start_child(spec).await.unwrap());
    let (spec, _) = of(Restart::Transient, "b", &log);
    let b = key(&root.handle().start_child(spec).await.unwrap());
    let (a, b) = (root.handle().which_child(a).await, root.handle().which_child(b).await);
    assert_eq!(a.unwrap().policy.shutdown, Shutdown::Brutal);
    assert_eq!(b.unwrap().policy.restart, Restart::Transient);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn sup_start_map_faulty_specs() {
    let bad = |id: &str| Worker::<Puppet>::with(id, |_| Err(boom())).map(drop);
    assert_eq!(bad(""), Err(InvalidId::Empty));
    assert!(matches!(bad("a/b"), Err(InvalidId::Character(_, '/'))));
    let log = Log::default();
    let nameless = Worker::once(Puppet, Puppet::part("nameless", &log));
    let refused = top().child(nameless).start(TreeOptions::default()).await.unwrap_err();
    let missing = StartError::Illegal { supervisor: "root".into(), source: AdminError::MissingId };
    assert_eq!(refused, missing);
    let twice = top().child(plain("a", &log).0).child(worker("a", &log).0);
    assert_eq!(twice.check(), Err(AdminError::DuplicateId(named("a"))));
    assert!(log.ups().is_empty());
}
