//! Whole members, over a network that can be cut, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::port::{Answer, Call, CallError, Serve};
use parking_lot::Mutex;

pub(crate) use super::super::log::Bug;
use super::super::machine::Replicated;
use super::super::media::faulty::Faulty;
use super::super::member::{Config, Member, Parts, StartError};
use super::super::timer::{Ticking, Timer};
use super::super::types::MemberId;

/// Longer than any election takes.
pub(crate) const SETTLED: Duration = Duration::from_secs(5);

/// How long a word is on its way.
const LATENCY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct Wires {
    serving: Mutex<BTreeMap<(NodeId, u8), Arc<dyn Serve>>>,
    /// How often who was asked on which lane.
    pub(crate) asked: Mutex<BTreeMap<(NodeId, u8), u64>>,
    /// Who hears nobody, and is heard by nobody.
    pub(crate) isolated: Mutex<BTreeSet<NodeId>>,
    /// Who hears no other member, and is heard by none.
    pub(crate) parted: Mutex<BTreeSet<NodeId>>,
}

impl Wires {
    pub(crate) fn serve(&self, node: NodeId, lane: Lane, server: Arc<dyn Serve>) {
        self.serving.lock().insert((node, lane as u8), server);
    }

    pub(crate) fn asked(&self, node: NodeId, lane: Lane) -> u64 {
        self.asked.lock().get(&(node, lane as u8)).copied().unwrap_or(0)
    }
}

/// A folder that goes with its test.
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("macula-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Whose questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The members' own.
    Raft,
    /// The clients'.
    Kv,
    /// Those of who changes the group.
    Change,
}

/// A node's way to others, on one lane.
#[derive(Debug)]
pub(crate) struct From(pub(crate) Arc<Wires>, pub(crate) NodeId, pub(crate) Lane);

impl From {
    fn is_cut(&self, to: NodeId) -> bool {
        let is_in = |set: &BTreeSet<NodeId>| set.contains(&self.1) || set.contains(&to);
        is_in(&self.0.isolated.lock()) || (self.2 == Lane::Raft && is_in(&self.0.parted.lock()))
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
            let lane = (node, self.2 as u8);
            *self.0.asked.lock().entry(lane).or_default() += 1;
            let server = self.0.serving.lock().get(&lane).cloned();
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

pub(crate) struct Group<R> {
    pub(crate) wires: Arc<Wires>,
    pub(crate) members: BTreeMap<u8, Arc<Member<R>>>,
    pub(crate) disks: BTreeMap<u8, Faulty>,
    /// The clocks of those whose clocks are not like all others'.
    pub(crate) timers: BTreeMap<u8, Arc<dyn Timer>>,
    /// What is wrong with the logs of those that are started.
    pub(crate) bug: Option<Bug>,
    config: Config,
    lives: u64,
}

impl<R> Drop for Group<R> {
    /// Who is served knows the wires, and these know it: without this all would live on.
    fn drop(&mut self) {
        let served = std::mem::take(&mut *self.wires.serving.lock());
        drop(served);
    }
}

pub(crate) fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

impl<R: Replicated> Group<R> {
    pub(crate) fn new(config: Config) -> Self {
        let (wires, members, disks, timers) = Default::default();
        Self { wires, members, disks, timers, bug: None, config, lives: 0 }
    }

    pub(crate) async fn start(&mut self, number: u8) -> MemberId {
        self.try_start(number).await.unwrap()
    }

    pub(crate) async fn try_start(&mut self, number: u8) -> Result<MemberId, StartError> {
        self.lives += 1;
        let disk = self.disks.entry(number).or_insert_with(|| Faulty::new(number.into()));
        let parts = Parts {
            medium: Arc::new(disk.clone()),
            node: node(number),
            new_life: self.lives,
            call: Arc::new(From(Arc::clone(&self.wires), node(number), Lane::Raft)),
            seed: self.lives,
            config: self.config.clone(),
            timer: self.timers.get(&number).cloned().unwrap_or_else(|| Arc::new(Ticking)),
        };
        let member = Member::start(parts).await?;
        let id = member.id();
        self.bug.into_iter().for_each(|bug| member.plant(bug));
        self.wires.serve(node(number), Lane::Raft, member.serve());
        self.members.insert(number, Arc::new(member));
        Ok(id)
    }

    /// The power of a member goes; what it has not brought to disk may be gone.
    pub(crate) async fn kill(&mut self, number: u8) {
        self.kill_all(&[number]).await;
    }

    /// The power of members goes at one moment.
    pub(crate) async fn kill_all(&mut self, numbers: &[u8]) {
        let nodes: BTreeSet<NodeId> = numbers.iter().map(|number| node(*number)).collect();
        self.wires.serving.lock().retain(|(served, _), _| !nodes.contains(served));
        numbers.iter().for_each(|number| self.disks[number].cut_after(0));
        for number in numbers {
            self.members.remove(number).unwrap().stop().await;
        }
        numbers.iter().for_each(|number| self.disks[number].reboot());
    }

    /// So many that vote.
    pub(crate) async fn of(count: u8, config: Config) -> Self {
        let mut group = Self::new(config);
        let first = group.start(1).await;
        group.members[&1].found().await.unwrap();
        group.leader().await;
        let mut voters = vec![first];
        for number in 2..=count {
            let id = group.start(number).await;
            group.members[&1].add_learner(id).await.unwrap();
            voters.push(id);
        }
        group.members[&1].set_voters(voters).await.unwrap();
        group
    }

    /// Waits until one leads and knows it for certain.
    pub(crate) async fn leader(&self) -> u8 {
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
}
