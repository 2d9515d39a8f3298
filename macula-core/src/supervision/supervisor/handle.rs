//! How a supervisor is talked to: a stable handle with OTP's admin calls.

use std::fmt::Debug;
use std::sync::Arc;

use ractor::ActorCell;

use crate::path::{ChildId, Path};
use crate::supervision::error::AdminError;
use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{ChildPolicy, Flags, Restart};
use crate::supervision::proto::{ChildInfo, Counts, Key, Reply, Request, Target};
use crate::supervision::slot::Presence;
use crate::supervision::spec::{ChildSpec, Launcher};

use super::place::SupervisorPlace;
use super::{Supervisor, plan_spec};

/// A stable handle to a supervisor: it names a place and survives restarts.
#[derive(Clone)]
pub struct SupervisorHandle(pub(super) Arc<SupervisorPlace>);

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
        self.ask_for(request, None).await
    }

    async fn ask_for(
        &self,
        request: Request<Launcher>,
        newcomer: Option<ChildSpec>,
    ) -> Result<Reply, AdminError> {
        let office = self.0.standing.lock().office.clone().ok_or(AdminError::Unavailable)?;
        let reply = office.ask(request, newcomer)?;
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
        let remembered = (spec.policy.restart != Restart::Temporary).then_some(child);
        self.ask_for(Request::Start(spec), remembered).await.map(started)
    }

    fn policy_of(&self, child: &ChildSpec) -> ChildPolicy {
        match (&child.id, self.0.home()) {
            (Some(id), Some((path, tree))) => {
                tree.overrides.get(&path.join(id)).apply(child.policy)
            }
            _ => child.policy,
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
        let flags = match self.0.home() {
            Some((path, tree)) => tree.overrides.get(&path).apply_flags(supervisor.flags),
            None => supervisor.flags,
        };
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
