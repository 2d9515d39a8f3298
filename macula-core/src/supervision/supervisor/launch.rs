//! How a supervisor is started, each time it is.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::Actor;
use tokio::sync::oneshot;

use crate::clock::TokioClock;
use crate::path::Path;
use crate::shell::{Driver, Inbox, Shell};
use crate::supervision::actor::{Boss, SupervisorActor};
use crate::supervision::error::AdminError;
use crate::supervision::exit::ExitReason;
use crate::supervision::guard::{End, ExitGuard};
use crate::supervision::policy::Flags;
use crate::supervision::proto::{Input, Plan};
use crate::supervision::slot::Place;
use crate::supervision::spec::{
    ChildSpec, ExitHook, Launch, Launcher, Live, Order, Outcome, StartContext,
};
use crate::supervision::tree::Tree;

use super::office::{Desk, Office, REQUESTS_LEN_MAX};
use super::place::{Roster, SupervisorPlace};
use super::{Children, Init, InitHook, SupervisorHandle, plan_spec};

pub(super) struct SupervisorLaunch {
    pub(super) flags: Flags,
    pub(super) children: Children,
    pub(super) listed: Vec<ChildSpec>,
    pub(super) hook: Option<ExitHook>,
    pub(super) init: Option<InitHook>,
    pub(super) roster: Option<Arc<Mutex<Roster>>>,
    pub(super) place: Arc<SupervisorPlace>,
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
        let remembered = self.roster.as_ref().map(|roster| roster.lock().in_order());
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
        let (hook, has_parent) = (self.hook.clone(), parent.is_some());
        let guard = ExitGuard::new(path.clone(), incarnation, self.place(), hook, tell, parent);
        let end = has_parent.then(|| Arc::clone(&guard.end));
        let inbox = Inbox::new(REQUESTS_LEN_MAX);
        inbox.push(Input::Boot);
        let desk = Arc::new(Desk::new(Arc::clone(&place)));
        let newborn = Newborn { place, incarnation, guard: Arc::clone(&guard), end };
        let (ready, booted) = oneshot::channel();
        let boss = Boss::new(path, tree, guard, Arc::clone(&desk), ready);
        let driver = Driver::new(plan, boss, TokioClock, inbox.clone());
        Box::pin(boot(driver, inbox, desk, newborn, booted, cancel))
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

/// A life that begins.
struct Newborn {
    place: Arc<SupervisorPlace>,
    incarnation: u64,
    guard: Arc<ExitGuard>,
    /// The end, where a supervisor waits for it before it tries again.
    end: Option<Arc<End>>,
}

async fn boot(
    driver: Driver<Plan<Launcher>, Boss, TokioClock>,
    inbox: Inbox<Input<Launcher>>,
    desk: Arc<Desk>,
    newborn: Newborn,
    mut booted: Booted,
    cancel: oneshot::Receiver<()>,
) -> Outcome {
    let actor: SupervisorActor = Shell::default();
    let (actor, task) = match Actor::spawn(None, actor, driver).await {
        Ok(spawned) => spawned,
        Err(error) => return Outcome::Failed(ExitReason::from_error(&error)),
    };
    drop(task);
    let Newborn { place, incarnation, guard, end } = newborn;
    guard.watch(actor.get_cell());
    let office = Arc::new(Office { inbox, desk, cell: actor.get_cell() });
    let fallen = StopOnDrop(Some(Arc::clone(&office)));
    place.open(&office, incarnation);
    // Whoever holds it keeps the supervisor from having ended, and so its place from being closed.
    drop(guard);
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
    let reason = match result {
        Ok(Ok(())) => {
            return Outcome::Up(Live { cell: actor.get_cell(), office: Some(office) }, None);
        }
        Ok(Err(reason)) => reason,
        Err(_killed) => ExitReason::Killed,
    };
    // It has failed when all that it had started has gone.
    if let Some(end) = end {
        end.over().await;
    }
    Outcome::Failed(reason)
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
