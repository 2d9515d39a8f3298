//! Sequences over several children: the first start, and the restarts of `one_for_all` and
//! `rest_for_one`.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Instant;

use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{Restart, Strategy};

use super::child::{StartCause, State};
use super::{Key, Outlook, Phase, Plan};

/// What is still to be stopped and started, one child at a time.
#[derive(Debug)]
pub(super) struct Group {
    /// In start order: the last is stopped first.
    stopping: Vec<Key>,
    /// In start order.
    starting: VecDeque<Key>,
    /// The one that is stopping or starting at the moment.
    current: Option<Key>,
    /// The child whose failure it is, and whose back-off it waits out; none for the first start.
    cause: Option<Key>,
}

impl Group {
    pub(super) fn boot(keys: impl Iterator<Item = Key>) -> Self {
        Self { stopping: Vec::new(), starting: keys.collect(), current: None, cause: None }
    }

    /// Whether the child's start is still to come.
    pub(super) fn will_start(&self, key: Key) -> bool {
        self.starting.contains(&key)
    }

    /// Takes a child out of what is still to be started.
    pub(super) fn excuse(&mut self, key: Key) {
        self.starting.retain(|&other| other != key);
    }
}

impl<P: Clone + Debug> Plan<P> {
    /// Makes a group of the child and those that its failure takes along.
    pub(super) fn form_group(&mut self, now: Instant, cause: Key) {
        let Some(rank) = self.children.get(&cause).map(|child| child.rank) else { return };
        let from = match self.flags.strategy {
            Strategy::OneForAll => 0,
            Strategy::OneForOne | Strategy::RestForOne => rank,
        };
        let members: Vec<Key> = self.order.range(from..).map(|(_, &key)| key).collect();
        let starting = members
            .iter()
            .copied()
            .filter(|key| {
                self.children
                    .get(key)
                    .is_some_and(|child| child.policy.restart != Restart::Temporary)
            })
            .collect();
        let stopping = members.into_iter().filter(|&key| key != cause).collect();
        self.group = Some(Group { stopping, starting, current: None, cause: Some(cause) });
        self.advance_group(now);
    }

    /// Whether the group does nothing but wait for its failed child's next start.
    pub(super) fn idles(&self, group: &Group) -> bool {
        group.current.is_none()
            && group.stopping.is_empty()
            && group.cause.is_some_and(|cause| self.waits(cause))
    }

    /// Lets a child that failed wait with a group that waits already, if that group's start comes
    /// before its own. A failure of an earlier child makes a greater group instead.
    pub(super) fn join_group(&mut self, key: Key) -> bool {
        let Some(cause) =
            self.group.as_ref().filter(|group| self.idles(group)).and_then(|g| g.cause)
        else {
            return false;
        };
        let rank = |key| self.children.get(&key).map(|child| child.rank);
        if cause == key
            || self.flags.strategy == Strategy::OneForOne
            || (self.flags.strategy == Strategy::RestForOne && rank(key) < rank(cause))
        {
            return false;
        }
        self.enrol(key);
        true
    }

    /// Puts a child among those that the group will start, in its place.
    fn enrol(&mut self, key: Key) {
        let rank = |key| self.children.get(&key).map(|child| child.rank);
        if let Some(group) = &mut self.group
            && !group.will_start(key)
        {
            group.starting.push_back(key);
            group.starting.make_contiguous().sort_by_key(|&key| rank(key));
        }
    }

    /// Makes room for the group of a child that failed to start; false if a group is at work that
    /// did not start it. Under `one_for_one`, which flags can become while a group is at work, the
    /// old group itself waits for its member.
    pub(super) fn leave_group(&mut self, failed: Key) -> bool {
        let idles = self.group.as_ref().is_none_or(|group| self.idles(group));
        let one_for_one = self.flags.strategy == Strategy::OneForOne;
        match &mut self.group {
            Some(group) if group.current == Some(failed) && one_for_one => {
                group.current = None;
                group.cause = Some(failed);
                group.starting.push_front(failed);
                true
            }
            Some(group) if group.current == Some(failed) => {
                self.group = None;
                true
            }
            Some(_) | None => idles,
        }
    }

