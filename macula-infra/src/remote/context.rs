//! For whom a task works: what a handler's own calls inherit from the call that it answers.

use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;

use super::headers::Headers;

tokio::task_local! {
    static CURRENT: Context;
}

/// The call that a handler answers. Calls that are made within its [`scope`](Self::scope) have at
/// most the time that is left of it, and belong to its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    caller: NodeId,
    deadline: Instant,
    headers: Headers,
}

impl Context {
    pub(crate) const fn new(caller: NodeId, deadline: Instant, headers: Headers) -> Self {
        Self { caller, deadline, headers }
    }

    /// That of the call for which this task works; none if it works for none.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs a future for this call. A task that it spawns works for nobody, unless it has a scope
    /// of its own.
    ///
    /// # Cancel safety
    ///
    /// As safe as the future.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The node that calls.
    #[must_use]
    pub const fn caller(&self) -> NodeId {
        self.caller
    }

    /// Until when the caller waits.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long it still waits.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(TokioClock.now())
    }

    /// What the caller says beside its question.
    #[must_use]
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }
}

/// What holds for a call that is made here and now: it waits no longer than whoever it is made for,
/// and is a part of the same trace.
pub(crate) fn inherited(within: Duration, headers: Headers) -> (Duration, Headers) {
    let inherit = |outer: &Context| within.min(outer.left());
    match CURRENT
        .try_with(|outer| (inherit(outer), headers.clone().within_trace_of(&outer.headers)))
    {
        Ok(inherited) => inherited,
        Err(_none) => (within, headers),
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, inherited};
    use crate::remote::headers::{Headers, TRACEPARENT};
    use macula_core::clock::{Clock as _, TokioClock};
    use macula_core::identity::Keypair;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_call_within_a_call_has_the_time_that_is_left() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = Headers::default().with(TRACEPARENT, parent).unwrap();
        let caller = Keypair::from_seed([1; 32]).node_id();
        let context = Context::new(caller, TokioClock.now() + Duration::from_secs(5), headers);
        assert_eq!(inherited(long, Headers::default()), (long, Headers::default()));
        let inner = context.clone().scope(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(Context::current(), Some(context.clone()));
            assert_eq!(inherited(short, Headers::default()).0, short);
            inherited(long, Headers::default())
        });
        let (within, headers) = inner.await;
        assert_eq!((within, headers.get(TRACEPARENT)), (Duration::from_secs(3), Some(parent)));
        assert_eq!(Context::current(), None);
    }
}
