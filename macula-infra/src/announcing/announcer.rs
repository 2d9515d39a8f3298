//! What is to be said in the directory of the names that this node announces.
//!
//! One thing at a time is said of a name, the last word is the one that counts, and what fails is
//! said again after a while. A few names are spoken of at one time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::machine::Machine;

/// How many names are spoken of at one time.
const BUSY_MAX: usize = 8;

/// How long after a failure the same is said again, at first.
const RETRY_INITIAL: Duration = Duration::from_secs(1);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often it is said that a name is served no longer. The announcement ends by itself.
const WITHDRAWALS_MAX: u32 = 3;

/// What has become of a name on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is served.
    Served(Arc<str>),
    /// It is served no longer.
    Ended(Arc<str>),
}

/// What the announcer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Something has changed.
    Change(Change),
    /// What was said has, or has not, reached the directory.
    Said {
        /// Of which name.
        name: Arc<str>,
        /// Whether it has.
        reached: bool,
    },
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// That this node serves the name.
    Announce(Arc<str>),
    /// That it does so no longer.
    Withdraw(Arc<str>),
}

/// What the directory may believe of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// That this node does not serve it.
    Nothing,
    /// Either.
    Unsure,
    /// That it does.
    Served,
}

#[derive(Debug)]
struct Name {
    is_served: bool,
    belief: Belief,
    /// Whether something is being said of it.
    is_busy: bool,
    is_waiting: bool,
    failures: u32,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    names: BTreeMap<Arc<str>, Name>,
    /// Those of which something is to be said, in the order in which it became so.
    waiting: VecDeque<Arc<str>>,
    busy: usize,
    changes: u64,
    retries: Deadlines<Arc<str>>,
    out: VecDeque<Output>,
}

impl Announcer {
    /// These names are served, after so many changes; and those that the directory was `told` of
    /// before are to be taken back, if they are none any more.
    pub(in crate::announcing) fn new(
        served: BTreeSet<Arc<str>>,
        told: &BTreeSet<Arc<str>>,
        changes: u64,
    ) -> Self {
        let mut announcer = Self { changes, ..Self::default() };
        for name in told.difference(&served) {
            announcer.change(Arc::clone(name), false);
            if let Some(entry) = announcer.names.get_mut(name) {
                entry.belief = Belief::Unsure;
            }
        }
        for name in served {
            announcer.change(name, true);
        }
        announcer.speak();
        announcer
    }

    /// How many changes there were.
    pub(in crate::announcing) const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many names are served of which the directory does not know yet.
    pub(in crate::announcing) fn unannounced(&self) -> usize {
        let unknown =
            |name: &&Name| name.is_served && (name.is_busy || name.belief != Belief::Served);
        self.names.values().filter(unknown).count()
    }

    fn change(&mut self, name: Arc<str>, is_served: bool) {
        let entry = self.names.entry(Arc::clone(&name)).or_insert(Name {
            is_served,
            belief: Belief::Nothing,
            is_busy: false,
            is_waiting: false,
            failures: 0,
        });
        if is_served && entry.belief == Belief::Served {
            // It is another thing now that has the name.
            entry.belief = Belief::Unsure;
        }
        (entry.is_served, entry.failures) = (is_served, 0);
        self.retries.clear(Arc::clone(&name));
        self.wait(name);
    }

    /// Puts a name at the end of those of which something is to be said.
    fn wait(&mut self, name: Arc<str>) {
        if let Some(entry) = self.names.get_mut(&name)
            && !std::mem::replace(&mut entry.is_waiting, true)
        {
            self.waiting.push_back(name);
        }
    }

    fn said(&mut self, now: Instant, name: &Arc<str>, reached: bool) {
        let Some(entry) = self.names.get_mut(name).filter(|entry| entry.is_busy) else { return };
        entry.is_busy = false;
        self.busy -= 1;
        if reached {
            entry.failures = 0;
            return self.wait(Arc::clone(name));
        }
        entry.belief = Belief::Unsure;
        entry.failures = entry.failures.saturating_add(1);
        let wait = RETRY_INITIAL.saturating_mul(1 << (entry.failures - 1).min(16)).min(RETRY_MAX);
        self.retries.set(Arc::clone(name), now + wait);
    }

    /// Says what there is to be said, as long as it may.
    fn speak(&mut self) {
        while self.busy < BUSY_MAX {
            let Some(name) = self.waiting.pop_front() else { return };
            let Some(entry) = self.names.get_mut(&name) else { continue };
            entry.is_waiting = false;
            if entry.is_busy {
                // It comes back when that is over.
                continue;
            }
            let output = match (entry.is_served, entry.belief) {
                (true, Belief::Served) => continue,
                (true, _) => {
                    entry.belief = Belief::Served;
                    Output::Announce(name)
                }
                (false, Belief::Served | Belief::Unsure) if entry.failures < WITHDRAWALS_MAX => {
                    entry.belief = Belief::Nothing;
                    Output::Withdraw(name)
                }
                (false, _) => {
                    self.names.remove(&name);
                    continue;
                }
            };
            entry.is_busy = true;
            self.busy += 1;
            self.out.push_back(output);
        }
    }
}

impl Machine for Announcer {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Change(change) => {
                self.changes += 1;
                let is_served = matches!(change, Change::Served(_));
                let (Change::Served(name) | Change::Ended(name)) = change;
                self.change(name, is_served);
            }
            Input::Said { name, reached } => self.said(now, &name, reached),
        }
        self.speak();
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(name) = self.retries.due(now) {
            self.wait(name);
        }
        self.speak();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.retries.next().map(|(at, _)| (at, "retry"))
    }
}

#[cfg(test)]
mod tests;
