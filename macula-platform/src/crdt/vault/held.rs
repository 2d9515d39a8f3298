//! One bucket that is held.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use macula_core::machine::Machine as _;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

use super::{Asked, Vault};
use crate::crdt::bucket::KeyDelta;
use crate::crdt::disk::Disk;
use crate::crdt::error::Error;
use crate::crdt::proto::{Batch, Done, Event, Failed, Input, Output, Replica};

/// A change as those who listen have it, and whether it was made here.
pub(in crate::crdt) type Lane = broadcast::Receiver<(Arc<KeyDelta>, bool)>;

/// A replica, with those who wait for it and listen to it.
pub(in crate::crdt) struct Held {
    name: Arc<str>,
    disk: Option<Disk>,
    lane: broadcast::Sender<(Arc<KeyDelta>, bool)>,
    kept: Mutex<Kept>,
}

struct Kept {
    replica: Replica,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Done, Failed>>>,
    /// When it will be woken.
    alarm: Option<Instant>,
    /// Why it is not served any more.
    closed: Option<String>,
}

impl Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn new(
        name: Arc<str>,
        replica: Replica,
        disk: Option<Disk>,
        changes_len_max: usize,
    ) -> Self {
        let (lane, _) = broadcast::channel(changes_len_max.max(1));
        let kept = Kept { replica, waiting: BTreeMap::new(), alarm: None, closed: None };
        Self { name, disk, lane, kept: Mutex::new(kept) }
    }

    /// Looks at the replica.
    pub(in crate::crdt) fn look<T>(&self, look: impl FnOnce(&Replica) -> T) -> Result<T, Error> {
        let kept = self.kept.lock();
        match &kept.closed {
            Some(why) => Err(Error::Closed { bucket: Arc::clone(&self.name), why: why.clone() }),
            None => Ok(look(&kept.replica)),
        }
    }

    /// Every change from now on.
    pub(in crate::crdt) fn listen(&self) -> Lane {
        let lane = self.lane.subscribe();
        self.kept.lock().replica.listen(true);
        lane
    }

    /// Whether somebody hears of changes.
    pub(super) fn is_listened_to(&self) -> bool {
        self.lane.receiver_count() > 0
    }

    /// Takes what it has from disk.
    pub(super) async fn erase(&self) -> Result<(), Error> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let (done, erased) = oneshot::channel();
        disk.erase(
            &self.name,
            Box::new(|result| {
                // Whoever waits no more need not know.
                drop(done.send(result));
            }),
        );
        let closed = |why| Error::Closed { bucket: Arc::clone(&self.name), why };
        let result = erased.await.unwrap_or_else(|_gone| Err("the disk has gone".to_owned()));
        result.map(drop).map_err(closed)
    }

    pub(super) fn why_closed(&self) -> Error {
        let kept = self.kept.lock();
        kept.closed
            .clone()
            .map_or(Error::NoAnswer, |why| Error::Closed { bucket: Arc::clone(&self.name), why })
    }

    /// Hands the replica an input, and says what came of the ticket that it has. None if it is closed.
    pub(super) fn handle(
        self: &Arc<Self>,
        vault: &Vault,
        now: Instant,
        input: Input,
        ticket: Option<u64>,
    ) -> Option<Asked> {
        let mut kept = self.kept.lock();
        if kept.closed.is_some() {
            return None;
        }
        if let Event::Cancel(ticket) = input.event {
            kept.waiting.remove(&ticket);
        }
        kept.replica.handle(now, input);
        let ended = self.carry_out(&mut kept, vault, ticket);
        if let Some(result) = ended {
            return Some(Asked::Ended(result));
        }
        let (done, waiting) = oneshot::channel();
        if let Some(ticket) = ticket {
            kept.waiting.insert(ticket, done);
        }
        Some(Asked::Waits(waiting))
    }

    pub(super) fn wake(self: &Arc<Self>, vault: &Vault, now: Instant) {
        let mut kept = self.kept.lock();
        kept.alarm = None;
        if kept.closed.is_none() {
            kept.replica.handle_timeout(now);
            drop(self.carry_out(&mut kept, vault, None));
        }
    }

    /// Does what the replica wants done. Gives the result of one that does not wait yet.
    fn carry_out(
        self: &Arc<Self>,
        kept: &mut Kept,
        vault: &Vault,
        ticket: Option<u64>,
    ) -> Option<Result<Done, Failed>> {
        let mut ended = None;
        while let Some(output) = kept.replica.poll_output() {
            match output {
                Output::Send { to, frame } => vault.send(to, &self.name, frame),
                Output::Persist(batch) => self.persist(vault, batch),
                Output::Done { ticket: of, result } if Some(of) == ticket => ended = Some(result),
                Output::Done { ticket: of, result } => {
                    if let Some(done) = kept.waiting.remove(&of) {
                        // One that has stopped waiting need not know.
                        drop(done.send(result));
                    }
                }
                Output::Changed { change, is_local } => {
                    if self.lane.send((change, is_local)).is_err() {
                        kept.replica.listen(false);
                    }
                }
            }
        }
        if let Some((at, _)) = kept.replica.poll_timeout()
            && kept.alarm.is_none_or(|alarm| at < alarm)
        {
            kept.alarm = Some(at);
            vault.set_alarm(&self.name, at);
        }
        ended
    }

    fn persist(self: &Arc<Self>, vault: &Vault, batch: Batch) {
        let Some(disk) = &self.disk else { return };
        let (vault, held) = (vault.clone(), Arc::clone(self));
        let notice = move |written: Result<u64, String>| match written {
            Ok(ticket) => vault.tell(&held, Event::Written(ticket)),
            Err(why) => held.close(why),
        };
        disk.submit(&self.name, batch, Box::new(notice));
    }

    /// Serves nobody any more: what is on disk is not known, or is to go.
    pub(super) fn close(&self, why: String) {
        let mut kept = self.kept.lock();
        kept.waiting.clear();
        kept.closed = Some(why);
    }
}
