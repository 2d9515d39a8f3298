//! Supervised one-off computations, with their results. Elixir's `Task.Supervisor`.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::path::InvalidId;

use super::error::AdminError;
use super::exit::ExitReason;
use super::handle::Handle;
use super::policy::Shutdown;
use super::spec::{ChildSpec, Worker};
use super::supervisor::{Supervisor, SupervisorHandle};

/// A supervisor of tasks: a dynamic supervisor whose children are temporary computations.
///
/// A task that fails is not restarted: whoever waits for it is told why. Tasks are killed when the
/// supervisor stops.
#[derive(Debug)]
pub struct TaskSupervisor(Supervisor);

impl TaskSupervisor {
    /// A supervisor of at most `tasks_max` tasks at a time.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] if the id is not one.
    pub fn new(id: impl Into<String>, tasks_max: usize) -> Result<Self, InvalidId> {
        Ok(Self(Supervisor::dynamic(id, tasks_max)?))
    }

    /// The spec for another supervisor's list, and the way to start tasks.
    #[must_use]
    pub fn split(self) -> (ChildSpec, Tasks) {
        let (spec, supervisor) = self.0.split();
        (spec, Tasks(supervisor))
    }
}

/// Starts tasks under a [`TaskSupervisor`].
#[derive(Debug, Clone)]
pub struct Tasks(SupervisorHandle);

impl Tasks {
    /// Starts a task whose fate is tied to the [`Task`] that is returned: when that is dropped, the
    /// computation is killed.
    ///
    /// # Errors
    ///
    /// [`AdminError::ChildrenMax`] if as many tasks as allowed run, or that the supervisor is not
    /// there. The future was dropped unpolled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the task may run to its end all the same.
    pub async fn spawn<F>(&self, future: F) -> Result<Task<F::Output>, AdminError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.start(future, true).await
    }

    /// Starts a task that goes on when the [`Task`] that is returned is dropped.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancel safety
    ///
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_nolink<F>(&self, future: F) -> Result<Task<F::Output>, AdminError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.start(future, false).await
    }

    /// Runs one task for each item, at most `tasks_max` at a time, and gives the results in the
    /// order of the items. Nothing runs ahead by more than that: the stream is pulled.
    #[must_use]
    pub fn stream<I, W, F>(&self, items: I, tasks_max: usize, work: W) -> TaskStream<I, W, F>
    where
        I: Iterator,
        W: FnMut(I::Item) -> F,
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let tasks_max = tasks_max.max(1);
        TaskStream { tasks: self.clone(), items, work, tasks_max, under_way: VecDeque::new() }
    }

    /// The supervisor of the tasks.
    #[must_use]
    pub const fn supervisor(&self) -> &SupervisorHandle {
        &self.0
    }

    async fn start<F>(&self, future: F, linked: bool) -> Result<Task<F::Output>, AdminError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (sender, result) = oneshot::channel();
        let promise = Promise(Arc::new(Mutex::new(Some(sender))));
        let broken = promise.clone();
        let worker = Worker::once(TaskActor(PhantomData), (future, promise))
            .shutdown(Shutdown::Brutal)
            .on_exit(move |reason| broken.keep(Err(reason.clone())));
        let (spec, handle) = worker.split();
        self.0.start_child(spec).await?;
        Ok(Task { result, leash: linked.then(|| Leash(handle)) })
    }
}

/// The result of a task, to come.
#[derive(Debug)]
pub struct Task<T> {
    result: oneshot::Receiver<Result<T, ExitReason>>,
    leash: Option<Leash>,
}

impl<T> Task<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// Why the task ended without one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the task's leash: one that was started with
    /// [`Tasks::spawn`] is killed.
    pub async fn join(self) -> Result<T, ExitReason> {
        let Self { result, leash } = self;
        let result = result.await.unwrap_or(Err(ExitReason::Cancelled));
        drop(leash);
        result
    }
}

/// Kills its task when it is dropped. One that has ended is past caring.
#[derive(Debug)]
struct Leash(Handle<Run>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(task) = self.0.actor_ref() {
            task.kill();
        }
    }
}

/// Results of many tasks, in the order of their items. See [`Tasks::stream`].
pub struct TaskStream<I, W, F: Future> {
    tasks: Tasks,
    items: I,
    work: W,
    tasks_max: usize,
    under_way: VecDeque<Task<F::Output>>,
}

impl<I, W, F: Future> Debug for TaskStream<I, W, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskStream").field("tasks_max", &self.tasks_max).finish_non_exhaustive()
    }
}

impl<I, W, F> TaskStream<I, W, F>
where
    I: Iterator,
    W: FnMut(I::Item) -> F,
    F: Future<Output: Send + 'static> + Send + 'static,
{
    /// The next result; none when every item has had its own.
    ///
    /// A task that could not be started for lack of room is an error of its own item: its reason
    /// names the refusal.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a result that was about to be given is lost, and its task killed.
    pub async fn next(&mut self) -> Option<Result<F::Output, ExitReason>> {
        while self.under_way.len() < self.tasks_max {
            let Some(item) = self.items.next() else { break };
            match self.tasks.spawn((self.work)(item)).await {
                Ok(task) => self.under_way.push_back(task),
                Err(refusal) => {
                    let (sender, result) = oneshot::channel();
                    drop(sender.send(Err(ExitReason::from_error(&refusal))));
                    self.under_way.push_back(Task { result, leash: None });
                }
            }
        }
        Some(self.under_way.pop_front()?.join().await)
    }
}

/// Takes one result; a second one is late.
struct Promise<T>(Arc<Mutex<Option<Sender<T>>>>);

type Sender<T> = oneshot::Sender<Result<T, ExitReason>>;

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Promise<T> {
    fn keep(&self, result: Result<T, ExitReason>) {
        let sender = self.0.lock().take();
        if let Some(sender) = sender {
            // Nobody may be waiting.
            drop(sender.send(result));
        }
    }
}

/// The actor behind a task.
struct TaskActor<F>(PhantomData<fn() -> F>);

/// Makes a task begin: its computation is a handler, which a kill interrupts.
#[derive(Debug)]
struct Run;

impl<F> Actor for TaskActor<F>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    type Msg = Run;
    type State = Option<(F, Promise<F::Output>)>;
    type Arguments = (F, Promise<F::Output>);

    async fn pre_start(
        &self,
        myself: ActorRef<Run>,
        work: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_message(Run)?;
        Ok(Some(work))
    }

    async fn handle(
        &self,
        myself: ActorRef<Run>,
        Run: Run,
        work: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((future, promise)) = work.take() {
            promise.keep(Ok(future.await));
        }
        myself.stop(None);
        Ok(())
    }
}
