//! Trees, counts, order, names, and scale.

use std::time::Duration;

use macula_core::path::Path;
use macula_core::supervision::{
    ChildSpec, ChildState, ExitReason, Presence, Restart, Root, Strategy, Supervisor,
    SupervisorHandle,
};

use crate::support::{
    Begin, Do, Kid, Log, all, calm, counts, id, lives, of, plain, pool, start, states, stop, timed,
    top,
};
use ChildState::{Down, Restarting, Running};

#[tokio::test(start_paused = true)]
async fn child_unlink() {
    let log = Log::default();
    let (spec, a) = plain("a", &log);
    let root = start(top().child(spec)).await;
    a.does(Do::Unlink).await;
    let (result, took) = timed(root.handle().terminate_child(id("a"))).await;
    assert_eq!(result, Ok(()));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(log.ends(), [("a".to_owned(), ExitReason::Shutdown)]);
    root.handle().restart_child(id("a")).await.unwrap();
    a.does(Do::Unlink).await;
    a.does(Do::Kill).await;
    assert_eq!((a.life(), a.answers().await), (3, true), "its end is heard all the same");
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn tree() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    let left = Supervisor::new("left").unwrap().intensity(5, HOUR).child(a_spec);
    let (left, left_handle) = left.split();
    let right = Supervisor::new("right").unwrap().child(b_spec);
    let (right, right_handle) = right.split();
    let (pool, pool_handle) = pool().split();
    let root = start(top().child(left).child(right).child(pool)).await;
    let (c_spec, c) = plain("c", &log);
    pool_handle.start_child(c_spec).await.unwrap();
    assert_eq!(counts(root.handle()).await, [3, 3, 3, 0]);

    a.does(Do::fail()).await;
    assert_eq!((lives([&a, &b, &c]), left_handle.incarnation()), ([2, 1, 1], 1));
    left_handle.cell().unwrap().kill();
    calm().await;
    assert_eq!((left_handle.incarnation(), right_handle.incarnation()), (2, 1));
    assert!(a.answers().await && b.answers().await && c.answers().await);
    assert_eq!(lives([&b, &c]), [1, 1], "only the dead one and its children are restarted");
    pool_handle.cell().unwrap().kill();
    calm().await;
    assert_eq!(pool_handle.incarnation(), 2);
    assert_eq!(counts(&pool_handle).await, [0, 0, 0, 0], "dynamic children do not come back");
    assert!(!c.is_up());
    assert_eq!(log.last_end("c"), Some(ExitReason::Killed));
    stop(&root).await;
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn count_children() {
    let log = Log::default();
    let root = start(pool()).await;
    let mut kids = Vec::new();
    for number in 0..1000 {
        let (spec, kid) = of(Restart::Temporary, &format!("k{number}"), &log);
        root.handle().start_child(spec).await.unwrap();
        kids.push(kid);
    }
    assert_eq!(counts(root.handle()).await, [1000, 1000, 0, 1000]);
    for kid in &kids[..500] {
        kid.tell(Do::Kill);
    }
    calm().await;
    assert_eq!(counts(root.handle()).await, [500, 500, 0, 500]);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn count_children_supervisor() {
    let log = Log::default();
    let inner = |name: &str| Supervisor::new(name).unwrap();
    let (spec, _) = plain("a", &log);
    let root = start(top().child(inner("x")).child(spec).child(inner("y"))).await;
    assert_eq!(counts(root.handle()).await, [3, 3, 2, 1]);
    root.handle().terminate_child(id("x")).await.unwrap();
    assert_eq!(counts(root.handle()).await, [3, 2, 2, 1]);
    root.handle().delete_child(id("x")).await.unwrap();
    assert_eq!(counts(root.handle()).await, [2, 2, 1, 1]);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn count_restarting_children() {
    use macula_core::supervision::Backoff;
    let log = Log::default();
    let wait = Backoff::exponential(HOUR, HOUR);
    let root = start(top()).await;
    let mut kids = Vec::new();
    for number in 0..6 {
        let name = format!("k{number}");
        let (spec, kid) = crate::support::kid(&name, &log, |worker| worker.backoff(wait));
        root.handle().start_child(spec).await.unwrap();
        kids.push(kid);
    }
    for (number, kid) in kids.iter().enumerate() {
        kid.does(Do::fail()).await;
        assert_eq!(counts(root.handle()).await, [6, 5 - number, 0, 6]);
        let states = states(root.handle()).await;
        let waiting = states.iter().filter(|(_, state)| *state == Restarting).count();
        assert_eq!(waiting, number + 1);
    }
    root.handle().terminate_child(id("k0")).await.unwrap();
    assert_eq!(counts(root.handle()).await, [6, 0, 0, 6]);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn simple_global_supervisor() {
    let log = Log::default();
    let (spec, a) = plain("worker", &log);
    let (inner, handle) = Supervisor::new("service").unwrap().child(spec).split();
    let root = start(top().child(inner)).await;
    let place = Path::parse("service").unwrap();
    let by_name = |root: &Root| -> SupervisorHandle { root.supervisor(&place).unwrap() };
    let life = a.life();
    by_name(&root).cell().unwrap().kill();
    calm().await;
    assert_eq!(by_name(&root).incarnation(), 2, "the name means the new one");
    assert!(a.answers().await && a.life() > life);
    for how in [Do::Kill, Do::End(ExitReason::Normal)] {
        let life = a.life();
        a.does(how).await;
        assert!(a.answers().await && a.life() == life + 1);
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    by_name(&root).terminate_child(id("worker")).await.unwrap();
    assert_eq!(a.handle.presence(), Presence::Down);
    by_name(&root).restart_child(id("worker")).await.unwrap();
    assert!(a.answers().await);
    assert_eq!(handle.incarnation(), 2);
    stop(&root).await;
}

/// Children `k1` to `k5`.
fn five(log: &Log) -> (Vec<ChildSpec>, Vec<Kid>) {
    (1..=5).map(|number| plain(&format!("k{number}"), log)).unzip()
}

#[tokio::test(start_paused = true)]
async fn order_of_children() {
    let log = Log::default();
    let (specs, kids) = five(&log);
    let supervisor = top().strategy(Strategy::RestForOne);
    let root = start(specs.into_iter().fold(supervisor, Supervisor::child)).await;
    assert_eq!(log.ups(), ["k1", "k2", "k3", "k4", "k5"]);
    log.clear();
    kids[2].does(Do::fail()).await;
    assert_eq!(log.ended(), ["k3", "k5", "k4"]);
    assert_eq!(log.ups(), ["k3", "k4", "k5"]);
    log.clear();
    // One that is slow to stop holds up all that were started before it.
    kids[3].does(Do::Busy(Duration::from_secs(1))).await;
    stop(&root).await;
    assert_eq!(log.ended(), ["k5", "k4", "k3", "k2", "k1"]);
}

/// How long `count` children take to start and to stop, in real time.
#[expect(clippy::disallowed_methods, reason = "the cost of the work is the subject")]
async fn churn(count: usize) -> Duration {
    let log = Log::default();
    let root = start(top()).await;
    let before = std::time::Instant::now();
    for number in 0..count {
        root.handle().start_child(plain(&format!("k{number}"), &log).0).await.unwrap();
    }
    assert_eq!(counts(root.handle()).await, [count, count, 0, count]);
    stop(&root).await;
    assert_eq!(log.ends().len(), count);
    before.elapsed()
}

#[tokio::test(start_paused = true)]
async fn scale_start_stop_many_children() {
    let few = churn(300).await.max(Duration::from_millis(5));
    let many = churn(3000).await;
    assert!(many < few * 100, "300 took {few:?}, 3,000 took {many:?}");
}

#[tokio::test(start_paused = true)]
async fn which_children() {
    let log = Log::default();
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    let inner = Supervisor::new("inner").unwrap();
    b.always(Begin::Ignore);
    let root = start(top().child(a_spec).child(inner).child(b_spec)).await;
    let expected = all([("a", Running), ("inner", Running), ("b", Down)]);
    assert_eq!(states(root.handle()).await, expected);
    root.handle().start_child(plain("c", &log).0).await.unwrap();
    a.does(Do::fail()).await;
    let children = root.handle().which_children().await.unwrap();
    let first = &children[0];
    assert_eq!((first.incarnation, first.restarts, children.len()), (2, 1, 4));
    assert_eq!(first.last_exit.as_deref(), Some(&crate::support::boom()));
    root.handle().terminate_child(id("a")).await.unwrap();
    root.handle().delete_child(id("a")).await.unwrap();
    let expected = all([("inner", Running), ("b", Down), ("c", Running)]);
    assert_eq!(states(root.handle()).await, expected);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn which_children_simple_one_for_one() {
    let log = Log::default();
    let root = start(pool()).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let name = format!("k{number}");
        root.handle().start_child(plain(&name, &log).0).await.unwrap();
        expected.push((name, Running));
    }
    assert_eq!(states(root.handle()).await, expected);
    let children = root.handle().which_children().await.unwrap();
    root.handle().terminate_child(children[7].key).await.unwrap();
    expected.remove(7);
    assert_eq!(states(root.handle()).await, expected);
    stop(&root).await;
}
