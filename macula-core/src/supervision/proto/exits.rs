//! What follows when a child has started, has not, or has ended.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::supervision::error::AdminError;
use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{AutoShutdown, Flags, Restart, Shutdown, Strategy};

use super::child::{StartCause, State};
use super::timer::Due;
use super::{Change, Context, KILL_GRACE, Key, Outlook, Phase, Plan, Reply};

/// A liveness bound is probed this many times, so that a hang is seen in 1.25 of it.
const PROBES_PER_BOUND: u32 = 4;

impl<P: Clone + Debug> Plan<P> {
    pub(super) fn started(
        &mut self,
        now: Instant,
        key: Key,
        incarnation: u64,
        info: Option<String>,
    ) {
        let Some(child) = self.children.get_mut(&key).filter(|c| c.incarnation == incarnation)
        else {
            return;
        };
        let (cause, early_exit) =
            match std::mem::replace(&mut child.state, State::Up { since: now }) {
                State::Starting { cause, early_exit } => (cause, early_exit),
                // It hung, and came up after all before it was given up.
                State::Aborting { cause, early_exit } if child.hung.take().is_some() => {
                    (cause, early_exit)
                }
                State::Aborting { cause, early_exit } => {
                    // The order to give up came too late: what runs is stopped as if it always had.
                    let id = child.id.clone();
                    self.answer_start(key, cause, Reply::Started { key, id, info });
                    self.stop(now, key);
                    if let Some(reason) = early_exit {
                        self.exited(now, key, incarnation, reason);
                    }
                    return;
                }
                other @ (State::Down
                | State::Waiting
                | State::Up { .. }
                | State::Stopping { .. }) => {
                    child.state = other;
                    return;
                }
            };
        self.timers.clear(key, child);
        self.probe_later(now, key);
        self.event(key, Change::Started);
        let id = self.children.get(&key).map(|child| child.id.clone());
        if let Some(id) = id {
            self.answer_start(key, cause, Reply::Started { key, id, info });
        }
        self.group_member_done(now, key);
        if let Some(reason) = early_exit {
            self.exited(now, key, incarnation, reason);
        }
    }

    pub(super) fn ignored(&mut self, now: Instant, key: Key, incarnation: u64) {
        let Some(child) = self.children.get_mut(&key).filter(|c| c.incarnation == incarnation)
        else {
            return;
        };
        let (State::Starting { cause, .. } | State::Aborting { cause, .. }) = child.state else {
            return;
        };
        self.timers.clear(key, child);
        child.become_down(&mut self.live);
        let keep = !self.dynamic && child.policy.restart != Restart::Temporary;
        self.event(key, Change::Ignored);
        self.answer_start(key, cause, Reply::Ignored);
        self.answer_waiters(key);
        self.leave(key, keep, Outlook::Down);
        self.group_member_done(now, key);
        self.end_member_done(now);
    }

    pub(super) fn start_failed(
        &mut self,
        now: Instant,
        key: Key,
        incarnation: u64,
        reason: ExitReason,
    ) {
        let Some(child) = self.children.get_mut(&key).filter(|c| c.incarnation == incarnation)
        else {
            return;
        };
        let (cause, aborted) = match child.state {
            State::Starting { cause, .. } => (cause, false),
            // A start that was given up because it hung failed; one that somebody gave up did not.
            State::Aborting { cause, .. } => (cause, child.hung.is_none()),
            State::Down | State::Waiting | State::Up { .. } | State::Stopping { .. } => return,
        };
        let reason = child.hung.map_or(reason, |bound| ExitReason::Hung { bound });
        self.timers.clear(key, child);
        child.become_down(&mut self.live);
        child.last_exit = Some(Arc::new(reason.clone()));
        if aborted {
            self.start_given_up(now, key, cause, &reason);
            return;
        }
        self.event(key, Change::StartFailed { reason: reason.clone() });
        self.report(now, key, Context::StartError, reason.clone());
        match cause {
            StartCause::Boot => {
                let Some(child) = self.children.get(&key).map(|child| child.id.clone()) else {
                    return;
                };
                self.end(now, ExitReason::StartFailed { child, reason: Box::new(reason) });
                self.end_member_done(now);
            }
            StartCause::Admin { ticket, fresh } => {
                self.refuse(ticket, AdminError::StartFailed(reason));
                self.leave(key, !fresh && !self.dynamic, Outlook::Down);
                self.end_member_done(now);
            }
            StartCause::Restart | StartCause::Group => {
                if !matches!(self.phase, Phase::Running) {
                    self.end_member_done(now);
                } else if self.leave_group(key) {
                    self.restart(now, key, false);
                } else {
                    self.defer(now, key, incarnation, reason);
                }
            }
        }
    }

