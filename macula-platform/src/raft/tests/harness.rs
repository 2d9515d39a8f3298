//! Whole members, over a network that can be cut, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use macula_core::port::{Answer, Call, CallError, Serve};
use parking_lot::Mutex;

use super::super::machine::Replicated;
use super::super::media::faulty::Faulty;
use super::super::member::{Config, Member, Parts, StartError};
use super::super::types::MemberId;

/// Longer than any election takes.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// How long a word is on its way.
const LATENCY: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Wires {
    serving: Mutex<BTreeMap<NodeId, Arc<dyn Serve>>>,
    /// Who hears nobody, and is heard by nobody.
    pub(super) isolated: Mutex<BTreeSet<NodeId>>,
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

pub(super) struct Group<R> {
    pub(super) wires: Arc<Wires>,
    pub(super) members: BTreeMap<u8, Arc<Member<R>>>,
    pub(super) disks: BTreeMap<u8, Faulty>,
    config: Config,
    lives: u64,
}

pub(super) fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

impl<R: Replicated> Group<R> {
    pub(super) fn new(config: Config) -> Self {
        let (wires, members, disks) = Default::default();
        Self { wires, members, disks, config, lives: 0 }
    }

    pub(super) async fn start(&mut self, number: u8) -> MemberId {
        self.try_start(number).await.unwrap()
    }

    pub(super) async fn try_start(&mut self, number: u8) -> Result<MemberId, StartError> {
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
        let member = Member::start(parts).await?;
        let id = member.id();
        self.wires.serving.lock().insert(node(number), member.serve());
        self.members.insert(number, Arc::new(member));
        Ok(id)
    }

    /// The power of a member goes; what it has not brought to disk may be gone.
    pub(super) async fn kill(&mut self, number: u8) {
        self.wires.serving.lock().remove(&node(number));
        self.disks[&number].cut_after(0);
        self.members.remove(&number).unwrap().stop().await;
        self.disks[&number].reboot();
    }

    /// So many that vote.
    pub(super) async fn of(count: u8, config: Config) -> Self {
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
    pub(super) async fn leader(&self) -> u8 {
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
