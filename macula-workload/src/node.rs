//! A node: the tree of the three tiers, and a user's way into it.

mod saved;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::path::{InvalidId, Path};
use macula_core::supervision::{
    AdminError, ChildSpec, Event, ExitReason, Handle, Root, StartError, StartedChild, Supervisor,
    SupervisorHandle, TreeNode, TreeOptions, Worker,
};
use macula_infra::membership::update::Role;
use macula_infra::mesh::{Ending, Mesh};
use macula_infra::names::{LocateError, NamedHandle};
use macula_infra::pool::AddressBook;
use macula_infra::pubsub::PubSub;
use macula_infra::remote::{Remote, ReplyTo, ServeError, Serving};
use macula_infra::rpc::Rpc;
use macula_infra::tier::{Discovery, Infrastructure};
use macula_infra::transport::Sockets;
use macula_infra::transport::tls::Credentials;
use macula_platform::consensus::{self, Consensus};
use macula_platform::crdt::state::Kinds;
use macula_platform::crdt::{self, Crdt, Crdts};
use macula_platform::election::Elections;
use macula_platform::kv::Kv;
use macula_platform::registers::Registers;
use macula_platform::singleton::{self, Singleton};
use macula_platform::tier::Platform;
use ractor::Actor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;

use crate::admin;
use crate::config::{self, Config};

/// Why a bootstrap node starts no workload.
const BOOTSTRAP: &str = "a bootstrap node runs no workloads";

/// The port of the members of the realm's group, as the rules of access know it.
const RAFT: &str = "macula/raft";

/// The port of the key-value service.
const KV: &str = "macula/kv";

/// The port of those who change the group: who votes, and who leads.
const CHANGE: &str = "macula/raft/change";

/// The port of those who hold the same buckets of replicated types.
const CRDT: &str = "macula/crdt";

/// The realm of nodes that say of none.
const REALM: &str = "default";

/// The most children of the workload tier.
pub const WORKLOADS_MAX: usize = 1_000_000;