    /// Keeps an end in mind that a group at work leaves no room for, unless that group will start
    /// the child anyway.
    pub(super) fn defer(&mut self, now: Instant, key: Key, incarnation: u64, reason: ExitReason) {
        if !self.group.as_ref().is_some_and(|group| group.will_start(key)) {
            self.deferred.push_back((key, incarnation, reason));
        }
        self.settle(key, Outlook::Restarting);
        self.group_member_done(now, key);
    }

    /// Gives the group up: its failed child is wanted down, and with it those that wait for it.
    pub(super) fn abandon_group_of(&mut self, now: Instant, cause: Key) {
        let Some(group) = self.group.take_if(|group| group.cause == Some(cause)) else { return };
        for key in group.starting {
            self.settle(key, Outlook::Down);
        }
        self.decide_deferred(now);
    }

    /// Goes on with the group until something has to be waited for.
    pub(super) fn advance_group(&mut self, now: Instant) {
        while let Some(group) = &mut self.group {
            if group.current.is_some() {
                return;
            }
            if let Some(key) = group.stopping.pop() {
                if self.stop_member(now, key) {
                    return;
                }
                continue;
            }
            let Some(&key) = group.starting.front() else {
                self.group_done(now);
                return;
            };
            let cause = group.cause;
            match self.children.get(&key).map(|child| &child.state) {
                // The failed child waits out its back-off before the first of the group starts.
                _ if cause.is_some_and(|cause| self.waits(cause)) => {
                    self.decide_deferred(now);
                    return;
                }
                Some(State::Down) => {
                    if let Some(group) = &mut self.group {
                        group.starting.pop_front();
                        group.current = Some(key);
                    }
                    let cause = if cause.is_none() { StartCause::Boot } else { StartCause::Group };
                    self.start(now, key, cause);
                    // A start that failed on the spot has made a new group, or ended it all.
                    return;
                }
                _ => {
                    if let Some(group) = &mut self.group {
                        group.starting.pop_front();
                    }
                }
            }
        }
    }

    fn waits(&self, key: Key) -> bool {
        self.children.get(&key).is_some_and(|child| child.state == State::Waiting)
    }

    /// Stops a member of the group; false if there is nothing to wait for.
    fn stop_member(&mut self, now: Instant, key: Key) -> bool {
        let Some(child) = self.children.get_mut(&key) else { return false };
        match child.state {
            State::Down => {
                if child.policy.restart == Restart::Temporary {
                    self.remove(key);
                }
                false
            }
            State::Waiting => {
                self.timers.clear(key, child);
                child.become_down(&mut self.live);
                false
            }
            State::Starting { .. } | State::Up { .. } => {
                // One that was terminated and then restarted while the group was at work.
                if child.policy.restart != Restart::Temporary {
                    self.enrol(key);
                }
                self.make_current(key);
                self.stop(now, key);
                true
            }
            State::Aborting { .. } | State::Stopping { .. } => {
                child.forgive_hang();
                self.make_current(key);
                true
            }
        }
    }

    fn make_current(&mut self, key: Key) {
        if let Some(group) = &mut self.group {
            group.current = Some(key);
        }
    }

    /// Hears that a child is up or down, and goes on if the group waited for it.
    pub(super) fn group_member_done(&mut self, now: Instant, key: Key) {
        if let Some(group) = &mut self.group
            && group.current == Some(key)
        {
            group.current = None;
            self.advance_group(now);
        }
    }

    fn group_done(&mut self, now: Instant) {
        self.group = None;
        if self.phase == Phase::Booting {
            self.booted(now);
        }
        self.decide_deferred(now);
    }

    /// Decides the exits that had to wait, unless a group is on its way up or down.
    fn decide_deferred(&mut self, now: Instant) {
        while self.phase == Phase::Running
            && self.group.as_ref().is_none_or(|group| self.idles(group))
        {
            let Some((key, incarnation, reason)) = self.deferred.pop_front() else { return };
            let stands = self.children.get(&key).is_some_and(|child| {
                child.incarnation == incarnation && child.state == State::Down
            });
            let due = self.group.as_ref().is_some_and(|group| group.will_start(key));
            if stands && !due {
                self.decide(now, key, reason);
            }
        }
    }
}
