//! One member of the group, in one life of its actor.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Call, Serve};
use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::{EmptyNode, Raft, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::driving::{self, Driving};
use super::elector::{self, Elector};
use super::log::{self, LogStore};
use super::machine::{Machine, Replicated};
use super::media::{Medium, StoreError};
use super::network::Network;
use super::service::Service;
use super::snapshots::Snapshots;
use super::types::{Command, MemberId, Reply, Types};
use super::wire;

/// How a member behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// When a member stands for election.
    pub elections: elector::Config,
    /// After how many entries a snapshot is made.
    pub snapshot_entries: u64,
    /// Or after how many bytes of entries, if that is sooner.
    pub snapshot_len: u64,
    /// How many entries that are in a snapshot are kept, for those who are a little behind.
    pub kept_entries: u64,
}

impl Default for Config {
    /// A heartbeat each 100 ms, a snapshot each 10,000 entries or 64 MiB, of which 1,000 are kept.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            elections: elector::Config::default(),
            snapshot_entries: 10_000,
            snapshot_len: 64 << 20,
            kept_entries: 1_000,
        }
    }
}

/// What a member is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where its files are.
    pub medium: Arc<dyn Medium>,
    /// Its node.
    pub node: NodeId,
    /// The life of its log, if that is new: a number that no earlier log of the node had.
    pub new_life: u64,
    /// How others are asked.
    pub call: Arc<dyn Call>,
    /// What its waits are drawn from.
    pub seed: u64,
    /// How it behaves.
    pub config: Config,
}

/// Why a member does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its files cannot be read, or are damaged. They are left as they are.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// openraft does not start.
    #[error("openraft does not start: {0}")]
    Raft(String),
}

/// Why something was not agreed upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This member does not lead. Nothing was proposed.
    #[error("another member leads: {}", leader.map_or_else(|| "none is known".to_owned(), |leader| leader.to_string()))]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<MemberId>,
    },
    /// Another change of the members is under way. Nothing was proposed.
    #[error("the members cannot be changed now: {0}")]
    Membership(String),
    /// The member has failed. What was proposed may be agreed upon all the same.
    #[error("the member has failed: {0}")]
    Failed(String),
}

/// A member that runs. It ends when it is dropped.
pub struct Member<R> {
    raft: Raft<Types>,
    machine: Machine<R>,
    service: Service,
    driving: Arc<Driving>,
    own: MemberId,
    _tasks: JoinSet<()>,
}

impl<R> Debug for Member<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("own", &self.own).finish_non_exhaustive()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What openraft is told. It does not stand for election by itself.
fn told(config: &Config) -> openraft::Config {
    let lease = millis(config.elections.lease);
    openraft::Config {
        cluster_name: "macula".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        // The greater is how long it votes for nobody after it has heard a leader.
        election_timeout_min: lease.saturating_sub(1),
        election_timeout_max: lease,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_in_snapshot_log_to_keep: config.kept_entries,
        replication_lag_threshold: config.snapshot_entries.saturating_mul(2),
        ..openraft::Config::default()
    }
}

