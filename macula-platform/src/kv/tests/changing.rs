//! Changes of who votes and who leads, while clients write.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::world::{World, soon};
use crate::kv::{Error, Kv};
use crate::raft;
use crate::raft::tests::harness::node;

fn base() -> raft::Config {
    raft::Config { snapshot_entries: 40, kept_entries: 5, ..raft::Config::default() }
}

/// Writes until it is stopped, and gives how often.
struct Load {
    stop: Arc<tokio::sync::Notify>,
    count: Arc<AtomicU64>,
    writing: tokio::task::JoinHandle<()>,
    kv: Kv,
}

impl Load {
    fn begin(world: &mut World) -> Self {
        let (kv, stop) = (world.client(), Arc::new(tokio::sync::Notify::new()));
        let count = Arc::<AtomicU64>::default();
        let (writer, counted) = (kv.clone(), Arc::clone(&count));
        let stopped = Arc::clone(&stop);
        let writing = tokio::spawn(async move {
            let mut stopped = std::pin::pin!(stopped.notified());
            loop {
                writer.put("load", "x").await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let pause = tokio::time::sleep(Duration::from_millis(10));
                tokio::select! {
                    () = stopped.as_mut() => return,
                    () = pause => {}
                }
            }
        });
        Self { stop, count, writing, kv }
    }

    async fn end(self) {
        soon(|| self.count.load(Ordering::Relaxed) > 20).await;
        self.stop.notify_one();
        self.writing.await.unwrap();
        let count = self.count.load(Ordering::Relaxed);
        assert_eq!(self.kv.get("load").await.unwrap().unwrap().version, count);
    }
}

