//! What outlives the actor: the table, and the lanes of those who listen to it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::machine::Machine;
use macula_core::replica::ReplicaId;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::config::{Config, InvalidConfig};
use super::error::Refused;
use super::proto::{Input, Output, Reply, Request, Store, SubscriberId, Ticket};
use super::register::Change;

/// The contents of one node's table, held outside the actor that serves it.
///
/// A registers actor that is killed or panics comes back to the same vault, so what it had
/// acknowledged is still there. It writes on as the replica's next incarnation, and those who had
/// subscribed stay subscribed. Clones are the same vault.
#[derive(Clone)]
pub struct Vault(Arc<Mutex<Contents>>);

impl Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Vault").field(&self.0.lock().store.stats()).finish()
    }
}

struct Contents {
    store: Store,
    begun: bool,
    lanes: BTreeMap<SubscriberId, broadcast::Sender<Change>>,
    deltas: Option<broadcast::Sender<Change>>,
}

impl Vault {
    /// An empty vault. `replica` is the replica of the first life that serves it.
    ///
    /// A vault is in memory, so a process that starts again has forgotten its writes: the caller
    /// gives it an incarnation that the node has never had.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if a limit makes no sense.
    pub fn new(config: Config, replica: ReplicaId) -> Result<Self, InvalidConfig> {
        config.check()?;
        let store = Store::new(config, replica);
        let contents = Contents { store, begun: false, lanes: BTreeMap::new(), deltas: None };
        Ok(Self(Arc::new(Mutex::new(contents))))
    }

    /// As which replica the table writes, or last wrote.
    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.0.lock().store.replica()
    }

    /// A new life begins: the first one as the replica that was given, each other as the next.
    pub(super) fn begin_life(&self) {
        let mut contents = self.0.lock();
        if contents.begun {
            contents.store.begin_life();
        }
        contents.begun = true;
        // Whatever the last life left: the changes that it had made and had not told of.
        contents.drain(None);
    }

    pub(super) fn ask(
        &self,
        now: Instant,
        wall: Duration,
        request: Request,
    ) -> Option<Result<Reply, Refused>> {
        self.0.lock().ask(now, wall, request)
    }

    /// A lane with the changes of keys that begin with `prefix`.
    pub(super) fn subscribe(
        &self,
        now: Instant,
        wall: Duration,
        prefix: Arc<str>,
    ) -> Option<Result<broadcast::Receiver<Change>, Refused>> {
        let mut contents = self.0.lock();
        contents.dismiss_the_gone(now, wall);
        match contents.ask(now, wall, Request::Subscribe { prefix })? {
            Ok(Reply::Subscribed(subscriber)) => {
                let (lane, changes) = contents.lane();
                contents.lanes.insert(subscriber, lane);
                Some(Ok(changes))
            }
            Ok(_) => None,
            Err(refused) => Some(Err(refused)),
        }
    }

    /// The lane of local changes; the one that was given before ends.
    pub(super) fn deltas(&self) -> broadcast::Receiver<Change> {
        let mut contents = self.0.lock();
        let (lane, changes) = contents.lane();
        contents.deltas = Some(lane);
        changes
    }
}

impl Contents {
    fn lane(&self) -> (broadcast::Sender<Change>, broadcast::Receiver<Change>) {
        broadcast::channel(self.store.config().changes_len_max.max(1))
    }

    fn ask(
        &mut self,
        now: Instant,
        wall: Duration,
        request: Request,
    ) -> Option<Result<Reply, Refused>> {
        let ticket = Ticket(0);
        self.store.handle(now, Input { ticket, wall, request });
        self.drain(Some(ticket))
    }

    /// Carries out all outputs, and gives the reply to the question that was just asked. Those
    /// whose receivers are gone are dismissed at the next subscription.
    fn drain(&mut self, asked: Option<Ticket>) -> Option<Result<Reply, Refused>> {
        let mut reply = None;
        while let Some(output) = self.store.poll_output() {
            match output {
                Output::Reply { ticket, result } if Some(ticket) == asked => reply = Some(result),
                Output::Reply { .. } => {}
                Output::Delta(change) => {
                    if let Some(lane) = &self.deltas {
                        drop(lane.send(change));
                    }
                }
                Output::Tell { subscriber, change } => {
                    if let Some(lane) = self.lanes.get(&subscriber) {
                        drop(lane.send(change));
                    }
                }
            }
        }
        reply
    }

    fn dismiss_the_gone(&mut self, now: Instant, wall: Duration) {
        let gone: Vec<SubscriberId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.receiver_count() == 0)
            .map(|(&subscriber, _)| subscriber)
            .collect();
        for subscriber in gone {
            self.lanes.remove(&subscriber);
            // It cannot be refused.
            drop(self.ask(now, wall, Request::Unsubscribe(subscriber)));
        }
    }
}