    /// A start that was aborted because somebody asked, or a sibling took it along, is over.
    fn start_given_up(&mut self, now: Instant, key: Key, cause: StartCause, reason: &ExitReason) {
        self.answer_start(key, cause, Reply::Refused(self.not_started(reason)));
        let fresh = matches!(cause, StartCause::Admin { fresh: true, .. });
        if !fresh {
            self.gone_down(now, key, reason, true);
            return;
        }
        // Whoever wanted this child has just been told that it is not listed.
        if let Some(group) = &mut self.group {
            group.excuse(key);
        }
        self.event(key, Change::Stopped { reason: reason.clone() });
        self.answer_waiters(key);
        self.remove(key);
        self.group_member_done(now, key);
        self.end_member_done(now);
    }

    pub(super) fn not_started(&self, reason: &ExitReason) -> AdminError {
        match self.phase {
            Phase::Ending(_) | Phase::Ended => AdminError::ShuttingDown,
            Phase::Unborn | Phase::Booting | Phase::Running => {
                AdminError::StartFailed(reason.clone())
            }
        }
    }

    /// An incarnation has ended, whatever was expected of it.
    pub(super) fn exited(&mut self, now: Instant, key: Key, incarnation: u64, reason: ExitReason) {
        let Some(child) = self.children.get_mut(&key).filter(|c| c.incarnation == incarnation)
        else {
            return;
        };
        let reason = child.hung.map_or(reason, |bound| ExitReason::Hung { bound });
        match &mut child.state {
            State::Starting { early_exit, .. } | State::Aborting { early_exit, .. } => {
                *early_exit = Some(reason);
            }
            State::Down | State::Waiting => {}
            State::Stopping { killed } => {
                let (killed, shutdown) = (*killed, child.policy.shutdown);
                self.timers.clear(key, child);
                child.become_down(&mut self.live);
                child.last_exit = Some(Arc::new(reason.clone()));
                let permanent = child.policy.restart == Restart::Permanent;
                let asked_for = match shutdown {
                    Shutdown::Brutal => reason == ExitReason::Killed,
                    Shutdown::Timeout(_) | Shutdown::Infinity => {
                        !killed && !is_shutdown_error(&reason, permanent)
                    }
                };
                self.gone_down(now, key, &reason, asked_for);
            }
            State::Up { since } => {
                let up_for = now.saturating_duration_since(*since);
                if up_for >= child.policy.backoff.reset_after {
                    child.failures = 0;
                }
                self.timers.clear(key, child);
                child.become_down(&mut self.live);
                child.last_exit = Some(Arc::new(reason.clone()));
                self.event(key, Change::Exited { reason: reason.clone() });
                self.exited_by_itself(now, key, incarnation, reason);
            }
        }
    }

