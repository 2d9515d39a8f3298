//! Children that were started at run time, and a restart of their supervisor.

use macula_core::supervision::{Restart, Root, StartedChild, Supervisor, SupervisorHandle};

use crate::support::{Ask, Log, calm, id, start, top, worker};

async fn under(supervisor: Supervisor) -> (Root, SupervisorHandle) {
    let (spec, handle) = supervisor.split();
    (start(top().child(spec)).await, handle)
}

async fn restart(supervisor: &SupervisorHandle) {
    let before = supervisor.incarnation();
    supervisor.cell().unwrap().kill();
    calm().await;
    assert_eq!(supervisor.incarnation(), before + 1);
}

async fn names(supervisor: &SupervisorHandle) -> Vec<String> {
    let children = supervisor.which_children().await.unwrap();
    children.into_iter().map(|child| child.id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn they_come_back_with_a_durable_one_in_their_order() {
    let log = Log::default();
    let (_root, list) =
        under(Supervisor::new("list").unwrap().durable().child(worker("m", &log))).await;
    for name in ["z", "a"] {
        list.start_child(worker(name, &log)).await.unwrap();
    }
    restart(&list).await;
    assert_eq!(names(&list).await, ["m", "z", "a"]);
    list.start_child(worker("k", &log)).await.unwrap();
    restart(&list).await;
    assert_eq!(names(&list).await, ["m", "z", "a", "k"]);
}

#[tokio::test(start_paused = true)]
async fn they_do_not_with_any_other() {
    let log = Log::default();
    let (_root, list) = under(Supervisor::new("list").unwrap().child(worker("m", &log))).await;
    list.start_child(worker("z", &log)).await.unwrap();
    restart(&list).await;
    assert_eq!(names(&list).await, ["m"]);
    let (_root, pool) = under(Supervisor::dynamic("pool", 9).unwrap()).await;
    pool.start_child(worker("z", &log)).await.unwrap();
    restart(&pool).await;
    assert_eq!(names(&pool).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_durable_pool_remembers_numbers_and_handles() {
    let (_root, pool) = under(Supervisor::dynamic("pool", 9).unwrap().durable()).await;
    let (spec, handle) = worker("z", &Log::default()).split();
    let started = pool.start_child(spec).await.unwrap();
    assert!(matches!(started, StartedChild::Running { .. }));
    restart(&pool).await;
    assert_eq!((names(&pool).await, handle.incarnation()), (vec!["z".to_owned()], 2));
}

#[tokio::test(start_paused = true)]
async fn what_has_left_the_list_is_forgotten() {
    let log = Log::default();
    let (_root, pool) = under(Supervisor::dynamic("pool", 9).unwrap().durable()).await;
    let (once, handle) = worker("once", &log).restart(Restart::Transient).split();
    pool.start_child(once).await.unwrap();
    pool.start_child(worker("told", &log)).await.unwrap();
    pool.start_child(worker("temporary", &log).restart(Restart::Temporary)).await.unwrap();
    pool.start_child(worker("stays", &log)).await.unwrap();
    handle.cast(Ask::Stop(None)).unwrap();
    pool.terminate_child(id("told")).await.unwrap();
    calm().await;
    restart(&pool).await;
    assert_eq!(names(&pool).await, ["stays"]);
}

/// Nobody waited for the answer, and the child is remembered all the same.
#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_waited_for_is_remembered() {
    let (_root, pool) = under(Supervisor::dynamic("pool", 9).unwrap().durable()).await;
    let start = pool.start_child(worker("a", &Log::default()));
    assert!(tokio::time::timeout(std::time::Duration::ZERO, start).await.is_err());
    calm().await;
    restart(&pool).await;
    assert_eq!(names(&pool).await, ["a"]);
}
