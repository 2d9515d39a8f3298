//! What configuration says of paths in a tree, in the words of the policies.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::path::Path;

use super::policy::{AutoShutdown, Backoff, ChildPolicy, Flags, Restart, Shutdown, Strategy};

/// What is said of one path. What is not said stays as the code has it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Override {
    /// See [`ChildPolicy::restart`].
    pub restart: Option<Restart>,
    /// See [`ChildPolicy::shutdown`].
    pub shutdown: Option<Shutdown>,
    /// See [`ChildPolicy::significant`].
    pub significant: Option<bool>,
    /// See [`ChildPolicy::backoff`].
    pub backoff: Option<Backoff>,
    /// See [`ChildPolicy::liveness`]. The inner none switches the bound off.
    pub liveness: Option<Option<Duration>>,
    /// See [`Flags::strategy`].
    pub strategy: Option<Strategy>,
    /// See [`Flags::intensity`].
    pub intensity: Option<u32>,
    /// See [`Flags::period`].
    pub period: Option<Duration>,
    /// See [`Flags::auto_shutdown`].
    pub auto_shutdown: Option<AutoShutdown>,
}

impl Override {
    /// The child's policy with what is said of it.
    #[must_use]
    pub fn apply(&self, policy: ChildPolicy) -> ChildPolicy {
        ChildPolicy {
            restart: self.restart.unwrap_or(policy.restart),
            shutdown: self.shutdown.unwrap_or(policy.shutdown),
            significant: self.significant.unwrap_or(policy.significant),
            kind: policy.kind,
            backoff: self.backoff.unwrap_or(policy.backoff),
            liveness: self.liveness.unwrap_or(policy.liveness),
        }
    }

    /// The supervisor's flags with what is said of them.
    #[must_use]
    pub fn apply_flags(&self, flags: Flags) -> Flags {
        Flags {
            strategy: self.strategy.unwrap_or(flags.strategy),
            intensity: self.intensity.unwrap_or(flags.intensity),
            period: self.period.unwrap_or(flags.period),
            auto_shutdown: self.auto_shutdown.unwrap_or(flags.auto_shutdown),
        }
    }

    /// Whether anything is said that only a supervisor has.
    #[must_use]
    pub const fn speaks_of_flags(&self) -> bool {
        self.strategy.is_some()
            || self.intensity.is_some()
            || self.period.is_some()
            || self.auto_shutdown.is_some()
    }
}

/// What is said of all paths.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides(BTreeMap<Path, Override>);

impl Overrides {
    /// Says something of a path, in place of what was said of it before.
    pub fn set(&mut self, path: Path, said: Override) {
        self.0.insert(path, said);
    }

    /// What is said of a path.
    #[must_use]
    pub fn get(&self, path: &Path) -> Override {
        self.0.get(path).copied().unwrap_or_default()
    }

    /// All of it, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Override)> {
        self.0.iter()
    }
}
