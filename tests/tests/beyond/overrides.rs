//! What configuration says of a path counts, for children of the list and for those that come.

use std::time::Duration;

use macula_core::supervision::proto::Context;
use macula_core::supervision::{
    Backoff, Override, Overrides, Restart, Root, Supervisor, SupervisorHandle, TreeOptions, What,
};

use crate::support::{Ask, Log, Step, await_event, calm, id, ms, path, reborn, timed, top, worker};

async fn with(at: &str, said: Override, supervisor: Supervisor) -> Root {
    let mut overrides = Overrides::default();
    overrides.set(path(at), said);
    let options = TreeOptions { overrides, ..TreeOptions::default() };
    supervisor.start(options).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_restart_type_of_a_listed_child() {
    let (spec, handle) = worker("a", &Log::default()).split();
    let said = Override { restart: Some(Restart::Transient), ..Override::default() };
    let root = with("a", said, top().child(spec)).await;
    handle.cast(Ask::Stop(None)).unwrap();
    assert_eq!(handle.next_life(1).await, None);
    assert_eq!(root.snapshot().await.find(&path("a")).unwrap().restart, Restart::Transient);
}

#[tokio::test(start_paused = true)]
async fn the_restart_type_and_back_off_of_a_dynamic_child() {
    let (pool, supervisor) = Supervisor::dynamic("pool", 9).unwrap().split();
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(ms(700), ms(700)) };
    let restart = Some(Restart::Permanent);
    let said = Override { restart, backoff: Some(backoff), ..Override::default() };
    let _root = with("pool/a", said, top().child(pool)).await;
    let (spec, handle) = worker("a", &Log::default()).restart(Restart::Temporary).split();
    supervisor.start_child(spec).await.unwrap();
    let (_, took) = timed(reborn(&handle, Ask::Stop(None))).await;
    assert_eq!(took, ms(700));
}

#[tokio::test(start_paused = true)]
async fn the_liveness_bound_can_be_given_and_taken() {
    for (coded, said, life) in [(None, Some(ms(50)), 2), (Some(ms(50)), None, 1)] {
        let worker = worker("a", &Log::default());
        let worker = match coded {
            Some(bound) => worker.liveness(bound),
            None => worker,
        };
        let (spec, handle) = worker.split();
        let said = Override { liveness: Some(said), ..Override::default() };
        let _root = with("a", said, top().child(spec)).await;
        handle.cast(Ask::Do(Step::Hang)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handle.incarnation(), life);
    }
}

fn pair() -> (Supervisor, SupervisorHandle, macula_core::supervision::Handle<Ask>) {
    let (spec, handle) = worker("a", &Log::default()).split();
    let (inner, supervisor) = Supervisor::new("inner")
        .unwrap()
        .intensity(100, Duration::from_secs(1))
        .child(spec)
        .split();
    (top().child(inner), supervisor, handle)
}

#[tokio::test(start_paused = true)]
async fn the_intensity_of_a_supervisor_below() {
    let (top, supervisor, handle) = pair();
    let said = Override { intensity: Some(0), ..Override::default() };
    let root = with("inner", said, top).await;
    let mut events = root.events();
    assert_eq!(supervisor.flags().intensity, 0);
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    await_event(&mut events, |event| {
        matches!(&event.what, What::Report(report) if report.context == Context::Meltdown)
            .then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn they_outlive_a_restart_and_a_change_of_the_code() {
    let (top, supervisor, handle) = pair();
    let said = Override { intensity: Some(7), ..Override::default() };
    let root = with("inner", said, top).await;
    supervisor.cell().unwrap().kill();
    handle.next_life(1).await.unwrap();
    assert_eq!(supervisor.flags().intensity, 7);
    let other = Supervisor::new("inner").unwrap().intensity(3, Duration::from_secs(9));
    supervisor.reconfigure(other).await.unwrap();
    let flags = supervisor.flags();
    assert_eq!((flags.intensity, flags.period), (7, Duration::from_secs(9)));
    calm().await;
    assert!(root.handle().which_child(id("inner")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_root_has_a_path_too() {
    let said = Override { intensity: Some(5), ..Override::default() };
    let root = with("", said, top()).await;
    assert_eq!(root.handle().flags().intensity, 5);
}
