//! A guard against what never lets virtual time go on: a future that is always ready to be polled
//! again would keep the simulation in one instant for ever.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};

use super::log::Log;

/// How often one future is polled within one virtual instant.
const POLLS_MAX: u32 = 20_000;

/// A future of a node that stops, and says so, when it spins.
pub(super) struct Guarded<F, S> {
    future: Pin<Box<F>>,
    log: Log<S>,
    node: usize,
    at: Option<Instant>,
    polls: u32,
}

impl<F, S> Guarded<F, S> {
    pub(super) fn new(future: F, log: Log<S>, node: usize) -> Self {
        Self { future: Box::pin(future), log, node, at: None, polls: 0 }
    }
}

impl<F: Future, S: Clone + Hash + Debug> Future for Guarded<F, S> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let now = Some(TokioClock.now());
        if self.at != now {
            (self.at, self.polls) = (now, 0);
        }
        self.polls += 1;
        if self.polls > POLLS_MAX {
            self.log.spins(self.node, "a task was polled again and again");
            // Nobody will wake it, so time goes on, and the run ends with this step.
            return Poll::Pending;
        }
        self.future.as_mut().poll(cx)
    }
}
