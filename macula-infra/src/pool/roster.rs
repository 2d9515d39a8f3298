//! The live connections, those who wait for one, and the policy of this moment. What happens is told
//! in one step with what is noted, so that a policy that is restarted meanwhile hears of everything
//! exactly once, and nobody waits for a life that has ended.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::shell::Inbox;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Pool;
use super::error::LinkError;
use super::proto::{Class, ConnId, Denial, Input, Ticket};
use crate::link::Link;

/// How many callers wait for a connection at one time.
const WAITING_MAX: usize = 65_536;

/// How long a caller waits for a policy that is not there.
const POLICY_WAIT: Duration = Duration::from_secs(30);

/// Where a caller waits for what the policy grants.
type Grant = oneshot::Sender<Result<Arc<Link>, Denial>>;

/// What comes of it: an error if the policy was restarted, or the connection is none any more.
type Granted = oneshot::Receiver<Result<Arc<Link>, Denial>>;

#[derive(Default)]
struct Inner {
    links: BTreeMap<ConnId, Arc<Link>>,
    waiting: BTreeMap<Ticket, Grant>,
    protected: BTreeMap<(NodeId, Class), Vec<SocketAddr>>,
    inbox: Option<Inbox<Input>>,
}

impl Inner {
    fn tell(&self, input: Input) {
        if let Some(inbox) = &self.inbox {
            inbox.push(input);
        }
    }
}

/// Who is live, who waits, and who has to know.
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
        inner.tell(told);
    }

    pub(super) fn leave(&self, conn: ConnId, clean: bool) {
        let mut inner = self.inner.lock();
        let left = inner.links.remove(&conn);
        if left.is_some() {
            inner.tell(Input::Closed { conn, clean });
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
        self.inner.lock().tell(input);
    }

    /// Notes that a peer is protected, for this life of the policy and those after it.
    pub(super) fn protect(&self, peer: NodeId, class: Class, addresses: Vec<SocketAddr>) {
        let mut inner = self.inner.lock();
        inner.protected.insert((peer, class), addresses.clone());
        inner.tell(Input::Protect { peer, class, addresses });
    }

    /// Notes that it is not any more.
    pub(super) fn release(&self, peer: NodeId, class: Class) {
        let mut inner = self.inner.lock();
        inner.protected.remove(&(peer, class));
        inner.tell(Input::Release { peer, class });
    }

    /// A life of the policy begins, and is told of all that is live. Whoever waited for the last one
    /// has to ask again.
    pub(super) fn begin(&self, inbox: &Inbox<Input>) {
        let mut inner = self.inner.lock();
        for ((peer, class), addresses) in &inner.protected {
            let (peer, class, addresses) = (*peer, *class, addresses.clone());
            inbox.push(Input::Protect { peer, class, addresses });
        }
        for link in inner.links.values() {
            inbox.push(Pool::adopted(link));
        }
        inner.inbox = Some(inbox.clone());
        let waited = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(waited);
        self.begun.notify_waiters();
    }

    /// A life of the policy has ended. Whoever waits for its answer has to ask again.
    pub(super) fn end(&self) {
        let mut inner = self.inner.lock();
        inner.inbox = None;
        let waited = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(waited);
    }

    /// Puts a wish before the policy, once it is there.
    pub(super) async fn ask(&self, ticket: Ticket, want: Input) -> Result<Granted, LinkError> {
        let asking = async {
            let mut want = Some(want);
            loop {
                let begun = self.begun.notified();
                tokio::pin!(begun);
                begun.as_mut().enable();
                if let Some(asked) = self.try_ask(ticket, &mut want) {
                    return asked;
                }
                begun.await;
            }
        };
        let asked = tokio::time::timeout(POLICY_WAIT, asking).await;
        asked.unwrap_or(Err(LinkError::NotReady("the pool's policy is not there")))
    }

    /// None if there is no policy now.
    fn try_ask(
        &self,
        ticket: Ticket,
        want: &mut Option<Input>,
    ) -> Option<Result<Granted, LinkError>> {
        let mut inner = self.inner.lock();
        let inbox = inner.inbox.clone()?;
        if inner.waiting.len() >= WAITING_MAX {
            return Some(Err(LinkError::NotReady("too many callers wait for connections")));
        }
        // It answers no sooner than this step is over.
        if inbox.try_push(want.take()?).is_err() {
            return Some(Err(LinkError::NotReady("the pool has too much to do")));
        }
        let (grant, granted) = oneshot::channel();
        inner.waiting.insert(ticket, grant);
        Some(Ok(granted))
    }

    /// Whom an answer is for; none if it has given up.
    pub(super) fn answer(&self, ticket: Ticket) -> Option<Grant> {
        self.inner.lock().waiting.remove(&ticket)
    }

    /// A caller waits no more.
    pub(super) fn forget(&self, ticket: Ticket) {
        let mut inner = self.inner.lock();
        let waited = inner.waiting.remove(&ticket);
        if waited.is_some() {
            inner.tell(Input::Forget { ticket });
        }
        drop(inner);
        drop(waited);
    }
}
