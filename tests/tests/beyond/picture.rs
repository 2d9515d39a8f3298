//! The tree as a picture, and what is heard of it.

use macula_core::path::Path;
use macula_core::supervision::policy::ChildKind;
use macula_core::supervision::proto::Change;
use macula_core::supervision::{
    Backoff, ChildState, ExitReason, Restart, Strategy, Supervisor, What,
};
use tokio::sync::broadcast::error::TryRecvError;

use crate::support::{Ask, Log, Step, alone, calm, ms, path, reborn, start, top, worker};

#[tokio::test(start_paused = true)]
async fn a_picture_shows_all_that_is_there() {
    let log = Log::default();
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(ms(500), ms(500)) };
    let (waits, handle) = worker("waits", &log).backoff(backoff).split();
    let (pool, supervisor) = Supervisor::dynamic("pool", 9).unwrap().split();
    let inner = Supervisor::new("inner").unwrap().strategy(Strategy::RestForOne);
    let inner = inner.child(worker("a", &log).restart(Restart::Transient));
    let root = start(top().child(inner).child(pool).child(waits)).await;
    supervisor.start_child(worker("guest", &log)).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    let healthy = root.snapshot().await;
    assert!(healthy.is_healthy());
    handle.cast(Ask::Do(Step::Fail)).unwrap();
    calm().await;

    let picture = root.snapshot().await;
    assert!(!picture.is_healthy());
    assert_eq!((picture.path.clone(), picture.len()), (Path::root(), 6));
    let names: Vec<&str> = picture.children.iter().map(|child| child.path.as_str()).collect();
    assert_eq!(names, ["inner", "pool", "waits"]);
    let inner = picture.find(&path("inner")).unwrap();
    assert_eq!((inner.kind, inner.strategy), (ChildKind::Supervisor, Some(Strategy::RestForOne)));
    let leaf = picture.find(&path("inner/a")).unwrap();
    assert_eq!((leaf.kind, leaf.state), (ChildKind::Worker, ChildState::Running));
    assert_eq!((leaf.restart, leaf.incarnation), (Restart::Transient, 1));
    assert_eq!(leaf.up_ms, Some(201));
    let pool = picture.find(&path("pool")).unwrap();
    assert_eq!((pool.dynamic, pool.strategy), (true, None));
    assert!(picture.find(&path("pool/guest")).is_some());
    let waits = picture.find(&path("waits")).unwrap();
    assert_eq!((waits.state, waits.up_ms), (ChildState::Restarting, None));
    assert_eq!(waits.last_exit.as_ref().unwrap().kind(), "error");
    handle.ready().await.unwrap();
    let picture = root.snapshot().await;
    let back = picture.find(&path("waits")).unwrap();
    assert_eq!((back.incarnation, back.restarts, back.up_ms), (2, 1, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn events_tell_a_life_from_begin_to_end() {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    let mut events = root.events();
    reborn(&handle, Ask::End(ExitReason::shutdown_with("lunch"))).await;
    root.stop().await;
    let mut lives = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let What::Life(change) = event.what {
            assert_eq!(event.path, path("a"));
            lives.push((event.incarnation, change));
        }
    }
    let lunch = ExitReason::shutdown_with("lunch");
    assert_eq!(
        lives,
        [
            (1, Change::Exited { reason: lunch }),
            (1, Change::Restarting { delay_ms: 0 }),
            (2, Change::Started),
            (2, Change::Stopped { reason: ExitReason::Shutdown }),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_too_slow_is_told_how_many_it_lost() {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    let mut slow = root.events();
    let mut quick = root.events();
    let mut heard = 0;
    for _ in 0..2000 {
        reborn(&handle, Ask::Do(Step::Fail)).await;
        while quick.try_recv().is_ok() {
            heard += 1;
        }
        tokio::time::sleep(ms(10)).await;
    }
    let Err(TryRecvError::Lagged(lost)) = slow.try_recv() else { panic!("it lost nothing") };
    let mut rest = 0;
    while slow.try_recv().is_ok() {
        rest += 1;
    }
    while quick.try_recv().is_ok() {
        heard += 1;
    }
    assert_eq!(lost + rest, heard);
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_has_ended_can_still_be_asked() {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    root.stop().await;
    let picture = root.snapshot().await;
    assert_eq!((picture.state, picture.children.len()), (ChildState::Down, 0));
    assert_eq!(root.wait().await, ExitReason::Shutdown);
    assert_eq!(handle.ready().await, None);
}
