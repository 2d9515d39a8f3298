//! The actor that takes part in a singleton's election, and starts and stops the child.

use std::sync::Arc;
use std::time::Duration;

use macula_core::path::ChildId;
use macula_core::supervision::{
    AdminError, ChildSpec, StartedChild, Strategy, Supervisor, SupervisorHandle, Worker,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Invalid, Singleton};
use crate::election::{Candidacy, Event, Leadership};

/// The id of the supervisor of one time of leadership.
pub(super) const REIGN: &str = "reign";

/// How many restarts of the keeper are allowed in [`PERIOD`].
const INTENSITY: u32 = 10;

/// The period of [`INTENSITY`].
const PERIOD: Duration = Duration::from_secs(60);

/// How long it is waited for the group to hear that this node takes part no more, when it is stopped.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A singleton, with the bound that its child has.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) singleton: Singleton,
    pub(super) shutdown: Duration,
}

/// The supervisor of a singleton on one node.
pub(super) fn spec(rule: Rule) -> Result<ChildSpec, Invalid> {
    let supervisor = Supervisor::new(rule.singleton.id.clone())?;
    let (reigns, reigns_handle) = Supervisor::dynamic("reigns", 1)?.split();
    let keeper = Keeper { rule: Arc::new(rule), reigns: reigns_handle };
    let keeper = Worker::new("keeper", move || (keeper.clone(), ()))?;
    // What has nobody who looks after it is stopped.
    let supervisor = supervisor.strategy(Strategy::RestForOne).intensity(INTENSITY, PERIOD);
    Ok(supervisor.child(keeper).child(reigns).into())
}

#[derive(Debug, Clone)]
struct Keeper {
    rule: Arc<Rule>,
    /// Has the supervisor of this time of leadership, if there is one.
    reigns: SupervisorHandle,
}

/// The task has ended that should not have.
#[derive(Debug)]
struct Ended;

struct Life {
    task: JoinSet<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Actor for Keeper {
    type Msg = Ended;
    type State = Life;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Ended>, (): ()) -> Result<Life, ActorProcessingErr> {
        let Singleton { elections, election, options, .. } = &self.rule.singleton;
        let candidacy = elections.campaign(election, *options)?;
        let (stop, stopped) = oneshot::channel();
        let (keeper, mut task) = (self.clone(), JoinSet::new());
        task.spawn(elections.clone().part(async move {
            keeper.keep(candidacy, stopped).await;
            // An actor that has ended needs no word.
            drop(myself.cast(Ended));
        }));
        Ok(Life { task, stop: Some(stop) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Ended>,
        Ended: Ended,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        Err("the candidacy has ended".into())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Ended>,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        // The child has ended: those that were started later are stopped earlier.
        drop(life.stop.take());
        drop(tokio::time::timeout(GOODBYE_MAX, life.task.join_next()).await);
        Ok(())
    }
}

impl Keeper {
    async fn keep(&self, mut candidacy: Candidacy, mut stopped: oneshot::Receiver<()>) {
        loop {
            let event = tokio::select! {
                biased;
                _ = &mut stopped => return candidacy.resign().await,
                event = candidacy.next() => event,
            };
            match event {
                Some(Event::Elected(leadership)) => {
                    self.reign(leadership).await;
                    candidacy.step_down();
                }
                Some(Event::Deposed { .. }) => {}
                None => return,
            }
        }
    }

    /// Has the child run as long as it may, or as it does.
    async fn reign(&self, leadership: Leadership) {
        let Rule { singleton, shutdown } = &*self.rule;
        let (name, token) = (leadership.name().to_owned(), leadership.token());
        let reign = match singleton.reign(leadership.clone(), *shutdown) {
            Ok(reign) => reign.split(),
            Err(error) => {
                tracing::error!(election = %name, %token, %error, "a singleton is not made");
                return;
            }
        };
        let (spec, handle) = reign;
        let _leash = Leash { reign: handle.clone(), shutdown: *shutdown };
        // By then the child has to begin to stop: the bound, and a while for a kill to be met.
        let left = *shutdown + singleton.options.ttl() / 20;
        tokio::select! {
            biased;
            () = leadership.ends_within(left) => {}
            started = self.start(spec) => match started {
                Ok(StartedChild::Running { .. }) => tokio::select! {
                    biased;
                    () = leadership.ends_within(left) => {}
                    _ = handle.ended() => {}
                },
                Ok(StartedChild::Ignored) => {}
                Err(error) => {
                    tracing::warn!(election = %name, %token, %error, "a singleton does not start");
                }
            }
        }
        self.stop().await;
        // Whatever is left of the child holds a clone of its own.
        drop(leadership);
    }

    async fn start(&self, spec: ChildSpec) -> Result<StartedChild, AdminError> {
        loop {
            match self.reigns.start_child(spec.clone()).await {
                // It is started after this one, or anew.
                Err(AdminError::Unavailable) => tokio::time::sleep(Duration::from_millis(20)).await,
                started => return started,
            }
        }
    }

    async fn stop(&self) {
        let Ok(id) = ChildId::new(REIGN.to_owned()) else { return };
        match self.reigns.terminate_child(id).await {
            // Either it has gone by itself, or with the supervisor of it.
            Ok(()) | Err(AdminError::NotFound(_) | AdminError::Unavailable) => {}
            Err(error) => tracing::warn!(%error, "a singleton is not stopped"),
        }
    }
}

/// Stops the child when nobody looks after it any more, however that came.
struct Leash {
    reign: SupervisorHandle,
    shutdown: Duration,
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Usually it has ended by now.
        self.reign.stop();
        if let (Some(cell), Ok(runtime)) = (self.reign.cell(), Handle::try_current()) {
            let shutdown = self.shutdown;
            runtime.spawn(async move {
                tokio::time::sleep(shutdown).await;
                cell.kill();
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ChildId, REIGN};

    #[test]
    fn the_id_is_one() {
        assert!(ChildId::new(REIGN.to_owned()).is_ok());
    }
}
