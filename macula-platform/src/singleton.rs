//! Children that run on one node only: the one that leads their election.
//!
//! ```text
//! ID               rest_for_one     a child of whatever supervisor it is started under
//! ├─ keeper                         takes part in the election
//! └─ reigns        dynamic
//!    └─ reign      one_for_one      only while this node leads; a new one each time
//!       └─ the child
//! ```
//!
//! A [`Singleton`] is started on all nodes. The child is made when its node is elected, and is told its
//! [`Leadership`]. While the node leads the child is restarted as its own policy says; when that happens
//! too often, or when it ends by itself, the node steps down, and others have their turn.
//!
//! # Why no two run at one time
//!
//! The child is stopped as long before the leadership's time ends as its [shutdown
//! bound](Singleton::shutdown) says, and a little more; one that has not ended by the bound is killed. The
//! supervisor `reign` has ended only when all below it has, and holds the leadership until then: so as
//! long as anything of it is there, the node does not let its lease go. The next node is elected after
//! that, or after the lease has ended by itself, which is later than the leadership's time.
//!
//! What this cannot do: a kill is met at the next await, so code that never awaits outlives it; and a
//! process that does not run for a while does not know. So the child asks
//! [`check`](Leadership::check) before what matters, and gives the token to what it changes.

mod keeper;

use std::sync::Arc;
use std::time::Duration;

use macula_core::path::InvalidId;
use macula_core::supervision::{
    AutoShutdown, ChildPolicy, ChildSpec, ExitReason, Restart, Shutdown, Strategy, Supervisor,
};

use crate::election::{Elections, Error, Leadership, Options};

/// Makes the child of one time of leadership.
type Make = dyn Fn(Leadership) -> Result<ChildSpec, InvalidId> + Send + Sync;

/// A child that runs on the node that leads, and on no other.
#[derive(Clone)]
pub struct Singleton {
    id: String,
    elections: Elections,
    election: String,
    options: Options,
    shutdown: Option<Duration>,
    intensity: (u32, Duration),
    make: Arc<Make>,
}

impl std::fmt::Debug for Singleton {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Singleton")
            .field("id", &self.id)
            .field("election", &self.election)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why there is no such child. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The id is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The election's name or an option makes no sense.
    #[error(transparent)]
    Election(#[from] Error),
}

impl Singleton {
    /// A child with an id among its siblings, in an election. `make` is asked for it each time that this
    /// node is elected. The child's own id is free.
    #[must_use]
    pub fn new<C: Into<ChildSpec>>(
        id: impl Into<String>,
        elections: &Elections,
        election: impl Into<String>,
        make: impl Fn(Leadership) -> Result<C, InvalidId> + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            elections: elections.clone(),
            election: election.into(),
            options: Options::default(),
            shutdown: None,
            intensity: (1, Duration::from_secs(5)),
            make: Arc::new(move |leadership| make(leadership).map(Into::into)),
        }
    }

    /// How the election is held.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// How long the child, with all below it, has to stop before it is killed: at most half of the TTL,
    /// and a quarter unless this says otherwise. The longer it is, the sooner a node stops its child when
    /// it hears nothing of the group. Longer bounds of the child itself do not count.
    #[must_use]
    pub fn shutdown(self, shutdown: Duration) -> Self {
        Self { shutdown: Some(shutdown), ..self }
    }

    /// How many restarts of the child are allowed in a period; one more, and the node steps down. One in
    /// five seconds unless this says otherwise.
    #[must_use]
    pub fn intensity(self, intensity: u32, period: Duration) -> Self {
        Self { intensity: (intensity, period), ..self }
    }

    /// The spec for any supervisor's list, or to be started at run time.
    ///
    /// # Errors
    ///
    /// [`Invalid`].
    pub fn spec(self) -> Result<ChildSpec, Invalid> {
        let ttl = self.options.ttl();
        let shutdown = self.shutdown.unwrap_or(ttl / 4);
        self.elections.check(&self.election, self.options)?;
        if shutdown > ttl / 2 {
            return Err(Error::Shutdown { shutdown, ttl }.into());
        }
        let rule = keeper::Rule { shutdown, singleton: self };
        keeper::spec(rule)
    }

    /// The supervisor of one time of leadership.
    fn reign(&self, leadership: Leadership, shutdown: Duration) -> Result<Supervisor, InvalidId> {
        let (intensity, period) = self.intensity;
        let holder = leadership.clone();
        let child = (self.make)(leadership)?;
        // One that has nothing left to do ends its supervisor.
        let policy = *child.policy();
        let significant = policy.restart != Restart::Permanent;
        let child = child.with_policy(ChildPolicy { significant, ..policy });
        // A crash may be seen when the time has passed and nobody has stopped the child yet.
        let leads = holder.clone();
        let may = move || leads.check().map(drop).map_err(|over| ExitReason::from_error(&over));
        let child = child.start_if(may);
        Ok(Supervisor::new(keeper::REIGN)?
            .strategy(Strategy::OneForOne)
            .intensity(intensity, period)
            .auto_shutdown(AutoShutdown::AnySignificant)
            .restart(Restart::Temporary)
            .shutdown(Shutdown::Timeout(shutdown))
            // Held until all below it has ended, be it long after everybody has stopped waiting for it.
            .on_exit(move |_| drop(holder.clone()))
            .child(child))
    }
}

#[cfg(test)]
mod tests;
