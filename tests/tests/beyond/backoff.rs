//! Restarts that wait: how long, and what can be done meanwhile.

use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::supervision::proto::Change;
use macula_core::supervision::{
    AdminError, Backoff, ChildState, ExitReason, Handle, Root, Strategy, TreeOptions, What,
};

use crate::support::{
    Ask, Log, Step, alone, await_event, calm, id, ms, reborn, start, timed, top, worker,
};

const PLAIN: Backoff =
    Backoff { initial: ms(100), max: ms(1000), jitter: 0.0, reset_after: Duration::from_secs(10) };

async fn waiting() -> (Root, Handle<Ask>) {
    let (root, handle) = alone(worker("a", &Log::default()).backoff(PLAIN)).await;
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    calm().await;
    let info = root.handle().which_child(id("a")).await.unwrap();
    assert_eq!(info.state, ChildState::Restarting);
    (root, handle)
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_the_cap() {
    let (_root, handle) = alone(worker("a", &Log::default()).backoff(PLAIN)).await;
    for expected in [100, 200, 400, 800, 1000, 1000] {
        let (_, took) = timed(reborn(&handle, Ask::Do(Step::Panic))).await;
        assert_eq!(took.as_millis(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_time_ends_the_row() {
    let (_root, handle) = alone(worker("a", &Log::default()).backoff(PLAIN)).await;
    for _ in 0..3 {
        reborn(&handle, Ask::Do(Step::Panic)).await;
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let (_, took) = timed(reborn(&handle, Ask::Do(Step::Panic))).await;
    assert_eq!(took, ms(100));
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_within_its_band_and_follows_the_seed() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let backoff = Backoff { initial: ms(1000), max: ms(1000), jitter: 0.2, ..PLAIN };
        let (spec, handle) = worker("a", &Log::default()).backoff(backoff).split();
        let entropy = Some(Entropy::from_seed(seed));
        let options = TreeOptions { entropy, ..TreeOptions::default() };
        let root = top().child(spec).start(options).await.unwrap();
        let mut events = root.events();
        let mut waits = Vec::new();
        for _ in 0..20 {
            handle.cast(Ask::Do(Step::Panic)).unwrap();
            let wait = await_event(&mut events, |event| match event.what {
                What::Life(Change::Restarting { delay_ms }) => Some(delay_ms),
                _ => None,
            });
            waits.push(wait.await);
            handle.ready().await.unwrap();
        }
        assert!(waits.iter().all(|wait| (800..=1200).contains(wait)), "{waits:?}");
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(most - least > 100, "{waits:?}");
        runs.push(waits);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_at_once() {
    let (root, _handle) = waiting().await;
    let (children, took) = timed(root.handle().which_children()).await;
    assert_eq!((children.unwrap().len(), took), (1, Duration::ZERO));
    let (counts, took) = timed(root.handle().count_children()).await;
    assert_eq!((counts.unwrap().active, took), (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn another_child_starts_at_once() {
    let (root, _handle) = waiting().await;
    let (started, took) = timed(root.handle().start_child(worker("b", &Log::default()))).await;
    started.unwrap();
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn terminate_child_ends_the_wait() {
    let (root, handle) = waiting().await;
    let (done, took) = timed(root.handle().terminate_child(id("a"))).await;
    assert_eq!((done, took), (Ok(()), Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.incarnation(), 1);
    assert_eq!(root.handle().which_child(id("a")).await.unwrap().state, ChildState::Down);
}

#[tokio::test(start_paused = true)]
async fn retry_child_starts_it_now() {
    let (root, handle) = waiting().await;
    let (done, took) = timed(root.handle().retry_child(id("a"))).await;
    assert_eq!((done, took), (Ok(()), Duration::ZERO));
    assert_eq!(handle.ready().await, Some(2));
    assert_eq!(root.handle().retry_child(id("a")).await, Ok(()));
    assert_eq!(root.handle().retry_child(id("x")).await, Err(AdminError::NotFound("x".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_it() {
    let (root, handle) = waiting().await;
    let (reason, took) = timed(root.stop()).await;
    assert_eq!((reason, took), (ExitReason::Shutdown, Duration::ZERO));
    assert_eq!(handle.incarnation(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_with_the_one_that_failed() {
    let log = Log::default();
    let (first, handle) = worker("a", &log).backoff(PLAIN).split();
    let (second, other) = worker("b", &log).split();
    let root = start(top().strategy(Strategy::OneForAll).child(first).child(second)).await;
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    let (life, took) = timed(other.next_life(1)).await;
    assert_eq!((life, took), (Some(2), ms(100)));
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    calm().await;
    let (reason, took) = timed(root.stop()).await;
    assert_eq!((reason, took), (ExitReason::Shutdown, Duration::ZERO));
}
