//! Groups that lose members, connections and files.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use macula_core::clock::{Clock as _, TokioClock};
use openraft::raft::VoteRequest;

use super::super::member::Config;
use super::super::types::{MemberId, Vote};
use super::super::wire::{self, Answer, Ask, Question};
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
async fn a_leader_that_comes_back_at_once_reads_nothing_that_is_old() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    for expected in 1..=10 {
        assert_eq!(group.propose(1).await, expected);
        let leader = group.leader().await;
        // What it knows to be agreed upon is older on its disk than what it has told.
        group.kill(leader).await;
        group.wires.isolated.lock().insert(node(leader));
        group.start(leader).await;
        // It waits before it sends its log again to those whom it did not reach; but it can ask them.
        tokio::time::sleep(Duration::from_millis(170)).await;
        group.wires.isolated.lock().remove(&node(leader));
        assert_eq!(group.sum().await, expected);
    }
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
async fn who_has_promised_a_lease_votes_for_nobody_else_unless_the_leader_wants_it() {
    let group = Group::<Sum>::of(3, Config::default()).await;
    group.propose(1).await;
    let leader = group.leader().await;
    let others: Vec<u8> = (1..=3).filter(|number| *number != leader).collect();
    let (candidate, voter) = (&group.members[&others[0]], &group.members[&others[1]]);
    group.wires.isolated.lock().insert(node(leader));
    // Longer than openraft remembers, and less than was promised.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let offered = group.members[&leader].vote();
    let vote = |offered| {
        let last = candidate.last_log();
        let request = VoteRequest::new(Vote::new(100, candidate.id()), last);
        let (from, to) = (candidate.id(), voter.id());
        let question =
            wire::write(&Question { from, to, group: None, ask: Ask::Vote(request, offered) });
        let served = voter.serve().serve(node(others[0]), question.unwrap());
        async move {
            match wire::read(&served.await.unwrap()).unwrap() {
                Answer::Voted(voted) => voted.vote_granted,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(!vote(None).await);
    // An earlier leader's wish, that comes late.
    let earlier = Vote::new_committed(offered.leader_id().term - 1, candidate.id());
    assert!(!vote(Some(earlier)).await);
    assert!(vote(Some(offered)).await);
}

#[tokio::test(start_paused = true)]
async fn openraft_has_got_what_it_was_asked_once_though_nobody_waits_for_its_answer() {
    let mut group = Group::<Sum>::of(3, Config::default()).await;
    let leader = group.leader().await;
    let others: Vec<u8> = (1..=3).filter(|number| *number != leader).collect();
    let (candidate, last) = (group.members[&others[0]].id(), group.members[&others[0]].last_log());
    // Nobody else makes them stand or vote.
    group.kill(leader).await;
    group.kill(others[0]).await;
    let voter = &group.members[&others[1]];
    // Longer than openraft remembers a leader.
    tokio::time::sleep(SETTLED).await;
    let request = VoteRequest::new(Vote::new(100, candidate), last);
    assert!(Box::pin(voter.raft.vote(request)).now_or_never().is_none());
    let voted = async {
        while voter.vote() != Vote::new(100, candidate) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SETTLED, voted).await.unwrap();
    assert!(matches!(voter.raft.trigger().elect().now_or_never(), Some(Ok(()))));
    let stands = async {
        while voter.vote() != Vote::new(101, voter.id()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SETTLED, stands).await.unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_member_of_another_group_is_not_heard_and_overwrites_nothing() {
    let mut group = Group::<Sum>::new(Config::default());
    let (first, second) = (group.start(1).await, group.start(2).await);
    for number in [1, 2] {
        group.members[&number].found().await.unwrap();
        let (_, answer) = loop {
            match group.members[&number].propose(Bytes::from(vec![7; number.into()])).await {
                Ok(done) => break done,
                // It does not lead yet.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert_eq!(answer.as_ref(), u64::from(number).to_be_bytes());
    }
    assert_eq!(group.members[&1].group(), Some(first));
    assert_eq!(group.members[&2].group(), Some(second));
    // By no command, but by somebody who is wrong.
    let (wrong, to) = (std::sync::Arc::clone(&group.members[&1]), second);
    let adding = tokio::spawn(async move { wrong.add_learner(to).await });
    tokio::time::sleep(SETTLED).await;
    adding.abort();
    assert_eq!(group.members[&2].leader(), Some(second));
    assert_eq!(group.members[&2].state().0, 2);
    group.kill(2).await;
    assert_eq!(group.start(2).await, second);
    assert_eq!(group.members[&2].group(), Some(second));
    while group.members[&2].read_point().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(group.members[&2].state().0, 2);
}
