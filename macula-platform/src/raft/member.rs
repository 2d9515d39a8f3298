//! One member of the group, in one life of its actor.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Call, Serve};
use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::{EmptyNode, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::acks::{Acks, counted};
use super::barrier::Barrier;
use super::driving::{self, Driving};
use super::elector::{self, Elector};
use super::log::{self, LogStore};
use super::machine::{Machine, Replicated};
use super::media::{Medium, StoreError};
use super::metrics;
use super::network::Network;
use super::service::Service;
use super::snapshots::Snapshots;
use super::timer::{self, Timer};
use super::types::{Command, MemberId, Reply, Types, Vote};
use super::wire;

/// How many entries a leader sends at one time; or fewer, if they are long.
pub(super) const APPEND_ENTRIES: u64 = 4_096;

/// For how many leases a disk may bring nothing about though something waits for it.
const PATIENCE_LEASES: u32 = 20;

/// How a member behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// When a member stands for election, and how often a leader says that it is there.
    pub elections: elector::Config,
    /// After how many entries a snapshot is made.
    pub snapshot_entries: u64,
    /// Or after how many bytes of entries, if that is sooner.
    pub snapshot_len: u64,
    /// How many entries that are in a snapshot are kept, for those who are a little behind.
    pub kept_entries: u64,
}

impl Default for Config {
    /// A snapshot each 10,000 entries or 64 MiB, of which 1,000 are kept.
    fn default() -> Self {
        Self {
            elections: elector::Config::default(),
            snapshot_entries: 10_000,
            snapshot_len: 64 << 20,
            kept_entries: 1_000,
        }
    }
}

/// How soon a snapshot is asked for again that has not come to be.
const SNAPSHOT_AGAIN: Duration = Duration::from_millis(250);

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
    /// What its waits and promises are counted by.
    pub timer: Arc<dyn Timer>,
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
    /// This member does not lead. What was proposed while it did may be agreed upon all the same.
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
    machine: Machine<R>,
    service: Service,
    pub(super) driving: Arc<Driving>,
    barrier: Barrier,
    pub(super) lease: Duration,
    timer: Arc<dyn Timer>,
    pub(super) raft: Raft<Types>,
    pub(super) network: Network,
    pub(super) acks: Arc<Mutex<Acks>>,
    /// Who is to lead next. Nothing is proposed meanwhile.
    pub(super) leaving_to: Mutex<Option<MemberId>>,
    pub(super) own: MemberId,
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

/// How long openraft waits for an answer, for a lease of the elector.
fn answers_within(lease: Duration) -> Duration {
    lease / 2
}

/// How long after it has heard a leader openraft votes for nobody: see [`told`]. A question takes its time, too.
pub(super) fn deaf(lease: Duration) -> Duration {
    answers_within(lease) + Duration::from_millis(10)
}