/// Why a node did not start. What had started was stopped again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong, or does not fit the tree. Nothing was started.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The tree did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// The platform tier cannot be built as it is configured. Nothing was started.
    #[error("platform: {0}")]
    Platform(#[from] macula_platform::tier::Error),
    /// The infrastructure tier cannot be built: an address is taken, for instance. Nothing was
    /// started.
    #[error(transparent)]
    Infrastructure(#[from] macula_infra::tier::Error),
    /// A bootstrap node was given workloads to run. Nothing was started.
    #[error("{BOOTSTRAP}, and {0} were declared")]
    Workloads(usize),
    /// The rules of access do not let the node vote, for instance. Nothing was started.
    #[error("consensus: {0}")]
    Serve(#[from] ServeError),
    /// What the node is to show and to believe cannot be used. Nothing was started.
    #[error("identity: {0}")]
    Identity(#[from] crate::identity::Error),
    /// An id that the tree needs is not one; never for the built-in tiers.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
}

/// Why a singleton was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SingletonError {
    /// It makes no sense as it is declared.
    #[error(transparent)]
    Invalid(#[from] singleton::Invalid),
    /// The workload tier does not take it.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// How the end of a node went.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The tree took longer than its bound to stop; what was left of it was killed.
    #[error("the node did not stop within {}", humantime::format_duration(*.bound))]
    TooSlow {
        /// The bound.
        bound: Duration,
    },
}

/// Makes a node.
#[derive(Debug, Default)]
pub struct Builder {
    config: Config,
    workloads: Vec<ChildSpec>,
    kinds: Kinds,
    credentials: Option<Credentials>,
    simulation: Option<Simulation>,
}

/// What stands for the world where a node runs in a simulation.
#[derive(Debug)]
struct Simulation {
    sockets: Option<Sockets>,
    seed: u64,
    incarnation: u64,
}

impl Builder {
    /// Takes a configuration in place of the defaults.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// Declares a child of the workload tier, which starts with the node and can be spoken of in
    /// the configuration.
    #[must_use]
    pub fn workload(mut self, child: impl Into<ChildSpec>) -> Self {
        self.workloads.push(child.into());
        self
    }

    /// Makes a replicated type of the program's own known, so that its states can be read. Others hold and
    /// pass on what they cannot read.
    #[must_use]
    pub fn replicated<C: Crdt>(self) -> Self {
        Self { kinds: self.kinds.with::<C>(), ..self }
    }

    /// Takes what the node shows and believes, in place of what its configuration names.
    #[must_use]
    pub fn credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Runs the node in a simulation: with these sockets, with dice that `seed` replays, and as
    /// this life of itself.
    #[must_use]
    pub fn simulated(self, sockets: Option<Sockets>, seed: u64, incarnation: u64) -> Self {
        Self { simulation: Some(Simulation { sockets, seed, incarnation }), ..self }
    }

    /// Starts the node, and waits until all of its tree is up.
    ///
    /// # Errors
    ///
    /// [`Error`] if the configuration does not fit the tree, or a child does not start; what had
    /// started was stopped again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what had started is stopped.
    pub async fn start(self) -> Result<Node, Error> {
        // It is large, and so would be whatever waits for it.
        Box::pin(self.started()).await
    }

    async fn started(self) -> Result<Node, Error> {
        let Self { config, workloads, kinds, credentials, simulation } = self;
        let (credentials, lock) = match credentials {
            Some(credentials) => (credentials, None),
            None => (config.tls.credentials()?, config.tls.lock()?),
        };
        let (entropy, parts) = match simulation {
            None => (None, (None, None, incarnation(&credentials))),
            Some(Simulation { sockets, seed, incarnation }) => {
                (Some(Entropy::from_seed(seed)), (sockets, Some(seed), incarnation))
            }
        };
        let (sockets, seed, incarnation) = parts;
        let realm = match &config.mesh.realm {
            Some(realm) => Some(realm.clone()),
            None => config.tls.realm_name()?,
        };
        let table_file = config.table_file();
        let discovery = Discovery {
            realm: realm.unwrap_or_else(|| REALM.to_owned()),
            role: config.mesh.role,
            advertise: config.mesh.advertise.clone(),
            bootstrap: config.mesh.bootstrap.clone(),
            membership: config.membership.clone(),
            dht: config.dht.node.clone(),
            limits: config.dht.limits,
            relay: config.relay,
            pubsub: config.pubsub,
            saved: saved::read(table_file.as_deref()),
        };
        let about = Arc::new(OnceLock::new());
        let admin = config.admin_socket().map(|path| admin::worker(path, Arc::clone(&about)));
        let telemetry = admin.transpose()?.into_iter().map(ChildSpec::from).collect();
        let infrastructure = macula_infra::tier::Config {
            telemetry,
            discovery,
            credentials,
            incarnation,
            transport: config.transport.clone(),
            pool: config.pool.clone(),
            book: address_book(&config),
            sockets,
            seed,
            access: config.access.clone(),
        };
        let Tree { root, infrastructure, platform, workload } =
            tree(&config, infrastructure, kinds, workloads)?;
        let (agreement, crdts) = (platform.agreement.clone(), platform.types.crdts.clone());
        let mesh = infrastructure.mesh.clone();
        drop(about.set(admin::About { mesh, agreement, crdts }));
        // A node that does not vote has less in its tree, and one configuration may be for both.
        let overrides = config.overrides_here(&ChildSpec::from(root.clone()), declared_tree)??;
        let root = root.start(TreeOptions { overrides, entropy }).await?;
        tokio::spawn(end(root.events(), infrastructure.mesh.ending()));
        let shutdown = config.node.shutdown;
        let mesh = &infrastructure.mesh;
        let saved = table_file.map(|path| saved::Keeper::start(path, mesh.clone()));
        let is_bootstrap = config.mesh.role == Role::Bootstrap;
        Ok(Node {
            saved,
            root,
            infrastructure,
            platform,
            workload,
            shutdown,
            is_bootstrap,
            _lock: lock,
        })
    }
}

/// Ends a node once its tree has ended, or the runtime in which it is.
async fn end(mut events: broadcast::Receiver<Event>, _ending: Ending) {
    while !matches!(events.recv().await, Err(broadcast::error::RecvError::Closed)) {}
}

/// Where nodes are that the configuration names.
fn address_book(config: &Config) -> AddressBook {
    let book = AddressBook::default();
    for (peer, addresses) in &config.peers {
        book.add(*peer, addresses.iter().copied());
    }
    book
}

/// Which life of the node begins: the time, which is later for each.
fn incarnation(credentials: &Credentials) -> u64 {
    u64::try_from(credentials.now().as_millis()).unwrap_or(u64::MAX)
}

struct Tree {
    root: Supervisor,
    infrastructure: Infrastructure,
    platform: Platform,
    workload: SupervisorHandle,
}

/// The tree of a node, with these children in its workload tier. A bootstrap node has only the
/// lowest of the tiers.
fn tree(
    config: &Config,
    infrastructure: macula_infra::tier::Config,
    kinds: Kinds,
    workloads: Vec<ChildSpec>,
) -> Result<Tree, Error> {
    let is_bootstrap = infrastructure.discovery.role == Role::Bootstrap;
    if is_bootstrap && !workloads.is_empty() {
        return Err(Error::Workloads(workloads.len()));
    }
    let mut dice = infrastructure.seed.map_or_else(Entropy::from_process, Entropy::from_seed);
    let new_life = infrastructure.incarnation;
    let (infrastructure_spec, infrastructure) = macula_infra::tier::spec(infrastructure)?;
    let mesh = &infrastructure.mesh;
    let parts = consensus_parts(config, mesh, new_life, dice.next_u64());
    let (mut consensus, mut settings) = (config.consensus(), config.crdt());
    if is_bootstrap {
        // It asks the voters as any client does, and holds nothing.
        consensus = consensus::Config { role: consensus::Role::Client, folder: None, ..consensus };
        settings = crdt::Settings::default();
    }
    let origin = crdt::tree::Origin { node: mesh.node(), new_life, seed: dice.next_u64() };
    let wiring =
        crdt::tree::Wiring { call: Arc::new(mesh.asking(CRDT)), near: mesh.membership().peers() };
    let types = crdt::tree::Parts { settings, kinds, origin, wiring };
    let (platform_spec, platform) = macula_platform::tier::spec(&consensus, parts, types)?;
    if !is_bootstrap {
        mesh.answering(CRDT, Arc::clone(&platform.types.service))?.keep();
    }
    if let Some(voter) = &platform.agreement.voter {
        let services = &voter.services;
        mesh.answering(RAFT, Arc::clone(&services.raft))?.keep();
        mesh.answering(KV, Arc::clone(&services.kv))?.keep();
        mesh.answering(CHANGE, Arc::clone(&services.change))?.keep();
    }
    let workload = Supervisor::dynamic("workload", WORKLOADS_MAX)?
        .durable()
        .intensity(5, Duration::from_secs(10));
    let workload = workloads.into_iter().fold(workload, Supervisor::child);
    let (workload_spec, workload) = workload.split();
    let root =
        Supervisor::new("root")?.intensity(10, Duration::from_secs(60)).child(infrastructure_spec);
    let root = if is_bootstrap { root } else { root.child(platform_spec).child(workload_spec) };
    Ok(Tree { root, infrastructure, platform, workload })
}

/// What agreement needs of the mesh.
fn consensus_parts(config: &Config, mesh: &Mesh, new_life: u64, seed: u64) -> consensus::Parts {
    consensus::Parts {
        node: mesh.node(),
        has_seeds: !config.mesh.bootstrap.seeds.is_empty() || !config.peers.is_empty(),
        raft: Arc::new(mesh.asking(RAFT)),
        kv: Arc::new(mesh.asking(KV)),
        change: Arc::new(mesh.asking(CHANGE)),
        directory: Arc::new(mesh.dht().clone()),
        new_life,
        seed,
    }
}

/// The tree that every node has, with an empty workload tier: what configuration can speak of.
///
/// # Errors
///
/// Never: the ids of the built-in tiers are ids.
pub fn declared_tree() -> Result<ChildSpec, Error> {
    declared_tree_with(Vec::new())
}

/// As [`declared_tree`], with these children in the workload tier.
///
/// # Errors
///
/// As [`declared_tree`].
pub fn declared_tree_with(workloads: Vec<ChildSpec>) -> Result<ChildSpec, Error> {
    let mut config = Config::default();
    config.transport.listen = Vec::new();
    let admin = admin::worker(admin::SOCKET.into(), Arc::default())?;
    let infrastructure = macula_infra::tier::Config {
        telemetry: vec![admin.into()],
        transport: config.transport.clone(),
        ..macula_infra::tier::Config::new(crate::identity::ephemeral()?, 0)
    };
    tree(&config, infrastructure, Kinds::default(), workloads).map(|tree| tree.root.into())
}

/// A node that runs, until it is [stopped](Self::stop). A node that is dropped goes on running.
#[derive(Debug)]
pub struct Node {
    root: Root,
    infrastructure: Infrastructure,
    platform: Platform,
    workload: SupervisorHandle,
    shutdown: Duration,
    saved: Option<saved::Keeper>,
    /// Whether it only helps others to find each other.
    is_bootstrap: bool,
    /// Goes with the node, so that its identity can be used again.
    _lock: Option<crate::identity::Lock>,
}

impl Node {
    /// Begins to make a node.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a node with the defaults.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// Starts a worker in the workload tier, and gives the handle to it.
    ///
    /// # Errors
    ///
    /// [`AdminError`] if its id is taken, its policy is illegal, or its start fails; it is then not
    /// listed. A bootstrap node starts none.
    pub async fn spawn<A: Actor>(&self, worker: Worker<A>) -> Result<Handle<A::Msg>, AdminError> {
        let (spec, handle) = worker.split();
        self.start_workload(spec).await?;
        Ok(handle)
    }

    /// Starts a user's own supervisor in the workload tier, and gives the handle to it.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn); what the supervisor had started was stopped again.
    pub async fn spawn_supervisor(
        &self,
        supervisor: Supervisor,
    ) -> Result<SupervisorHandle, AdminError> {
        let (spec, handle) = supervisor.split();
        self.start_workload(spec).await?;
        Ok(handle)
    }

    /// Starts any child in the workload tier: a partition or task supervisor, for instance.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_child(
        &self,
        child: impl Into<ChildSpec>,
    ) -> Result<StartedChild, AdminError> {
        self.start_workload(child).await
    }

    async fn start_workload(
        &self,
        child: impl Into<ChildSpec>,
    ) -> Result<StartedChild, AdminError> {
        if self.is_bootstrap {
            return Err(AdminError::Refused(BOOTSTRAP));
        }
        self.workload.start_child(child).await
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.infrastructure.mesh.node()
    }

    /// The parts of the infrastructure tier, for those who want to look at them or to drill faults.
    #[must_use]
    pub const fn infrastructure(&self) -> &Infrastructure {
        &self.infrastructure
    }

    /// The mesh, from this node.
    #[must_use]
    pub const fn mesh(&self) -> &Mesh {
        &self.infrastructure.mesh
    }

    /// Another node, to find actors on.
    ///
    /// ```no_run
    /// # async fn example(node: macula_workload::Node, other: macula_workload::NodeId)
    /// # -> Result<(), macula_workload::remote::CallError> {
    /// let scoreboard = node.remote(other).handle::<String, u32>("workload/scoreboard");
    /// let points = scoreboard.call(&"ada".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn remote(&self, node: NodeId) -> Remote {
        self.infrastructure.mesh.remote(node)
    }

    /// Serves an actor of this node under a name: other nodes may ask it `Q` and get `R`. `message`
    /// makes the actor's own message of a question. The name is announced in the mesh, so that any
    /// node can [find](Self::locate) it.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the name is none or is taken, or this is a bootstrap node; nothing changed.
    pub fn serve<M, Q, R>(
        &self,
        name: &str,
        handle: &Handle<M>,
        message: impl Fn(Q, ReplyTo<R>) -> M + Send + Sync + 'static,
    ) -> Result<Serving, ServeError>
    where
        M: Send + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.infrastructure.mesh.serve(name, handle, message)
    }

    /// The node that serves an actor under a name: this one if it does.
    ///
    /// # Errors
    ///
    /// [`LocateError`] if nobody serves it, or the directory does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn locate(&self, name: &str) -> Result<Remote, LocateError> {
        self.infrastructure.mesh.locate(name).await
    }

    /// A typed handle to whoever serves an actor under a name, on any node of the mesh.
    ///
    /// ```no_run
    /// # async fn example(node: macula_workload::Node) -> Result<(), macula_workload::remote::CallError> {
    /// let scoreboard = node.named::<String, u32>("workload/scoreboard");
    /// let points = scoreboard.call(&"ada".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn named<Q, R>(&self, name: &str) -> NamedHandle<Q, R> {
        self.infrastructure.mesh.named(name)
    }

    /// Procedures, whoever provides them.
    #[must_use]
    pub const fn rpc(&self) -> &Rpc {
        self.infrastructure.mesh.rpc()
    }

    /// Topics, whoever publishes and subscribes.
    #[must_use]
    pub const fn pubsub(&self) -> &PubSub {
        self.infrastructure.mesh.pubsub()
    }

    /// The platform's last-writer-wins registers, which a bootstrap node does not run: the bucket `registers`
    /// of [`crdt`](Self::crdt), behind an actor that takes typed messages. Nodes that use theirs share them.
    #[must_use]
    pub const fn registers(&self) -> &Registers {
        &self.platform.registers
    }

    /// State that every node may write at any time, and that converges. A bootstrap node has none.
    ///
    /// ```no_run
    /// # async fn example(node: macula_workload::Node) -> Result<(), macula_workload::crdt::Error> {
    /// let players = node.crdt().or_set::<String>("lobby/players");
    /// players.add(&"ada".to_owned()).await?;
    /// assert!(players.contains(&"ada".to_owned()).await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn crdt(&self) -> &Crdts {
        &self.platform.types.crdts
    }

    /// The keys and values that the realm agrees upon.
    ///
    /// ```no_run
    /// # async fn example(node: macula_workload::Node) -> Result<(), macula_workload::kv::Error> {
    /// node.kv().put("config/limit", "10").await?;
    /// let limit = node.kv().get("config/limit").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn kv(&self) -> &Kv {
        &self.platform.agreement.kv
    }

    /// The elections of the realm: who leads in what, with a token that only grows.
    #[must_use]
    pub const fn elections(&self) -> &Elections {
        &self.platform.agreement.elections
    }

    /// Starts in the workload tier what runs on one node only of those that do this: the one that leads
    /// its election. The others wait for their turn.
    ///
    /// # Errors
    ///
    /// [`SingletonError`]; nothing was started.
    pub async fn spawn_singleton(
        &self,
        singleton: Singleton,
    ) -> Result<StartedChild, SingletonError> {
        Ok(self.start_workload(singleton.spec()?).await?)
    }

    /// The actor that carries what replicas say to each other, for those who drill faults.
    #[must_use]
    pub const fn replicator(&self) -> &crdt::Replicator {
        &self.platform.types
    }

    /// This node's part in the realm's agreement.
    #[must_use]
    pub const fn consensus(&self) -> &Consensus {
        &self.platform.agreement
    }

    /// The supervisor of the workload tier.
    #[must_use]
    pub const fn workload(&self) -> &SupervisorHandle {
        &self.workload
    }

    /// The supervisor at a path.
    #[must_use]
    pub fn supervisor(&self, path: &Path) -> Option<SupervisorHandle> {
        self.root.supervisor(path)
    }

    /// Everything that happens in the tree from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.root.events()
    }

    /// A picture of the tree as it stands.
    pub async fn snapshot(&self) -> TreeNode {
        self.root.snapshot().await
    }

    /// Waits until the node ends by itself, as after a meltdown of its root.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the reason can be asked for again.
    pub async fn wait(&self) -> ExitReason {
        self.root.wait().await
    }

    /// Stops the node in order: the workload first, then the platform, then the infrastructure.
    ///
    /// # Errors
    ///
    /// [`StopError::TooSlow`] if it takes longer than the bound of its configuration; what is left
    /// is then killed.
    pub async fn stop(self) -> Result<ExitReason, StopError> {
        drop(self.saved);
        self.infrastructure.mesh.membership().leave().await;
        let ended = match tokio::time::timeout(self.shutdown, self.root.stop()).await {
            Ok(reason) => Ok(reason),
            Err(_elapsed) => {
                self.root.kill();
                Err(StopError::TooSlow { bound: self.shutdown })
            }
        };
        // Whoever starts the node again finds its ports free.
        self.infrastructure.mesh.close_sockets().await;
        ended
    }
}
