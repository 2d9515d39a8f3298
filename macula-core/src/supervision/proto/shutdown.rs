//! How children are stopped, one or all, and what happens to those that do not.

use std::fmt::Debug;
use std::time::Instant;

use crate::supervision::exit::ExitReason;
use crate::supervision::policy::Shutdown;

use super::child::State;
use super::timer::Due;
use super::{Change, Context, KILL_GRACE, Key, Outlook, Output, Phase, Plan, Reply, STOP_WAVE_MAX};
use crate::supervision::error::AdminError;

impl<P: Clone + Debug> Plan<P> {
    /// Stops a child as its policy says. It must be starting or up.
    pub(super) fn stop(&mut self, now: Instant, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.state.clone() {
            State::Starting { cause, early_exit } => {
                child.state = State::Aborting { cause, early_exit };
                self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
                self.outputs.push_back(Output::AbortStart { key });
            }
            State::Up { .. } => {
                let killed = child.policy.shutdown == Shutdown::Brutal;
                child.state = State::Stopping { killed };
                let output = match child.policy.shutdown {
                    Shutdown::Brutal => {
                        self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
                        Output::Kill { key }
                    }
                    Shutdown::Timeout(bound) => {
                        self.timers.set(key, child, now + bound, Due::Kill);
                        Output::Stop { key }
                    }
                    Shutdown::Infinity => {
                        self.timers.clear(key, child);
                        Output::Stop { key }
                    }
                };
                self.outputs.push_back(output);
            }
            State::Aborting { .. } | State::Stopping { killed: true } => {
                child.forgive_hang();
                // One that was called stuck before has nothing left that would end the wait.
                if child.timer.is_none() {
                    self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
                }
            }
            State::Down | State::Waiting | State::Stopping { killed: false } => {}
        }
    }

    /// A child did not stop in time.
    pub(super) fn kill(&mut self, now: Instant, key: Key) {
        if let Some(child) = self.children.get_mut(&key)
            && let State::Stopping { killed } = &mut child.state
        {
            *killed = true;
            self.timers.set(key, child, now + KILL_GRACE, Due::Stuck);
            self.outputs.push_back(Output::Kill { key });
        }
    }

    /// A child outlives its kill. Nothing replaces it while it lives, but an end goes on.
    pub(super) fn stuck(&mut self, now: Instant, key: Key) {
        self.event(key, Change::Stuck);
        self.report(now, key, Context::Stuck, ExitReason::Killed);
        if matches!(self.phase, Phase::Ending(_))
            && let Some(child) = self.children.get_mut(&key)
        {
            if let State::Starting { cause, .. } | State::Aborting { cause, .. } = child.state {
                self.answer_start(key, cause, Reply::Refused(AdminError::ShuttingDown));
            }
            let Some(child) = self.children.get_mut(&key) else { return };
            child.become_down(&mut self.live);
            self.answer_waiters(key);
            self.settle(key, Outlook::Down);
            self.end_member_done(now);
        }
    }

    /// Begins the end: everything is stopped, then comes [`Output::Finish`].
    pub(super) fn end(&mut self, now: Instant, reason: ExitReason) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return;
        }
        self.phase = Phase::Ending(reason);
        self.outputs.push_back(Output::Ending);
        self.group = None;
        self.deferred.clear();
        while let Some((ticket, _)) = self.held.pop_front() {
            self.refuse(ticket, AdminError::ShuttingDown);
        }
        self.cancel_waits();
        if self.dynamic {
            self.wave = self.children.keys().next().copied();
            self.stop_wave(now);
        }
        self.end_member_done(now);
    }

    fn cancel_waits(&mut self) {
        for (&key, child) in &mut self.children {
            if child.state == State::Waiting {
                self.timers.clear(key, child);
                child.become_down(&mut self.live);
            }
        }
    }

    /// Stops the next children of a dynamic supervisor, all at the same time.
    pub(super) fn stop_wave(&mut self, now: Instant) {
        let Some(from) = self.wave.take() else { return };
        let keys: Vec<Key> =
            self.children.range(from..).map(|(&key, _)| key).take(STOP_WAVE_MAX + 1).collect();
        for &key in keys.iter().take(STOP_WAVE_MAX) {
            self.stop(now, key);
        }
        self.wave = keys.get(STOP_WAVE_MAX).copied();
        if self.wave.is_some() {
            self.timers.set_wave(now);
        }
    }

    /// Goes on with the end, if that is what is going on.
    pub(super) fn end_member_done(&mut self, now: Instant) {
        let Phase::Ending(reason) = &self.phase else { return };
        let reason = reason.clone();
        if !self.dynamic && self.stop_last(now) {
            return;
        }
        if self.live > 0 || self.wave.is_some() {
            return;
        }
        self.phase = Phase::Ended;
        for key in self.children.keys().copied().collect::<Vec<_>>() {
            let outlook = if self.dynamic { Outlook::Gone } else { Outlook::Down };
            self.answer_waiters(key);
            self.settle(key, outlook);
        }
        self.outputs.push_back(Output::Finish(reason));
    }

    /// Stops the last child in start order that is not down; false if all are.
    fn stop_last(&mut self, now: Instant) -> bool {
        while let Some((&rank, &key)) = self.order.last_key_value() {
            let Some(child) = self.children.get_mut(&key) else {
                self.order.remove(&rank);
                continue;
            };
            match child.state {
                State::Down => {
                    self.order.remove(&rank);
                }
                State::Waiting => {
                    self.timers.clear(key, child);
                    child.become_down(&mut self.live);
                }
                State::Starting { .. }
                | State::Up { .. }
                | State::Aborting { .. }
                | State::Stopping { .. } => {
                    self.stop(now, key);
                    return true;
                }
            }
        }
        false
    }

    /// Stops a child because somebody asked, and answers when it is down.
    pub(super) fn terminate(&mut self, now: Instant, ticket: super::Ticket, key: Key) {
        if let Some(group) = &mut self.group {
            group.excuse(key);
        }
        // Whatever its last end would have led to, it is wanted down now.
        self.deferred.retain(|&(other, _, _)| other != key);
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.state {
            State::Down | State::Waiting => {
                let waited = child.state == State::Waiting;
                self.timers.clear(key, child);
                child.become_down(&mut self.live);
                let gone = self.dynamic
                    || child.policy.restart == crate::supervision::policy::Restart::Temporary;
                self.reply(ticket, Reply::Done);
                if gone {
                    self.remove(key);
                } else {
                    self.settle(key, Outlook::Down);
                }
                if waited {
                    self.abandon_group_of(now, key);
                }
            }
            State::Starting { .. } | State::Up { .. } => {
                child.waiters.push(ticket);
                self.stop(now, key);
            }
            State::Aborting { .. } | State::Stopping { .. } => {
                child.forgive_hang();
                child.waiters.push(ticket);
            }
        }
    }
}
