//! A node: the tree of the three tiers, and a user's way into it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use macula_core::path::{InvalidId, Path};
use macula_core::supervision::{
    AdminError, ChildSpec, Event, ExitReason, Handle, Root, StartError, StartedChild, Supervisor,
    SupervisorHandle, TreeNode, TreeOptions, Worker,
};
use macula_platform::registers::Registers;
use macula_platform::tier::Platform;
use ractor::Actor;
use tokio::sync::broadcast;

use crate::config::{self, Config};

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
    /// An id that the tree needs is not one; never for the built-in tiers.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
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
        let Tree { root, platform, workload } = tree(&self.config, self.workloads)?;
        let overrides = self.config.overrides(&ChildSpec::from(root.clone()))?;
        let root = root.start(TreeOptions { overrides, entropy: None }).await?;
        Ok(Node { root, platform, workload, shutdown: self.config.node.shutdown })
    }
}

struct Tree {
    root: Supervisor,
    platform: Platform,
    workload: SupervisorHandle,
}

/// The tree of a node, with these children in its workload tier.
fn tree(config: &Config, workloads: Vec<ChildSpec>) -> Result<Tree, Error> {
    let mut number = DefaultHasher::new();
    config.node.name.hash(&mut number);
    let (platform_spec, platform) =
        macula_platform::tier::spec(config.platform.registers, number.finish())?;
    let (infrastructure, _parts) = macula_infra::tier::spec()?;
    let workload = Supervisor::dynamic("workload", WORKLOADS_MAX)?
        .durable()
        .intensity(5, Duration::from_secs(10));
    let workload = workloads.into_iter().fold(workload, Supervisor::child);
    let (workload_spec, workload) = workload.split();
    let root = Supervisor::new("root")?
        .intensity(10, Duration::from_secs(60))
        .child(infrastructure)
        .child(platform_spec)
        .child(workload_spec);
    Ok(Tree { root, platform, workload })
}

/// The tree that every node has, with an empty workload tier: what configuration can speak of.
///
/// # Errors
///
/// Never: the ids of the built-in tiers are ids.
pub fn declared_tree() -> Result<ChildSpec, Error> {
    tree(&Config::default(), Vec::new()).map(|tree| tree.root.into())
}

/// A node that runs, until it is [stopped](Self::stop). A node that is dropped goes on running.
#[derive(Debug)]
pub struct Node {
    root: Root,
    platform: Platform,
    workload: SupervisorHandle,
    shutdown: Duration,
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
    /// listed.
    pub async fn spawn<A: Actor>(&self, worker: Worker<A>) -> Result<Handle<A::Msg>, AdminError> {
        let (spec, handle) = worker.split();
        self.workload.start_child(spec).await?;
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
        self.workload.start_child(spec).await?;
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
        self.workload.start_child(child).await
    }

    /// The platform's last-writer-wins registers.
    #[must_use]
    pub const fn registers(&self) -> &Registers {
        &self.platform.registers
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
        match tokio::time::timeout(self.shutdown, self.root.stop()).await {
            Ok(reason) => Ok(reason),
            Err(_elapsed) => {
                self.root.kill();
                Err(StopError::TooSlow { bound: self.shutdown })
            }
        }
    }
}
