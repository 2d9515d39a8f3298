//! Many children, in real time on several threads. Counts are asserted, not times.

use macula_core::supervision::{ExitReason, Supervisor, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{start, top};

const CHILDREN: usize = 100_000;

struct Grain(Arc<AtomicUsize>);

impl Drop for Grain {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Sand;

impl Actor for Sand {
    type Msg = ();
    type State = Grain;
    type Arguments = Arc<AtomicUsize>;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        count: Self::Arguments,
    ) -> Result<Grain, ActorProcessingErr> {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Grain(count))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_children_start_and_stop() {
    let count = Arc::new(AtomicUsize::new(0));
    let ends = Arc::new(AtomicUsize::new(0));
    let (pool, supervisor) = Supervisor::dynamic("pool", CHILDREN).unwrap().split();
    let root = start(top().child(pool)).await;
    for _ in 0..CHILDREN {
        let (count, ends) = (Arc::clone(&count), Arc::clone(&ends));
        let worker = Worker::unnamed(move || (Sand, Arc::clone(&count)));
        let worker = worker.on_exit(move |reason| {
            assert_eq!(*reason, ExitReason::Shutdown);
            ends.fetch_add(1, Ordering::SeqCst);
        });
        supervisor.start_child(worker).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), CHILDREN);
    assert_eq!(supervisor.count_children().await.unwrap().active, CHILDREN);
    assert_eq!(root.stop().await, ExitReason::Shutdown);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(ends.load(Ordering::SeqCst), CHILDREN);
}

/// Kills supervisors while their children start, on several threads: none is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_outlives_a_supervisor_that_is_killed_while_it_starts_them() {
    struct Slow;

    impl Actor for Slow {
        type Msg = ();
        type State = Grain;
        type Arguments = Arc<AtomicUsize>;

        async fn pre_start(
            &self,
            _myself: ActorRef<()>,
            count: Self::Arguments,
        ) -> Result<Grain, ActorProcessingErr> {
            tokio::task::yield_now().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Grain(count))
        }
    }

    let count = Arc::new(AtomicUsize::new(0));
    for round in 0..300 {
        let (pool, supervisor) = Supervisor::dynamic("pool", 64).unwrap().split();
        let root = start(top().child(pool)).await;
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let (supervisor, count) = (supervisor.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let worker = Worker::unnamed(move || (Slow, Arc::clone(&count)));
                    drop(supervisor.start_child(worker).await);
                })
            })
            .collect();
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        root.kill();
        assert_eq!(root.wait().await, ExitReason::Killed);
        assert_eq!(count.load(Ordering::SeqCst), 0);
        for start in starts {
            start.await.unwrap();
        }
    }
}
