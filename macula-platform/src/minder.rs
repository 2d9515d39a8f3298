//! A supervised actor that has a task run beside it, and fails when that ends.

use std::fmt::Debug;

use macula_core::path::InvalidId;
use macula_core::supervision::{Start, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

/// A worker with this id: each of its lives runs a task that `make` gives, and takes it along when it
/// ends. `why` is what it fails with when the task ends by itself.
///
/// # Errors
///
/// [`InvalidId`] if the id is none.
pub(crate) fn worker<F: Future<Output = ()> + Send + 'static>(
    id: &str,
    why: &'static str,
    make: impl Fn() -> F + Send + Sync + 'static,
) -> Result<Worker<Minder>, InvalidId> {
    let task = move || {
        let mut tasks = JoinSet::new();
        tasks.spawn(make());
        tasks
    };
    Worker::with(id, move |_: &_| Ok(Start::Run(Minder(why), task())))
}

/// Has the task.
#[derive(Debug)]
pub struct Minder(&'static str);

/// The task has ended, and should not have.
#[derive(Debug)]
pub struct Ended;

/// One life of the actor.
#[derive(Debug)]
pub struct Life {
    _watch: JoinSet<()>,
}

impl Actor for Minder {
    type Msg = Ended;
    type State = Life;
    type Arguments = JoinSet<()>;

    async fn pre_start(
        &self,
        myself: ActorRef<Ended>,
        mut tasks: JoinSet<()>,
    ) -> Result<Life, ActorProcessingErr> {
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            // However it has ended: one that has panicked has, too.
            drop(tasks.join_next().await);
            // An actor that has ended needs no word.
            drop(myself.cast(Ended));
        });
        Ok(Life { _watch: watch })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Ended>,
        Ended: Ended,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        Err(self.0.into())
    }
}
