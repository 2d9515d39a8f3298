//! One life of a supervisor, as others reach it: its inbox, and the desk where replies are due.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use ractor::ActorCell;
use tokio::sync::oneshot;

use crate::path::ChildId;
use crate::shell::Inbox;
use crate::supervision::error::AdminError;
use crate::supervision::exit::ExitReason;
use crate::supervision::proto::{Input, Reply, Request, Ticket};
use crate::supervision::spec::Launcher;

use super::place::Roster;

/// How many requests from outside wait for one supervisor.
pub(super) const REQUESTS_LEN_MAX: usize = 16_384;

/// Ranks below this are those of the list that a durable supervisor began with.
pub(super) const LISTED_MAX: u64 = 1 << 32;

/// Where requests wait for their replies.
#[derive(Debug, Default)]
pub(in crate::supervision) struct Desk {
    pub(super) next: AtomicU64,
    pub(super) open: Mutex<BTreeMap<Ticket, oneshot::Sender<Reply>>>,
    pub(super) roster: Option<Roster>,
}

impl Desk {
    pub(in crate::supervision) fn answer(&self, ticket: Ticket, reply: Reply) {
        let asker = self.open.lock().remove(&ticket);
        if let Some(asker) = asker {
            // The asker may have gone.
            drop(asker.send(reply));
        }
    }

    pub(in crate::supervision) const fn is_durable(&self) -> bool {
        self.roster.is_some()
    }

    /// A child has left the list, and does not come back with the supervisor.
    pub(in crate::supervision) fn forget(&self, id: &ChildId) {
        if let Some(roster) = &self.roster {
            roster.lock().remove(id);
        }
    }

    /// Nobody will answer any more.
    pub(in crate::supervision) fn close(&self) {
        self.open.lock().clear();
    }
}

/// One incarnation of a supervisor, as others reach it.
pub(in crate::supervision) struct Office {
    pub(super) inbox: Inbox<Input<Launcher>>,
    pub(super) desk: Arc<Desk>,
    pub(super) cell: ActorCell,
}

impl Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office").field("cell", &self.cell).finish_non_exhaustive()
    }
}

impl Office {
    pub(in crate::supervision) fn stop(&self, reason: ExitReason) {
        self.inbox.push(Input::Stop(reason));
    }

    pub(super) fn ask(
        &self,
        request: Request<Launcher>,
    ) -> Result<oneshot::Receiver<Reply>, AdminError> {
        let ticket = Ticket(self.desk.next.fetch_add(1, Ordering::Relaxed));
        let (asker, reply) = oneshot::channel();
        self.desk.open.lock().insert(ticket, asker);
        self.inbox.try_push(Input::Request { ticket, request }).map_err(|_full| {
            self.desk.open.lock().remove(&ticket);
            AdminError::Busy
        })?;
        Ok(reply)
    }
}
