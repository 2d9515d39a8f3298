//! Disks that take their time: what is not on enough of them is neither acknowledged nor seen, and nobody
//! loses its place by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::super::elector;
use super::super::member::{Config, Member};
use super::Sum;
use super::harness::{Group, SETTLED};

/// Long enough for whatever does not wait for a disk, and longer than a lease.
const WHILE: Duration = Duration::from_millis(800);

fn propose(member: &Arc<Member<Sum>>, len: usize) -> JoinHandle<bool> {
    let member = Arc::clone(member);
    tokio::spawn(async move { member.propose(Bytes::from(vec![7; len])).await.is_ok() })
}

async fn soon(what: impl Fn() -> bool) {
    let so = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SETTLED, so).await.expect("it does not come to be so");
}

/// What the states of all members have.
fn seen(group: &Group<Sum>) -> Vec<u64> {
    group.members.values().map(|member| member.state().0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alone_answers_nothing_that_is_not_on_disk() {
    let mut group = Group::<Sum>::new(Config::default());
    group.start(1).await;
    group.members[&1].found().await.unwrap();
    group.leader().await;
    group.disks[&1].stall(true);
    let proposed = propose(&group.members[&1], 10);
    tokio::time::sleep(WHILE).await;
    assert!(!proposed.is_finished());
    assert_eq!(seen(&group), [0]);
    group.disks[&1].stall(false);
    assert!(proposed.await.unwrap());
    assert_eq!(seen(&group), [10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_the_leaders_disk_is_seen_nowhere_and_deposes_nobody() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let (member, id) = (&group.members[&leader], group.members[&leader].id());
    assert!(propose(member, 10).await.unwrap());
    group.disks[&leader].stall(true);
    let proposed = propose(member, 5);
    // The others have it on their disks meanwhile.
    tokio::time::sleep(WHILE).await;
    assert!(!proposed.is_finished());
    assert!(seen(&group).iter().all(|sum| *sum <= 10), "{:?}", seen(&group));
    assert!(group.members.values().all(|member| member.leader() == Some(id)));
    assert!(member.lease_until().is_some());
    group.disks[&leader].stall(false);
    assert!(proposed.await.unwrap());
    soon(|| seen(&group) == [15, 15, 15]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_leaders_disk_alone_is_not_acknowledged_and_on_one_more_it_is() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let (member, id) = (&group.members[&leader], group.members[&leader].id());
    let others: Vec<u8> = (1..=3).filter(|number| *number != leader).collect();
    let [one, other] = others[..] else { panic!("there are three") };
    group.disks[&one].stall(true);
    assert!(propose(member, 10).await.unwrap());
    group.disks[&other].stall(true);
    let proposed = propose(member, 5);
    tokio::time::sleep(WHILE).await;
    assert!(!proposed.is_finished());
    assert!(seen(&group).iter().all(|sum| *sum <= 10), "{:?}", seen(&group));
    group.disks[&one].stall(false);
    assert!(proposed.await.unwrap());
    group.disks[&other].stall(false);
    soon(|| seen(&group) == [15, 15, 15]).await;
    assert_eq!(member.leader(), Some(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_together_goes_to_disk_together() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let before: Vec<u64> = group.disks.values().map(|disk| disk.syncs()).collect();
    group.disks[&leader].stall(true);
    let proposed: Vec<JoinHandle<bool>> =
        (0..64).map(|_| propose(&group.members[&leader], 1)).collect();
    tokio::time::sleep(WHILE).await;
    group.disks[&leader].stall(false);
    for proposed in proposed {
        assert!(proposed.await.unwrap());
    }
    soon(|| seen(&group) == [64, 64, 64]).await;
    for (disk, before) in group.disks.values().zip(before) {
        let syncs = disk.syncs() - before;
        assert!(syncs < 64, "{syncs} for 64 entries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_lost_what_others_have_leads_in_another_term_if_at_all() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let (member, disk) = (Arc::clone(&group.members[&leader]), group.disks[&leader].clone());
    assert!(propose(&member, 10).await.unwrap());
    soon(|| seen(&group) == [10, 10, 10]).await;
    let (term, last) = (member.term(), member.last_log());
    let before = disk.bytes("log.redb");
    disk.stall(true);
    let proposed = propose(&member, 5);
    soon(|| group.members.values().all(|member| member.last_log() > last)).await;
    // The others have it; this one loses it with its power.
    disk.cut_after(0);
    disk.stall(false);
    group.kill(leader).await;
    assert!(!proposed.await.unwrap());
    disk.put("log.redb", &before);
    group.start(leader).await;
    assert_eq!(group.members[&leader].last_log(), last);
    let next = group.leader().await;
    assert!(propose(&group.members[&next], 100).await.unwrap());
    soon(|| seen(&group).iter().all(|sum| *sum == 115 || *sum == 110)).await;
    let sums: BTreeSet<u64> = seen(&group).into_iter().collect();
    assert_eq!(sums.len(), 1, "one log, one state: {sums:?}");
    assert!(group.members[&next].term() > term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_write_fails_has_failed_though_nobody_proposes_anything_more() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let member = &group.members[&leader];
    assert!(propose(member, 10).await.unwrap());
    group.disks[&leader].cut_after(0);
    let proposed = propose(member, 5);
    tokio::time::timeout(SETTLED, member.failed()).await.expect("it goes on");
    member.stop().await;
    assert!(!proposed.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_ends_its_member_after_a_while() {
    let ms = Duration::from_millis;
    let elections = elector::Config { lease: ms(50), heartbeat: ms(10), ..Default::default() };
    let mut group = Group::<Sum>::new(Config { elections, ..Config::default() });
    group.start(1).await;
    group.members[&1].found().await.unwrap();
    group.leader().await;
    let member = &group.members[&1];
    // One that has nothing to do does not hang.
    assert!(tokio::time::timeout(ms(2_500), member.failed()).await.is_err());
    group.disks[&1].stall(true);
    let proposed = propose(member, 10);
    let why = tokio::time::timeout(SETTLED, member.failed()).await.expect("it goes on");
    assert!(why.contains("brought nothing about"), "{why}");
    group.disks[&1].stall(false);
    assert!(proposed.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_disk_is_bounded() {
    let (len, count) = (1_usize << 20, 80_u64);
    let mut group = Group::<Sum>::new(Config::default());
    group.start(1).await;
    group.members[&1].found().await.unwrap();
    group.leader().await;
    let member = &group.members[&1];
    let first = member.last_log().map_or(0, |last| last.index);
    group.disks[&1].stall(true);
    let proposed: Vec<JoinHandle<bool>> = (0..count).map(|_| propose(member, len)).collect();
    tokio::time::sleep(WHILE).await;
    let waiting = member.last_log().map_or(0, |last| last.index) - first;
    assert!((1..=65).contains(&waiting), "{waiting} MiB wait");
    group.disks[&1].stall(false);
    for proposed in proposed {
        assert!(proposed.await.unwrap());
    }
    assert_eq!(seen(&group), [count * len as u64]);
}
