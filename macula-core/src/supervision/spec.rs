//! What a child is: how it is built, its policy, and what starts it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, SpawnErr};
use tokio::sync::oneshot;

use crate::path::{ChildId, InvalidId, Path};
use crate::shell::Inbox;

use super::exit::{ExitReason, Ignore};
use super::guard::{ExitGuard, Tell};
use super::handle::Handle;
use super::mailbox::Mailbox;
use super::policy::{Backoff, ChildPolicy, Restart, Shutdown};
use super::proto::{Input, Key};
use super::slot::{Place, Slot};
use super::supervisor::Office;
use super::tree::Tree;
use super::worker::Supervised;

/// What runs whenever an incarnation has ended, however it did.
pub(super) type ExitHook = Arc<dyn Fn(&ExitReason) + Send + Sync>;

/// What a child's start function is told.
#[derive(Debug, Clone)]
pub struct StartContext {
    /// Where the child stands.
    pub path: Path,
    /// Which of its lives begins; the first is 1.
    pub incarnation: u64,
}

/// What a child's start function decides.
#[derive(Debug)]
pub enum Start<A: Actor> {
    /// Run this actor with these arguments.
    Run(A, A::Arguments),
    /// Run it, and hand something about it to whoever asked for the start. OTP's `{ok, Pid, Info}`.
    RunWithInfo(A, A::Arguments, String),
    /// Do not run. OTP's `ignore`.
    Ignore,
}

/// A child of any type, as a supervisor's list has it.
///
/// A spec has one place in one tree, and so has its clone: a second start while the first runs
/// fails. Many children of one kind are many specs: make one for each.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) id: Option<ChildId>,
    pub(super) policy: ChildPolicy,
    pub(super) launcher: Launcher,
}

impl Debug for ChildSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl ChildSpec {
    /// The id; none for a child that its dynamic supervisor numbers.
    #[must_use]
    pub const fn id(&self) -> Option<&ChildId> {
        self.id.as_ref()
    }

    /// The policy, before what configuration says of it.
    #[must_use]
    pub const fn policy(&self) -> &ChildPolicy {
        &self.policy
    }

    /// The same child under another policy.
    #[must_use]
    pub fn with_policy(self, policy: ChildPolicy) -> Self {
        Self { policy, ..self }
    }

    /// The same child, which is not started unless something is so at that moment: neither the first
    /// time nor when it is restarted. The reason that is given otherwise is that of a failed start.
    /// `may` must not block.
    #[must_use]
    pub fn start_if(
        self,
        may: impl Fn() -> Result<(), ExitReason> + Send + Sync + 'static,
    ) -> Self {
        let launch = ConditionalLaunch { launcher: self.launcher, may: Box::new(may) };
        Self { launcher: Launcher(Arc::new(launch)), ..self }
    }

    /// The specs of the children, if this is a supervisor with a list.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        self.launcher.0.children()
    }

    /// The flags, if this is a supervisor, and whether it is a dynamic one.
    #[must_use]
    pub fn supervisor(&self) -> Option<(super::policy::Flags, bool)> {
        self.launcher.0.supervisor()
    }
}

/// What starts a child, again and again.
#[derive(Clone)]
pub(super) struct Launcher(pub(super) Arc<dyn Launch>);

impl Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Launcher")
    }
}

/// All that one start needs to know.
pub(super) struct Order {
    pub(super) path: Path,
    pub(super) incarnation: u64,
    pub(super) tell: Tell,
    pub(super) parent: Option<Arc<ExitGuard>>,
    pub(super) tree: Arc<Tree>,
    /// Resolves when the start is given up.
    pub(super) cancel: oneshot::Receiver<()>,
}

impl Order {
    pub(super) const fn tell(inbox: Inbox<Input<Launcher>>, key: Key, incarnation: u64) -> Tell {
        Tell::Parent { inbox, key, incarnation }
    }
}

/// How a start went.
pub(super) enum Outcome {
    Up(Live, Option<String>),
    Ignored,
    Failed(ExitReason),
}

/// A child that runs.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) cell: ActorCell,
    /// A supervisor is stopped through its office, so that it hears its children's last words.
    pub(super) office: Option<Arc<Office>>,
}

impl Live {
    pub(super) fn stop(&self) {
        match &self.office {
            Some(office) => office.stop(ExitReason::Shutdown),
            None => self.cell.stop(Some("shutdown".to_owned())),
        }
    }
}