/// What openraft is told. It neither stands for election nor says that it leads by itself.
fn told(config: &Config) -> openraft::Config {
    // For so long it waits for an answer. A disk that takes its time is no reason to send all again, as
    // long as the lease does not suffer.
    let within = millis(answers_within(config.elections.lease));
    openraft::Config {
        cluster_name: "macula".to_owned(),
        heartbeat_interval: within,
        enable_heartbeat: false,
        // The greater is how long it votes for nobody after it has heard a leader. The service does
        // not even ask it before the lease has ended.
        election_timeout_min: within + 1,
        election_timeout_max: within + 2,
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_payload_entries: APPEND_ENTRIES,
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
        let Parts { medium, node, new_life, call, seed, config, timer } = parts;
        let opened = tokio::task::spawn_blocking(move || {
            let snapshots = Snapshots::open(&*medium)?;
            let log = log::open(&*medium, node, new_life)?;
            log.goes_with(&snapshots)?;
            let machine = Machine::<R>::open(snapshots, Some(log.clone()))?;
            Ok::<_, StoreError>((log, machine))
        });
        let opened = opened.await.map_err(|panic| StartError::Raft(panic.to_string()))?;
        let (log, machine) = opened?;
        let own = log.member();
        let acks = Arc::<Mutex<Acks>>::default();
        let network = Network {
            own,
            log: log.clone(),
            call,
            timer: Arc::clone(&timer),
            acks: Arc::clone(&acks),
            offered: Arc::default(),
        };
        let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        let settings = told(&config).validate().map_err(|error| failed(&error))?;
        let raft =
            Raft::new(own, Arc::new(settings), network.clone(), log.clone(), machine.clone());
        let raft = raft.await.map_err(|error| failed(&error))?;
        let elector = Elector::new(config.elections, own, Entropy::from_seed(seed), timer.now());
        let driving = Driving::new(elector, Arc::clone(&timer));
        let service = Service::new(
            raft.clone(),
            log.clone(),
            machine.snapshots().clone(),
            Arc::clone(&driving),
            Arc::clone(&network.offered),
        );
        let mut tasks = JoinSet::new();
        let within = config.elections.ask_within;
        tasks.spawn(snapshots_by_len(
            raft.clone(),
            log.clone(),
            machine.applied(),
            config.snapshot_len,
        ));
        tasks.spawn(metrics::tell(raft.clone(), log.clone()));
        let ways = network.clone();
        tasks.spawn(driving::drive(Arc::clone(&driving), raft.clone(), log, ways, within));
        Ok(Self {
            machine,
            service,
            driving,
            barrier: Barrier::new(raft.clone(), Arc::clone(&acks)),
            lease: config.elections.lease,
            timer,
            raft,
            network,
            acks,
            leaving_to: Mutex::default(),
            own,
            _tasks: tasks,
        })
    }

    /// Which member it is.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.own
    }

    /// The group that it is in, by the member that has founded it; none if it is in none yet.
    #[must_use]
    pub fn group(&self) -> Option<MemberId> {
        self.service.log.group()
    }

    /// It is of this group from now on, and of no other.
    pub(super) async fn belong(&self, group: MemberId) -> Result<(), ProposeError> {
        let named = self.service.log.belong(group).await;
        named.map_err(|error| ProposeError::Failed(error.to_string()))
    }

    /// Makes a group of this member alone, unless it has been in one, or is to come back to one.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Failed`].
    pub async fn found(&self) -> Result<(), ProposeError> {
        // One that is to come back to its group founds no other.
        if self.service.log.last().is_some() || self.group().is_some() {
            return Ok(());
        }
        self.belong(self.own).await?;
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
        let proposed = self.proposed(command).await;
        metrics::proposed(&proposed);
        proposed
    }

    async fn proposed(&self, command: Bytes) -> Result<(u64, Bytes), ProposeError> {
        let leaving_to = *self.leaving_to.lock();
        if leaving_to.is_some() {
            return Err(ProposeError::NotLeader { leader: leaving_to });
        }
        match self.raft.client_write(Command(command)).await {
            Ok(written) => {
                let Reply(answer) = written.data;
                Ok((written.log_id.index, answer))
            }
            Err(error) => Err(declined(error)),
        }
    }

    /// Whether something can be proposed now: this member leads, keeps its place, and most have
    /// acknowledged it within this span.
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`].
    pub fn may_propose(&self, within: Duration) -> Result<(), ProposeError> {
        let leaving_to = *self.leaving_to.lock();
        let leader = leaving_to.or_else(|| self.leader());
        if leader != Some(self.own) {
            return Err(ProposeError::NotLeader { leader });
        }
        // One that has begun to lead a moment ago is not acknowledged yet.
        if !self.leads(within) && self.acks.lock().has_any(self.vote()) {
            return Err(ProposeError::NotLeader { leader: None });
        }
        Ok(())
    }

    /// Its clock.
    #[must_use]
    pub fn timer(&self) -> &dyn Timer {
        &*self.timer
    }

    /// Waits until the state has all that was agreed upon before this was called.
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`] unless most of the members have said since that this one leads, and if it
    /// makes way for another one.
    pub async fn read_point(&self) -> Result<(), ProposeError> {
        // Voters that hear this one would not vote for the next.
        let leaving_to = *self.leaving_to.lock();
        if leaving_to.is_some() {
            return Err(ProposeError::NotLeader { leader: leaving_to });
        }
        self.barrier.pass().await
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

    /// Makes a snapshot of all that is applied now, and waits for it.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Failed`] if it is not there in time, or the member has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the snapshot may be made all the same.
    pub async fn snapshot(&self, within: Duration) -> Result<(), ProposeError> {
        let failed = |why: &dyn std::fmt::Display| ProposeError::Failed(why.to_string());
        let (until, wanted) = (timer::now() + within, *self.applied().borrow());
        if self.snapshot_index().unwrap_or(0) >= wanted {
            return Ok(());
        }
        let mut metrics = self.raft.data_metrics();
        while timer::now() < until {
            // Nothing comes of it while another one is being made.
            self.raft.trigger().snapshot().await.map_err(|error| failed(&error))?;
            let made = metrics.wait_for(|now| now.snapshot.map_or(0, |last| last.index) >= wanted);
            let again = until.min(timer::now() + SNAPSHOT_AGAIN);
            if let Ok(made) = tokio::time::timeout_at(again.into(), made).await {
                return made.map(drop).map_err(|ended| failed(&ended));
            }
        }
        Err(failed(&"the snapshot takes too long; it may be made all the same"))
    }

    /// Up to which entry the last snapshot goes; none if there is none.
    #[must_use]
    pub fn snapshot_index(&self) -> Option<u64> {
        self.raft.data_metrics().borrow().snapshot.map(|last| last.index)
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

    /// Whether this member leads, and most have been asked within this span that have said so.
    #[must_use]
    pub fn leads(&self, within: Duration) -> bool {
        let now = self.timer.now();
        self.quorum_asked(now).is_some_and(|asked| now < asked + within)
    }

    /// Until when nobody else can lead, by this member's clock, if clocks differ by no more than
    /// [`DRIFT`](super::DRIFT); none if that is not known. What was read from the state before that
    /// time is linearizable: whoever reads looks at the clock afterwards.
    #[must_use]
    pub fn lease_until(&self) -> Option<Instant> {
        let asked = self.quorum_asked(self.timer.now())?;
        self.acks.lock().may_lease(self.vote()).then(|| asked + counted(self.lease))
    }

    /// Whether this member hears a leader, or leads and is acknowledged: what it has is not old.
    #[must_use]
    pub fn is_in_touch(&self) -> bool {
        let hears = self.driving.elector().hears(self.timer.now());
        hears || self.leads(self.lease)
    }

    /// How many rounds of questions reads have cost.
    #[must_use]
    pub fn read_rounds(&self) -> u64 {
        self.barrier.rounds()
    }

    /// Plants a bug in its log.
    #[cfg(test)]
    pub(super) fn plant(&self, bug: log::Bug) {
        self.service.log.plant(bug);
    }

    /// The position of its last entry.
    #[cfg(test)]
    pub(super) fn last_log(&self) -> Option<super::types::LogId> {
        self.service.log.last()
    }

    /// The time, by this member's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.timer.now()
    }

    /// Whom this member follows, or itself, and in which term.
    pub(super) fn vote(&self) -> Vote {
        self.raft.server_metrics().borrow().vote
    }

    /// A number that is another one for each time that a member leads.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.vote().leader_id().term
    }

    fn quorum_asked(&self, now: Instant) -> Option<Instant> {
        let (vote, membership) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            if metrics.current_leader != Some(self.own) {
                return None;
            }
            (metrics.vote, Arc::clone(&metrics.membership_config))
        };
        let groups = membership.membership().get_joint_config();
        self.acks.lock().quorum_asked(vote, self.own, groups, now)
    }

    /// Changes whenever another one leads, or the members are others.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<R>> {
        self.raft.server_metrics()
    }

    /// Waits until it has failed, and says why. One that is stopped fails, too, and one whose disk brings
    /// nothing about for long: another one leads sooner if it ends.
    pub async fn failed(&self) -> String {
        tokio::select! {
            ended = self.ended() => ended,
            error = self.service.log.failed(self.lease * PATIENCE_LEASES) => error.to_string(),
        }
    }

    async fn ended(&self) -> String {
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

pub(super) fn declined(
    error: RaftError<MemberId, ClientWriteError<MemberId, EmptyNode>>,
) -> ProposeError {
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
