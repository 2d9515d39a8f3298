//! What a member's waits and promises are counted by.

use std::fmt::Debug;
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::port::Answer;

/// A clock that can be waited for. A test's may run at another rate, or stand still.
pub trait Timer: Debug + Send + Sync {
    /// The time. It never goes back.
    fn now(&self) -> Instant;

    /// Waits until that time has come. One that is woken early is asked again.
    fn until(&self, at: Instant) -> Answer<'static, ()>;
}

/// Tokio's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticking;

impl Timer for Ticking {
    fn now(&self) -> Instant {
        TokioClock.now()
    }

    fn until(&self, at: Instant) -> Answer<'static, ()> {
        Box::pin(tokio::time::sleep_until(at.into()))
    }
}

/// The time of Tokio's clock, for waits that nothing is promised by.
pub(crate) fn now() -> Instant {
    TokioClock.now()
}
