//! What a life held is given back before the next one begins, however it ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use macula_core::supervision::{ExitReason, Presence, Strategy, Supervisor};

use crate::support::{
    Ask, Log, Script, Step, alone, calm, id, ms, reborn, scripted, start, top, worker,
};

/// The hook ran once, after the state was dropped and before the next start.
async fn replaced(end: Ask, kind: &str) {
    let log = Log::default();
    let (_root, handle) = alone(worker("a", &log).liveness(ms(50))).await;
    reborn(&handle, end).await;
    assert_eq!(log.take(), ["open a 1", "close a 1", &format!("exit a {kind}"), "open a 2"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_of_its_own() {
    replaced(Ask::Stop(None), "normal").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_panic() {
    replaced(Ask::Do(Step::Panic), "panic").await;
}

#[tokio::test(start_paused = true)]
async fn after_an_error() {
    replaced(Ask::Do(Step::Fail), "error").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_hang() {
    replaced(Ask::Do(Step::Hang), "killed").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_kill() {
    let log = Log::default();
    let (_root, handle) = alone(worker("a", &log)).await;
    handle.actor_ref().unwrap().kill();
    handle.next_life(1).await.unwrap();
    assert_eq!(log.take(), ["open a 1", "close a 1", "exit a killed", "open a 2"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_of_the_tree() {
    let log = Log::default();
    let root = start(top().child(worker("a", &log)).child(worker("b", &log))).await;
    root.stop().await;
    let ends = ["close b 1", "exit b shutdown", "close a 1", "exit a shutdown"];
    assert_eq!(log.take().get(2..).unwrap(), ends);
}

#[tokio::test(start_paused = true)]
async fn after_a_start_that_failed() {
    let log = Log::default();
    let pre_start = |life| if life == 2 { Step::Fail } else { Step::Go };
    let (_root, handle) =
        alone(scripted("a", &log, Script { pre_start, ..Script::default() })).await;
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    assert_eq!(handle.next_life(1).await, Some(3));
    let second = ["open a 2", "close a 2", "exit a error", "open a 3"];
    assert_eq!(log.take().get(3..).unwrap(), second);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_harms_nobody() {
    let log = Log::default();
    let bad = worker("a", &log).on_exit(|_| panic!("in a hook"));
    let (spec, handle) = bad.split();
    let root = start(top().child(spec).child(worker("b", &log))).await;
    assert_eq!(reborn(&handle, Ask::Do(Step::Panic)).await, 2);
    assert_eq!(root.stop().await, ExitReason::Shutdown);
    assert_eq!(log.count("exit b shutdown"), 1);
}

/// Between the first close and the first open of a replacement there is no open: nobody of a group
/// starts while another of its old lives is there.
fn all_closed_before_any_open(lines: &[String]) {
    let first_open = lines.iter().position(|line| line.starts_with("open")).unwrap();
    let last_close = lines.iter().rposition(|line| line.starts_with("close")).unwrap();
    assert!(last_close < first_open, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_starts_again_when_all_of_it_has_gone() {
    let slow = Script { post_stop: |_| Step::Nap(ms(300)), ..Script::default() };
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        for kill in [true, false] {
            let log = Log::default();
            let (first, handle) = worker("a", &log).split();
            let (last, other) = scripted("c", &log, slow).split();
            let list = top().strategy(strategy).child(first).child(worker("b", &log)).child(last);
            let root = start(list).await;
            log.take();
            if kill {
                handle.actor_ref().unwrap().kill();
            } else {
                handle.cast(Ask::Do(Step::Panic)).unwrap();
            }
            other.next_life(1).await.unwrap();
            let lines = log.take();
            all_closed_before_any_open(&lines);
            assert_eq!(lines.iter().filter(|line| line.starts_with("open")).count(), 3);
            root.stop().await;
        }
    }
}

/// Three levels; the leaf is killed with the rest, and its socket is the last to go.
fn deep(log: &Log) -> (Supervisor, macula_core::supervision::Handle<Ask>) {
    let (leaf, handle) = worker("leaf", log).split();
    let low = Supervisor::new("low").unwrap().child(leaf).child(worker("leaf2", log));
    let hook = log.clone();
    let inner = Supervisor::new("inner")
        .unwrap()
        .on_exit(move |reason| hook.add(format!("exit inner {}", reason.kind())))
        .child(low)
        .child(worker("b", log));
    (inner, handle)
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_comes_back_when_its_whole_subtree_has_gone() {
    let log = Log::default();
    let (inner, leaf) = deep(&log);
    let (spec, supervisor) = inner.split();
    let _root = start(top().child(spec)).await;
    log.take();
    supervisor.cell().unwrap().kill();
    assert_eq!(leaf.next_life(1).await, Some(2));
    calm().await;
    let lines = log.take();
    all_closed_before_any_open(&lines);
    let end = lines.iter().position(|line| line == "exit inner killed").unwrap();
    let closes = lines.iter().rposition(|line| line.starts_with("exit leaf")).unwrap();
    assert!(closes < end, "{lines:?}");
    assert_eq!(log.count("exit inner killed"), 0);
}

/// In real time: a leaf that no kill can reach keeps its supervisor from coming back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_waits_for_a_leaf_that_blocks() {
    let log = Log::default();
    let (inner, leaf) = deep(&log);
    let (spec, supervisor) = inner.split();
    let root = start(top().child(spec)).await;
    // The hook of a sibling's life runs on its thread: it is a wall that no kill reaches.
    let (release, wall) = std::sync::mpsc::sync_channel::<()>(1);
    let wall = parking_lot::Mutex::new(wall);
    let walled = worker("walled", &log).on_exit(move |_| wall.lock().recv().unwrap());
    supervisor.start_child(walled).await.unwrap();
    supervisor.cell().unwrap().kill();
    while log.count("exit leaf killed") == 0 || log.count("exit leaf2 killed") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((supervisor.incarnation(), leaf.presence()), (1, Presence::Restarting));
    assert_eq!(log.count("exit inner killed"), 0);
    release.send(()).unwrap();
    assert_eq!(leaf.next_life(1).await, Some(2));
    assert_eq!(log.count("exit inner killed"), 1);
    root.stop().await;
}

/// Killed before it was up: it has failed to start, and the next try waits for what it had started.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_while_it_starts_has_gone_before_it_tries_again() {
    static STARTS: AtomicUsize = AtomicUsize::new(0);
    let log = Log::default();
    let second_hangs = |_| match STARTS.fetch_add(1, Ordering::Relaxed) {
        1 => Step::Hang,
        _ => Step::Go,
    };
    let script = Script { pre_start: second_hangs, ..Script::default() };
    let (last, handle) = scripted("z", &log, script).split();
    let list = Supervisor::new("inner").unwrap().child(worker("a", &log)).child(last);
    let (spec, supervisor) = list.split();
    let root = start(top().child(spec)).await;
    supervisor.cell().unwrap().kill();
    calm().await;
    assert_eq!(log.count("open z 2"), 1);
    log.take();
    supervisor.cell().unwrap().kill();
    handle.next_life(1).await.unwrap();
    all_closed_before_any_open(&log.take());
    assert_eq!(root.handle().which_child(id("inner")).await.unwrap().incarnation, 3);
}

#[tokio::test(start_paused = true)]
async fn a_raw_stop_of_a_supervisor_stops_in_reverse_order() {
    let log = Log::default();
    let slow = Script { post_stop: |_| Step::Nap(ms(100)), ..Script::default() };
    let list =
        Supervisor::new("inner").unwrap().restart(macula_core::supervision::Restart::Transient);
    let list = list.child(worker("a", &log)).child(scripted("b", &log, slow));
    let (spec, supervisor) = list.child(scripted("c", &log, slow)).split();
    let _root = start(top().child(spec)).await;
    log.take();
    supervisor.cell().unwrap().stop(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let exits: Vec<String> =
        log.take().into_iter().filter(|line| line.starts_with("exit")).collect();
    assert_eq!(exits, ["exit c shutdown", "exit b shutdown", "exit a shutdown"]);
    assert_eq!(supervisor.presence(), Presence::Down);
}

#[tokio::test(start_paused = true)]
async fn a_raw_kill_of_the_root_takes_the_tree_along() {
    let log = Log::default();
    let (inner, leaf) = deep(&log);
    let root = start(top().child(inner).child(worker("c", &log))).await;
    root.kill();
    assert_eq!(root.wait().await, ExitReason::Killed);
    let lines = log.take();
    for name in ["leaf", "leaf2", "b", "c"] {
        assert!(lines.contains(&format!("exit {name} killed")), "{lines:?}");
    }
    assert_eq!(leaf.presence(), Presence::Down);
}
