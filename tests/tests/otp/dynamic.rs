//! Dynamic supervisors, OTP's `simple_one_for_one`.

use std::sync::Arc;
use std::time::Duration;

use macula_core::supervision::{
    ChildState, ExitReason, Presence, Restart, Shutdown, StartedChild, Worker,
};

use crate::support::{
    Begin, Do, Kid, Log, Puppet, all, calm, counts, end_of, key, kid, of, plain, pool, start,
    states, stop, timed,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn simple_one_for_one() {
    let log = Log::default();
    let root = start(pool().intensity(2, HOUR)).await;
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    let started = root.handle().start_child(a_spec).await.unwrap();
    root.handle().start_child(b_spec).await.unwrap();
    a.does(Do::fail()).await;
    assert_eq!((a.life(), b.life()), (2, 1));
    let info = root.handle().which_child(key(&started)).await.unwrap();
    assert_eq!((info.id.as_str(), info.incarnation, info.restarts), ("a", 2, 1));
    let running = ChildState::Running;
    assert_eq!(states(root.handle()).await, all([("a", running), ("b", running)]));
    a.does(Do::Kill).await;
    b.does(Do::Panic).await;
    assert!(matches!(end_of(&root).await, ExitReason::Meltdown { .. }));
    assert_eq!(log.last_end("a"), Some(ExitReason::Shutdown));
    assert_eq!(b.handle.presence(), Presence::Gone);
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_shutdown() {
    let log = Log::default();
    let root = start(pool()).await;
    let mut kids: Vec<Kid> = Vec::new();
    for number in 0..10 {
        let bound = Shutdown::Timeout(Duration::from_secs(4));
        let (spec, kid) = kid(&format!("k{number}"), &log, |worker| worker.shutdown(bound));
        root.handle().start_child(spec).await.unwrap();
        kids.push(kid);
    }
    for kid in &kids[..9] {
        kid.tell(Do::Busy(Duration::from_secs(1)));
    }
    kids[9].tell(Do::Hang);
    calm().await;
    let ((), took) = timed(stop(&root)).await;
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
    let ends = log.ends();
    assert_eq!(ends.len(), 10);
    let (graceful, killed) = ends.split_at(9);
    assert!(graceful.iter().all(|(_, reason)| *reason == ExitReason::Shutdown), "{ends:?}");
    assert_eq!(killed, [("k9".to_owned(), ExitReason::Killed)]);
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_extra() {
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, a) = plain("a", &log);
    a.script([Begin::RunWith("extra"), Begin::RunWith("more")]);
    let started = root.handle().start_child(spec).await.unwrap();
    let StartedChild::Running { info, .. } = started else { panic!("{started:?}") };
    assert_eq!(info.as_deref(), Some("extra"));
    a.does(Do::fail()).await;
    assert_eq!((a.life(), a.answers().await), (2, true));
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_escalation() {
    let log = Log::default();
    let root = start(pool().intensity(4, HOUR)).await;
    let ((a_spec, a), (b_spec, b)) = (plain("a", &log), plain("b", &log));
    root.handle().start_child(a_spec).await.unwrap();
    root.handle().start_child(b_spec).await.unwrap();
    a.always(Begin::FailInside);
    a.tell(Do::fail());
    assert!(matches!(end_of(&root).await, ExitReason::Meltdown { intensity: 4, .. }));
    assert_eq!(a.attempts(), 5);
    assert_eq!(log.last_end("b"), Some(ExitReason::Shutdown));
    assert!(!b.is_up());
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_corruption() {
    let log = Log::default();
    let root = start(pool()).await;
    let token = Arc::new(());
    let kept = Arc::clone(&token);
    let part = Puppet::part("once", &log);
    let (spec, handle) =
        Worker::once(Puppet, part).on_exit(move |_| drop(Arc::clone(&kept))).split();
    root.handle().start_child(spec).await.unwrap();
    let (other, other_kid) = of(Restart::Temporary, "other", &log);
    root.handle().start_child(other).await.unwrap();
    assert_eq!(Arc::strong_count(&token), 2);
    handle.cast(Do::fail()).unwrap();
    calm().await;
    assert_eq!(Arc::strong_count(&token), 1, "nothing of a temporary child is kept");
    assert_eq!(counts(root.handle()).await, [1, 1, 0, 1]);
    assert!(other_kid.answers().await, "the others are untouched");
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_restart_ignore() {
    for how in [Begin::Ignore, Begin::IgnoreInside] {
        let log = Log::default();
        let root = start(pool()).await;
        let (spec, a) = plain("a", &log);
        root.handle().start_child(spec).await.unwrap();
        a.script([how]);
        a.does(Do::fail()).await;
        assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
        assert_eq!(a.handle.presence(), Presence::Gone);
        stop(&root).await;
    }
}
