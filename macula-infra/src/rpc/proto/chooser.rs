//! Whom to ask: what is known of the providers of each procedure, and the choice among them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::balance::{Balance, Choice, pick};
use super::breaker::{Admission, Breaker};
use super::bug::Bug;
use super::latency::{Latencies, Latency};
use crate::budget::Budget;

/// How many procedures are remembered.
const PROCEDURES_MAX: usize = 4_096;

/// How many providers of one procedure are.
const PROVIDERS_MAX: usize = 64;

/// How many calls more than the first are made to a provider, for each thousand first ones.
const RETRY_PER_MILLE: u32 = 100;

/// How many more may be made at first, and after a time without.
const RETRY_BURST: u32 = 10;

/// How many of them hedges leave for retries.
const HEDGE_LEAVES: u32 = 5;

/// A node that provides a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    /// Whether it says that a question may be handled more than once.
    pub(crate) is_idempotent: bool,
}

/// Why somebody is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is the first of its call.
    First,
    /// Another did not take the question, or was lost with it.
    Retry,
    /// Another takes long.
    Hedge,
}

/// Who was chosen. Each is told the end of once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) node: NodeId,
    is_probe: bool,
    begun: Instant,
}

/// Why nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// There is nobody.
    Nobody,
    /// All have failed too often, and are left alone: until then, if that is known.
    Open(Option<Instant>),
    /// There were too many calls beyond the first ones lately.
    NoBudget,
}

/// How long a caller has to wait for it to be held against a provider while little is known of how
/// long answers take.
const PATIENCE_MIN: Duration = Duration::from_millis(100);

/// As how long an answer counts that has declined the question.
const DECLINED: Duration = Duration::from_secs(1);

/// How it went with one that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did what it was asked.
    Well,
    /// It did not, and is to blame.
    Badly,
    /// It did not in the caller's time. It is to blame if most answers take less, or if nothing is
    /// known of them, if that was a moment at least.
    Late,
    /// It has declined at once, as one that is full or whose rules do not allow it: others come first
    /// for a while.
    Declined,
    /// Neither: it says nothing about it.
    Unknown,
}

#[derive(Debug)]
struct Provider {
    outstanding: u32,
    latency: Latency,
    breaker: Breaker,
    budget: Budget,
    used: Instant,
}

#[derive(Debug)]
struct Procedure {
    providers: BTreeMap<NodeId, Provider>,
    latencies: Latencies,
    /// Who was chosen last.
    last: Option<NodeId>,
    used: Instant,
}

/// What is known of all procedures.
#[derive(Debug)]
pub(crate) struct Chooser {
    here: NodeId,
    procedures: BTreeMap<Arc<str>, Procedure>,
    entropy: Entropy,
    #[cfg(test)]
    pub(super) bug: Option<Bug>,
}

impl Provider {
    const fn new(now: Instant) -> Self {
        Self {
            outstanding: 0,
            latency: Latency::UNKNOWN,
            breaker: Breaker::Closed { failures: 0 },
            budget: Budget::new(RETRY_PER_MILLE, RETRY_BURST),
            used: now,
        }
    }
}

impl Chooser {
    /// For the node `here`.
    pub(crate) const fn new(here: NodeId, entropy: Entropy) -> Self {
        Self {
            here,
            procedures: BTreeMap::new(),
            entropy,
            #[cfg(test)]
            bug: None,
        }
    }

