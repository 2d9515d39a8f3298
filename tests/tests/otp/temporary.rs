//! Temporary children: what is not kept of them, and how they go.

use std::sync::Arc;
use std::time::Duration;

use macula_core::supervision::{
    AdminError, ChildState, ExitReason, Presence, Restart, Start, Strategy, Supervisor, Worker,
};

use crate::support::{
    Do, Log, Puppet, STRATEGIES, all, boom, calm, counts, id, lives, of, plain, start, states,
    stop, top,
};

#[tokio::test(start_paused = true)]
async fn do_not_save_start_parameters_for_temporary_children() {
    for restart in [Restart::Temporary, Restart::Transient] {
        for strategy in STRATEGIES {
            let root = start(top().strategy(strategy)).await;
            let (log, token) = (Log::default(), Arc::new(()));
            let (kept, lines) = (Arc::clone(&token), log.clone());
            let worker = Worker::with("a", move |_| {
                let _parameter = &kept;
                Ok(Start::Run(Puppet, Puppet::part("a", &lines)))
            });
            root.handle().start_child(worker.unwrap().restart(restart)).await.unwrap();
            calm().await;
            assert_eq!(log.ups(), ["a"]);
            let owners = if restart == Restart::Temporary { 1 } else { 2 };
            assert_eq!(Arc::strong_count(&token), owners, "{restart:?} {strategy:?}");
            stop(&root).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn do_not_save_child_specs_for_temporary_children() {
    for strategy in STRATEGIES {
        for how in [Do::fail as fn() -> Do, || Do::Kill, || Do::End(ExitReason::Normal)] {
            let log = Log::default();
            let root = start(top().strategy(strategy)).await;
            for _ in 0..3 {
                let (spec, a) = of(Restart::Temporary, "a", &log);
                root.handle().start_child(spec).await.unwrap();
                a.does(how()).await;
                assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
                let gone = root.handle().restart_child(id("a")).await;
                assert_eq!(gone, Err(AdminError::NotFound("a".to_owned())));
                assert_eq!(a.handle.presence(), Presence::Gone);
            }
            let inner = Supervisor::new("inner").unwrap().restart(Restart::Temporary);
            let (spec, handle) = inner.split();
            root.handle().start_child(spec.clone()).await.unwrap();
            handle.cell().unwrap().kill();
            calm().await;
            assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
            root.handle().start_child(spec).await.unwrap();
            root.handle().terminate_child(id("inner")).await.unwrap();
            assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
            stop(&root).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn temporary_bystander() {
    for (strategy, c_ends) in [(Strategy::OneForAll, true), (Strategy::RestForOne, false)] {
        let log = Log::default();
        let (a_spec, a) = of(Restart::Temporary, "a", &log);
        let (b_spec, b) = plain("b", &log);
        let (c_spec, c) = of(Restart::Temporary, "c", &log);
        let (d_spec, d) = plain("d", &log);
        let supervisor = top().strategy(strategy);
        let root = start(supervisor.child(a_spec).child(b_spec).child(c_spec).child(d_spec)).await;
        b.does(Do::fail()).await;
        let runs = ChildState::Running;
        let expected = if c_ends {
            all([("b", runs), ("d", runs)])
        } else {
            all([("a", runs), ("b", runs), ("d", runs)])
        };
        assert_eq!(states(root.handle()).await, expected, "{strategy:?}");
        assert_eq!(lives([&b, &d]), [2, 2]);
        assert_eq!((a.attempts(), c.attempts()), (1, 1));
        assert_eq!(c.handle.presence(), Presence::Gone);
        stop(&root).await;
    }
}

/// How long `count` temporary children take to start and to end, in real time.
#[expect(clippy::disallowed_methods, reason = "the cost of the work is the subject")]
async fn churn(count: u64) -> Duration {
    let log = Log::default();
    let root = start(crate::support::pool()).await;
    let before = std::time::Instant::now();
    let mut handles = Vec::new();
    for _ in 0..count {
        let (spec, handle) = Worker::once(Puppet, Puppet::part("once", &log)).split();
        root.handle().start_child(spec).await.unwrap();
        handles.push(handle);
    }
    assert_eq!(counts(root.handle()).await[1], handles.len());
    for handle in &handles {
        handle.cast(Do::End(boom())).unwrap();
    }
    calm().await;
    assert_eq!(counts(root.handle()).await, [0, 0, 0, 0]);
    let took = before.elapsed();
    stop(&root).await;
    took
}

#[tokio::test(start_paused = true)]
async fn simple_one_for_one_scale_many_temporary_children() {
    let few = churn(200).await.max(Duration::from_millis(5));
    let many = churn(2000).await;
    assert!(many < few * 50, "200 took {few:?}, 2,000 took {many:?}");
}