pub(super) trait Launch: Send + Sync {
    fn launch(&self, order: Order) -> BoxFuture<'static, Outcome>;
    fn place(&self) -> Arc<dyn Place>;
    fn children(&self) -> &[ChildSpec] {
        &[]
    }
    fn supervisor(&self) -> Option<(super::policy::Flags, bool)> {
        None
    }
}

/// A child that is started on a condition.
struct ConditionalLaunch {
    launcher: Launcher,
    may: Box<dyn Fn() -> Result<(), ExitReason> + Send + Sync>,
}

impl Launch for ConditionalLaunch {
    fn launch(&self, order: Order) -> BoxFuture<'static, Outcome> {
        let may = std::panic::AssertUnwindSafe(|| (self.may)());
        let refused = match std::panic::catch_unwind(may) {
            Ok(Ok(())) => return self.launcher.0.launch(order),
            Ok(Err(reason)) => reason,
            Err(_) => ExitReason::panic("the condition of the start panicked", None),
        };
        Box::pin(async move { Outcome::Failed(refused) })
    }

    fn place(&self) -> Arc<dyn Place> {
        self.launcher.0.place()
    }

    fn children(&self) -> &[ChildSpec] {
        self.launcher.0.children()
    }

    fn supervisor(&self) -> Option<(super::policy::Flags, bool)> {
        self.launcher.0.supervisor()
    }
}

type Make<A> = dyn Fn(&StartContext) -> Result<Start<A>, ExitReason> + Send + Sync;

/// A worker: a ractor actor, how to make it, and its policy.
///
/// ```
/// use macula_core::supervision::{Restart, Worker};
/// use ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// struct Echo;
/// impl Actor for Echo {
///     type Msg = String;
///     type State = ();
///     type Arguments = ();
///     async fn pre_start(&self, _: ActorRef<String>, (): ()) -> Result<(), ActorProcessingErr> {
///         Ok(())
///     }
/// }
///
/// let worker = Worker::new("echo", || (Echo, ()))?.restart(Restart::Transient);
/// let (spec, handle) = worker.split();
/// assert_eq!(spec.id().unwrap().as_str(), "echo");
/// assert!(handle.cast("too early".into()).is_err());
/// # Ok::<(), macula_core::path::InvalidId>(())
/// ```
pub struct Worker<A: Actor> {
    id: Option<ChildId>,
    policy: ChildPolicy,
    mailbox: Mailbox,
    hook: Option<ExitHook>,
    make: Arc<Make<A>>,
}

impl<A: Actor> Debug for Worker<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("policy", &self.policy)
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

impl<A: Actor> Worker<A> {
    /// A permanent worker with an id, made anew for each of its lives.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the id is not one.
    pub fn new(
        id: impl Into<String>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Result<Self, InvalidId> {
        Self::with(id, move |_context| {
            let (actor, arguments) = make();
            Ok(Start::Run(actor, arguments))
        })
    }

    /// A permanent worker whose start function is told where and when it is, and may refuse.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the id is not one.
    pub fn with(
        id: impl Into<String>,
        make: impl Fn(&StartContext) -> Result<Start<A>, ExitReason> + Send + Sync + 'static,
    ) -> Result<Self, InvalidId> {
        Ok(Self::build(Some(ChildId::new(id.into())?), ChildPolicy::worker(), Arc::new(make)))
    }

    /// A worker without an id, for a dynamic supervisor, which numbers it.
    pub fn unnamed(make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static) -> Self {
        let make = move |_context: &StartContext| {
            let (actor, arguments) = make();
            Ok(Start::Run(actor, arguments))
        };
        Self::build(None, ChildPolicy::worker(), Arc::new(make))
    }

    /// A temporary worker without an id, made of what can be used only once.
    ///
    /// The actor and its arguments are handed over at the start and kept by nobody else.
    pub fn once(actor: A, arguments: A::Arguments) -> Self
    where
        A: Sync,
        A::Arguments: Send,
    {
        let parts = Mutex::new(Some((actor, arguments)));
        let make = move |_context: &StartContext| {
            let parts = parts.lock().take();
            parts.map(|(actor, arguments)| Start::Run(actor, arguments)).ok_or_else(|| {
                ExitReason::Error {
                    message: "a worker made with `once` has only one life".to_owned(),
                    causes: Vec::new(),
                }
            })
        };
        let policy = ChildPolicy { restart: Restart::Temporary, ..ChildPolicy::worker() };
        Self::build(None, policy, Arc::new(make))
    }

    fn build(id: Option<ChildId>, policy: ChildPolicy, make: Arc<Make<A>>) -> Self {
        Self { id, policy, mailbox: Mailbox::default(), hook: None, make }
    }

    /// Gives the worker an id.
    #[must_use]
    pub fn id(self, id: ChildId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// When it is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// How it is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.policy.shutdown = shutdown;
        self
    }

    /// Whether its end counts for the supervisor's auto-shutdown.
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

    /// The longest time for which one of its handlers, or its start, may run. One that takes longer
    /// is killed and counts as failed. It is met within 1.25 times the bound, at the next await.
    ///
    /// The start function and the part of `pre_start` before its first wait run in the supervisor's
    /// own turn: they must not block the thread.
    #[must_use]
    pub fn liveness(mut self, bound: Duration) -> Self {
        self.policy.liveness = Some(bound);
        self
    }

    /// How its mailbox behaves.
    #[must_use]
    pub fn mailbox(self, mailbox: Mailbox) -> Self {
        Self { mailbox, ..self }
    }

    /// What runs whenever one of its lives has ended: after a stop, and also after a panic, a kill
    /// or a cancelled task, for which ractor's `post_stop` is not called.
    ///
    /// It runs after the actor's state is dropped and before a replacement starts, on whatever
    /// thread that happens, so it must not block.
    #[must_use]
    pub fn on_exit(self, hook: impl Fn(&ExitReason) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)), ..self }
    }

    /// The spec for a supervisor's list, and the handle to whoever will be behind it.
    #[must_use]
    pub fn split(self) -> (ChildSpec, Handle<A::Msg>) {
        let slot = Arc::new(Slot::new(self.mailbox));
        let launch = WorkerLaunch { make: self.make, hook: self.hook, slot: Arc::clone(&slot) };
        let launcher = Launcher(Arc::new(launch));
        (ChildSpec { id: self.id, policy: self.policy, launcher }, Handle(slot))
    }
}

