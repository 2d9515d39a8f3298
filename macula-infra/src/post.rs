//! The post: frames to peers, which are dialled first if they have to be.
//!
//! It is for protocols that send and go on: a machine's outputs become parcels here. A parcel for a
//! peer with a live connection leaves at once. Others wait, in a bounded queue for each peer, while
//! one task dials it. A parcel that cannot be sent is told to be so to whoever sent it, once; one
//! that was sent may still be lost with its connection, so a protocol that needs an answer waits
//! for one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::wire::{Flags, HEADER_LEN, Kind};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::contact::Contact;
use crate::link::InFlight;
use crate::pool::Pool;
use crate::transport::lane::Lane;

/// How many peers are dialled for parcels at one time.
const DIALS_MAX: usize = 256;

/// How many parcels wait for one peer.
const WAITING_MAX: usize = 64;

/// How many long parcels are under way at one time.
const LONG_MAX: usize = 256;

/// How long parcels wait for a connection, and how long a long one takes at most.
const WITHIN: Duration = Duration::from_secs(10);

/// A frame for a peer.
pub(crate) struct Parcel {
    /// On which lane it goes.
    pub(crate) lane: Lane,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its correlation id.
    pub(crate) id: u64,
    /// Its body, encoded.
    pub(crate) body: Bytes,
    /// Hears that it was not sent.
    pub(crate) unsent: Box<dyn FnOnce() + Send>,
}

impl Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").field("kind", &self.kind).field("id", &self.id).finish()
    }
}

/// What is told of a body that is too long for a frame, ahead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Long {
    /// How many bytes it has.
    pub(crate) len: u64,
}

impl Parcel {
    /// Hands it to a link's lane, or tells that there is no room. A long one has a stream of its own.
    fn leave_by(self, in_flight: InFlight, turns: &Arc<Semaphore>) {
        let link = Arc::clone(in_flight.link());
        if self.body.len() + HEADER_LEN <= link.limits().frame_len_max {
            let head = (self.kind, Flags::default(), self.id);
            if link.lane(self.lane).send_raw(head, &self.body).is_err() {
                (self.unsent)();
            }
            return;
        }
        let Ok(turn) = Arc::clone(turns).try_acquire_owned() else { return (self.unsent)() };
        drop(tokio::spawn(async move {
            let about = Long { len: u64::try_from(self.body.len()).unwrap_or(u64::MAX) };
            let head = (self.kind, Flags::default(), self.id);
            let sending = async {
                let stream = link.bulks().open().await.ok()?;
                stream.send(head, &about, self.body, link.limits()).await.ok()
            };
            if !matches!(tokio::time::timeout(WITHIN, sending).await, Ok(Some(()))) {
                (self.unsent)();
            }
            drop((in_flight, turn));
        }));
    }
}

/// The post of a node. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pool: Pool,
    waiting: Arc<Mutex<BTreeMap<NodeId, Vec<Parcel>>>>,
    long: Arc<Semaphore>,
}

impl Post {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool, waiting: Arc::default(), long: Arc::new(Semaphore::new(LONG_MAX)) }
    }

    /// Sends a parcel, now or when its peer has been dialled.
    pub(crate) fn send(&self, to: &Contact, parcel: Parcel) {
        if let Some(in_flight) = self.pool.live(to.node) {
            return parcel.leave_by(in_flight, &self.long);
        }
        self.pool.book().hear(to.node, &to.addresses);
        let mut waiting = self.waiting.lock();
        let dials = waiting.len();
        let refused = match waiting.entry(to.node) {
            Entry::Occupied(mut queue) if queue.get().len() < WAITING_MAX => {
                queue.get_mut().push(parcel);
                None
            }
            Entry::Vacant(queue) if dials < DIALS_MAX => {
                queue.insert(vec![parcel]);
                drop(tokio::spawn(self.clone().dial(to.node)));
                None
            }
            Entry::Occupied(_) | Entry::Vacant(_) => Some(parcel),
        };
        drop(waiting);
        if let Some(parcel) = refused {
            (parcel.unsent)();
        }
    }

    /// Sends all that waits for a peer once there is a connection to it.
    async fn dial(self, peer: NodeId) {
        // If this ends by a panic, what waits is told all the same.
        let mut queue = Queue { post: &self, peer, taken: false };
        let linked = tokio::time::timeout(WITHIN, self.pool.link(peer)).await;
        let parcels = queue.take();
        match linked {
            Ok(Ok(in_flight)) => {
                for parcel in parcels {
                    parcel.leave_by(in_flight.another(), &self.long);
                }
            }
            Ok(Err(_)) | Err(_) => parcels.into_iter().for_each(|parcel| (parcel.unsent)()),
        }
    }
}

/// What waits for one peer, which does not outlive its dial.
struct Queue<'a> {
    post: &'a Post,
    peer: NodeId,
    /// Whether it is over, and what waits for the peer now waits for another dial.
    taken: bool,
}

impl Queue<'_> {
    fn take(&mut self) -> Vec<Parcel> {
        if std::mem::replace(&mut self.taken, true) {
            return Vec::new();
        }
        self.post.waiting.lock().remove(&self.peer).unwrap_or_default()
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.take().into_iter().for_each(|parcel| (parcel.unsent)());
    }
}

#[cfg(test)]
mod tests;
