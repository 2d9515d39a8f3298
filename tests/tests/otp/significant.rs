//! Significant children, and supervisors that end with them.

use macula_core::supervision::policy::IllegalPolicy;
use macula_core::supervision::{
    AdminError, AutoShutdown, ExitReason, Presence, Restart, Root, Strategy, Supervisor,
};

use crate::support::{
    Do, Kid, Log, STRATEGIES, boom, calm, end_of, id, kid, of, plain, pool, start, stop, top,
};
use AutoShutdown::{AllSignificant, AnySignificant, Never};

/// The reasons after which a child of this type is not restarted.
fn last_reasons(restart: Restart) -> Vec<ExitReason> {
    let mut reasons =
        vec![ExitReason::Normal, ExitReason::Shutdown, ExitReason::shutdown_with("done")];
    if restart == Restart::Temporary {
        reasons.extend([boom(), ExitReason::Killed]);
    }
    reasons
}

/// Two children of the type, significant or not, and a plain one.
async fn two(
    auto: AutoShutdown,
    restart: Restart,
    significant: bool,
    log: &Log,
) -> (Root, [Kid; 3]) {
    let [a, b] = ["a", "b"]
        .map(|name| kid(name, log, |worker| worker.restart(restart).significant(significant)));
    let c = plain("c", log);
    let supervisor = top().auto_shutdown(auto);
    let root = start(supervisor.child(a.0).child(b.0).child(c.0)).await;
    (root, [a.1, b.1, c.1])
}

async fn ended_by_itself(root: &Root, log: &Log) {
    assert_eq!(end_of(root).await, ExitReason::Shutdown);
    assert_eq!(log.last_end("c"), Some(ExitReason::Shutdown));
}

async fn nonsignificant(restart: Restart) {
    for auto in [Never, AnySignificant, AllSignificant] {
        for reason in last_reasons(restart) {
            let log = Log::default();
            let (root, [a, b, c]) = two(auto, restart, false, &log).await;
            a.does(Do::End(reason.clone())).await;
            b.does(Do::End(reason)).await;
            assert_eq!((a.is_up(), b.is_up(), c.answers().await), (false, false, true));
            stop(&root).await;
        }
    }
}

