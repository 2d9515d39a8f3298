//! A handle to whoever serves a name.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{LocateError, Names};
use crate::remote::{CallError, Unavailability, WITHIN};

/// How often the directory is asked for one call.
const SEARCHES_MAX: usize = 2;

/// How long a call that waits for somebody to serve its name waits before it looks again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A typed handle to an actor that some node serves under a name. It is good before there is one,
/// and when another takes its place.
pub struct NamedHandle<Q, R> {
    names: Names,
    name: Arc<str>,
    /// Whether a call waits for somebody to serve the name.
    waits: bool,
    _types: PhantomData<fn(Q) -> R>,
}

impl<Q, R> Clone for NamedHandle<Q, R> {
    fn clone(&self) -> Self {
        let (names, name) = (self.names.clone(), Arc::clone(&self.name));
        Self { names, name, waits: self.waits, _types: PhantomData }
    }
}

impl<Q, R> Debug for NamedHandle<Q, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedHandle").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<Q, R> NamedHandle<Q, R> {
    pub(super) fn new(names: Names, name: &str) -> Self {
        Self { names, name: name.into(), waits: false, _types: PhantomData }
    }

    /// The same name, for calls that wait until somebody serves it and can be reached, as long as
    /// their own time allows. Without it such a call ends at once.
    #[must_use]
    pub fn wait_for_ready(self) -> Self {
        Self { waits: true, ..self }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<Q: Serialize, R: DeserializeOwned> NamedHandle<Q, R> {
    /// Finds a node that serves the name, asks it, and waits for its answer; for at most five
    /// seconds in all. Nodes that cannot be reached in their share of the time, or do not serve the
    /// name any more, are passed over; a question that may have been handled is asked of no other.
    ///
    /// # Errors
    ///
    /// [`CallError`], which says whether the question may have been handled.
    /// [`Unavailability::NotServed`] if nobody serves the name.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the handler is told that nobody waits; the question may still be
    /// handled.
    pub async fn call(&self, question: &Q) -> Result<R, CallError> {
        self.call_within(WITHIN, question).await
    }

    /// As [`call`](Self::call), with another bound for all there is to do.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_within(&self, within: Duration, question: &Q) -> Result<R, CallError> {
        let deadline = TokioClock.now() + within;
        loop {
            let answer = self.ask_any(within, deadline, question).await;
            let is_over = TokioClock.now() + ASK_AGAIN >= deadline;
            match answer {
                Err(CallError::Unavailable(why)) if self.waits && passes(&why) && !is_over => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    }

    /// Asks those who serve the name, one after the other, until one takes the question.
    async fn ask_any(
        &self,
        within: Duration,
        deadline: Instant,
        question: &Q,
    ) -> Result<R, CallError> {
        let mut tried = BTreeSet::new();
        let mut last = Unavailability::NotServed(self.name.to_string());
        for _ in 0..SEARCHES_MAX {
            let found = tokio::time::timeout_at(deadline.into(), self.names.nodes(&self.name));
            let nodes = match found.await {
                Ok(Ok(nodes)) => nodes,
                Ok(Err(LocateError::Nobody(name))) => return Err(not_served(name)),
                Ok(Err(error)) => return Err(not_found(&error)),
                Err(_elapsed) => return Err(CallError::TimedOut { within }),
            };
            let fresh: Vec<NodeId> = nodes.into_iter().filter(|node| tried.insert(*node)).collect();
            if fresh.is_empty() {
                break;
            }
            for (place, node) in fresh.iter().enumerate() {
                let left = u32::try_from(fresh.len() - place).unwrap_or(u32::MAX);
                match self.ask(*node, left, deadline, question).await {
                    Err(CallError::Unavailable(why)) if passes(&why) => last = why,
                    Err(CallError::TimedOut { .. }) => return Err(CallError::TimedOut { within }),
                    answer => return answer,
                }
            }
        }
        Err(CallError::Unavailable(last))
    }

    /// Asks one node, of `left` that may be asked: so connecting to it takes only a part of the time.
    async fn ask(
        &self,
        node: NodeId,
        left: u32,
        deadline: Instant,
        question: &Q,
    ) -> Result<R, CallError> {
        let answer = match self.connected(node, left, deadline).await {
            Ok(()) => {
                let within = deadline.saturating_duration_since(TokioClock.now());
                let there = self.names.remote(node).handle::<Q, R>(&self.name);
                there.call_within(within, question).await
            }
            Err(error) => Err(error),
        };
        if let Err(CallError::Unavailable(why)) = &answer
            && proves_wrong(why)
        {
            self.names.forget(&self.name, node);
        }
        answer
    }

    async fn connected(&self, node: NodeId, left: u32, deadline: Instant) -> Result<(), CallError> {
        let calling = &self.names.0.calling;
        if node == calling.node() {
            return Ok(());
        }
        let within = deadline.saturating_duration_since(TokioClock.now()) / left.max(1);
        let Ok(connected) = tokio::time::timeout(within, calling.link(node)).await else {
            let shown = humantime::format_duration(within);
            let why = format!("no connection to {} within {shown}", node.short());
            return Err(CallError::Unavailable(Unavailability::Unreachable(why)));
        };
        connected.map(drop)
    }
}

const fn not_served(name: String) -> CallError {
    CallError::Unavailable(Unavailability::NotServed(name))
}

fn not_found(error: &LocateError) -> CallError {
    CallError::Unavailable(Unavailability::NotFound(error.to_string()))
}

/// Whether another node may be asked in the place of one that said this.
const fn passes(why: &Unavailability) -> bool {
    proves_wrong(why) || matches!(why, Unavailability::Absent(_) | Unavailability::NotFound(_))
}

/// Whether a node that said this does not serve the name, for all that is known.
const fn proves_wrong(why: &Unavailability) -> bool {
    matches!(
        why,
        Unavailability::NotServed(_)
            | Unavailability::NoAddress
            | Unavailability::Unreachable(_)
            | Unavailability::BackingOff { .. }
    )
}
