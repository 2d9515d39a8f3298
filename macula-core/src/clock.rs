//! Where time comes from: the only rooms that may ask are shells and binaries.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of monotonic and of calendar time.
pub trait Clock: Debug + Clone + Send + Sync + 'static {
    /// Monotonic time. It never goes back.
    fn now(&self) -> Instant;

    /// Time since the Unix epoch, as the operating system believes it. It can jump both ways.
    fn since_epoch(&self) -> Duration;
}

/// A time for people: whole milliseconds, unless it is less than one.
#[must_use]
pub fn shown(time: Duration) -> humantime::FormattedDuration {
    let whole = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    humantime::format_duration(if whole.is_zero() { time } else { whole })
}

/// Tokio's clock: real time in production, virtual time in a paused runtime.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub struct TokioClock;

impl Clock for TokioClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that the ban points to")]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that the ban points to")]
    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, TokioClock};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn follows_the_virtual_time_of_a_paused_runtime() {
        let before = TokioClock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(TokioClock.now() - before, Duration::from_secs(3600));
    }
}