    fn exited_by_itself(&mut self, now: Instant, key: Key, incarnation: u64, reason: ExitReason) {
        match &self.phase {
            Phase::Ending(_) => {
                self.answer_waiters(key);
                let permanent = self
                    .children
                    .get(&key)
                    .is_some_and(|child| child.policy.restart == Restart::Permanent);
                if is_shutdown_error(&reason, permanent) {
                    self.report(now, key, Context::ShutdownError, reason);
                }
                self.leave_or_stay(key, Outlook::Down);
                self.end_member_done(now);
            }
            // A group that waits out a back-off has nobody in between up and down.
            Phase::Running if self.group.as_ref().is_none_or(|group| self.idles(group)) => {
                self.decide(now, key, reason);
            }
            Phase::Running | Phase::Booting => {
                self.defer(now, key, incarnation, reason);
            }
            Phase::Unborn | Phase::Ended => {}
        }
    }

    /// A child that was asked to stop is down.
    fn gone_down(&mut self, now: Instant, key: Key, reason: &ExitReason, asked_for: bool) {
        self.event(key, Change::Stopped { reason: reason.clone() });
        if !asked_for {
            self.report(now, key, Context::ShutdownError, reason.clone());
        }
        let in_group = self.group.as_ref().is_some_and(|group| group.will_start(key));
        self.answer_waiters(key);
        self.leave_or_stay(key, if in_group { Outlook::Restarting } else { Outlook::Down });
        self.group_member_done(now, key);
        self.end_member_done(now);
    }

    /// OTP's `do_restart`: what the end of a child means to its supervisor.
    pub(super) fn decide(&mut self, now: Instant, key: Key, reason: ExitReason) {
        let Some(child) = self.children.get(&key) else { return };
        let (restart, significant) = (child.policy.restart, child.policy.significant);
        let again = match restart {
            Restart::Permanent => true,
            Restart::Transient => reason.is_abnormal(),
            Restart::Temporary => false,
        };
        if restart == Restart::Permanent || reason.is_abnormal() {
            self.report(now, key, Context::ChildTerminated, reason);
        }
        if again {
            self.restart(now, key, true);
            return;
        }
        self.leave_or_stay(key, Outlook::Down);
        if significant && self.significant_end() {
            self.own_event(Change::AutoShutdown);
            self.end(now, ExitReason::Shutdown);
        }
    }

