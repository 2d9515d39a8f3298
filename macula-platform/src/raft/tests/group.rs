//! Whole members, over a network that can be cut, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::{Keypair, NodeId};
use macula_core::port::{Answer, Call, CallError, Serve};
use parking_lot::Mutex;

use super::super::media::faulty::Faulty;
use super::super::member::{Config, Member, Parts};
use super::super::types::MemberId;
use super::Sum;

/// Longer than any election takes.
const SETTLED: Duration = Duration::from_secs(5);

/// How long a word is on its way.
const LATENCY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Wires {
    serving: Mutex<BTreeMap<NodeId, Arc<dyn Serve>>>,
    /// Who hears nobody, and is heard by nobody.
    isolated: Mutex<BTreeSet<NodeId>>,
}

#[derive(Debug)]
struct From(Arc<Wires>, NodeId);

impl From {
    fn is_cut(&self, to: NodeId) -> bool {
        let isolated = self.0.isolated.lock();
        isolated.contains(&self.1) || isolated.contains(&to)
    }
}

impl Call for From {
    fn call<'a>(
        &'a self,
        node: NodeId,
        question: Bytes,
        within: Duration,
    ) -> Answer<'a, Result<Bytes, CallError>> {
        Box::pin(async move {
            tokio::time::sleep(LATENCY).await;
            let server = self.0.serving.lock().get(&node).cloned();
            let Some(server) = server.filter(|_| !self.is_cut(node)) else {
                return Err(CallError::Unreachable("cut".to_owned()));
            };
            let answer = tokio::time::timeout(within, server.serve(self.1, question)).await;
            tokio::time::sleep(LATENCY).await;
            if self.is_cut(node) {
                return Err(CallError::NoAnswer("cut".to_owned()));
            }
            match answer {
                Ok(answer) => answer.map_err(CallError::Refused),
                Err(_elapsed) => Err(CallError::NoAnswer("too late".to_owned())),
            }
        })
    }
}

struct Group {
    wires: Arc<Wires>,
    members: BTreeMap<u8, Member<Sum>>,
    disks: BTreeMap<u8, Faulty>,
    config: Config,
    lives: u64,
}

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

impl Group {
    fn new(config: Config) -> Self {
        let (wires, members, disks) = Default::default();
        Self { wires, members, disks, config, lives: 0 }
    }

    async fn start(&mut self, number: u8) -> MemberId {
        self.lives += 1;
        let disk = self.disks.entry(number).or_insert_with(|| Faulty::new(number.into()));
        let parts = Parts {
            medium: Arc::new(disk.clone()),
            node: node(number),
            new_life: self.lives,
            call: Arc::new(From(Arc::clone(&self.wires), node(number))),
            seed: self.lives,
            config: self.config.clone(),
        };
        let member = Member::start(parts).await.unwrap();
        let id = member.id();
        self.wires.serving.lock().insert(node(number), member.serve());
        self.members.insert(number, member);
        id
    }

    /// The power of a member goes; what it has not brought to disk may be gone.
    async fn kill(&mut self, number: u8) {
        self.wires.serving.lock().remove(&node(number));
        self.disks[&number].cut_after(0);
        self.members.remove(&number).unwrap().stop().await;
        self.disks[&number].reboot();
    }

    /// Three that vote.
    async fn three(config: Config) -> Self {
        let mut group = Self::new(config);
        let first = group.start(1).await;
        group.members[&1].found().await.unwrap();
        group.leader().await;
        let mut voters = vec![first];
        for number in [2, 3] {
            let id = group.start(number).await;
            group.members[&1].add_learner(id).await.unwrap();
            voters.push(id);
        }
        group.members[&1].set_voters(voters).await.unwrap();
        group
    }

    /// Waits until one leads and knows it for certain.
    async fn leader(&self) -> u8 {
        let found = async {
            loop {
                for (number, member) in &self.members {
                    if !self.wires.isolated.lock().contains(&node(*number))
                        && member.leader() == Some(member.id())
                        && member.read_point().await.is_ok()
                    {
                        return *number;
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SETTLED, found).await.expect("nobody leads")
    }

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
    let mut group = Group::new(Config::default());
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
    let mut group = Group::three(Config::default()).await;
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
    let mut group = Group::three(Config::default()).await;
    let fourth = group.start(4).await;
    let leader = group.leader().await;
    group.members[&leader].add_learner(fourth).await.unwrap();
    let voters: Vec<MemberId> = group.members.values().map(Member::id).collect();
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
    let group = Group::three(Config::default()).await;
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
    let mut group = Group::three(config).await;
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
    let mut group = Group::new(Config { snapshot_len: 1 << 20, ..Config::default() });
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
    let mut group = Group::three(Config::default()).await;
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
    let voters: Vec<MemberId> = group.members.values().map(Member::id).collect();
    group.members[&leader].set_voters(voters).await.unwrap();
    assert_eq!(group.propose(3).await, 3);
}
