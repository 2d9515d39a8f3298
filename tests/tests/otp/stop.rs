//! How supervisors stop their children.

use std::time::Duration;

use macula_core::supervision::proto::Context;
use macula_core::supervision::{ExitReason, Presence, Restart, Shutdown, Supervisor};

use crate::support::{
    Do, Log, RESTARTS, boom, calm, end_of, kid, of, plain, pool, reports, start, stop, timed, top,
};

const HOUR: Duration = Duration::from_secs(3600);

fn shutdowns<const N: usize>(ids: [&str; N]) -> Vec<(String, ExitReason)> {
    ids.into_iter().map(|id| (id.to_owned(), ExitReason::Shutdown)).collect()
}

#[tokio::test(start_paused = true)]
async fn sup_stop_infinity() {
    let log = Log::default();
    let (a_spec, a) = kid("a", &log, |worker| worker.shutdown(Shutdown::Infinity));
    let (b_spec, b) = kid("b", &log, |worker| worker.shutdown(Shutdown::Infinity));
    let inner = Supervisor::new("inner").unwrap().child(b_spec);
    let root = start(top().child(a_spec).child(inner)).await;
    a.does(Do::Busy(HOUR / 4)).await;
    b.does(Do::Busy(HOUR / 2)).await;
    let ((), took) = timed(stop(&root)).await;
    assert!(took > HOUR / 3, "{took:?}");
    assert_eq!(log.ends(), shutdowns(["b", "a"]));
}

#[tokio::test(start_paused = true)]
async fn sup_stop_timeout() {
    let log = Log::default();
    let short = Duration::from_secs(1);
    let (a_spec, _) = plain("a", &log);
    let (b_spec, b) = kid("b", &log, |worker| worker.shutdown(Shutdown::Timeout(short)));
    let (c_spec, _) = plain("c", &log);
    let root = start(top().child(a_spec).child(b_spec).child(c_spec)).await;
    let mut events = root.events();
    b.does(Do::Hang).await;
    let ((), took) = timed(stop(&root)).await;
    assert!((short..short * 2).contains(&took), "{took:?}");
    let mut expected = shutdowns(["c", "b", "a"]);
    expected[1].1 = ExitReason::Killed;
    assert_eq!(log.ends(), expected);
    let killed = (Context::ShutdownError, "b".to_owned(), ExitReason::Killed);
    assert_eq!(reports(&mut events), [killed]);
}

#[tokio::test(start_paused = true)]
async fn sup_stop_timeout_dynamic() {
    let log = Log::default();
    let root = start(pool()).await;
    let mut kids = Vec::new();
    for (name, seconds) in [("a", 1), ("b", 2), ("c", 5)] {
        let bound = Shutdown::Timeout(Duration::from_secs(seconds));
        let (spec, kid) = kid(name, &log, |worker| worker.shutdown(bound));
        root.handle().start_child(spec).await.unwrap();
        kids.push(kid);
    }
    for kid in &kids[..2] {
        kid.does(Do::Hang).await;
    }
    let ((), took) = timed(stop(&root)).await;
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&took), "{took:?}");
    let ends = log.ends();
    assert_eq!(ends[0], ("c".to_owned(), ExitReason::Shutdown));
    assert_eq!(ends[1], ("a".to_owned(), ExitReason::Killed));
    assert_eq!(ends[2], ("b".to_owned(), ExitReason::Killed));
}

#[tokio::test(start_paused = true)]
async fn sup_stop_brutal_kill() {
    let log = Log::default();
    let (a_spec, _) = plain("a", &log);
    let (b_spec, _) = kid("b", &log, |worker| worker.shutdown(Shutdown::Brutal));
    let root = start(top().child(a_spec).child(b_spec)).await;
    let mut events = root.events();
    stop(&root).await;
    assert_eq!(log.last_end("b"), Some(ExitReason::Killed));
    assert_eq!(log.last_end("a"), Some(ExitReason::Shutdown));
    assert_eq!(log.ended(), ["b", "a"]);
    assert_eq!(reports(&mut events), [], "a kill that was asked for is no error");
}

#[tokio::test(start_paused = true)]
async fn sup_stop_brutal_kill_dynamic() {
    let log = Log::default();
    let root = start(pool()).await;
    for number in 0..10 {
        let brutal = Shutdown::Brutal;
        let (spec, kid) = kid(&format!("k{number}"), &log, |worker| worker.shutdown(brutal));
        root.handle().start_child(spec).await.unwrap();
        kid.does(Do::Hang).await;
    }
    let ((), took) = timed(stop(&root)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let ends = log.ends();
    assert_eq!(ends.len(), 10);
    assert!(ends.iter().all(|(_, reason)| *reason == ExitReason::Killed));
}

#[tokio::test(start_paused = true)]
async fn sup_stop_race() {
    let log = Log::default();
    let reasons =
        [ExitReason::Normal, ExitReason::Shutdown, ExitReason::shutdown_with("own"), boom()];
    let (mut supervisor, mut kids) = (top(), Vec::new());
    let (spec, idle) = plain("idle", &log);
    supervisor = supervisor.child(spec);
    for restart in RESTARTS {
        for reason in &reasons {
            let (spec, kid) = of(restart, &format!("k{}", kids.len()), &log);
            supervisor = supervisor.child(spec);
            kids.push((kid, reason.clone()));
        }
    }
    let root = start(supervisor).await;
    for (place, (kid, reason)) in kids.iter().rev().enumerate() {
        let time = Duration::from_millis(100 * (place as u64 + 1));
        kid.tell(Do::BusyThen(time, reason.clone()));
    }
    calm().await;
    stop(&root).await;
    let mut expected: Vec<_> = kids
        .iter()
        .enumerate()
        .rev()
        .map(|(place, (_, reason))| (format!("k{place}"), reason.clone()))
        .collect();
    expected.push(("idle".to_owned(), ExitReason::Shutdown));
    assert_eq!(log.ends(), expected);
    assert_eq!(log.ups().len(), 13, "nobody is restarted by a supervisor that stops");
    assert_ne!(idle.handle.presence(), Presence::Up);
}

#[tokio::test(start_paused = true)]
async fn sup_stop_non_shutdown_exit_dynamic() {
    for restart in RESTARTS {
        for reason in [boom(), ExitReason::Normal] {
            let log = Log::default();
            let root = start(pool()).await;
            let (spec, kid) = of(restart, "a", &log);
            root.handle().start_child(spec).await.unwrap();
            kid.does(Do::BusyThen(Duration::from_secs(1), reason.clone())).await;
            let mut events = root.events();
            root.handle().stop();
            assert_eq!(end_of(&root).await, ExitReason::Shutdown);
            assert_eq!(log.ends(), [("a".to_owned(), reason.clone())]);
            let bad = reason.is_abnormal() || restart == Restart::Permanent;
            let told = reports(&mut events);
            assert_eq!(told.len(), usize::from(bad), "{restart:?} {reason}: {told:?}");
            assert!(told.iter().all(|report| report.0 == Context::ShutdownError));
        }
    }
}
