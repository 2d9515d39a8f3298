//! Procedures that are functions: each call is a supervised task.

use std::fmt::Display;
use std::sync::Arc;

use macula_core::supervision::{AdminError, Tasks};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::options::Options;
use super::proto::gate::{Entry, Gate};
use crate::remote::{
    Answerer, CallError, Context, Interruption, Question, Refusal, Ticket, Unavailability, respond,
};

/// Work that waits for its turn, or has it.
pub(super) trait Work: Send + 'static {
    /// Whom it is for.
    fn ticket(&self) -> &Arc<Ticket>;
}

impl Work for Question {
    fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }
}

/// The turns of one procedure: how many calls are handled at a time, and how many wait.
pub(super) struct Turns<W> {
    gate: Mutex<Gate<W>>,
    tasks: Tasks,
    run: Box<Run<W>>,
}

type Run<W> = dyn Fn(W) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync;

impl<W: Work> Turns<W> {
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(
        tasks: Tasks,
        options: &Options,
        run: impl Fn(W) -> F + Send + Sync + 'static,
    ) -> Arc<Self> {
        let gate = Mutex::new(Gate::new(options.concurrency_max, options.queue_max));
        Arc::new(Self { gate, tasks, run: Box::new(move |work| Box::pin(run(work))) })
    }

    /// Work has come: it is done, waits, or is turned down.
    pub(super) fn take(self: &Arc<Self>, work: W) {
        let (entry, over) = self.gate.lock().enter(work, |work| work.ticket().is_over());
        for work in over {
            work.ticket().turn_down(&work.ticket().timed_out());
        }
        match entry {
            Entry::Runs(work) => self.begin(work),
            Entry::Waits => {}
            Entry::Full(work) => {
                let why = "as many calls as may run, and as many as may wait for that";
                work.ticket().turn_down(&CallError::Refused(Refusal::Overloaded(why.to_owned())));
            }
        }
    }

    fn begin(self: &Arc<Self>, work: W) {
        let turn = Turn(Arc::clone(self));
        // A runtime that ends does nothing more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        drop(runtime.spawn(async move {
            let (turns, ticket) = (Arc::clone(&turn.0), Arc::clone(work.ticket()));
            if ticket.is_over() {
                return ticket.turn_down(&ticket.timed_out());
            }
            match turns.tasks.spawn((turns.run)(work)).await {
                // A task that was killed has told nobody.
                Ok(task) => {
                    if task.join().await.is_err() {
                        ticket.fail(&CallError::Interrupted(Interruption::Dropped));
                    }
                }
                Err(error) => ticket.turn_down(&not_started(&error)),
            }
            drop(turn);
        }));
    }
}

fn not_started(error: &AdminError) -> CallError {
    match error {
        AdminError::ChildrenMax(_) => {
            CallError::Refused(Refusal::Overloaded(format!("the node: {error}")))
        }
        _ => CallError::Unavailable(Unavailability::Absent(error.to_string())),
    }
}

/// The turn of one call. When it is over the next has one.
struct Turn<W: Work>(Arc<Turns<W>>);

impl<W: Work> Drop for Turn<W> {
    fn drop(&mut self) {
        let next = self.0.gate.lock().leave();
        if let Some(work) = next {
            self.0.begin(work);
        }
    }
}

/// A function that answers.
struct Closure(Arc<Turns<Question>>);

impl Answerer for Closure {
    fn ask(&self, question: Question) {
        self.0.take(question);
    }
}

/// What answers for an async function.
pub(super) fn closure<Q, R, E, F>(
    tasks: Tasks,
    options: &Options,
    handler: impl Fn(Q, Context) -> F + Send + Sync + 'static,
) -> Arc<dyn Answerer>
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: Display + Send + 'static,
    F: Future<Output = Result<R, E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let turns = Turns::new(tasks, options, move |question: Question| {
        let handler = Arc::clone(&handler);
        async move { answer(&*handler, question).await }
    });
    Arc::new(Closure(turns))
}

/// Answers one question, for as long as its caller waits.
async fn answer<Q, R, E, F>(handler: &impl Fn(Q, Context) -> F, question: Question)
where
    Q: DeserializeOwned,
    R: Serialize + Send + 'static,
    E: Display,
    F: Future<Output = Result<R, E>>,
{
    let ticket = Arc::clone(&question.ticket);
    let asked = match question.decode::<Q>() {
        Ok(asked) => asked,
        Err(error) => return ticket.turn_down(&error),
    };
    respond(&ticket, |context| handler(asked, context)).await;
}
