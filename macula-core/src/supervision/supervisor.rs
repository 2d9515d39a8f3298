//! Supervisors: how one is specified, started and talked to.

mod handle;
mod launch;
mod office;
mod place;
mod root;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::path::{ChildId, InvalidId, Path};

use super::error::{AdminError, StartError};
use super::exit::ExitReason;
use super::guard::Tell;
use super::policy::{AutoShutdown, Backoff, ChildPolicy, Flags, Restart, Shutdown, Strategy};
use super::proto::{Plan, Spec};
use super::spec::{ChildSpec, ExitHook, Launch, Launcher, Order, Outcome, StartContext};
use super::tree::{Tree, TreeOptions};

use launch::SupervisorLaunch;
use place::{Below, Roster, SupervisorPlace};

pub use handle::{StartedChild, SupervisorHandle};
pub(super) use office::{Desk, Office};
pub use root::Root;

/// The children of a supervisor: a list with an order, or as many as come.
#[derive(Debug, Clone)]
enum Children {
    List(Arc<[ChildSpec]>),
    Dynamic { max: usize },
}

/// What a supervisor's `init` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Start the children.
    Run,
    /// Do not run. OTP's `ignore`.
    Ignore,
}

/// What decides at the begin of each life whether a supervisor runs.
type InitHook = Arc<dyn Fn(&StartContext) -> Result<Init, ExitReason> + Send + Sync>;

/// A supervisor: its flags, its children, and its own policy as somebody's child.
///
/// The defaults are OTP's: `one_for_one`, one restart in five seconds, no auto-shutdown.
#[derive(Clone)]
pub struct Supervisor {
    id: ChildId,
    flags: Flags,
    policy: ChildPolicy,
    dynamic: Option<usize>,
    list: Vec<ChildSpec>,
    durable: bool,
    hook: Option<ExitHook>,
    init: Option<InitHook>,
}

