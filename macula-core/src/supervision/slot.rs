//! A worker's place in the tree: what outlives its incarnations.
//!
//! Messages sent through a handle wait here and not in ractor's mailbox. The actor is woken through
//! its own supervision port, which it monitors itself on; each wake handles one message, so that
//! ractor's priorities (kill, stop, supervision, messages) hold between any two.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use ractor::{ActorCell, SupervisionEvent};
use tokio::sync::Notify;

use crate::path::Path;

use super::event::DeadReason;
use super::exit::ExitReason;
use super::mailbox::{Absence, Admitted, Mailbox, Overflow, Queue};
use super::proto::Outlook;
use super::tree::Tree;

/// After this many messages from the handle, ractor's own mailbox gets a turn.
const FAIR_SHARE: u32 = 32;

/// Whether a child can take messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has not been started yet.
    Unborn,
    /// It runs.
    Up,
    /// It does not run, and is about to.
    Restarting,
    /// It does not run, and somebody has to start it.
    Down,
    /// It does not run and is not listed any more.
    Gone,
}

/// What became of the messages that were sent through handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailboxStats {
    /// How many wait now.
    pub waiting: usize,
    /// How many were taken.
    pub accepted: u64,
    /// How many were given back because there was no room.
    pub refused: u64,
    /// How many were given back because the child was not there.
    pub unavailable: u64,
    /// How many were taken and never handled.
    pub dead_letters: u64,
}

#[derive(Debug)]
struct Lane<M> {
    queue: Queue<M>,
    presence: Presence,
    incarnation: u64,
    cell: Option<ActorCell>,
    /// True while a wake is on its way: then every waiting message will be handled.
    scheduled: bool,
    handled_in_row: u32,
    /// It runs, and when it does not any more it will be gone.
    doomed: bool,
    waiting_for_space: usize,
    /// The last life that has ended with all that it held, and why.
    last_exit: Option<(u64, ExitReason)>,
    stats: MailboxStats,
}

pub(super) struct Slot<M> {
    pub(super) mailbox: Mailbox,
    /// A handle that is kept keeps no tree.
    home: OnceLock<(Path, Weak<Tree>)>,
    lane: Mutex<Lane<M>>,
    space: Notify,
    change: Notify,
    beats: AtomicU64,
}

impl<M> Debug for Slot<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lane = self.lane.lock();
        f.debug_struct("Slot")
            .field("path", &self.path())
            .field("presence", &lane.presence)
            .field("incarnation", &lane.incarnation)
            .finish_non_exhaustive()
    }
}

/// What a send that was not accepted gives back.
pub(super) enum Rejected<M> {
    Full(M, usize),
    Absent(M, Presence),
}

