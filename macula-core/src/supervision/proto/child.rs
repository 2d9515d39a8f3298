//! What the plan knows of one child.

use std::time::{Duration, Instant};

use crate::path::ChildId;
use crate::supervision::exit::{ExitReason, SharedReason};
use crate::supervision::policy::ChildPolicy;

use super::timer::Due;
use super::{ChildInfo, ChildState, Key, Ticket};

/// Why a start was ordered: who hears of its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartCause {
    /// The first start of the supervisor.
    Boot,
    /// Somebody asked; a fresh child is not listed unless it starts.
    Admin { ticket: Ticket, fresh: bool },
    /// It alone is restarted.
    Restart,
    /// It is restarted with its siblings.
    Group,
}

/// Where a child stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Down,
    /// Waits for its next start.
    Waiting,
    /// A start was ordered. An exit can be heard of before the start is.
    Starting {
        cause: StartCause,
        early_exit: Option<ExitReason>,
    },
    /// A start was ordered, and given up.
    Aborting {
        cause: StartCause,
        early_exit: Option<ExitReason>,
    },
    Up {
        since: Instant,
    },
    /// Asked to stop, or killed.
    Stopping {
        killed: bool,
    },
}

#[derive(Debug)]
pub(super) struct Child<P> {
    pub(super) id: ChildId,
    /// Its place in the start order.
    pub(super) rank: u64,
    pub(super) policy: ChildPolicy,
    pub(super) payload: Option<P>,
    pub(super) state: State,
    pub(super) incarnation: u64,
    pub(super) restarts: u64,
    /// Failures in a row, for the back-off.
    pub(super) failures: u32,
    pub(super) last_exit: Option<SharedReason>,
    pub(super) timer: Option<(Instant, Due)>,
    /// The last odd pulse, and when it was first seen.
    pub(super) busy: Option<(u64, Instant)>,
    /// The bound it broke, once it has: its end is then a hang, whatever it looks like.
    pub(super) hung: Option<Duration>,
    /// Who waits for it to be down.
    pub(super) waiters: Vec<Ticket>,
}

impl<P> Child<P> {
    pub(super) fn new(
        (id, rank): (ChildId, u64),
        policy: ChildPolicy,
        lives: u64,
        payload: P,
    ) -> Self {
        Self {
            id,
            rank,
            policy,
            payload: Some(payload),
            state: State::Down,
            incarnation: lives,
            restarts: 0,
            failures: 0,
            last_exit: None,
            timer: None,
            busy: None,
            hung: None,
            waiters: Vec::new(),
        }
    }

    /// Whether something of it exists or is about to: everything but down and waiting.
    pub(super) const fn is_live(&self) -> bool {
        !matches!(self.state, State::Down | State::Waiting)
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn become_live(&mut self, state: State, live: &mut usize) {
        if !self.is_live() {
            *live += 1;
        }
        self.state = state;
    }

    pub(super) fn become_down(&mut self, live: &mut usize) {
        self.become_idle(State::Down, live);
    }

    pub(super) fn become_idle(&mut self, state: State, live: &mut usize) {
        if self.is_live() {
            *live -= 1;
        }
        self.state = state;
        self.busy = None;
        self.hung = None;
    }

    /// Somebody wants the child down, so that a start which was given up because it hung is no
    /// failure any more.
    pub(super) const fn forgive_hang(&mut self) {
        if matches!(self.state, State::Aborting { .. }) {
            self.hung = None;
        }
    }

    pub(super) const fn shown_state(&self) -> ChildState {
        match self.state {
            State::Down => ChildState::Down,
            State::Waiting => ChildState::Restarting,
            State::Starting { .. } => ChildState::Starting,
            State::Up { .. } => ChildState::Running,
            State::Aborting { .. } | State::Stopping { .. } => ChildState::Stopping,
        }
    }

    pub(super) fn info(&self, now: Instant, key: Key) -> ChildInfo {
        let up_for = match self.state {
            State::Up { since } => Some(now.saturating_duration_since(since)),
            State::Down
            | State::Waiting
            | State::Starting { .. }
            | State::Aborting { .. }
            | State::Stopping { .. } => None,
        };
        ChildInfo {
            key,
            id: self.id.clone(),
            policy: self.policy,
            state: self.shown_state(),
            incarnation: self.incarnation,
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            up_for,
        }
    }
}