impl Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("id", &self.id)
            .field("flags", &self.flags)
            .field("dynamic", &self.dynamic)
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor with a list of children, which is empty so far.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the id is not one.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
        Ok(Self {
            id: ChildId::new(id.into())?,
            flags: Flags::default(),
            policy: ChildPolicy::supervisor(),
            dynamic: None,
            list: Vec::new(),
            durable: false,
            hook: None,
            init: None,
        })
    }

    /// A dynamic supervisor: children come and go at run time, up to `children_max`, without an
    /// order. OTP's `simple_one_for_one`, Elixir's `DynamicSupervisor`.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the id is not one.
    pub fn dynamic(id: impl Into<String>, children_max: usize) -> Result<Self, InvalidId> {
        Ok(Self { dynamic: Some(children_max), ..Self::new(id)? })
    }

    /// Which siblings a failure takes along.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags.strategy = strategy;
        self
    }

    /// How many restarts are allowed in `period`; one more, and the supervisor gives up.
    #[must_use]
    pub fn intensity(mut self, intensity: u32, period: Duration) -> Self {
        self.flags.intensity = intensity;
        self.flags.period = period;
        self
    }

    /// When the end of significant children ends the supervisor.
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.flags.auto_shutdown = auto_shutdown;
        self
    }

    /// Adds a child at the end of the list.
    #[must_use]
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.list.push(child.into());
        self
    }

    /// When it is restarted, as somebody's child.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// How it is stopped, as somebody's child.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.policy.shutdown = shutdown;
        self
    }

    /// Whether its end counts for its supervisor's auto-shutdown.
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.policy.significant = significant;
        self
    }

    /// How long its restarts wait.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// The longest time that its start may take, with those of all its children. Once it is up it is
    /// not probed: its own turns are short and never wait.
    #[must_use]
    pub fn liveness(mut self, bound: Duration) -> Self {
        self.policy.liveness = Some(bound);
        self
    }

    /// What runs whenever one of its lives has ended.
    #[must_use]
    pub fn on_exit(self, hook: impl Fn(&ExitReason) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)), ..self }
    }

    /// What is asked at the begin of each life, before any child starts: OTP's `init`. An error or
    /// a panic is a failed start; [`Init::Ignore`] is a supervisor that is listed and not running.
    #[must_use]
    pub fn init(
        self,
        init: impl Fn(&StartContext) -> Result<Init, ExitReason> + Send + Sync + 'static,
    ) -> Self {
        Self { init: Some(Arc::new(init)), ..self }
    }

    /// Makes children that were started at run time come back when the supervisor itself is
    /// restarted, unless they are temporary. OTP forgets them. A dynamic supervisor that is durable
    /// may begin with a list of children.
    #[must_use]
    pub fn durable(self) -> Self {
        Self { durable: true, ..self }
    }

    /// Checks the flags and the list, as OTP's `check_childspecs` does, without starting anything.
    ///
    /// # Errors
    ///
    /// What is wrong with the flags, or with the first spec that is.
    pub fn check(&self) -> Result<(), AdminError> {
        let specs = self.list.iter().map(|child| plan_spec(child, child.policy)).collect();
        let entropy = crate::entropy::Entropy::from_seed(0);
        match self.dynamic {
            None => Plan::with_list(self.flags, specs, entropy).map(drop),
            Some(_) if !self.list.is_empty() && !self.durable => Err(AdminError::Dynamic),
            Some(max) => Plan::<Launcher>::dynamic(self.flags, max, Vec::new(), entropy).map(drop),
        }
    }

    /// The spec for another supervisor's list, and the handle to this one.
    #[must_use]
    pub fn split(self) -> (ChildSpec, SupervisorHandle) {
        let (id, policy) = (self.id.clone(), self.policy);
        let (launch, handle) = self.launch();
        (ChildSpec { id: Some(id), policy, launcher: Launcher(Arc::new(launch)) }, handle)
    }

    fn launch(self) -> (SupervisorLaunch, SupervisorHandle) {
        let children = match self.dynamic {
            Some(max) => Children::Dynamic { max },
            None => Children::List(self.list.clone().into()),
        };
        let roster = self.durable.then(|| {
            let mut roster = Roster::default();
            self.list.iter().for_each(|child| roster.add(child.clone()));
            Arc::new(Mutex::new(roster))
        });
        let below = Below { listed: self.list.clone(), roster: roster.clone() };
        let place = Arc::new(SupervisorPlace::new(self.flags, self.dynamic.is_some(), below));
        let launch = SupervisorLaunch {
            flags: self.flags,
            children,
            listed: self.list,
            hook: self.hook,
            init: self.init,
            roster,
            place: Arc::clone(&place),
        };
        (launch, SupervisorHandle(place))
    }

    /// Starts it as the root of a tree of its own, and waits until all its children are up.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a spec has no meaning, or a child does not start; what had started was
    /// stopped again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, what had started is stopped.
    pub async fn start(self, options: TreeOptions) -> Result<Root, StartError> {
        self.check().map_err(|source| StartError::Illegal { supervisor: "root".into(), source })?;
        let tree = Tree::new(options).await.map_err(StartError::Failed)?;
        let (launch, handle) = self.launch();
        let (tell, ended) = watch::channel(None);
        let (never, cancel) = oneshot::channel();
        let order = Order {
            path: Path::root(),
            incarnation: 1,
            tell: Tell::Waiter(tell, Arc::clone(&tree)),
            parent: None,
            tree: Arc::clone(&tree),
            cancel,
        };
        let outcome = launch.launch(order).await;
        drop(never);
        match outcome {
            Outcome::Up(_, _) => Ok(Root { handle, tree, ended }),
            Outcome::Ignored => {
                tree.coroner().stop();
                Err(StartError::Ignored)
            }
            Outcome::Failed(reason) => {
                tree.close();
                Err(StartError::Failed(reason))
            }
        }
    }
}

impl From<Supervisor> for ChildSpec {
    fn from(supervisor: Supervisor) -> Self {
        supervisor.split().0
    }
}

fn plan_spec(child: &ChildSpec, policy: ChildPolicy) -> Spec<Launcher> {
    let lives = child.launcher.0.place().lives();
    Spec { id: child.id.clone(), policy, lives, payload: child.launcher.clone() }
}