impl<M: Send + 'static> Slot<M> {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        let mailbox = Mailbox { capacity: mailbox.capacity.max(1), ..mailbox };
        Self {
            mailbox,
            home: OnceLock::new(),
            lane: Mutex::new(Lane {
                queue: Queue::default(),
                presence: Presence::Unborn,
                incarnation: 0,
                cell: None,
                scheduled: false,
                handled_in_row: 0,
                doomed: false,
                waiting_for_space: 0,
                last_exit: None,
                stats: MailboxStats::default(),
            }),
            space: Notify::new(),
            change: Notify::new(),
            beats: AtomicU64::new(0),
        }
    }

    pub(super) fn offer(&self, message: M) -> Result<(), Rejected<M>> {
        let mut lane = self.lane.lock();
        let (capacity, overflow) = match (lane.presence, self.mailbox.absence) {
            (Presence::Up, _) => (self.mailbox.capacity, self.mailbox.overflow),
            (Presence::Restarting | Presence::Unborn, Absence::Stash(max)) => {
                (max, Overflow::Refuse)
            }
            (presence, _) => {
                lane.stats.unavailable += 1;
                return Err(Rejected::Absent(message, presence));
            }
        };
        let displaced = match lane.queue.admit(message, capacity, overflow) {
            Admitted::Taken => None,
            Admitted::Displaced(oldest) => {
                lane.stats.dead_letters += 1;
                Some(oldest)
            }
            Admitted::Full(message) => {
                lane.stats.refused += 1;
                return Err(Rejected::Full(message, capacity));
            }
        };
        lane.stats.accepted += 1;
        let wake = if lane.scheduled { None } else { lane.cell.clone() };
        lane.scheduled |= wake.is_some();
        drop(lane);
        if let Some(cell) = wake {
            ring(cell);
        }
        if let Some(oldest) = displaced {
            let_go(oldest);
            self.announce_dead(1, DeadReason::Overflow);
        }
        Ok(())
    }

    /// The next message for the actor, which has just been woken.
    pub(super) fn take(&self) -> Option<M> {
        let mut lane = self.lane.lock();
        let message = lane.queue.next();
        let space = lane.waiting_for_space > 0;
        let more = lane.queue.len() > 0;
        lane.scheduled = more;
        lane.handled_in_row = if more { lane.handled_in_row + 1 } else { 0 };
        let yields = lane.handled_in_row >= FAIR_SHARE;
        if yields {
            lane.handled_in_row = 0;
        }
        let wake = if more { lane.cell.clone() } else { None };
        drop(lane);
        match wake {
            // A wake from another task leaves a gap in which ractor looks into its own mailbox.
            Some(cell) if yields => drop(tokio::spawn(async move { ring(cell) })),
            Some(cell) => ring(cell),
            None => {}
        }
        if space {
            self.space.notify_one();
        }
        message
    }

    /// Waits until a message is taken out, or the child comes or goes.
    pub(super) async fn room(&self) {
        let _waiting = Waiting::new(self);
        let (change, space) = (self.change.notified(), self.space.notified());
        tokio::pin!(change, space);
        change.as_mut().enable();
        space.as_mut().enable();
        if !self.has_room() {
            tokio::select! {
                () = change => {}
                () = space => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        let lane = self.lane.lock();
        match (lane.presence, self.mailbox.absence) {
            (Presence::Up, _) => lane.queue.len() < self.mailbox.capacity,
            (Presence::Restarting | Presence::Unborn, Absence::Stash(max)) => {
                lane.queue.len() < max
            }
            // The next offer is refused for another reason than room.
            (presence, _) => presence != Presence::Up,
        }
    }

    /// Waits until the child is up, or will not be.
    pub(super) async fn settled(&self) -> Presence {
        self.settled_after(0).await.0
    }

    /// As [`settled`](Self::settled), for a life that is later than `incarnation`.
    pub(super) async fn settled_after(&self, incarnation: u64) -> (Presence, u64) {
        loop {
            let change = self.change.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            let now = self.presence_and_incarnation();
            match now {
                (Presence::Up, up) if up > incarnation => return now,
                (Presence::Down | Presence::Gone, _) => return now,
                (Presence::Up | Presence::Unborn | Presence::Restarting, _) => change.await,
            }
        }
    }

    /// Waits until a life has ended with all that it held, and says why it did; none if a later one
    /// has ended since, or if there will be no such life.
    pub(super) async fn ended(&self, incarnation: u64) -> Option<ExitReason> {
        loop {
            let change = self.change.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            {
                let lane = self.lane.lock();
                match &lane.last_exit {
                    Some((life, reason)) if *life == incarnation => return Some(reason.clone()),
                    Some((life, _)) if *life > incarnation => return None,
                    Some(_) | None => {}
                }
                if lane.presence == Presence::Gone && lane.incarnation < incarnation {
                    return None;
                }
            }
            change.await;
        }
    }

    fn presence_and_incarnation(&self) -> (Presence, u64) {
        let lane = self.lane.lock();
        (lane.presence, lane.incarnation)
    }

    /// The actor is ready for messages.
    pub(super) fn open(&self, cell: &ActorCell, incarnation: u64) {
        let mut lane = self.lane.lock();
        lane.presence = Presence::Up;
        lane.doomed = false;
        lane.incarnation = incarnation;
        lane.cell = Some(cell.clone());
        // ractor itself rings first: it tells monitors that the actor has started. A second bell
        // would make a second chain of wakes, and the two would leave no gap between them.
        lane.scheduled = true;
        drop(lane);
        // The monitor is the actor itself: its supervision port is the bell.
        cell.monitor(cell.clone());
        self.change.notify_waiters();
    }

    pub(super) fn cell(&self) -> Option<ActorCell> {
        self.lane.lock().cell.clone()
    }

    fn let_all_go(&self, dead: VecDeque<M>, reason: DeadReason) {
        let count = dead.len() as u64;
        dead.into_iter().for_each(let_go);
        if count > 0 {
            self.announce_dead(count, reason);
        }
    }

    fn announce_dead(&self, count: u64, reason: DeadReason) {
        if let Some((path, tree)) = self.home.get()
            && let Some(tree) = tree.upgrade()
        {
            tree.dead_letters(path, count, reason);
        }
    }
}

/// A sender that waits for space, counted while it does.
struct Waiting<'a, M>(&'a Slot<M>);

