//! The words of supervision: strategies, restart types, shutdowns, and what may be combined.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which siblings a failure takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the child that failed is restarted.
    #[default]
    OneForOne,
    /// All children are stopped, the last first, and started again in order.
    OneForAll,
    /// The failed child and those started after it are stopped and started again.
    RestForOne,
}

/// When a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only if it ended abnormally: not for `normal` and not for a shutdown.
    Transient,
    /// Never, not even when a sibling's failure takes it along. Its spec goes with it.
    Temporary,
}

/// How a child is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed at once.
    Brutal,
    /// It is asked to stop, and killed if it has not within this time.
    Timeout(Duration),
    /// It is asked to stop, and waited for. Meant for supervisors, whose children have bounds.
    Infinity,
}

/// When the end of significant children ends their supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never; significant children are not allowed.
    #[default]
    Never,
    /// When any significant child ends by itself.
    AnySignificant,
    /// When the last significant child has ended by itself.
    AllSignificant,
}

/// What a child is, for tools and for the default of its shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// An actor that does work.
    #[default]
    Worker,
    /// A supervisor with children of its own.
    Supervisor,
}

/// How long to wait before a restart.
///
/// The n-th restart in a row waits `initial * 2^(n-1)`, at most `max`, spread by `jitter`. The row
/// ends when the child has been up for `reset_after`. The default waits not at all, as OTP does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Wait before the first restart. Zero turns back-off off.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// By which part the wait is spread to either side, 0.0 to 1.0.
    pub jitter: f64,
    /// How long a child must be up for its next failure to be a first one again.
    pub reset_after: Duration,
}

impl Backoff {
    /// No wait at all.
    pub const NONE: Self = Self {
        initial: Duration::ZERO,
        max: Duration::ZERO,
        jitter: 0.0,
        reset_after: Duration::from_secs(60),
    };

    /// Waits that grow from `initial` to `max`, spread by a fifth, forgotten after a minute.
    #[must_use]
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self { initial, max, jitter: 0.2, reset_after: Duration::from_secs(60) }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::NONE
    }
}

/// What holds for a supervisor as a whole. OTP's `sup_flags`, with OTP's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Which siblings a failure takes along.
    pub strategy: Strategy,
    /// How many restarts are allowed in `period`; one more, and the supervisor gives up.
    pub intensity: u32,
    /// The sliding period of `intensity`. At least a millisecond.
    pub period: Duration,
    /// When the end of significant children ends the supervisor.
    pub auto_shutdown: AutoShutdown,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: 1,
            period: Duration::from_secs(5),
            auto_shutdown: AutoShutdown::Never,
        }
    }
}

/// What holds for one child. OTP's child spec without its start function, and what OTP lacks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub struct ChildPolicy {
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Whether its end counts for the supervisor's auto-shutdown.
    pub significant: bool,
    /// What it is.
    pub kind: ChildKind,
    /// How long its restarts wait.
    pub backoff: Backoff,
    /// The longest time for which one of its handlers may run. None: for ever.
    pub liveness: Option<Duration>,
}

impl ChildPolicy {
    /// How long a worker has to stop unless its spec says otherwise. OTP's five seconds.
    pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

    /// The defaults for a worker: permanent, five seconds to stop.
    #[must_use]
    pub const fn worker() -> Self {
        Self {
            restart: Restart::Permanent,
            shutdown: Shutdown::Timeout(Self::SHUTDOWN_DEFAULT),
            significant: false,
            kind: ChildKind::Worker,
            backoff: Backoff::NONE,
            liveness: None,
        }
    }

    /// The defaults for a supervisor: permanent, all the time it needs to stop.
    #[must_use]
    pub const fn supervisor() -> Self {
        Self { shutdown: Shutdown::Infinity, kind: ChildKind::Supervisor, ..Self::worker() }
    }