impl<A: Actor> From<Worker<A>> for ChildSpec {
    fn from(worker: Worker<A>) -> Self {
        worker.split().0
    }
}

struct WorkerLaunch<A: Actor> {
    make: Arc<Make<A>>,
    hook: Option<ExitHook>,
    slot: Arc<Slot<A::Msg>>,
}

impl<A: Actor> Launch for WorkerLaunch<A> {
    fn launch(&self, order: Order) -> BoxFuture<'static, Outcome> {
        let slot = Arc::clone(&self.slot);
        let context = StartContext { path: order.path.clone(), incarnation: order.incarnation };
        let make = Arc::clone(&self.make);
        let hook = self.hook.clone();
        Box::pin(async move {
            slot.settle_in(&order.path, &order.tree);
            let made = std::panic::AssertUnwindSafe(|| make(&context));
            let (actor, arguments, info) = match std::panic::catch_unwind(made) {
                Ok(Ok(Start::Run(actor, arguments))) => (actor, arguments, None),
                Ok(Ok(Start::RunWithInfo(actor, arguments, info))) => {
                    (actor, arguments, Some(info))
                }
                Ok(Ok(Start::Ignore)) => return Outcome::Ignored,
                Ok(Err(reason)) => return Outcome::Failed(reason),
                Err(_) => {
                    return Outcome::Failed(ExitReason::panic("the start function panicked", None));
                }
            };
            drop(make);
            let place = Arc::clone(&slot) as Arc<dyn Place>;
            let Order { path, incarnation, tell, parent, tree, cancel } = order;
            let guard = ExitGuard::new(path, incarnation, place, hook, tell, parent);
            let coroner = tree.coroner().clone();
            let end = Arc::clone(&guard.end);
            let wrapper = Supervised::new(actor, coroner, incarnation, slot, guard);
            let spawned = tokio::select! {
                biased;
                spawned = Actor::spawn(None, wrapper, arguments) => spawned,
                _ = cancel => {
                    end.record(ExitReason::Cancelled);
                    return Outcome::Failed(ExitReason::Cancelled);
                }
            };
            match spawned {
                Ok((actor, task)) => {
                    drop(task);
                    Outcome::Up(Live { cell: actor.get_cell(), office: None }, info)
                }
                Err(SpawnErr::StartupFailed(error)) if error.is::<Ignore>() => Outcome::Ignored,
                Err(SpawnErr::StartupFailed(error)) => {
                    Outcome::Failed(ExitReason::from_error(&*error))
                }
                Err(error) => Outcome::Failed(ExitReason::from_error(&error)),
            }
        })
    }

    fn place(&self) -> Arc<dyn Place> {
        Arc::clone(&self.slot) as Arc<dyn Place>
    }
}
