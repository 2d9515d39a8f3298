//! The live connections, and the policy of this moment: told of each in one step, so that a policy
//! that is restarted meanwhile hears of everything exactly once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use macula_core::shell::Inbox;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Pool;
use super::proto::{ConnId, Input};
use crate::link::Link;

#[derive(Default)]
struct Inner {
    links: BTreeMap<ConnId, Arc<Link>>,
    inbox: Option<Inbox<Input>>,
}

/// Who is live, and who has to know.
#[derive(Default)]
pub(super) struct Roster {
    inner: Mutex<Inner>,
    numbers: AtomicU64,
    begun: Notify,
}

impl Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("links", &self.inner.lock().links.len()).finish()
    }
}

impl Roster {
    pub(super) fn next_id(&self) -> ConnId {
        ConnId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn join(&self, link: &Arc<Link>, told: Input) {
        let mut inner = self.inner.lock();
        inner.links.insert(link.id, Arc::clone(link));
        if let Some(inbox) = &inner.inbox {
            inbox.push(told);
        }
    }

    pub(super) fn leave(&self, conn: ConnId, clean: bool) {
        let mut inner = self.inner.lock();
        let left = inner.links.remove(&conn);
        if let (Some(_), Some(inbox)) = (&left, &inner.inbox) {
            inbox.push(Input::Closed { conn, clean });
        }
        drop(inner);
        drop(left);
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<Arc<Link>> {
        self.inner.lock().links.get(&conn).cloned()
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.inner.lock().links.values().cloned().collect()
    }

    /// Tells the policy, if it is there. It needs no word of what it has never heard of.
    pub(super) fn tell(&self, input: Input) {
        let inbox = self.inner.lock().inbox.clone();
        if let Some(inbox) = inbox {
            inbox.push(input);
        }
    }

    /// A life of the policy begins, and is told of all that is live.
    pub(super) fn begin(&self, inbox: &Inbox<Input>) {
        let mut inner = self.inner.lock();
        for link in inner.links.values() {
            inbox.push(Pool::adopted(link));
        }
        inner.inbox = Some(inbox.clone());
        drop(inner);
        self.begun.notify_waiters();
    }

    /// A life of the policy has ended.
    pub(super) fn end(&self) {
        self.inner.lock().inbox = None;
    }

    /// The inbox of the policy, once it is there.
    pub(super) async fn inbox(&self) -> Inbox<Input> {
        loop {
            let begun = self.begun.notified();
            tokio::pin!(begun);
            begun.as_mut().enable();
            let inbox = self.inner.lock().inbox.clone();
            if let Some(inbox) = inbox {
                return inbox;
            }
            begun.await;
        }
    }
}
