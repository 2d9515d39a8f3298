//! Partitions and tasks.

use std::time::Duration;

use macula_core::supervision::{
    AdminError, ExitReason, PartitionError, PartitionSupervisor, Partitions, Root, Supervisor,
    TaskSupervisor, Tasks,
};
use tokio::sync::oneshot;

use crate::support::{Ask, Log, Probe, Step, calm, ms, reborn, seen, start, timed, top, worker};

async fn partitions(count: usize) -> (Root, Partitions<Probe>) {
    let log = Log::default();
    let made = PartitionSupervisor::new("parts", count, move |_| worker("part", &log));
    let (spec, parts) = made.unwrap().intensity(10, Duration::from_secs(1)).split();
    (start(top().child(spec)).await, parts)
}

/// Which partition each of some keys goes to.
fn routes(parts: &Partitions<Probe>) -> Vec<String> {
    (0..200).map(|key: u32| parts.route(&key).path().unwrap().name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_with_its_partition() {
    let (_root, parts) = partitions(4).await;
    let before = routes(&parts);
    reborn(&parts.route("some key"), Ask::Do(Step::Panic)).await;
    assert_eq!(routes(&parts), before);
    for number in 0..4 {
        assert!(before.contains(&number.to_string()), "no key for {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_fail_alone() {
    let (_root, parts) = partitions(3).await;
    reborn(&parts.get(1).unwrap(), Ask::Do(Step::Panic)).await;
    let lives: Vec<u64> = (0..3).map(|part| parts.get(part).unwrap().incarnation()).collect();
    assert_eq!(lives, [1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_resize_grows_and_shrinks_and_moves_few_keys() {
    let (_root, parts) = partitions(4).await;
    let before = routes(&parts);
    parts.resize(5).await.unwrap();
    let moved = routes(&parts).iter().zip(&before).filter(|(new, old)| new != old).count();
    assert!((1..100).contains(&moved), "{moved} of 200 keys moved");
    assert_eq!(parts.len(), 5);
    parts.resize(4).await.unwrap();
    assert_eq!((routes(&parts), parts.get(4).is_none()), (before, true));
    parts.resize(1).await.unwrap();
    assert_eq!(parts.supervisor().count_children().await.unwrap().specs, 1);
    assert_eq!(parts.resize(0).await, Err(PartitionError::Count(0)));
}

#[tokio::test(start_paused = true)]
async fn the_count_outlives_a_restart_of_the_supervisor() {
    let (_root, parts) = partitions(3).await;
    for (count, life) in [(6, 1), (2, 2)] {
        parts.resize(count).await.unwrap();
        let last = parts.get(count - 1).unwrap();
        let before = last.incarnation();
        parts.supervisor().cell().unwrap().kill();
        last.next_life(before).await.unwrap();
        calm().await;
        let counts = parts.supervisor().count_children().await.unwrap();
        assert_eq!((counts.active, parts.supervisor().incarnation()), (count, life + 1));
        assert_eq!(seen(&last).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_was_given_up_is_made_good_by_the_next() {
    let (_root, parts) = partitions(1).await;
    let given_up = tokio::time::timeout(Duration::ZERO, parts.resize(4));
    assert!(given_up.await.is_err());
    calm().await;
    parts.resize(4).await.unwrap();
    assert_eq!((parts.len(), parts.supervisor().count_children().await.unwrap().active), (4, 4));
}

async fn tasks(tasks_max: usize) -> (Root, Tasks) {
    let (spec, tasks) = TaskSupervisor::new("tasks", tasks_max).unwrap().split();
    (start(top().child(spec)).await, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_task_gives_its_result_or_its_reason() {
    let (_root, tasks) = tasks(9).await;
    assert_eq!(tasks.spawn(async { 6 * 7 }).await.unwrap().join().await, Ok(42));
    let failed = tasks.spawn(async { panic!("no result") }).await.unwrap();
    let reason: ExitReason = failed.join().await.map(|(): ()| ()).unwrap_err();
    assert!(reason.to_string().starts_with("panic: no result at "), "{reason}");
    calm().await;
    assert_eq!(tasks.supervisor().count_children().await.unwrap().specs, 0);
}

/// A future that says when it is dropped before its end.
fn watched() -> (impl Future<Output = ()> + Send, oneshot::Receiver<()>) {
    let (sender, gone) = oneshot::channel::<()>();
    let future = async move {
        tokio::time::sleep(ms(500)).await;
        sender.send(()).ok();
    };
    (future, gone)
}

#[tokio::test(start_paused = true)]
async fn a_task_that_nobody_wants_is_killed() {
    let (_root, tasks) = tasks(9).await;
    let (future, gone) = watched();
    drop(tasks.spawn(future).await.unwrap());
    let (ended, took) = timed(gone).await;
    assert!(ended.is_err());
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn unless_it_has_no_link() {
    let (_root, tasks) = tasks(9).await;
    let (future, gone) = watched();
    drop(tasks.spawn_nolink(future).await.unwrap());
    assert_eq!(gone.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn tasks_end_with_their_supervisor() {
    let (root, tasks) = tasks(9).await;
    let task = tasks.spawn(std::future::pending::<()>()).await.unwrap();
    let (_, took) = timed(root.stop()).await;
    assert_eq!((task.join().await, took), (Err(ExitReason::Killed), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn one_task_more_than_the_maximum_is_refused() {
    let (_root, tasks) = tasks(2).await;
    let _first = tasks.spawn(std::future::pending::<()>()).await.unwrap();
    let _second = tasks.spawn(std::future::pending::<()>()).await.unwrap();
    let third = tasks.spawn(async {}).await;
    assert_eq!(third.unwrap_err(), AdminError::ChildrenMax(2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_order_and_its_bound() {
    let (_root, tasks) = tasks(100).await;
    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let items = [50_u64, 10, 40, 20, 30, 60];
    let mut stream = tasks.stream(items.into_iter(), 3, |item| {
        let running = std::sync::Arc::clone(&running);
        async move {
            let before = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            assert!(before < 3, "{before} ran beside it");
            tokio::time::sleep(ms(item)).await;
            running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            assert!(item != 20, "the one that fails");
            item
        }
    });
    let mut results = Vec::new();
    while let Some(result) = stream.next().await {
        results.push(result.ok());
    }
    assert_eq!(results, [Some(50), Some(10), Some(40), None, Some(30), Some(60)]);
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisor_has_its_maximum_too() {
    let (spec, pool) = Supervisor::dynamic("pool", 1).unwrap().split();
    let _root = start(top().child(spec)).await;
    pool.start_child(worker("a", &Log::default())).await.unwrap();
    let refused = pool.start_child(worker("b", &Log::default())).await;
    assert_eq!(refused, Err(AdminError::ChildrenMax(1)));
}
