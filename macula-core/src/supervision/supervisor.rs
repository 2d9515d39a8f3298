//! Supervisors: how one is specified, started and talked to.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell};
use tokio::sync::{Notify, broadcast, oneshot, watch};

use crate::clock::TokioClock;
use crate::path::{ChildId, InvalidId, Path};
use crate::shell::{Driver, Inbox, Shell};

use super::actor::{Boss, SupervisorActor};
use super::error::{AdminError, StartError};
use super::event::Event;
use super::exit::ExitReason;
use super::guard::{ExitGuard, Tell};
use super::policy::{AutoShutdown, Backoff, ChildPolicy, Flags, Restart, Shutdown, Strategy};
use super::proto::{
    ChildInfo, ChildState, Counts, Input, Key, Outlook, Plan, Reply, Request, Spec, Target, Ticket,
};
use super::slot::{Place, Presence};
use super::spec::{ChildSpec, ExitHook, Launch, Launcher, Live, Order, Outcome, StartContext};
use super::tree::{Tree, TreeNode, TreeOptions, picture};

/// How many requests from outside wait for one supervisor.
const REQUESTS_LEN_MAX: usize = 16_384;

/// Ranks below this are those of the list that a durable supervisor began with.
const LISTED_MAX: u64 = 1 << 32;

/// How long a picture of the tree waits for one supervisor.
const PICTURE_PATIENCE: Duration = Duration::from_secs(1);

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

    /// The longest time for which one of its turns, or its start, may run.
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
        let known = self.list.iter().zip(0..);
        let roster = self.durable.then(|| {
            let listed =
                known.filter_map(|(child, rank)| Some((child.id.clone()?, (rank, child.clone()))));
            Arc::new(Mutex::new(listed.collect::<BTreeMap<_, _>>()))
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
            tell: Tell::Waiter(tell),
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
                tree.coroner().stop();
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

/// The specs that a durable supervisor starts again, with the order in which they came.
type Roster = Arc<Mutex<BTreeMap<ChildId, (u64, ChildSpec)>>>;

struct SupervisorLaunch {
    flags: Flags,
    children: Children,
    listed: Vec<ChildSpec>,
    hook: Option<ExitHook>,
    init: Option<InitHook>,
    roster: Option<Roster>,
    place: Arc<SupervisorPlace>,
}

impl SupervisorLaunch {
    /// Asks `init`; the outcome if there is nothing to run.
    fn refusal(&self, path: &Path, incarnation: u64) -> Option<Outcome> {
        let init = self.init.as_ref()?;
        let context = StartContext { path: path.clone(), incarnation };
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| init(&context))) {
            Ok(Ok(Init::Run)) => None,
            Ok(Ok(Init::Ignore)) => Some(Outcome::Ignored),
            Ok(Err(reason)) => Some(Outcome::Failed(reason)),
            Err(_) => Some(Outcome::Failed(ExitReason::panic("the init function panicked", None))),
        }
    }

    fn plan(&self, path: &Path, tree: &Tree) -> Result<Plan<Launcher>, AdminError> {
        let flags = tree.overrides.get(path).apply_flags(self.flags);
        self.place.set_flags(flags);
        let entropy = tree.fork_entropy();
        let with_policy = |child: &ChildSpec| {
            let said = child.id.as_ref().map(|id| tree.overrides.get(&path.join(id)));
            plan_spec(child, said.unwrap_or_default().apply(child.policy))
        };
        let remembered = self.roster.as_ref().map(|roster| {
            let mut specs: Vec<_> = roster.lock().values().cloned().collect();
            specs.sort_by_key(|(rank, _)| *rank);
            specs.into_iter().map(|(_, child)| child).collect::<Vec<_>>()
        });
        match &self.children {
            Children::List(list) => {
                let list = remembered.as_deref().unwrap_or(list);
                Plan::with_list(flags, list.iter().map(with_policy).collect(), entropy)
            }
            Children::Dynamic { .. } if self.roster.is_none() && !self.listed.is_empty() => {
                Err(AdminError::Dynamic)
            }
            Children::Dynamic { max } => {
                let list = remembered.unwrap_or_default();
                Plan::dynamic(flags, *max, list.iter().map(with_policy).collect(), entropy)
            }
        }
    }
}