    /// Chooses one of the candidates.
    ///
    /// # Errors
    ///
    /// [`NoPick`]; nothing changed.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        (procedure, balance): (&Arc<str>, &Balance),
        candidates: &[Candidate],
        why: Why,
    ) -> Result<Pick, NoPick> {
        let (asks_open, is_free) = (self.has(Bug::AsksTheOpen), self.has(Bug::SpendsNothing));
        self.make_room(procedure);
        let entry = self.procedures.entry(Arc::clone(procedure)).or_insert_with(|| Procedure {
            providers: BTreeMap::new(),
            latencies: Latencies::default(),
            last: None,
            used: now,
        });
        entry.used = now;
        let (mut choices, mut none) = (Vec::new(), NoPick::Nobody);
        for candidate in candidates {
            let provider = entry.provider(now, candidate.node);
            let is_probe = match provider.breaker.admission(now) {
                Admission::Free => false,
                Admission::Probe => true,
                Admission::Closed(_) if asks_open => false,
                Admission::Closed(until) => {
                    none = none.or_open(until);
                    continue;
                }
            };
            let is_affordable = match why {
                Why::First => true,
                Why::Retry => provider.budget.has_one(),
                // A call can do without: what is left for those that cannot is not spent on it.
                Why::Hedge => provider.budget.has(HEDGE_LEAVES + 1),
            };
            if !is_affordable && !is_free {
                none = NoPick::NoBudget;
                continue;
            }
            let is_here = candidate.node == self.here;
            let floor = if is_here { Some(Duration::ZERO) } else { provider.latency.floor() };
            choices.push(Choice {
                node: candidate.node,
                outstanding: provider.outstanding,
                latency: provider.latency.smoothed(now),
                floor,
                is_probe,
            });
        }
        let choice = pick(balance, &choices, entry.last, &mut self.entropy).ok_or(none)?;
        entry.last = Some(choice.node);
        Ok(entry.provider(now, choice.node).begin(now, &choice, why))
    }

    /// Whoever was chosen has answered, or will not any more.
    pub(crate) fn ended(&mut self, now: Instant, procedure: &str, pick: &Pick, how: Ended) {
        if how == Ended::Unknown && self.has(Bug::ForgetsTheEnd) {
            return;
        }
        let Some(entry) = self.procedures.get_mut(procedure) else { return };
        let Some(provider) = entry.providers.get_mut(&pick.node) else { return };
        provider.outstanding = provider.outstanding.saturating_sub(1);
        match how {
            Ended::Well => {
                let latency = now.saturating_duration_since(pick.begun);
                provider.latency.sample(now, latency);
                entry.latencies.sample(latency);
                provider.breaker.succeeded(pick.is_probe);
            }
            Ended::Badly => provider.breaker.failed(now, pick.is_probe),
            Ended::Late => {
                let enough = entry.latencies.p95().unwrap_or(PATIENCE_MIN);
                if now.saturating_duration_since(pick.begun) < enough {
                    // No answer could be expected: that says nothing about it.
                    provider.breaker.passed(pick.is_probe);
                } else {
                    provider.breaker.failed(now, pick.is_probe);
                }
            }
            Ended::Declined => {
                provider.latency.sample(now, DECLINED);
                provider.breaker.passed(pick.is_probe);
            }
            Ended::Unknown => provider.breaker.passed(pick.is_probe),
        }
    }

    /// After what time a call of a procedure takes longer than most.
    pub(crate) fn slow_after(&self, procedure: &str) -> Option<Duration> {
        self.procedures.get(procedure)?.latencies.p95()
    }

    /// A node has gone.
    pub(crate) fn gone(&mut self, node: NodeId) {
        for procedure in self.procedures.values_mut() {
            procedure.providers.remove(&node);
        }
    }

    /// Forgets the procedure that was not called for longest, if there is no room for another.
    fn make_room(&mut self, procedure: &str) {
        if self.procedures.len() >= PROCEDURES_MAX && !self.procedures.contains_key(procedure) {
            let oldest = self.procedures.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(name, _)| Arc::clone(name));
            oldest.and_then(|name| self.procedures.remove(&name));
        }
    }

    /// How many calls are under way.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> u32 {
        let providers = self.procedures.values().flat_map(|entry| entry.providers.values());
        providers.map(|provider| provider.outstanding).sum()
    }

    /// The circuit of a provider.
    #[cfg(test)]
    pub(crate) fn breaker(&self, procedure: &str, node: NodeId) -> Option<Breaker> {
        Some(self.procedures.get(procedure)?.providers.get(&node)?.breaker)
    }
}

impl Procedure {
    fn provider(&mut self, now: Instant, node: NodeId) -> &mut Provider {
        if self.providers.len() >= PROVIDERS_MAX && !self.providers.contains_key(&node) {
            let oldest = self.providers.iter().min_by_key(|(_, provider)| provider.used);
            let oldest = oldest.map(|(node, _)| *node);
            oldest.and_then(|node| self.providers.remove(&node));
        }
        self.providers.entry(node).or_insert_with(|| Provider::new(now))
    }
}

impl Provider {
    fn begin(&mut self, now: Instant, choice: &Choice, why: Why) -> Pick {
        (self.used, self.outstanding) = (now, self.outstanding.saturating_add(1));
        match why {
            Why::First => self.budget.deposit(),
            Why::Retry | Why::Hedge => {
                self.budget.withdraw();
            }
        }
        if choice.is_probe {
            self.breaker.probe();
        }
        Pick { node: choice.node, is_probe: choice.is_probe, begun: now }
    }
}

impl NoPick {
    /// One more has an open circuit.
    fn or_open(self, until: Option<Instant>) -> Self {
        match self {
            Self::Open(Some(first)) => Self::Open(Some(until.map_or(first, |at| first.min(at)))),
            Self::Nobody | Self::Open(None) => Self::Open(until),
            Self::NoBudget => Self::NoBudget,
        }
    }
}
