//! The caller's side: one call, and all the providers that are asked for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::options::{CallOptions, Description};
use super::proto::chooser::{Candidate, Chooser, NoPick};
use super::proto::course::{Course, Plan, Step, Verdict};
use super::{Rpc, metrics};
use crate::names::{Asked, not_found, passes};
use crate::remote::{CallError, Headers, Unavailability, inherited, procedure};

/// What a call stands on: its name, its time, and who can be asked.
pub(super) struct Ground {
    pub(super) name: Arc<str>,
    pub(super) headers: Headers,
    pub(super) within: Duration,
    pub(super) deadline: Instant,
    pub(super) candidates: Vec<Candidate>,
}

impl Rpc {
    /// Finds out who can be asked.
    ///
    /// # Errors
    ///
    /// [`Unavailability::NoProvider`], or [`Unavailability::NotFound`] if that is not known.
    pub(super) async fn ground(
        &self,
        topic: &Topic,
        options: &CallOptions,
    ) -> Result<Ground, CallError> {
        let (within, headers) = inherited(options.within, options.headers.clone());
        let (name, deadline) = (procedure(topic), TokioClock.now() + within);
        let found = tokio::time::timeout_at(deadline.into(), self.0.names.providers(&name));
        let found = match found.await {
            Ok(found) => found.map_err(|error| not_found(&error))?,
            Err(_elapsed) => return Err(CallError::TimedOut { within }),
        };
        if found.is_empty() {
            return Err(CallError::Unavailable(Unavailability::NoProvider(topic.to_string())));
        }
        let candidate = |provider: macula_core::port::Provider| Candidate {
            node: provider.node,
            is_idempotent: Description::decode(&provider.metadata).idempotent,
        };
        let candidates = found.into_iter().map(candidate).collect();
        Ok(Ground { name, headers, within, deadline, candidates })
    }

    /// Asks whoever provides a procedure.
    pub(super) async fn ask(
        &self,
        topic: &Topic,
        body: Bytes,
        options: &CallOptions,
    ) -> Result<Bytes, CallError> {
        let ground = self.ground(topic, options).await?;
        let asked = Asked {
            name: &ground.name,
            headers: &ground.headers,
            body: &body,
            deadline: ground.deadline,
        };
        self.drive(&ground, options, |node, left| Box::pin(self.0.names.ask(node, left, &asked)))
            .await
    }

    /// Follows the course of one call to its end. `attempt` asks one node, of so many.
    pub(super) async fn drive<'a, T>(
        &self,
        ground: &Ground,
        options: &CallOptions,
        attempt: impl Fn(NodeId, usize) -> BoxFuture<'a, Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let plan = Plan {
            procedure: Arc::clone(&ground.name),
            candidates: ground.candidates.clone(),
            balance: options.balance.clone(),
            attempts_max: options.attempts_max,
            hedges: options.hedges,
        };
        let mut call = UnderWay { rpc: self, course: Course::new(plan) };
        let mut attempts = FuturesUnordered::new();
        let mut step = call.step(Course::start);
        let (mut last, mut why) = (None, "first");
        loop {
            match step {
                Step::Ask(node) => {
                    if why != "first" {
                        ::metrics::counter!(metrics::MORE, "why" => why).increment(1);
                    }
                    let answer = attempt(node, call.course.left());
                    attempts.push(async move { (node, answer.await) });
                }
                Step::Wait => {}
                Step::Refuse(none) => return Err(refused(ground, none)),
                Step::Return => return last.unwrap_or(Err(none_left(ground))),
            }
            let hedge_at = call.course.poll_timeout();
            tokio::select! {
                Some((node, answer)) = attempts.next() => {
                    let verdict = verdict(&answer);
                    last = Some(of_both(last, told(answer, ground.within)));
                    why = "retry";
                    step = call.step(|course, now, chooser| course.ended(now, chooser, node, verdict));
                }
                () = until(hedge_at) => {
                    why = "hedge";
                    step = call.step(Course::handle_timeout);
                }
            }
        }
    }
}