impl Launch for SupervisorLaunch {
    fn launch(&self, order: Order) -> BoxFuture<'static, Outcome> {
        let Order { path, incarnation, tell, parent, tree, cancel } = order;
        if let Some(outcome) = self.refusal(&path, incarnation) {
            return Box::pin(async move { outcome });
        }
        let plan = match self.plan(&path, &tree) {
            Ok(plan) => plan,
            Err(error) => {
                let reason = ExitReason::from_error(&error);
                return Box::pin(async move { Outcome::Failed(reason) });
            }
        };
        let place = Arc::clone(&self.place);
        place.settle_in(&path, &tree);
        tree.enter(path.clone(), SupervisorHandle(Arc::clone(&place)));
        let erased = Arc::clone(&place) as Arc<dyn Place>;
        let guard =
            ExitGuard::new(path.clone(), incarnation, erased, self.hook.clone(), tell, parent);
        let inbox = Inbox::new(REQUESTS_LEN_MAX);
        inbox.push(Input::Boot);
        let desk = Arc::new(Desk { roster: self.roster.clone(), ..Desk::default() });
        let (ready, booted) = oneshot::channel();
        let boss = Boss::new(path, tree, guard, Arc::clone(&desk), ready, self.place.dynamic);
        let driver = Driver::new(plan, boss, TokioClock, inbox.clone());
        Box::pin(boot(driver, inbox, desk, place, incarnation, (booted, cancel)))
    }

    fn place(&self) -> Arc<dyn Place> {
        Arc::clone(&self.place) as Arc<dyn Place>
    }

    fn children(&self) -> &[ChildSpec] {
        &self.listed
    }

    fn supervisor(&self) -> Option<(Flags, bool)> {
        Some((self.flags, matches!(self.children, Children::Dynamic { .. })))
    }
}

type Booted = oneshot::Receiver<Result<(), ExitReason>>;

async fn boot(
    driver: Driver<Plan<Launcher>, Boss, TokioClock>,
    inbox: Inbox<Input<Launcher>>,
    desk: Arc<Desk>,
    place: Arc<SupervisorPlace>,
    incarnation: u64,
    (mut booted, cancel): (Booted, oneshot::Receiver<()>),
) -> Outcome {
    let actor: SupervisorActor = Shell::default();
    let (actor, task) = match Actor::spawn(None, actor, driver).await {
        Ok(spawned) => spawned,
        Err(error) => return Outcome::Failed(ExitReason::from_error(&error)),
    };
    drop(task);
    let office = Arc::new(Office { inbox, desk, cell: actor.get_cell() });
    let fallen = StopOnDrop(Some(Arc::clone(&office)));
    place.open(&office, incarnation);
    let result = tokio::select! {
        biased;
        result = &mut booted => result,
        // The start is given up: what has started is stopped in order, and then it has failed.
        _ = cancel => {
            office.stop(ExitReason::Cancelled);
            booted.await
        }
    };
    fallen.forget();
    match result {
        Ok(Ok(())) => Outcome::Up(Live { cell: actor.get_cell(), office: Some(office) }, None),
        Ok(Err(reason)) => Outcome::Failed(reason),
        Err(_killed) => Outcome::Failed(ExitReason::Killed),
    }
}

/// Stops a supervisor whose start nobody waits for any more.
struct StopOnDrop(Option<Arc<Office>>);

impl StopOnDrop {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(office) = &self.0 {
            office.stop(ExitReason::Cancelled);
        }
    }
}

/// Where requests wait for their replies.
#[derive(Debug, Default)]
pub(super) struct Desk {
    next: AtomicU64,
    open: Mutex<BTreeMap<Ticket, oneshot::Sender<Reply>>>,
    roster: Option<Roster>,
}

impl Desk {
    pub(super) fn answer(&self, ticket: Ticket, reply: Reply) {
        let asker = self.open.lock().remove(&ticket);
        if let Some(asker) = asker {
            // The asker may have gone.
            drop(asker.send(reply));
        }
    }

    pub(super) const fn is_durable(&self) -> bool {
        self.roster.is_some()
    }

    /// A child has left the list, and does not come back with the supervisor.
    pub(super) fn forget(&self, id: &ChildId) {
        if let Some(roster) = &self.roster {
            roster.lock().remove(id);
        }
    }

