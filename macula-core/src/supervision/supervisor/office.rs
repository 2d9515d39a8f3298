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
use crate::supervision::spec::{ChildSpec, Launcher};

use super::place::SupervisorPlace;

/// How many requests from outside wait for one supervisor.
pub(super) const REQUESTS_LEN_MAX: usize = 16_384;

/// Where requests wait for their replies.
pub(in crate::supervision) struct Desk {
    next: AtomicU64,
    /// None once nobody answers any more.
    open: Mutex<Option<BTreeMap<Ticket, Asker>>>,
    place: Arc<SupervisorPlace>,
}

impl Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Who waits for a reply, and the child that a durable supervisor remembers if it starts.
struct Asker {
    reply: oneshot::Sender<Reply>,
    newcomer: Option<ChildSpec>,
}

impl Desk {
    pub(super) const fn new(place: Arc<SupervisorPlace>) -> Self {
        Self { next: AtomicU64::new(0), open: Mutex::new(Some(BTreeMap::new())), place }
    }

    pub(in crate::supervision) fn answer(&self, ticket: Ticket, reply: Reply) {
        let asker = self.open.lock().as_mut().and_then(|open| open.remove(&ticket));
        let Some(asker) = asker else { return };
        if let (Some(child), Reply::Started { id, .. }) = (asker.newcomer, &reply) {
            self.place.below.remember(ChildSpec { id: Some(id.clone()), ..child });
        }
        // The asker may have gone.
        drop(asker.reply.send(reply));
    }

    /// Whether a child of this id comes back with the supervisor.
    pub(in crate::supervision) fn returns(&self, id: &ChildId) -> bool {
        self.place.below.returns(id)
    }

    /// A child has left the list, and does not come back with the supervisor.
    pub(in crate::supervision) fn forget(&self, id: &ChildId) {
        self.place.below.forget(id);
    }

    /// Nobody will answer any more.
    pub(in crate::supervision) fn close(&self) {
        let open = self.open.lock().take();
        drop(open);
    }

    pub(in crate::supervision) fn is_closed(&self) -> bool {
        self.open.lock().is_none()
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
        newcomer: Option<ChildSpec>,
    ) -> Result<oneshot::Receiver<Reply>, AdminError> {
        let ticket = Ticket(self.desk.next.fetch_add(1, Ordering::Relaxed));
        let (sender, reply) = oneshot::channel();
        let asker = Asker { reply: sender, newcomer };
        match self.desk.open.lock().as_mut() {
            Some(open) => drop(open.insert(ticket, asker)),
            None => return Err(AdminError::Unavailable),
        }
        self.inbox.try_push(Input::Request { ticket, request }).map_err(|_full| {
            self.desk.answer(ticket, Reply::Refused(AdminError::Busy));
            AdminError::Busy
        })?;
        Ok(reply)
    }
}