async fn significant(restart: Restart) {
    for reason in last_reasons(restart) {
        let log = Log::default();
        let (root, [a, _, _]) = two(AnySignificant, restart, true, &log).await;
        a.tell(Do::End(reason.clone()));
        ended_by_itself(&root, &log).await;
        assert_eq!(log.ended(), ["a", "c", "b"]);

        let log = Log::default();
        let (root, [a, b, c]) = two(AllSignificant, restart, true, &log).await;
        a.does(Do::End(reason.clone())).await;
        assert!(b.answers().await && c.answers().await);
        b.tell(Do::End(reason));
        ended_by_itself(&root, &log).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nonsignificant_temporary() {
    nonsignificant(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn nonsignificant_transient() {
    nonsignificant(Restart::Transient).await;
}

#[tokio::test(start_paused = true)]
async fn significant_temporary() {
    significant(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn significant_transient() {
    significant(Restart::Transient).await;
    for auto in [AnySignificant, AllSignificant] {
        let log = Log::default();
        let (root, [a, b, _]) = two(auto, Restart::Transient, true, &log).await;
        a.does(Do::fail()).await;
        b.does(Do::Kill).await;
        assert_eq!((a.life(), b.life()), (2, 2), "a restart is no end");
        stop(&root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn significant_simple() {
    let refused = |supervisor: Supervisor| supervisor.check().unwrap_err();
    for auto in [AnySignificant, AllSignificant] {
        let error = refused(pool().auto_shutdown(auto));
        assert_eq!(error, AdminError::Illegal(IllegalPolicy::AutoShutdownDynamic));
    }
    let log = Log::default();
    let root = start(pool()).await;
    let (spec, _) = kid("a", &log, |worker| worker.restart(Restart::Temporary).significant(true));
    let error = root.handle().start_child(spec).await.unwrap_err();
    assert_eq!(error, AdminError::Illegal(IllegalPolicy::SignificantWithoutAutoShutdown));
    assert!(log.ups().is_empty());
    stop(&root).await;
}

#[tokio::test(start_paused = true)]
async fn significant_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        for auto in [AnySignificant, AllSignificant] {
            for restart in [Restart::Transient, Restart::Temporary] {
                let log = Log::default();
                let (a_spec, a) = plain("a", &log);
                let (b_spec, b) =
                    kid("b", &log, |worker| worker.restart(restart).significant(true));
                let supervisor = top().strategy(strategy).auto_shutdown(auto);
                let root = start(supervisor.child(a_spec).child(b_spec)).await;
                a.does(Do::fail()).await;
                assert_eq!((a.life(), a.answers().await), (2, true));
                assert_eq!(log.ended(), ["a", "b"]);
                assert_eq!(b.is_up(), restart == Restart::Transient);
                stop(&root).await;
            }
        }
    }
    for auto in [AnySignificant, AllSignificant] {
        let log = Log::default();
        let (root, [.., c]) = two(auto, Restart::Temporary, true, &log).await;
        for name in ["a", "b"] {
            root.handle().terminate_child(id(name)).await.unwrap();
        }
        calm().await;
        assert!(c.answers().await, "a child that somebody stopped has not ended by itself");
        stop(&root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn significant_escalation() {
    for inner_significant in [true, false] {
        let log = Log::default();
        let (c_spec, c) =
            kid("c", &log, |worker| worker.restart(Restart::Transient).significant(true));
        let inner = Supervisor::new("inner")
            .unwrap()
            .auto_shutdown(AnySignificant)
            .restart(Restart::Transient)
            .significant(inner_significant)
            .child(c_spec);
        let (inner, handle) = inner.split();
        let (d_spec, d) = plain("d", &log);
        let root = start(top().auto_shutdown(AnySignificant).child(inner).child(d_spec)).await;
        c.tell(Do::End(ExitReason::Normal));
        if inner_significant {
            assert_eq!(end_of(&root).await, ExitReason::Shutdown);
            assert_eq!(log.ended(), ["c", "d"]);
        } else {
            assert_eq!(handle.ended().await, Presence::Down);
            assert!(d.answers().await);
            stop(&root).await;
        }
    }
}

/// The flags change from `before` to `after` while two temporary children run; `ends_after` of them
/// have to end for the supervisor to end, if it does at all.
async fn upgraded(before: AutoShutdown, after: AutoShutdown, ends_after: Option<usize>) {
    let log = Log::default();
    let (root, [a, b, c]) = two(before, Restart::Temporary, before != Never, &log).await;
    let specs = |significant| {
        let fresh = Log::default();
        ["a", "b"].map(|name| {
            kid(name, &fresh, |w| w.restart(Restart::Temporary).significant(significant)).0
        })
    };
    if after == Never {
        let [a, b] = specs(true);
        let illegal = root.handle().reconfigure(top().child(a).child(b)).await;
        assert!(matches!(illegal, Err(AdminError::Illegal(_))), "{illegal:?}");
    }
    let [a_spec, b_spec] = specs(after != Never);
    let changed = top().auto_shutdown(after).child(a_spec).child(b_spec);
    root.handle().reconfigure(changed).await.unwrap();
    assert_eq!((a.life(), b.life(), a.is_up()), (1, 1, true), "everything runs on");
    a.does(Do::End(ExitReason::Normal)).await;
    assert_eq!(c.is_up(), ends_after != Some(1), "{before:?} to {after:?}");
    if ends_after != Some(1) {
        b.does(Do::End(ExitReason::Normal)).await;
        assert_eq!(c.is_up(), ends_after != Some(2), "{before:?} to {after:?}");
    }
    if ends_after.is_some() {
        ended_by_itself(&root, &log).await;
    } else {
        stop(&root).await;
    }
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_never_any() {
    upgraded(Never, AnySignificant, Some(1)).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_any_never() {
    upgraded(AnySignificant, Never, None).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_never_all() {
    upgraded(Never, AllSignificant, Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_all_never() {
    upgraded(AllSignificant, Never, None).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_any_all() {
    upgraded(AnySignificant, AllSignificant, Some(2)).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_all_any() {
    upgraded(AllSignificant, AnySignificant, Some(1)).await;
}

#[tokio::test(start_paused = true)]
async fn significant_upgrade_child() {
    for strategy in STRATEGIES {
        for (before, after) in [(false, true), (true, false)] {
            let log = Log::default();
            let make = |significant| {
                kid("a", &log, |w| w.restart(Restart::Transient).significant(significant))
            };
            let shape = || top().strategy(strategy).auto_shutdown(AnySignificant);
            let (spec, a) = make(before);
            let (b_spec, b) = of(Restart::Permanent, "b", &log);
            let root = start(shape().child(spec).child(b_spec)).await;
            let changed = shape().child(make(after).0);
            root.handle().reconfigure(changed).await.unwrap();
            let child = root.handle().which_child(id("a")).await.unwrap();
            assert_eq!((child.policy.significant, child.incarnation), (after, 1));
            a.does(Do::End(ExitReason::Normal)).await;
            assert_eq!(b.is_up(), !after);
            if after {
                assert_eq!(end_of(&root).await, ExitReason::Shutdown);
            } else {
                stop(&root).await;
            }
        }
    }
}
