//! OTP's `code_change`: new flags and specs while everything runs.

use std::time::Duration;

use macula_core::supervision::{
    AdminError, ChildState, ExitReason, Restart, Root, Shutdown, Strategy,
};

use crate::support::{
    Do, Log, all, end_of, id, key, kid, of, plain, pool, start, states, stop, top,
};
use ChildState::{Down, Running};

async fn policy(root: &Root, name: &str) -> (Restart, Shutdown) {
    let policy = root.handle().which_child(id(name)).await.unwrap().policy;
    (policy.restart, policy.shutdown)
}

#[tokio::test(start_paused = true)]
async fn code_change() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    let root = start(top().child(a_spec).child(b_spec)).await;
    let longer = Shutdown::Timeout(Duration::from_secs(30));
    let (a_new, _) = kid("a", &log, |w| w.restart(Restart::Transient).shutdown(longer));
    let (c_spec, c) = plain("c", &log);
    root.handle().reconfigure(top().child(a_new).child(c_spec)).await.unwrap();
    let expected = all([("b", Running), ("a", Running), ("c", Down)]);
    assert_eq!(states(root.handle()).await, expected, "none starts, none goes");
    assert_eq!(policy(&root, "a").await, (Restart::Transient, longer));
    assert_eq!((a.life(), b.life(), c.attempts()), (1, 1, 0));
    a.does(Do::End(ExitReason::Normal)).await;
    assert!(!a.is_up(), "it has been transient since the change");
    root.handle().restart_child(id("c")).await.unwrap();
    assert!(c.answers().await && b.answers().await);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn code_change_map() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    let specs = [a_spec, b_spec];
    let root = start(specs.iter().cloned().fold(top(), with_child)).await;
    let strict = || top().strategy(Strategy::OneForAll).intensity(1, Duration::from_secs(60));
    let refused = root.handle().reconfigure(top().intensity(1, Duration::ZERO)).await;
    assert!(matches!(refused, Err(AdminError::Illegal(_))), "{refused:?}");
    a.does(Do::fail()).await;
    assert_eq!((a.life(), b.life()), (2, 1), "a refused change changes nothing");
    root.handle().reconfigure(specs.iter().cloned().fold(strict(), with_child)).await.unwrap();
    assert_eq!(root.handle().flags().strategy, Strategy::OneForAll);
    a.does(Do::fail()).await;
    assert!(matches!(end_of(&root).await, ExitReason::Meltdown { intensity: 1, .. }));
    assert!(!b.is_up());

    let root = start(specs.iter().cloned().fold(top(), with_child)).await;
    let lives = (a.life(), b.life());
    root.handle().reconfigure(specs.iter().cloned().fold(strict(), with_child)).await.unwrap();
    a.does(Do::fail()).await;
    assert_eq!((a.life(), b.life()), (lives.0 + 1, lives.1 + 1), "one_for_all from now on");
    stop(&root).await;
}

fn with_child(
    supervisor: macula_core::supervision::Supervisor,
    spec: macula_core::supervision::ChildSpec,
) -> macula_core::supervision::Supervisor {
    supervisor.child(spec)
}

#[tokio::test(start_paused = true)]
async fn code_change_simple() {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, a) = plain("a", &log);
    let started = root.handle().start_child(spec).await.unwrap();
    let (listed, never) = plain("b", &log);
    let refused = root.handle().reconfigure(pool().child(listed)).await;
    assert_eq!(refused, Err(AdminError::Dynamic));
    root.handle().reconfigure(pool().intensity(0, Duration::from_secs(1))).await.unwrap();
    let child = root.handle().which_child(key(&started)).await.unwrap();
    assert_eq!((child.state, child.incarnation, never.attempts()), (Running, 1, 0));
    a.does(Do::fail()).await;
    assert!(matches!(end_of(&root).await, ExitReason::Meltdown { intensity: 0, .. }));
}

#[tokio::test(start_paused = true)]
async fn code_change_simple_map() {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, a) = of(Restart::Transient, "a", &log);
    root.handle().start_child(spec).await.unwrap();
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let refused = root.handle().reconfigure(pool().strategy(strategy)).await;
        assert!(matches!(refused, Err(AdminError::Illegal(_))), "{refused:?}");
    }
    assert_eq!(root.handle().flags().strategy, Strategy::OneForOne);
    a.does(Do::fail()).await;
    assert_eq!((a.life(), a.answers().await), (2, true));
    stop(&root).await;
}