async fn voters(kv: &Kv) -> BTreeSet<macula_core::identity::NodeId> {
    let status = kv.operator().status(None).await.unwrap();
    assert!(!status.members.is_changing && status.members.learners.is_empty(), "{status:?}");
    status.members.voters.iter().map(|member| member.node().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn voters_come_and_go_and_another_one_leads_while_clients_write() {
    let mut world = World::of(3, base()).await;
    let load = Load::begin(&mut world);
    let kv = world.client();
    let operator = kv.operator();
    for number in 4..=5 {
        world.start(number).await.unwrap();
        operator.add_voter(node(number)).await.unwrap();
    }
    assert_eq!(voters(&kv).await, (1..=5).map(node).collect());
    // Whoever reads has all voters hear the leader.
    let reader = world.client();
    let reading = tokio::spawn(async move {
        loop {
            drop(reader.get("load").await);
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    });
    // One by one each leads, and soon: it stands once.
    for number in 1..=5 {
        let (before, led_by) = (raft::timer::now(), world.leader().await);
        let term = operator.status(None).await.unwrap().term;
        operator.transfer(node(number)).await.unwrap();
        let took = raft::timer::now() - before;
        assert!(took < Duration::from_millis(400), "{number}: {took:?}");
        assert_eq!(world.leader().await, number);
        let terms = operator.status(None).await.unwrap().term - term;
        assert_eq!(terms, u64::from(number != led_by), "{led_by} to {number}: {took:?}");
    }
    reading.abort();
    // The one that leads goes, and is asked for only once.
    let leader = world.leader().await;
    operator.remove(node(leader)).await.unwrap();
    assert_eq!(voters(&kv).await, (1..=5).filter(|number| *number != leader).map(node).collect());
    let next = world.leader().await;
    world.start(6).await.unwrap();
    operator.replace(node(next), node(6)).await.unwrap();
    let expected: BTreeSet<_> =
        (1..=6).filter(|number| ![leader, next].contains(number)).map(node).collect();
    assert_eq!(voters(&kv).await, expected);
    // Voters are announced, and those that are none any more are not.
    let board = world.board.clone();
    soon(|| board.nodes() == expected).await;
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_log_is_gone_is_replaced_by_itself() {
    let mut world = World::of(3, base()).await;
    let load = Load::begin(&mut world);
    let kv = world.client();
    world.kill(3).await;
    world.group.disks.remove(&3);
    world.start(3).await.unwrap();
    let refused = kv.operator().add_voter(node(3)).await.unwrap_err();
    assert!(matches!(&refused, Error::NoChange(why) if why.contains("replace")), "{refused:?}");
    kv.operator().replace(node(3), node(3)).await.unwrap();
    let status = kv.operator().status(None).await.unwrap();
    let id = world.group.members[&3].id();
    assert!(status.members.voters.contains(&id) && status.members.voters.len() == 3);
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_change_is_made_at_a_time_and_the_last_voter_stays() {
    let mut world = World::of(1, base()).await;
    let kv = world.client();
    let operator = kv.operator();
    let alone = operator.remove(node(1)).await.unwrap_err();
    assert!(matches!(alone, Error::NoChange(_)), "{alone:?}");
    let silent = operator.add_voter(node(9)).await.unwrap_err();
    assert!(matches!(&silent, Error::NoChange(why) if why.contains("silent")), "{silent:?}");
    assert!(matches!(operator.transfer(node(9)).await, Err(Error::NoChange(_))));
    for number in 2..=3 {
        world.start(number).await.unwrap();
    }
    let other = world.client().operator();
    let (first, second) = tokio::join!(operator.add_voter(node(2)), other.add_voter(node(3)));
    let told = [first, second];
    assert!(told.contains(&Ok(())) && told.contains(&Err(Error::Changing)), "{told:?}");
    let left = if told[0].is_ok() { 3 } else { 2 };
    // Whoever asks goes away, and it is made all the same.
    let gone = tokio::time::timeout(Duration::from_millis(4), other.add_voter(node(left))).await;
    assert!(gone.is_err());
    let member = Arc::clone(&world.group.members[&1]);
    soon(|| member.members().voters.len() == 3 && !member.members().is_changing).await;
    // What is so already is made at once.
    operator.add_voter(node(3)).await.unwrap();
    // A snapshot is made by whoever is asked.
    for _again in 0..2 {
        kv.put("a", "x").await.unwrap();
        let applied = *member.applied().borrow();
        operator.snapshot(Some(node(1))).await.unwrap();
        assert!(member.snapshot_index() >= Some(applied));
    }
    let status = operator.status(Some(node(2))).await.unwrap();
    assert_eq!(status.member, world.group.members[&2].id());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_meant_is_told_and_nothing_changes() {
    let mut world = World::of(2, base()).await;
    for number in 3..=4 {
        world.start(number).await.unwrap();
    }
    let operator = world.client().operator();
    operator.add_learner(node(3)).await.unwrap();
    let before = operator.status(None).await.unwrap().members;
    let refused = [
        (operator.add_learner(node(2)).await, "votes, and has all"),
        (operator.remove(node(8)).await, "is not in the group"),
        (operator.replace(node(3), node(4)).await, "does not vote"),
        (operator.replace(node(8), node(2)).await, "does not vote"),
        (operator.replace(node(1), node(2)).await, "votes already"),
    ];
    for (told, why) in refused {
        assert!(matches!(&told, Err(Error::NoChange(said)) if said.contains(why)), "{told:?}");
    }
    assert_eq!(operator.status(None).await.unwrap().members, before);
    // What is so already is made at once.
    operator.add_learner(node(3)).await.unwrap();
    operator.add_voter(node(2)).await.unwrap();
    operator.remove(node(3)).await.unwrap();
    assert!(operator.status(None).await.unwrap().members.learners.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_seen_and_that_there_is_no_majority_is_told() {
    let mut world = World::of(3, base()).await;
    let kv = world.client();
    kv.put("a", "x").await.unwrap();
    let operator = kv.operator();
    let members = operator.status(None).await.unwrap().members;
    let silent = async || {
        let said = operator.survey(&members).await;
        let silent = said.into_iter().filter(|(_, said)| said.is_none());
        silent.map(|(member, _)| member.node().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(silent().await, []);
    world.kill(2).await;
    assert_eq!(silent().await, [node(2)]);
    // One of three is no matter, and nobody speaks of it.
    kv.put("a", "y").await.unwrap();
    world.kill(3).await;
    assert_eq!(silent().await, [node(2), node(3)]);
    let told = kv.within(Duration::from_secs(3)).get("a").await.unwrap_err();
    let why = "there is no majority: 1 of 3 voters answer, and 2 are needed";
    assert_eq!(told, Error::NotDone(why.to_owned()));
    // Whoever is left tells how it stands, and no change is begun.
    let status = operator.status(None).await.unwrap();
    assert_eq!((status.member.node(), &status.members), (Ok(node(1)), &members));
    for refused in [
        operator.remove(node(2)).await,
        operator.add_voter(node(4)).await,
        operator.add_learner(node(4)).await,
        operator.replace(node(2), node(4)).await,
        operator.transfer(node(1)).await,
    ] {
        assert_eq!(refused.unwrap_err(), Error::NoChange(why.to_owned()));
    }
    world.start_all(3).await.unwrap();
    assert_eq!(kv.get("a").await.unwrap().unwrap().value, "y");
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_way_for_a_voter_that_does_not_answer() {
    let mut world = World::of(3, base()).await;
    let leader = world.leader().await;
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let member = Arc::clone(&world.group.members[&leader]);
    world.part(other);
    let (kv, operator) = (world.client(), world.client().operator());
    let transfer = tokio::spawn(async move { operator.transfer(node(other)).await });
    // Meanwhile all goes on.
    while !transfer.is_finished() {
        kv.put("a", "x").await.unwrap();
        assert!(member.lease_until().is_some());
    }
    let failed = transfer.await.unwrap().unwrap_err();
    assert!(matches!(&failed, Error::NoChange(why) if why.contains("does not answer")), "{failed}");
    assert_eq!(world.leader().await, leader);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_fails_leaves_the_leader_where_it_is_without_a_lease() {
    let mut world = World::of(3, base()).await;
    let leader = world.leader().await;
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let member = Arc::clone(&world.group.members[&leader]);
    let kv = world.client();
    kv.get("a").await.unwrap();
    assert!(member.lease_until().is_some());
    let operator = kv.operator();
    let transfer = tokio::spawn(async move { operator.transfer(node(other)).await });
    // It answers, and then does not any more.
    soon(|| member.lease_until().is_none()).await;
    world.part(other);
    let failed = transfer.await.unwrap().unwrap_err();
    assert!(matches!(failed, Error::NoChange(_)), "{failed:?}");
    world.mend();
    assert_eq!(world.leader().await, leader);
    kv.put("a", "x").await.unwrap();
    // The other one may have heard of it, and need not wait: so nobody relies on the lease.
    assert_eq!(member.lease_until(), None);
    let level = crate::kv::Level::Lease;
    assert!(kv.get_at("a", level).await.unwrap().is_some());
}
