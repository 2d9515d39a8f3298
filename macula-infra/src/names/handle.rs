//! A handle to whoever serves a name.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Asked, LocateError, Names, passes};
use crate::remote::{CallError, Headers, Unavailability, WITHIN, decode, encode};

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
        let len_max = self.names.calling().body_len_max();
        let body = encode(question, len_max)?;
        loop {
            let answer = self.ask_any(within, deadline, &body).await;
            let is_over = TokioClock.now() + ASK_AGAIN >= deadline;
            match answer {
                Err(CallError::Unavailable(why)) if self.waits && passes(&why) && !is_over => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return decode(&answer?, len_max),
            }
        }
    }

    /// Asks those who serve the name, one after the other, until one takes the question.
    async fn ask_any(
        &self,
        within: Duration,
        deadline: Instant,
        body: &Bytes,
    ) -> Result<Bytes, CallError> {
        let headers = &Headers::default();
        let asked = Asked { name: &self.name, headers, body, deadline };
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
                match self.names.ask(*node, fresh.len() - place, &asked).await {
                    Err(CallError::Unavailable(why)) if passes(&why) => last = why,
                    Err(CallError::TimedOut { .. }) => return Err(CallError::TimedOut { within }),
                    answer => return answer,
                }
            }
        }
        Err(CallError::Unavailable(last))
    }
}

const fn not_served(name: String) -> CallError {
    CallError::Unavailable(Unavailability::NotServed(name))
}

pub(crate) fn not_found(error: &LocateError) -> CallError {
    CallError::Unavailable(Unavailability::NotFound(error.to_string()))
}
