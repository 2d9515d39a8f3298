//! The course of one call: who is asked, who then, and when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use super::balance::Balance;
use super::bug::Bug;
use super::chooser::{Candidate, Chooser, Ended, NoPick, Pick, Why};

/// After how long a second provider is asked while little is known of how long answers take.
const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// What is called, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Under which name.
    pub(crate) procedure: Arc<str>,
    /// Who provides it.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) balance: Balance,
    /// How many are asked at most.
    pub(crate) attempts_max: usize,
    /// Whether a second one is asked when the first takes long, where that does no harm.
    pub(crate) hedges: bool,
}

/// What one that was asked has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This is the answer.
    Answered,
    /// The call has failed, and would with any other: nobody else is asked. One that was asked at the
    /// same time is waited for, as it may have handled the question, or answer it.
    Final,
    /// This one has not answered in the caller's time, and may have handled the question. It is to
    /// blame if that was long enough.
    Late,
    /// This one does not answer, and another might.
    Failed {
        /// Whether it may have handled the question.
        may_have_run: bool,
        /// Whether it is to blame: it may just have too much to do.
        is_fault: bool,
    },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this one too.
    Ask(NodeId),
    /// Nothing.
    Wait,
    /// What was said last is the result.
    Return,
    /// Nobody can be asked.
    Refuse(NoPick),
}

/// The course of a call. It has to be [abandoned](Self::abandon) if it is not brought to its end.
#[derive(Debug)]
pub(crate) struct Course {
    plan: Plan,
    tried: BTreeSet<NodeId>,
    under_way: BTreeMap<NodeId, Pick>,
    /// When a second one is asked.
    hedge_at: Option<Instant>,
    may_have_run: bool,
    /// Nobody else is asked.
    is_final: bool,
}

impl Course {
    pub(crate) const fn new(plan: Plan) -> Self {
        Self {
            plan,
            tried: BTreeSet::new(),
            under_way: BTreeMap::new(),
            hedge_at: None,
            may_have_run: false,
            is_final: false,
        }
    }

    /// Begins.
    pub(crate) fn start(&mut self, now: Instant, chooser: &mut Chooser) -> Step {
        match self.ask(now, chooser, Why::First, false) {
            Ok(node) => {
                let is_harmless = self.plan.candidates.iter().all(|one| one.is_idempotent);
                if self.plan.hedges && is_harmless && self.plan.attempts_max > 1 {
                    let after = chooser.slow_after(&self.plan.procedure);
                    self.hedge_at = Some(now + after.unwrap_or(HEDGE_AFTER));
                }
                Step::Ask(node)
            }
            Err(none) => Step::Refuse(none),
        }
    }

    /// One that was asked has said something.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        chooser: &mut Chooser,
        node: NodeId,
        verdict: Verdict,
    ) -> Step {
        let Some(pick) = self.under_way.remove(&node) else { return Step::Wait };
        let how = match verdict {
            Verdict::Answered => Ended::Well,
            Verdict::Failed { is_fault: true, .. } => Ended::Badly,
            Verdict::Failed { is_fault: false, .. } => Ended::Declined,
            Verdict::Late => Ended::Late,
            Verdict::Final => Ended::Unknown,
        };
        chooser.ended(now, &self.plan.procedure, &pick, how);
        let may_have_run = match verdict {
            Verdict::Failed { may_have_run, .. } => may_have_run,
            Verdict::Late => true,
            Verdict::Final => false,
            Verdict::Answered => {
                self.abandon(now, chooser);
                return Step::Return;
            }
        };
        self.may_have_run |= may_have_run;
        self.is_final |= verdict == Verdict::Final;
        if !self.under_way.is_empty() {
            return Step::Wait;
        }
        self.hedge_at = None;
        if self.is_final {
            return Step::Return;
        }
        if self.may_have_run && !self.is_harmless(node, chooser) {
            return Step::Return;
        }
        let only_idempotent = self.may_have_run && !chooser.has(Bug::RepeatsAll);
        let again = self.ask(now, chooser, Why::Retry, only_idempotent);
        again.map_or(Step::Return, Step::Ask)
    }

    /// Asks a second one, if the first takes too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, chooser: &mut Chooser) -> Step {
        if self.hedge_at.is_none_or(|at| now < at) {
            return Step::Wait;
        }
        self.hedge_at = None;
        self.ask(now, chooser, Why::Hedge, true).map_or(Step::Wait, Step::Ask)
    }

    /// When a second one is asked.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.hedge_at
    }

    /// Nobody waits any more for those that are under way.
    pub(crate) fn abandon(&mut self, now: Instant, chooser: &mut Chooser) {
        self.hedge_at = None;
        for pick in std::mem::take(&mut self.under_way).into_values() {
            chooser.ended(now, &self.plan.procedure, &pick, Ended::Unknown);
        }
    }

    /// How many could still be asked, those that are under way among them.
    pub(crate) fn left(&self) -> usize {
        let untried = self.plan.candidates.len().saturating_sub(self.tried.len());
        let attempts = self.plan.attempts_max.saturating_sub(self.tried.len());
        untried.min(attempts) + self.under_way.len()
    }

    /// Whether a question that this one may have handled may be asked again.
    fn is_harmless(&self, node: NodeId, chooser: &Chooser) -> bool {
        let asked = self.plan.candidates.iter().find(|one| one.node == node);
        asked.is_some_and(|one| one.is_idempotent) || chooser.has(Bug::RepeatsAll)
    }

    fn ask(
        &mut self,
        now: Instant,
        chooser: &mut Chooser,
        why: Why,
        only_idempotent: bool,
    ) -> Result<NodeId, NoPick> {
        if self.tried.len() >= self.plan.attempts_max {
            return Err(NoPick::Nobody);
        }
        let may = |one: &Candidate| {
            !self.tried.contains(&one.node) && (one.is_idempotent || !only_idempotent)
        };
        let fresh: Vec<Candidate> = self.plan.candidates.iter().copied().filter(may).collect();
        let called = (&self.plan.procedure, &self.plan.balance);
        let pick = chooser.choose(now, called, &fresh, why)?;
        self.tried.insert(pick.node);
        self.under_way.insert(pick.node, pick);
        Ok(pick.node)
    }
}