    /// Whether the parts may stand together under a supervisor with `auto_shutdown`.
    ///
    /// # Errors
    ///
    /// The first [`IllegalPolicy`] found.
    pub fn check(&self, auto_shutdown: AutoShutdown) -> Result<(), IllegalPolicy> {
        if self.significant && self.restart == Restart::Permanent {
            return Err(IllegalPolicy::SignificantPermanent);
        }
        if self.significant && auto_shutdown == AutoShutdown::Never {
            return Err(IllegalPolicy::SignificantWithoutAutoShutdown);
        }
        if self.liveness.is_some_and(|bound| bound < LIVENESS_MIN) {
            return Err(IllegalPolicy::LivenessTooShort);
        }
        if !(0.0..=1.0).contains(&self.backoff.jitter) {
            return Err(IllegalPolicy::Jitter(self.backoff.jitter));
        }
        if self.backoff.initial > self.backoff.max {
            return Err(IllegalPolicy::BackoffShrinks {
                initial: self.backoff.initial,
                max: self.backoff.max,
            });
        }
        Ok(())
    }
}

/// The shortest liveness bound; below it the probing itself would be the load.
pub const LIVENESS_MIN: Duration = Duration::from_millis(1);

impl Flags {
    /// Whether the parts make sense, for a dynamic supervisor or for one with a list.
    ///
    /// # Errors
    ///
    /// The first [`IllegalPolicy`] found.
    pub fn check(&self, dynamic: bool) -> Result<(), IllegalPolicy> {
        if self.period < Duration::from_millis(1) {
            return Err(IllegalPolicy::PeriodTooShort);
        }
        if dynamic && self.auto_shutdown != AutoShutdown::Never {
            return Err(IllegalPolicy::AutoShutdownDynamic);
        }
        if dynamic && self.strategy != Strategy::OneForOne {
            return Err(IllegalPolicy::StrategyDynamic);
        }
        Ok(())
    }
}

/// A combination that has no meaning. Nothing was started or changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum IllegalPolicy {
    /// OTP's `{bad_combination, [{auto_shutdown, _}, {significant, _}]}` for restart types.
    #[error("a significant child must be transient or temporary: a permanent one never ends")]
    SignificantPermanent,
    /// A significant child whose end would mean nothing.
    #[error(
        "a significant child needs `auto_shutdown` of its supervisor to be \"any_significant\" or \
         \"all_significant\""
    )]
    SignificantWithoutAutoShutdown,
    /// A dynamic supervisor would end with any of its many children.
    #[error("a dynamic supervisor has no auto-shutdown: set `auto_shutdown` to \"never\"")]
    AutoShutdownDynamic,
    /// The children of a dynamic supervisor are independent of one another.
    #[error("a dynamic supervisor is \"one_for_one\": its children have no order")]
    StrategyDynamic,
    /// A period in which nothing can happen.
    #[error("`period` must be at least 1ms")]
    PeriodTooShort,
    /// A bound that every handler breaks.
    #[error("`liveness` must be at least 1ms")]
    LivenessTooShort,
    /// A spread that would make a wait negative.
    #[error("`jitter` must be from 0.0 to 1.0, and is {0}")]
    Jitter(f64),
    /// A first wait that is longer than the longest.
    #[error(
        "`initial` ({}) must not be longer than `max` ({})",
        humantime::format_duration(*.initial), humantime::format_duration(*.max)
    )]
    BackoffShrinks {
        /// The first wait.
        initial: Duration,
        /// The longest.
        max: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::{AutoShutdown, ChildPolicy, Flags, IllegalPolicy, Restart, Strategy};

    #[test]
    fn the_matrix_of_significance_is_otps() {
        use AutoShutdown::{AllSignificant, AnySignificant, Never};
        use Restart::{Permanent, Temporary, Transient};
        for auto in [Never, AnySignificant, AllSignificant] {
            for restart in [Permanent, Transient, Temporary] {
                for significant in [false, true] {
                    let policy = ChildPolicy { restart, significant, ..ChildPolicy::worker() };
                    let legal = !significant || (restart != Permanent && auto != Never);
                    assert_eq!(
                        policy.check(auto).is_ok(),
                        legal,
                        "{auto:?} {restart:?} {significant}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_dynamic_supervisor_has_neither_order_nor_auto_shutdown() {
        let auto = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::default() };
        assert_eq!(auto.check(true), Err(IllegalPolicy::AutoShutdownDynamic));
        assert_eq!(auto.check(false), Ok(()));
        let ordered = Flags { strategy: Strategy::RestForOne, ..Flags::default() };
        assert_eq!(ordered.check(true), Err(IllegalPolicy::StrategyDynamic));
    }
}