    /// Nobody will answer any more.
    pub(super) fn close(&self) {
        self.open.lock().clear();
    }
}

/// One incarnation of a supervisor, as others reach it.
pub(super) struct Office {
    inbox: Inbox<Input<Launcher>>,
    desk: Arc<Desk>,
    cell: ActorCell,
}

impl Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("cell", &self.cell).finish_non_exhaustive()
    }
}

impl Office {
    pub(super) fn stop(&self, reason: ExitReason) {
        self.inbox.push(Input::Stop(reason));
    }

    fn ask(&self, request: Request<Launcher>) -> Result<oneshot::Receiver<Reply>, AdminError> {
        let ticket = Ticket(self.desk.next.fetch_add(1, Ordering::Relaxed));
        let (asker, reply) = oneshot::channel();
        self.desk.open.lock().insert(ticket, asker);
        self.inbox.try_push(Input::Request { ticket, request }).map_err(|_full| {
            self.desk.open.lock().remove(&ticket);
            AdminError::Busy
        })?;
        Ok(reply)
    }
}

struct Standing {
    presence: Presence,
    incarnation: u64,
    office: Option<Arc<Office>>,
    flags: Flags,
}

/// A supervisor's place in the tree: what outlives its incarnations.
pub(super) struct SupervisorPlace {
    home: OnceLock<(Path, Arc<Tree>)>,
    dynamic: bool,
    below: Below,
    standing: Mutex<Standing>,
    change: Notify,
}

/// The children that come and go with a supervisor.
struct Below {
    listed: Vec<ChildSpec>,
    roster: Option<Roster>,
}

impl Below {
    fn outlook(&self, outlook: Outlook) {
        let specs = match &self.roster {
            Some(roster) => roster.lock().values().map(|(_, child)| child.clone()).collect(),
            None => self.listed.clone(),
        };
        for child in specs {
            child.launcher.0.place().outlook(outlook);
        }
    }
}

impl SupervisorPlace {
    fn new(flags: Flags, dynamic: bool, below: Below) -> Self {
        let standing = Standing { presence: Presence::Unborn, incarnation: 0, office: None, flags };
        Self {
            home: OnceLock::new(),
            dynamic,
            below,
            standing: Mutex::new(standing),
            change: Notify::new(),
        }
    }

    fn set_flags(&self, flags: Flags) {
        self.standing.lock().flags = flags;
    }

    fn open(&self, office: &Arc<Office>, incarnation: u64) {
        let mut standing = self.standing.lock();
        standing.presence = Presence::Up;
        standing.incarnation = incarnation;
        standing.office = Some(Arc::clone(office));
        drop(standing);
        self.change.notify_waiters();
    }
}

impl Place for SupervisorPlace {
    fn settle_in(&self, path: &Path, tree: &Arc<Tree>) {
        self.home.get_or_init(|| (path.clone(), Arc::clone(tree)));
    }

    fn close(&self, incarnation: u64) {
        let mut standing = self.standing.lock();
        if standing.incarnation == incarnation {
            standing.presence = Presence::Restarting;
            standing.office = None;
        }
        drop(standing);
        self.change.notify_waiters();
    }

    fn outlook(&self, outlook: Outlook) {
        let mut standing = self.standing.lock();
        if standing.presence != Presence::Up {
            standing.presence = match outlook {
                Outlook::Restarting => Presence::Restarting,
                Outlook::Down => Presence::Down,
                Outlook::Gone => Presence::Gone,
            };
        }
        drop(standing);
        if outlook != Outlook::Restarting {
            self.below.outlook(outlook);
        }
        if outlook == Outlook::Gone
            && let Some((path, tree)) = self.home.get()
        {
            tree.leave(path);
        }
        self.change.notify_waiters();
    }

    fn lives(&self) -> u64 {
        self.standing.lock().incarnation
    }

    fn beats(&self) -> u64 {
        // A supervisor's turns are short and never wait; one that does not beat is not hung.
        0
    }
}

/// A stable handle to a supervisor: it names a place and survives restarts.
#[derive(Clone)]
pub struct SupervisorHandle(Arc<SupervisorPlace>);

impl Debug for SupervisorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SupervisorHandle").field(&self.path()).finish()
    }
}