impl<'a, M> Waiting<'a, M> {
    fn new(slot: &'a Slot<M>) -> Self {
        slot.lane.lock().waiting_for_space += 1;
        Self(slot)
    }
}

impl<M> Drop for Waiting<'_, M> {
    fn drop(&mut self) {
        self.0.lane.lock().waiting_for_space -= 1;
    }
}

/// Drops a message, outside any lock: a reply port in it may wake its caller right here. A message
/// that panics when it is dropped must not take along whoever tells of the actor's end.
fn let_go<M>(message: M) {
    if catch_unwind(AssertUnwindSafe(|| drop(message))).is_err() {
        tracing::error!("a message panicked when it was dropped");
    }
}

/// Wakes an actor that monitors itself.
fn ring(cell: ActorCell) {
    let bell = SupervisionEvent::ActorStarted(cell.clone());
    cell.notify_supervisor(bell);
}

impl<M> Slot<M> {
    pub(super) fn path(&self) -> Option<Path> {
        self.home.get().map(|(path, _)| path.clone())
    }

    pub(super) fn presence(&self) -> Presence {
        self.lane.lock().presence
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.lane.lock().incarnation
    }

    pub(super) fn stats(&self) -> MailboxStats {
        let lane = self.lane.lock();
        MailboxStats { waiting: lane.queue.len(), ..lane.stats }
    }

    /// Marks the begin or the end of a handler: the count is odd while one runs.
    pub(super) fn beat(&self) {
        // One actor writes, so a plain addition loses nothing.
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A new life starts idle, even if the last one ended in the middle of a handler.
    pub(super) fn calm(&self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats.store(beats.wrapping_add(beats % 2), Ordering::Relaxed);
    }
}

/// A place in the tree, without the type of its messages.
pub(super) trait Place: Send + Sync {
    /// The place is part of a tree, at this path.
    fn settle_in(&self, path: &Path, tree: &Arc<Tree>);
    /// The incarnation has ended, or failed to start.
    fn close(&self, incarnation: u64);
    /// All that the incarnation held has gone, and this is why it ended.
    fn bury(&self, _incarnation: u64, _reason: &ExitReason) {}
    /// What comes next.
    fn outlook(&self, outlook: Outlook);
    /// Whether it is taken: one spec has one place, and runs once.
    fn is_up(&self) -> bool;
    /// The number of its current or last life.
    fn lives(&self) -> u64;
    /// The count that is odd while a handler runs.
    fn beats(&self) -> u64;
}

impl<M: Send + 'static> Place for Slot<M> {
    fn settle_in(&self, path: &Path, tree: &Arc<Tree>) {
        self.home.get_or_init(|| (path.clone(), Arc::downgrade(tree)));
        self.calm();
    }

    fn close(&self, incarnation: u64) {
        let mut lane = self.lane.lock();
        if lane.presence != Presence::Up || lane.incarnation != incarnation {
            return;
        }
        lane.presence = if lane.doomed { Presence::Gone } else { Presence::Restarting };
        let cell = lane.cell.take();
        lane.scheduled = false;
        let keep = match self.mailbox.absence {
            Absence::Stash(max) if !lane.doomed => max,
            Absence::Stash(_) | Absence::FailFast | Absence::Wait(_) => 0,
        };
        let dead = lane.queue.cut(keep);
        lane.stats.dead_letters += dead.len() as u64;
        drop(lane);
        if let Some(cell) = cell {
            cell.unmonitor(cell.clone());
        }
        self.let_all_go(dead, DeadReason::Ended);
        self.change.notify_waiters();
    }

    fn bury(&self, incarnation: u64, reason: &ExitReason) {
        self.lane.lock().last_exit = Some((incarnation, reason.clone()));
        self.change.notify_waiters();
    }

    fn outlook(&self, outlook: Outlook) {
        let mut lane = self.lane.lock();
        if lane.presence == Presence::Up {
            lane.doomed = outlook == Outlook::Gone;
            return;
        }
        lane.presence = match outlook {
            Outlook::Restarting => Presence::Restarting,
            Outlook::Down => Presence::Down,
            Outlook::Gone => Presence::Gone,
        };
        let keep = if outlook == Outlook::Restarting { usize::MAX } else { 0 };
        let dead = lane.queue.cut(keep);
        lane.stats.dead_letters += dead.len() as u64;
        drop(lane);
        self.let_all_go(dead, DeadReason::Ended);
        self.change.notify_waiters();
    }

    fn is_up(&self) -> bool {
        self.presence() == Presence::Up
    }

    fn lives(&self) -> u64 {
        self.incarnation()
    }

    fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}
