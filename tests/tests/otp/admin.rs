//! Requests to a supervisor with a list or without, and what specs and flags are refused.

use std::time::Duration;

use macula_core::supervision::policy::IllegalPolicy;
use macula_core::supervision::{
    AdminError, AutoShutdown, ChildState, ExitReason, Restart, Shutdown, StartedChild, Strategy,
    Supervisor,
};

use crate::support::{
    Begin, Do, Log, RESTARTS, STRATEGIES, all, calm, counts, end_of, id, key, kid, named, plain,
    pool, start, states, stop, top,
};
use ChildState::{Down, Running};

const AUTOS: [AutoShutdown; 3] =
    [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];

#[tokio::test(start_paused = true)]
async fn child_adm() {
    let log = Log::default();
    let root = start(top()).await;
    let top = root.handle();
    let (spec, a) = plain("a", &log);
    for result in [
        top.terminate_child(id("a")).await,
        top.delete_child(id("a")).await,
        top.restart_child(id("a")).await.map(drop),
    ] {
        assert_eq!(result, Err(AdminError::NotFound("a".to_owned())));
    }
    top.start_child(spec.clone()).await.unwrap();
    assert_eq!(states(top).await, all([("a", Running)]));
    assert_eq!(counts(top).await, [1, 1, 0, 1]);
    let again = top.start_child(spec.clone()).await;
    assert_eq!(again, Err(AdminError::AlreadyStarted(named("a"))));
    let running = AdminError::Running(named("a"));
    assert_eq!(top.restart_child(id("a")).await, Err(running.clone()));
    assert_eq!(top.delete_child(id("a")).await, Err(running));
    assert_eq!(a.life(), 1, "refusals change nothing");

    top.terminate_child(id("a")).await.unwrap();
    assert_eq!(log.ends(), [("a".to_owned(), ExitReason::Shutdown)]);
    top.terminate_child(id("a")).await.unwrap();
    assert_eq!(states(top).await, all([("a", Down)]));
    assert_eq!(counts(top).await, [1, 0, 0, 1]);
    let again = top.start_child(spec.clone()).await;
    assert_eq!(again, Err(AdminError::AlreadyPresent(named("a"))));
    top.restart_child(id("a")).await.unwrap();
    assert_eq!(a.life(), 2);
    assert!(a.answers().await);
    top.terminate_child(id("a")).await.unwrap();
    top.delete_child(id("a")).await.unwrap();
    assert_eq!(top.delete_child(id("a")).await, Err(AdminError::NotFound("a".to_owned())));
    assert_eq!(counts(top).await, [0, 0, 0, 0]);
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn child_adm_simple() {
    let log = Log::default();
    let root = start(pool()).await;
    let mut keys = Vec::new();
    let mut kids = Vec::new();
    for name in ["a", "b"] {
        let (spec, kid) = plain(name, &log);
        keys.push(key(&root.handle().start_child(spec).await.unwrap()));
        kids.push(kid);
    }
    let (a, b) = (keys[0].clone(), keys[1].clone());
    assert_eq!(counts(root.handle()).await, [2, 2, 0, 2]);
    assert_eq!(root.handle().restart_child(a.clone()).await, Err(AdminError::Dynamic));
    assert_eq!(root.handle().delete_child(a.clone()).await, Err(AdminError::Dynamic));
    root.handle().terminate_child(a.clone()).await.unwrap();
    assert_eq!(states(root.handle()).await, all([("b", Running)]));
    assert_eq!(root.handle().terminate_child(a).await, Ok(()), "it is dead, as asked");

    let other = start(pool()).await;
    for name in ["c", "d"] {
        other.handle().start_child(plain(name, &log).0).await.unwrap();
    }
    let foreign = other.handle().terminate_child(b).await;
    assert!(matches!(foreign, Err(AdminError::NotFound(_))), "{foreign:?}");
    assert!(kids[1].answers().await);
    assert_eq!(counts(other.handle()).await, [2, 2, 0, 2], "a key names nobody elsewhere");
    let nobody = root.handle().terminate_child(id("nobody")).await;
    assert_eq!(nobody, Err(AdminError::NotFound("nobody".to_owned())));
    stop(&other).await;
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn extra_return() {
    let log = Log::default();
    let root = start(top()).await;
    let (spec, a) = plain("a", &log);
    a.script([Begin::RunWith("first"), Begin::RunWith("second"), Begin::RunWith("third")]);
    let said = |started: StartedChild| match started {
        StartedChild::Running { info, .. } => info,
        StartedChild::Ignored => None,
    };
    let started = root.handle().start_child(spec).await.unwrap();
    assert_eq!(said(started).as_deref(), Some("first"));
    root.handle().terminate_child(id("a")).await.unwrap();
    let restarted = root.handle().restart_child(id("a")).await.unwrap();
    assert_eq!(said(restarted).as_deref(), Some("second"));
    a.does(Do::fail()).await;
    assert_eq!((a.life(), a.answers().await), (3, true));
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn child_specs() {
    let log = Log::default();
    let root = start(top()).await;
    let bounds = [Shutdown::Brutal, Shutdown::Timeout(Duration::from_secs(1)), Shutdown::Infinity];
    let mut legal = top();
    for restart in RESTARTS {
        for shutdown in bounds {
            let name = format!("{restart:?}-{}", legal_name(shutdown));
            let (spec, _) = kid(&name, &log, |w| w.restart(restart).shutdown(shutdown));
            legal = legal.child(spec.clone());
            let inner = Supervisor::new(format!("sup-{name}")).unwrap();
            let inner = inner.restart(restart).shutdown(shutdown);
            root.handle().start_child(spec).await.unwrap();
            root.handle().start_child(inner).await.unwrap();
        }
    }
    assert_eq!(legal.check(), Ok(()));
    assert_eq!(counts(root.handle()).await, [18, 18, 9, 9]);
    let (spec, _) = plain("a", &log);
    let twice = top().child(spec.clone()).child(spec.clone()).check();
    assert_eq!(twice, Err(AdminError::DuplicateId(named("a"))));
    assert_eq!(pool().child(spec).check(), Err(AdminError::Dynamic));
    stop(&root).await;
}

fn legal_name(shutdown: Shutdown) -> &'static str {
    match shutdown {
        Shutdown::Brutal => "brutal",
        Shutdown::Timeout(_) => "timeout",
        Shutdown::Infinity => "infinity",
    }
}

#[tokio::test(start_paused = true)]
async fn child_specs_map() {
    for auto in AUTOS {
        let root = start(top().auto_shutdown(auto)).await;
        for restart in RESTARTS {
            for significant in [false, true] {
                let log = Log::default();
                let (spec, _) = kid("a", &log, |w| w.restart(restart).significant(significant));
                let expected = if !significant {
                    Ok(())
                } else if restart == Restart::Permanent {
                    Err(AdminError::Illegal(IllegalPolicy::SignificantPermanent))
                } else if auto == AutoShutdown::Never {
                    Err(AdminError::Illegal(IllegalPolicy::SignificantWithoutAutoShutdown))
                } else {
                    Ok(())
                };
                let listed = top().auto_shutdown(auto).child(spec.clone()).check();
                assert_eq!(listed, expected, "{auto:?} {restart:?} {significant}");
                assert_eq!(root.handle().start_child(spec).await.map(drop), expected);
                assert_eq!(log.ups().len(), usize::from(expected.is_ok()));
                if expected.is_ok() {
                    root.handle().terminate_child(id("a")).await.unwrap();
                    drop(root.handle().delete_child(id("a")).await);
                }
            }
        }
        stop(&root).await;
    }
}

#[test]
fn sup_flags() {
    for strategy in STRATEGIES {
        for auto in AUTOS {
            let flags = top().strategy(strategy).auto_shutdown(auto).intensity(0, HOUR);
            assert_eq!(flags.check(), Ok(()));
        }
    }
    let refused = |supervisor: Supervisor| match supervisor.check() {
        Err(AdminError::Illegal(why)) => Some(why),
        Ok(()) | Err(_) => None,
    };
    let timeless = top().intensity(1, Duration::ZERO);
    assert_eq!(refused(timeless), Some(IllegalPolicy::PeriodTooShort));
    let ordered = pool().strategy(Strategy::RestForOne);
    assert_eq!(refused(ordered), Some(IllegalPolicy::StrategyDynamic));
    for auto in &AUTOS[1..] {
        let ending = pool().auto_shutdown(*auto);
        assert_eq!(refused(ending), Some(IllegalPolicy::AutoShutdownDynamic));
    }
    assert!(serde_json::from_str::<Strategy>("\"one_for_none\"").is_err());
    assert!(serde_json::from_str::<AutoShutdown>("\"some_significant\"").is_err());
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn multiple_restarts() {
    let log = Log::default();
    let (spec, a) = plain("a", &log);
    let root = start(top().intensity(1, Duration::from_secs(1)).child(spec)).await;
    for life in 1..=10 {
        assert_eq!(a.life(), life);
        a.does(Do::fail()).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!((a.life(), a.answers().await), (11, true));
    a.does(Do::fail()).await;
    a.does(Do::fail()).await;
    assert!(matches!(end_of(&root).await, ExitReason::Meltdown { intensity: 1, .. }));
}

#[tokio::test(start_paused = true)]
async fn already_started_outside_supervisor() {
    use macula_core::supervision::Worker;
    let log = Log::default();
    let outside = start(top().child(plain("other", &log).0)).await;
    let root = start(top()).await;
    let clash = "already started: root/other";
    let worker = Worker::<crate::support::Puppet>::with("a", move |_| {
        Err(ExitReason::Error { message: clash.to_owned(), causes: Vec::new() })
    });
    let error = root.handle().start_child(worker.unwrap()).await.unwrap_err();
    let AdminError::StartFailed(ExitReason::Error { message, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(message, clash);
    calm().await;
    assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    assert!(matches!(root.handle().which_child(id("a")).await, Err(AdminError::NotFound(_))));
    assert_eq!(states(outside.handle()).await, all([("other", Running)]));
    stop(&outside).await;
    stop(&root).await;
}