/// A call, until it has its result or is dropped.
struct UnderWay<'a> {
    rpc: &'a Rpc,
    course: Course,
}

impl UnderWay<'_> {
    fn step(&mut self, step: impl FnOnce(&mut Course, Instant, &mut Chooser) -> Step) -> Step {
        step(&mut self.course, TokioClock.now(), &mut self.rpc.0.chooser.lock())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.course.abandon(TokioClock.now(), &mut self.rpc.0.chooser.lock());
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The caller is told how long it has waited itself, and not how long one attempt has.
fn told<T>(answer: Result<T, CallError>, within: Duration) -> Result<T, CallError> {
    answer.map_err(|error| match error {
        CallError::TimedOut { .. } => CallError::TimedOut { within },
        error => error,
    })
}

/// What the caller is told in the end of two answers, in this order. An error after which the question may
/// have been handled is not made good by a later one after which it was not.
fn of_both<T>(
    before: Option<Result<T, CallError>>,
    after: Result<T, CallError>,
) -> Result<T, CallError> {
    match (before, after) {
        (Some(Err(before)), Err(after)) if before.may_have_run() && !after.may_have_run() => {
            Err(before)
        }
        (_, after) => after,
    }
}

/// What an answer says about who has given it, and whether another would give a better one.
fn verdict<T>(answer: &Result<T, CallError>) -> Verdict {
    let Err(error) = answer else { return Verdict::Answered };
    let may_have_run = error.may_have_run();
    match error {
        // It has answered: it is the question that was no good.
        CallError::Failed(_) => Verdict::Answered,
        // Another may not refuse it.
        CallError::Refused(_) => Verdict::Failed { may_have_run, is_fault: false },
        CallError::Unavailable(why) if passes(why) => {
            Verdict::Failed { may_have_run, is_fault: true }
        }
        CallError::TimedOut { .. } => Verdict::Late,
        CallError::RemotePanic | CallError::Interrupted(_) => {
            Verdict::Failed { may_have_run, is_fault: true }
        }
        CallError::Unavailable(_)
        | CallError::TooLarge { .. }
        | CallError::Unsupported(_)
        | CallError::NotUnderstood(_) => Verdict::Final,
    }
}

/// Nobody could be asked.
fn refused(ground: &Ground, none: NoPick) -> CallError {
    match none {
        NoPick::Open(until) => {
            let now = TokioClock.now();
            let retry_in = until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            CallError::Unavailable(Unavailability::BackingOff { retry_in })
        }
        NoPick::Nobody | NoPick::NoBudget => none_left(ground),
    }
}

fn none_left(ground: &Ground) -> CallError {
    let name = crate::remote::as_procedure(&ground.name).unwrap_or(&ground.name);
    CallError::Unavailable(Unavailability::NoProvider(name.to_owned()))
}

impl Debug for UnderWay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").field("course", &self.course).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{CallError, Unavailability, of_both};

    #[test]
    fn a_question_that_may_have_run_is_not_said_to_have_run_nowhere() {
        let unreachable = || CallError::Unavailable(Unavailability::NoAddress);
        let panicked = || CallError::RemotePanic;
        let told = |before: Option<CallError>, after| of_both(before.map(Err), after);
        assert_eq!(told(Some(panicked()), Err::<u8, _>(unreachable())), Err(panicked()));
        assert_eq!(told(Some(unreachable()), Err::<u8, _>(panicked())), Err(panicked()));
        assert_eq!(told(None, Err::<u8, _>(unreachable())), Err(unreachable()));
        assert_eq!(told(Some(panicked()), Ok(7)), Ok(7));
        let failed = || CallError::Failed("it is the question".to_owned());
        assert_eq!(told(Some(panicked()), Err::<u8, _>(failed())), Err(failed()), "the newer one");
    }
}