impl<R: Replicated> Member<R> {
    /// Opens the files, and takes part in the group that they know.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { medium, node, new_life, call, seed, config } = parts;
        let opened = tokio::task::spawn_blocking(move || {
            let snapshots = Snapshots::open(&*medium)?;
            let log = log::open(&*medium, node, new_life)?;
            Ok::<_, StoreError>((log, Machine::<R>::open(snapshots)?))
        });
        let opened = opened.await.map_err(|panic| StartError::Raft(panic.to_string()))?;
        let (log, machine) = opened?;
        let own = log.member();
        let network = Network { own, call };
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        let settings = told(&config).validate().map_err(|error| failed(&error))?;
        let raft =
            Raft::new(own, Arc::new(settings), network.clone(), log.clone(), machine.clone());
        let raft = raft.await.map_err(|error| failed(&error))?;
        let elector =
            Elector::new(config.elections, own, Entropy::from_seed(seed), TokioClock.now());
        let driving = Driving::new(elector);
        let service = Service::new(
            raft.clone(),
            log.clone(),
            machine.snapshots().clone(),
            Arc::clone(&driving),
        );
        let mut tasks = JoinSet::new();
        let within = config.elections.ask_within;
        tasks.spawn(snapshots_by_len(
            raft.clone(),
            log.clone(),
            machine.applied(),
            config.snapshot_len,
        ));
        tasks.spawn(driving::drive(Arc::clone(&driving), raft.clone(), log, network, within));
        Ok(Self { raft, machine, service, driving, own, _tasks: tasks })
    }

    /// Which member it is.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.own
    }

    /// Makes a group of this member alone, unless it has been in one.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Failed`].
    pub async fn found(&self) -> Result<(), ProposeError> {
        let alone = BTreeMap::from([(self.own, EmptyNode {})]);
        match self.raft.initialize(alone).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(ProposeError::Failed(error.to_string())),
        }
    }

    /// Has the group agree upon a command, and applies it. Gives its index, and the answer.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the command may be agreed upon all the same.
    pub async fn propose(&self, command: Bytes) -> Result<(u64, Bytes), ProposeError> {
        match self.raft.client_write(Command(command)).await {
            Ok(written) => {
                let Reply(answer) = written.data;
                Ok((written.log_id.index, answer))
            }
            Err(error) => Err(declined(error)),
        }
    }

    /// Waits until the state has all that was agreed upon before this was called.
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`] unless most of the members have said since that this one leads.
    pub async fn read_point(&self) -> Result<(), ProposeError> {
        use openraft::error::CheckIsLeaderError as E;
        match self.raft.ensure_linearizable().await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(E::ForwardToLeader(other))) => {
                Err(ProposeError::NotLeader { leader: other.leader_id })
            }
            Err(RaftError::APIError(E::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(error) => Err(ProposeError::Failed(error.to_string())),
        }
    }

    /// The state as this member has it. Nothing is applied while it is held.
    pub fn state(&self) -> impl std::ops::Deref<Target = R> + '_ {
        self.machine.state()
    }

    /// Up to which index all is applied to the state, as it grows.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.machine.applied()
    }

    /// Takes members in that listen, and waits until they have nearly all.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn add_learner(&self, member: MemberId) -> Result<(), ProposeError> {
        let added = self.raft.add_learner(member, EmptyNode {}, true).await;
        added.map(drop).map_err(declined)
    }

    /// Has these members vote, and nobody else. The caller makes one change after the other.
    ///
    /// # Errors
    ///
    /// [`ProposeError`].
    pub async fn set_voters(
        &self,
        voters: impl IntoIterator<Item = MemberId>,
    ) -> Result<(), ProposeError> {
        let voters: std::collections::BTreeSet<MemberId> = voters.into_iter().collect();
        self.raft.change_membership(voters, false).await.map(drop).map_err(declined)
    }

    /// Makes a snapshot now.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Failed`].
    pub async fn snapshot(&self) -> Result<(), ProposeError> {
        let begun = self.raft.trigger().snapshot().await;
        begun.map_err(|error| ProposeError::Failed(error.to_string()))
    }

    /// Up to which entry the last snapshot goes; none if there is none.
    #[must_use]
    pub fn snapshot_index(&self) -> Option<u64> {
        self.raft.data_metrics().borrow().snapshot.map(|last| last.index)
    }

    /// Stands for election at once, though a leader is heard.
    pub fn hurry(&self) {
        self.driving.tell(elector::Input::Hurry);
    }

    /// What answers other members.
    #[must_use]
    pub fn serve(&self) -> Arc<dyn Serve> {
        Arc::new(Answering(self.service.clone()))
    }

    /// Who leads, as far as this member knows. That may be old.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.raft.server_metrics().borrow().current_leader
    }

    /// Whether this member leads, and most have said so within the lease.
    #[must_use]
    pub fn leads(&self, lease: Duration) -> bool {
        let metrics = self.raft.data_metrics();
        let acknowledged = metrics.borrow().millis_since_quorum_ack;
        acknowledged.is_some_and(|millis| Duration::from_millis(millis) < lease)
            && self.leader() == Some(self.own)
    }

    /// Waits until it has failed, and says why. One that is stopped fails, too.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            // Cloned, so that openraft is not held up.
            let state = metrics.borrow_and_update().running_state.clone();
            if let Err(error) = state {
                return error.to_string();
            }
            if metrics.changed().await.is_err() {
                return "it has ended".to_owned();
            }
        }
    }

    /// Ends it, and waits until it writes nothing more.
    pub async fn stop(&self) {
        // One that has panicked has ended, too.
        drop(self.raft.shutdown().await);
        // Whoever still holds this has it closed.
        let (log, snapshots) = (self.service.log.clone(), self.service.snapshots.clone());
        let closed = tokio::task::spawn_blocking(move || {
            log.close();
            snapshots.close();
        });
        drop(closed.await);
    }
}

/// Has a snapshot made whenever so many bytes were appended since the last.
async fn snapshots_by_len(
    raft: Raft<Types>,
    log: LogStore,
    mut applied: watch::Receiver<u64>,
    len_max: u64,
) {
    let mut made_at = 0;
    while applied.changed().await.is_ok() {
        let appended = log.appended_len();
        if appended - made_at >= len_max {
            made_at = appended;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

fn declined(error: RaftError<MemberId, ClientWriteError<MemberId, EmptyNode>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(other)) => {
            ProposeError::NotLeader { leader: other.leader_id }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            ProposeError::Membership(error.to_string())
        }
        RaftError::Fatal(error) => ProposeError::Failed(error.to_string()),
    }
}

#[derive(Clone)]
struct Answering(Service);

impl Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering").field("member", &self.0.log.member()).finish()
    }
}

impl Serve for Answering {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        let service = self.0.clone();
        Box::pin(async move {
            let answer = service.answer(from, &question).await?;
            wire::write(&answer).map_err(|error| error.to_string())
        })
    }
}
