//! What a failure takes along: `one_for_one`, `one_for_all`, `rest_for_one`.

use macula_core::supervision::{ChildState, ExitReason, Root, Strategy};
use std::time::Duration;

use crate::support::{
    Begin, Do, Kid, Log, all, calm, end_of, lives, plain, start, states, stop, top,
};
use ChildState::Running;

/// Three children `a`, `b` and `c`, and two restarts in a long time.
async fn three(strategy: Strategy, log: &Log) -> (Root, [Kid; 3]) {
    let [a, b, c] = ["a", "b", "c"].map(|name| plain(name, log));
    let supervisor = top().strategy(strategy).intensity(2, Duration::from_secs(3600));
    let root = start(supervisor.child(a.0).child(b.0).child(c.0)).await;
    log.clear();
    (root, [a.1, b.1, c.1])
}

/// The failure of `b` makes these lives; the third failure ends the supervisor.
async fn fails_thrice(strategy: Strategy, first: [u64; 3], ended: &[&str], up: &[&str]) {
    for how in [Do::fail as fn() -> Do, || Do::Panic, || Do::Kill] {
        let log = Log::default();
        let (root, [a, b, c]) = three(strategy, &log).await;
        b.does(how()).await;
        assert_eq!(lives([&a, &b, &c]), first);
        assert_eq!(log.ended(), ended);
        assert_eq!(log.ups(), up);
        let expected = all([("a", Running), ("b", Running), ("c", Running)]);
        assert_eq!(states(root.handle()).await, expected);
        assert!(a.answers().await && b.answers().await && c.answers().await);
        b.does(how()).await;
        b.does(how()).await;
        assert!(matches!(end_of(&root).await, ExitReason::Meltdown { intensity: 2, .. }));
        assert!(![&a, &b, &c].into_iter().any(Kid::is_up));
        assert_eq!(log.last_end("a"), Some(ExitReason::Shutdown));
        assert_eq!(log.last_end("c"), Some(ExitReason::Shutdown));
    }
}

/// `b` fails and cannot be started again: the supervisor tries as often as it may, and gives up.
async fn escalates(strategy: Strategy) {
    let log = Log::default();
    let (root, [a, b, c]) = three(strategy, &log).await;
    b.always(Begin::Fail);
    b.tell(Do::fail());
    let reason = end_of(&root).await;
    assert!(reason.is_shutdown(), "{reason}");
    assert_eq!(b.attempts(), 3, "the first start and the two restarts that are allowed");
    assert!(![&a, &b, &c].into_iter().any(Kid::is_up));
    for sibling in ["a", "c"] {
        assert_eq!(log.last_end(sibling), Some(ExitReason::Shutdown));
    }
}

#[tokio::test(start_paused = true)]
async fn one_for_one() {
    fails_thrice(Strategy::OneForOne, [1, 2, 1], &["b"], &["b"]).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_one_escalation() {
    escalates(Strategy::OneForOne).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all() {
    let everybody = ["a", "b", "c"];
    fails_thrice(Strategy::OneForAll, [2, 2, 2], &["b", "c", "a"], &everybody).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_escalation() {
    escalates(Strategy::OneForAll).await;
}

#[tokio::test(start_paused = true)]
async fn one_for_all_other_child_fails_restart() {
    let log = Log::default();
    let (root, [a, b, c]) = three(Strategy::OneForAll, &log).await;
    b.script([Begin::Fail]);
    c.does(Do::fail()).await;
    assert_eq!(log.ended(), ["c", "b", "a", "a"], "what was started again goes down again");
    assert_eq!(log.ups(), ["a", "a", "b", "c"]);
    assert_eq!(lives([&a, &b, &c]), [3, 3, 2]);
    assert!(a.answers().await && b.answers().await && c.answers().await);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one() {
    fails_thrice(Strategy::RestForOne, [1, 2, 2], &["b", "c"], &["b", "c"]).await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_escalation() {
    escalates(Strategy::RestForOne).await;
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_other_child_fails_restart() {
    let log = Log::default();
    let (root, [a, b, c]) = three(Strategy::RestForOne, &log).await;
    b.script([Begin::Fail]);
    a.does(Do::fail()).await;
    assert_eq!(log.ended(), ["a", "c", "b"], "the restarted `a` is left alone");
    assert_eq!(log.ups(), ["a", "b", "c"]);
    assert_eq!(lives([&a, &b, &c]), [2, 3, 2]);
    calm().await;
    assert!(a.answers().await && b.answers().await && c.answers().await);
    stop(&root).await;
}
