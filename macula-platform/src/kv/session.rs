//! The sessions of a client: under each a few commands are in flight, so that a voter remembers what it
//! has answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use super::limits::ANSWERS_MAX;

/// How far the commands of a session may be apart. Voters remember more.
const WINDOW: u64 = (ANSWERS_MAX / 2) as u64;

/// The command that opens a session.
pub(super) const OPENING: u64 = 1;

/// All sessions of a client.
#[derive(Debug)]
pub(super) struct Sessions {
    max: usize,
    list: Mutex<Vec<Arc<Session>>>,
    freed: Notify,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u128,
    /// When it was opened. Set once the group knows it.
    pub(super) opened: OnceCell<u64>,
    flight: Mutex<Flight>,
}

#[derive(Debug)]
struct Flight {
    next: u64,
    open: BTreeSet<u64>,
}

/// One command in flight. When it is dropped its client has the answer, or wants none.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    sessions: &'a Sessions,
    pub(super) session: Arc<Session>,
    pub(super) serial: u64,
    /// All commands before this one have ended.
    pub(super) done_below: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.session.flight.lock().open.remove(&self.serial);
        self.sessions.freed.notify_waiters();
    }
}

impl Sessions {
    /// At most so many.
    pub(super) fn new(max: usize) -> Self {
        Self { max, list: Mutex::default(), freed: Notify::new() }
    }

    /// Begins a command, when one of the sessions has room. `id` draws the id of a new one.
    pub(super) async fn begin(&self, id: impl Fn() -> u128) -> Ticket<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(ticket) = self.try_begin(&id) {
                return ticket;
            }
            freed.await;
        }
    }

    fn try_begin(&self, id: &impl Fn() -> u128) -> Option<Ticket<'_>> {
        let mut list = self.list.lock();
        let ticket = |session: &Arc<Session>| {
            let (serial, done_below) = session.flight.lock().begin()?;
            Some(Ticket { sessions: self, session: Arc::clone(session), serial, done_below })
        };
        if let Some(found) = list.iter().find_map(ticket) {
            return Some(found);
        }
        if list.len() >= self.max {
            return None;
        }
        let flight = Flight { next: OPENING + 1, open: BTreeSet::new() };
        let (opened, flight) = (OnceCell::new(), Mutex::new(flight));
        list.push(Arc::new(Session { id: id(), opened, flight }));
        list.last().and_then(ticket)
    }

    /// Uses a session no more: the group has forgotten it.
    pub(super) fn forget(&self, session: &Arc<Session>) {
        self.list.lock().retain(|known| !Arc::ptr_eq(known, session));
    }
}

impl Flight {
    fn begin(&mut self) -> Option<(u64, u64)> {
        let serial = self.next;
        let done_below = self.open.first().copied().unwrap_or(serial);
        if serial - done_below >= WINDOW {
            return None;
        }
        self.next += 1;
        self.open.insert(serial);
        Some((serial, done_below))
    }
}

#[cfg(test)]
mod tests {
    use super::{Sessions, WINDOW};

    #[tokio::test]
    async fn a_command_that_is_long_in_flight_holds_its_session_up_and_no_other() {
        let sessions = Sessions::new(2);
        let ids = parking_lot::Mutex::new(0_u128);
        let id = || {
            let mut ids = ids.lock();
            *ids += 1;
            *ids
        };
        let first = sessions.begin(&id).await;
        assert_eq!((first.session.id, first.serial, first.done_below), (1, 2, 2));
        for _ in 1..WINDOW {
            let next = sessions.begin(&id).await;
            assert_eq!((next.session.id, next.done_below), (1, 2));
        }
        let held: Vec<_> = (0..WINDOW).map(|_| sessions.try_begin(&id).unwrap()).collect();
        assert!(held.iter().all(|ticket| ticket.session.id == 2));
        assert!(sessions.try_begin(&id).is_none());
        // Whoever waits goes on when one ends.
        let (waited, ()) = tokio::join!(sessions.begin(&id), async { drop(first) });
        assert_eq!((waited.session.id, waited.serial), (1, WINDOW + 2));
        assert_eq!(waited.done_below, WINDOW + 2);
    }

    #[tokio::test]
    async fn a_session_that_is_forgotten_is_not_used_again() {
        let sessions = Sessions::new(1);
        let first = sessions.begin(|| 1).await;
        sessions.forget(&first.session);
        assert_eq!(sessions.begin(|| 2).await.session.id, 2);
    }
}
