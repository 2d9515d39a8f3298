//! Singletons on nodes that are killed, cut off and stopped, with children that do not want to stop.

mod child;
mod storms;

use macula_core::supervision::Restart;

use crate::election::tests::world::{NAME, TTL, options};
use crate::election::{Error, Options};
use crate::kv::tests::world::soon;
use crate::raft::timer;

use super::{Invalid, Singleton};
use child::{Habit, Stage};

#[tokio::test(start_paused = true)]
async fn a_child_runs_where_its_node_leads_and_outlives_its_crashes_under_one_token() {
    let mut stage = Stage::new(1, None).await;
    stage.start(11, Habit::default()).await;
    stage.start(12, Habit::default()).await;
    let first = stage.running().await;
    stage.crash(first.number);
    soon(|| stage.started() == 2).await;
    let again = stage.running().await;
    assert_eq!((again.number, again.token), (first.number, first.token));
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_crashes_too_often_has_another_node_take_over() {
    let mut stage = Stage::new(2, None).await;
    stage.start(11, Habit::default()).await;
    let first = stage.running().await;
    stage.start(12, Habit::default()).await;
    for crash in 1..=2 {
        let started = stage.started();
        stage.crash(first.number);
        soon(|| crash == 2 || stage.started() > started).await;
    }
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    assert!(stage.running().await.token > first.token);
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_has_nothing_left_to_do_lets_others_have_their_turn() {
    let mut stage = Stage::new(3, None).await;
    let habit = Habit { restart: Restart::Transient, ..Habit::default() };
    stage.start(11, habit).await;
    let first = stage.running().await;
    stage.start(12, habit).await;
    stage.finish(first.number);
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    stage.tidy();
}

/// Node 11, whose child runs, hears nothing of the group any more: the child is gone before the lease ends, and
/// only then that of node 12 begins.
async fn is_taken_over(stage: &Stage, first: u8) {
    stage.nodes.cut(11);
    let cut = timer::now();
    soon(|| stage.seen().is_none_or(|seen| seen.number != first)).await;
    let took = timer::now() - cut;
    assert!(took < TTL, "{took:?}");
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    assert!(timer::now() - cut > TTL * 9 / 10);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_is_killed_before_the_lease_ends() {
    let mut stage = Stage::new(4, None).await;
    let stubborn = Habit { is_stubborn: true, ..Habit::default() };
    stage.start(11, stubborn).await;
    let first = stage.running().await;
    stage.start(12, Habit::default()).await;
    is_taken_over(&stage, first.number).await;
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_long_in_starting_is_given_up_before_the_lease_ends() {
    for is_careless in [false, true] {
        let mut stage = Stage::new(10, None).await;
        let slow = Habit { is_careless, starts_for: TTL * 20, ..Habit::default() };
        stage.start(11, slow).await;
        let first = stage.running().await;
        stage.start(12, Habit::default()).await;
        // It leads for as long as it hears of the group, however long its child starts.
        tokio::time::sleep(TTL * 2).await;
        assert_eq!(stage.running().await.number, first.number);
        is_taken_over(&stage, first.number).await;
        stage.tidy();
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_crashes_after_its_time_is_not_begun_again() {
    let mut stage = Stage::new(7, None).await;
    stage.start(11, Habit::default()).await;
    stage.running().await;
    // What would stop the child does not run, for longer than the lease; its supervisor does.
    stage.stop(11);
    tokio::time::sleep(TTL * 2).await;
    stage.crash(11);
    tokio::time::sleep(TTL).await;
    assert_eq!(stage.started(), 1);
    stage.go_on(11);
    soon(|| stage.started() == 2).await;
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_keeps_nothing_is_waited_for_all_the_same() {
    let mut stage = Stage::new(8, None).await;
    let careless = Habit { is_stubborn: true, is_careless: true, ..Habit::default() };
    stage.start(11, careless).await;
    stage.running().await;
    stage.start(12, careless).await;
    tokio::time::sleep(TTL).await;
    let asked = timer::now();
    stage.ask_to_resign().await;
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    // It has not stopped, and was killed by its bound; the lease was let go then.
    let took = timer::now() - asked;
    assert!((TTL / 4..TTL / 2).contains(&took), "{took:?}");
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_nobody_looks_after_is_stopped() {
    let mut stage = Stage::new(9, None).await;
    let careless = Habit { is_stubborn: true, is_careless: true, ..Habit::default() };
    stage.start(11, careless).await;
    stage.running().await;
    stage.start(12, careless).await;
    stage.end_keeper(11).await;
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_stopped_in_order_hands_over_at_once() {
    let mut stage = Stage::new(5, None).await;
    stage.start(11, Habit::default()).await;
    stage.running().await;
    stage.start(12, Habit::default()).await;
    tokio::time::sleep(TTL).await;
    let began = timer::now();
    stage.stop_in_order(11).await;
    soon(|| stage.seen().is_some_and(|seen| seen.number == 12)).await;
    assert!(timer::now() - began < TTL / 2);
    stage.tidy();
}

#[tokio::test(start_paused = true)]
async fn what_could_not_stop_in_time_is_refused() {
    let mut stage = Stage::new(6, None).await;
    let elections = stage.nodes.elections(11);
    let singleton = |options| {
        Singleton::new("x", &elections, NAME, |_| macula_core::supervision::Supervisor::new("y"))
            .options(options)
    };
    assert!(singleton(options()).shutdown(TTL / 2).spec().is_ok());
    let late = singleton(options()).shutdown(TTL).spec().unwrap_err();
    assert!(matches!(late, Invalid::Election(Error::Shutdown { .. })), "{late}");
    let short = singleton(Options { ttl_ms: 1 }).spec().unwrap_err();
    assert!(matches!(short, Invalid::Election(Error::Ttl(1))), "{short}");
}
