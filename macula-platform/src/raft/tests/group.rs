//! Groups that lose members, connections and files.

use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};

use super::super::member::Config;
use super::super::types::MemberId;
use super::Sum;
use super::harness::{Group, SETTLED, node};

impl Group<Sum> {
    async fn propose(&self, len: usize) -> u64 {
        let leader = self.leader().await;
        let (_, answer) = self.members[&leader].propose(Bytes::from(vec![7; len])).await.unwrap();
        u64::from_be_bytes(answer.as_ref().try_into().unwrap())
    }

    async fn sum(&self) -> u64 {
        let leader = self.leader().await;
        self.members[&leader].state().0
    }
}

#[tokio::test(start_paused = true)]
async fn one_alone_is_a_group_and_has_what_it_had_after_a_power_cut() {
    let mut group = Group::<Sum>::new(Config::default());
    let id = group.start(1).await;
    group.members[&1].found().await.unwrap();
    assert_eq!(group.propose(10).await, 10);
    assert_eq!(group.propose(20).await, 30);
    for _ in 0..3 {
        group.kill(1).await;
        assert_eq!(group.start(1).await, id);
        group.members[&1].found().await.unwrap();
        assert_eq!(group.sum().await, 30);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_is_killed_another_leads_soon_and_nothing_is_lost() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    let mut expected = 0;
    for _ in 0..20 {
        expected += 5;
        assert_eq!(group.propose(5).await, expected);
        let leader = group.leader().await;
        group.kill(leader).await;
        let began = TokioClock.now();
        expected += 1;
        assert_eq!(group.propose(1).await, expected);
        let took = TokioClock.now() - began;
        assert!(took < Duration::from_millis(1_200), "{took:?}");
        group.start(leader).await;
    }
    assert_eq!(group.sum().await, expected);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_and_goes_deposes_nobody() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    let fourth = group.start(4).await;
    let leader = group.leader().await;
    group.members[&leader].add_learner(fourth).await.unwrap();
    let voters: Vec<MemberId> = group.members.values().map(|member| member.id()).collect();
    group.members[&leader].set_voters(voters).await.unwrap();
    for _ in 0..100 {
        group.wires.isolated.lock().insert(node(4));
        tokio::time::sleep(Duration::from_secs(3)).await;
        group.wires.isolated.lock().remove(&node(4));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(group.leader().await, leader);
        assert_eq!(group.members[&4].leader(), Some(group.members[&leader].id()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_does_not_answer_reads() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    group.propose(1).await;
    let old = group.leader().await;
    group.wires.isolated.lock().insert(node(old));
    let new = group.leader().await;
    assert_ne!(new, old);
    let (_, answer) = group.members[&new].propose(Bytes::from_static(b"xyz")).await.unwrap();
    assert_eq!(answer.as_ref(), 4_u64.to_be_bytes());
    let read = tokio::time::timeout(SETTLED, group.members[&old].read_point()).await;
    assert!(!matches!(read, Ok(Ok(()))), "{read:?}");
    assert!(!group.members[&old].leads(Config::default().elections.lease));
    assert!(group.members[&new].leads(Config::default().elections.lease));
}

#[tokio::test(start_paused = true)]
async fn who_is_far_behind_gets_a_snapshot() {
    let config = Config { snapshot_entries: 20, kept_entries: 5, ..Config::default() };
    let mut group = Group::<Sum>::of(3, config).await;
    group.kill(3).await;
    for _ in 0..200 {
        group.propose(1).await;
    }
    group.start(3).await;
    let caught_up = async {
        while group.members[&3].state().0 < 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SETTLED, caught_up).await.unwrap();
    let leader = group.leader().await;
    if leader != 3 {
        group.kill(leader).await;
    }
    assert_eq!(group.propose(1).await, 201);
}

#[tokio::test(start_paused = true)]
async fn long_entries_make_a_snapshot_before_many_do() {
    let mut group = Group::<Sum>::new(Config { snapshot_len: 1 << 20, ..Config::default() });
    group.start(1).await;
    group.members[&1].found().await.unwrap();
    for _ in 0..30 {
        group.propose(100 << 10).await;
    }
    let made = async {
        while group.members[&1].snapshot_index() < Some(20) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SETTLED, made).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_files_are_gone_is_another_member() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    let before = group.members[&3].id();
    group.kill(3).await;
    group.disks.remove(&3);
    let after = group.start(3).await;
    assert_ne!(before, after);
    // It has promised nothing, so it votes for nobody before it is taken in.
    tokio::time::sleep(SETTLED).await;
    assert_eq!(group.members[&3].leader(), None);
    let leader = group.leader().await;
    group.members[&leader].add_learner(after).await.unwrap();
    let voters: Vec<MemberId> = group.members.values().map(|member| member.id()).collect();
    group.members[&leader].set_voters(voters).await.unwrap();
    assert_eq!(group.propose(3).await, 3);
}