    fn significant_end(&self) -> bool {
        match self.flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self
                .children
                .values()
                .any(|child| child.policy.significant && child.state != State::Down),
        }
    }

    /// Counts a restart, and makes it unless that is one too many.
    ///
    /// The first attempt follows a failure at once if the child has no back-off; a later one always
    /// goes through the timers, so that a start that keeps failing leaves room for other inputs.
    pub(super) fn restart(&mut self, now: Instant, key: Key, first: bool) {
        if !self.budget.spend(now, self.flags.intensity, self.flags.period) {
            let Flags { intensity, period, .. } = self.flags;
            let reason = ExitReason::Meltdown { intensity, period };
            self.own_event(Change::Meltdown);
            self.report(now, key, Context::Meltdown, reason.clone());
            self.end(now, reason);
            return;
        }
        let Some(child) = self.children.get_mut(&key) else { return };
        child.failures = child.failures.saturating_add(1);
        let delay = child.policy.backoff.delay(child.failures, &mut self.entropy);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.event(key, Change::Restarting { delay_ms });
        self.settle(key, Outlook::Restarting);
        if self.join_group(key) {
            return;
        }
        let alone = self.dynamic || self.flags.strategy == Strategy::OneForOne;
        if alone && first && delay.is_zero() {
            self.start(now, key, StartCause::Restart);
            return;
        }
        if !first || !delay.is_zero() {
            self.wait(now, key, delay);
        }
        if !alone {
            self.form_group(now, key);
        }
    }

    fn wait(&mut self, now: Instant, key: Key, delay: Duration) {
        if let Some(child) = self.children.get_mut(&key) {
            child.become_idle(State::Waiting, &mut self.live);
            self.timers.set(key, child, now + delay, Due::Retry);
        }
    }

    pub(super) fn timer(&mut self, now: Instant, key: Key, due: Due) {
        if due == Due::Wave {
            self.stop_wave(now);
            // All that it was to stop may have ended before.
            self.end_member_done(now);
            return;
        }
        let Some(child) = self.children.get_mut(&key) else { return };
        child.timer = None;
        match due {
            Due::Wave => {}
            Due::Retry => self.retry(now, key),
            Due::Probe => self.probe(key),
            Due::StartBound => {
                if let (State::Starting { cause, early_exit }, Some(bound)) =
                    (child.state.clone(), child.policy.liveness)
                {
                    child.hung = Some(bound);
                    child.state = State::Aborting { cause, early_exit };
                    self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
                    self.event(key, Change::Hung { bound_ms: millis(bound) });
                    self.outputs.push_back(super::Output::AbortStart { key });
                }
            }
            Due::Kill => self.kill(now, key),
            Due::Stuck => self.stuck(now, key),
        }
    }

    /// Ends the wait of a child, if it waits.
    pub(super) fn retry(&mut self, now: Instant, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state != State::Waiting {
            return;
        }
        self.timers.clear(key, child);
        child.become_down(&mut self.live);
        if self.group.as_ref().is_some_and(|group| group.will_start(key)) {
            self.advance_group(now);
        } else {
            self.start(now, key, StartCause::Restart);
        }
    }

    fn probe_later(&mut self, now: Instant, key: Key) {
        if let Some(child) = self.children.get_mut(&key)
            && let Some(bound) = child.policy.liveness
        {
            self.timers.set(key, child, now + bound / PROBES_PER_BOUND, Due::Probe);
        }
    }

    fn probe(&mut self, key: Key) {
        if let Some(child) = self.children.get(&key).filter(|child| child.is_up()) {
            let incarnation = child.incarnation;
            self.outputs.push_back(super::Output::Probe { key, incarnation });
        }
    }

    /// Hears of a child's pulse. An odd count that stays the same is one handler that still runs.
    pub(super) fn pulse(&mut self, now: Instant, key: Key, incarnation: u64, beats: u64) {
        let Some(child) = self.children.get_mut(&key).filter(|c| c.incarnation == incarnation)
        else {
            return;
        };
        let (State::Up { .. }, Some(bound)) = (&child.state, child.policy.liveness) else { return };
        let since = match child.busy {
            Some((seen, since)) if seen == beats => since,
            Some(_) | None => now,
        };
        child.busy = (beats % 2 == 1).then_some((beats, since));
        if child.busy.is_some() && now.saturating_duration_since(since) >= bound {
            child.hung = Some(bound);
            self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
            self.event(key, Change::Hung { bound_ms: millis(bound) });
            self.outputs.push_back(super::Output::Kill { key });
        } else {
            self.probe_later(now, key);
        }
    }

    pub(super) fn answer_start(&mut self, key: Key, cause: StartCause, reply: Reply) {
        if let StartCause::Admin { ticket, .. } = cause
            && self.children.contains_key(&key)
        {
            self.reply(ticket, reply);
        }
    }

    pub(super) fn answer_waiters(&mut self, key: Key) {
        let waiters = self.children.get_mut(&key).map(|child| std::mem::take(&mut child.waiters));
        for ticket in waiters.into_iter().flatten() {
            self.reply(ticket, Reply::Done);
        }
    }

    /// Children whose spec is not kept leave the list when they are down.
    fn leave_or_stay(&mut self, key: Key, outlook: Outlook) {
        let temporary =
            self.children.get(&key).is_some_and(|child| child.policy.restart == Restart::Temporary);
        self.leave(key, !temporary && !self.dynamic, outlook);
    }

    fn leave(&mut self, key: Key, keep: bool, outlook: Outlook) {
        if keep {
            self.settle(key, outlook);
        } else {
            self.remove(key);
        }
    }
}

/// Whether a child that was to be stopped ended as it should not. A permanent child never ends by
/// itself, so `normal` is no answer to a stop.
fn is_shutdown_error(reason: &ExitReason, permanent: bool) -> bool {
    reason.is_abnormal() || (permanent && reason.is_normal())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