/// A child that was started through a handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartedChild {
    /// It runs.
    Running {
        /// The key, for requests about a child of a dynamic supervisor.
        key: Key,
        /// Its id.
        id: ChildId,
        /// What it said of itself.
        info: Option<String>,
    },
    /// It chose not to run.
    Ignored,
}

impl SupervisorHandle {
    /// Where it stands; none before its first start.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        self.0.home.get().map(|(path, _)| path.clone())
    }

    /// Whether it is there.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.0.standing.lock().presence
    }

    /// The number of its current or last life.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.standing.lock().incarnation
    }

    /// Its flags, with what configuration says of them.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.0.standing.lock().flags
    }

    /// Whether it is a dynamic one.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.0.dynamic
    }

    /// The actor of the current incarnation.
    #[must_use]
    pub fn cell(&self) -> Option<ActorCell> {
        self.0.standing.lock().office.as_ref().map(|office| office.cell.clone())
    }

    /// Waits until it has ended for good or for now, and says whether to expect it again.
    pub async fn ended(&self) -> Presence {
        loop {
            let change = self.0.change.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            match self.presence() {
                Presence::Up | Presence::Unborn => change.await,
                presence @ (Presence::Restarting | Presence::Down | Presence::Gone) => {
                    return presence;
                }
            }
        }
    }

    async fn ask(&self, request: Request<Launcher>) -> Result<Reply, AdminError> {
        let office = self.0.standing.lock().office.clone().ok_or(AdminError::Unavailable)?;
        let reply = office.ask(request)?;
        drop(office);
        match reply.await {
            Ok(Reply::Refused(error)) => Err(error),
            Ok(reply) => Ok(reply),
            Err(_closed) => Err(AdminError::Unavailable),
        }
    }

    /// OTP's `start_child`: puts a child on the list and starts it.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; a child that was refused or failed to start is not listed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child may start all the same.
    pub async fn start_child(
        &self,
        child: impl Into<ChildSpec>,
    ) -> Result<StartedChild, AdminError> {
        let child = child.into();
        let spec = plan_spec(&child, self.policy_of(&child));
        let started = started(self.ask(Request::Start(spec)).await?);
        self.remember(&started, child);
        Ok(started)
    }

    fn policy_of(&self, child: &ChildSpec) -> ChildPolicy {
        match (&child.id, self.0.home.get()) {
            (Some(id), Some((path, tree))) => {
                tree.overrides.get(&path.join(id)).apply(child.policy)
            }
            _ => child.policy,
        }
    }

    fn remember(&self, started: &StartedChild, child: ChildSpec) {
        let office = self.0.standing.lock().office.clone();
        if let (Some(office), StartedChild::Running { id, .. }) = (office, started)
            && let Some(roster) = &office.desk.roster
            && child.policy.restart != Restart::Temporary
        {
            let rank = office.desk.next.load(Ordering::Relaxed) + LISTED_MAX;
            let child = ChildSpec { id: Some(id.clone()), ..child };
            roster.lock().insert(id.clone(), (rank, child));
        }
    }

    /// OTP's `terminate_child`: stops a child and waits until it is down. A temporary child, and
    /// any of a dynamic supervisor, leaves the list.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`], or that the supervisor is not there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the child is stopped all the same.
    pub async fn terminate_child(&self, target: impl Into<Target>) -> Result<(), AdminError> {
        self.ask(Request::Terminate(target.into())).await.map(drop)
    }

    /// OTP's `restart_child`: starts a child that is listed and down.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; a child that fails to start stays listed and down.
    pub async fn restart_child(
        &self,
        target: impl Into<Target>,
    ) -> Result<StartedChild, AdminError> {
        self.ask(Request::Restart(target.into())).await.map(started)
    }

    /// OTP's `delete_child`: takes a child that is down off the list.
    ///
    /// # Errors
    ///
    /// [`AdminError`], if it runs or is about to.
    pub async fn delete_child(&self, target: impl Into<Target>) -> Result<(), AdminError> {
        self.ask(Request::Delete(target.into())).await.map(drop)
    }

    /// Ends the wait of a child in back-off: it is started at once. Nothing for any other child.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`], or that the supervisor is not there.
    pub async fn retry_child(&self, target: impl Into<Target>) -> Result<(), AdminError> {
        self.ask(Request::Retry(target.into())).await.map(drop)
    }

    /// OTP's `which_children`, in start order.
    ///
    /// # Errors
    ///
    /// That the supervisor is not there.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, AdminError> {
        match self.ask(Request::Which).await? {
            Reply::Children(children) => Ok(children),
            _ => Err(AdminError::Unavailable),
        }
    }

    /// OTP's `which_child` and `get_childspec`.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`], or that the supervisor is not there.
    pub async fn which_child(&self, target: impl Into<Target>) -> Result<ChildInfo, AdminError> {
        match self.ask(Request::WhichOne(target.into())).await? {
            Reply::Child(child) => Ok(*child),
            _ => Err(AdminError::Unavailable),
        }
    }

    /// OTP's `count_children`.
    ///
    /// # Errors
    ///
    /// That the supervisor is not there.
    pub async fn count_children(&self) -> Result<Counts, AdminError> {
        match self.ask(Request::Count).await? {
            Reply::Counts(counts) => Ok(counts),
            _ => Err(AdminError::Unavailable),
        }
    }

    /// OTP's `code_change`: takes flags and list from another spec while everything runs on.
    ///
    /// Children that run go on under their new policy; new ones are listed and not started; none
    /// is removed. It lasts until the supervisor itself is restarted, which begins again with the
    /// spec that it was started from.
    ///
    /// # Errors
    ///
    /// [`AdminError`] for the first thing that is wrong; then nothing changed.
    pub async fn reconfigure(&self, supervisor: Supervisor) -> Result<(), AdminError> {
        let flags = supervisor.flags;
        let specs = supervisor.list.iter().map(|child| plan_spec(child, self.policy_of(child)));
        self.ask(Request::Reconfigure { flags, specs: specs.collect() }).await?;
        self.0.set_flags(flags);
        Ok(())
    }

    /// Stops it in order, as its supervisor would.
    pub fn stop(&self) {
        let office = self.0.standing.lock().office.clone();
        if let Some(office) = office {
            office.stop(ExitReason::Shutdown);
        }
    }
}

fn started(reply: Reply) -> StartedChild {
    match reply {
        Reply::Started { key, id, info } => StartedChild::Running { key, id, info },
        _ => StartedChild::Ignored,
    }
}

impl From<Key> for Target {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}

impl From<ChildId> for Target {
    fn from(id: ChildId) -> Self {
        Self::Id(id)
    }
}

/// A tree that runs.
#[derive(Debug)]
pub struct Root {
    handle: SupervisorHandle,
    tree: Arc<Tree>,
    ended: watch::Receiver<Option<ExitReason>>,
}

impl Root {
    /// The root supervisor.
    #[must_use]
    pub const fn handle(&self) -> &SupervisorHandle {
        &self.handle
    }

    /// Everything that happens in the tree from now on. A listener that is too slow is told how
    /// many events it lost.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.tree.listen()
    }

    /// The supervisor at a path.
    #[must_use]
    pub fn supervisor(&self, path: &Path) -> Option<SupervisorHandle> {
        self.tree.supervisor(path)
    }

    /// A picture of the tree as it stands.
    pub async fn snapshot(&self) -> TreeNode {
        let presence = self.handle.presence();
        let node = TreeNode {
            path: Path::root(),
            kind: super::policy::ChildKind::Supervisor,
            state: if presence == Presence::Up { ChildState::Running } else { ChildState::Down },
            restart: Restart::Temporary,
            strategy: None,
            dynamic: false,
            incarnation: self.handle.incarnation(),
            restarts: 0,
            last_exit: None,
            up_ms: None,
            children: Vec::new(),
        };
        picture(Arc::clone(&self.tree), node, PICTURE_PATIENCE).await
    }

    /// Waits for the end, and says why it came.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost: it can be asked again.
    pub async fn wait(&self) -> ExitReason {
        let mut ended = self.ended.clone();
        let reason = match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Cancelled),
            Err(_gone) => ExitReason::Cancelled,
        };
        self.tree.coroner().stop();
        reason
    }

    /// Stops the tree in order and waits for its end.
    pub async fn stop(&self) -> ExitReason {
        self.handle.stop();
        self.wait().await
    }

    /// Kills the root. Its children are killed with it, in no order.
    pub fn kill(&self) {
        if let Some(cell) = self.handle.cell() {
            cell.kill();
        }
    }
}
