//! The state that the group agrees upon, and its snapshots.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::log::{Bug, LogStore};
use super::media::StoreError;
use super::snapshots::{Image, Snapshots};
use super::types::{Entry, LogId, Membership, Reply, SnapshotMeta, StorageError, Types};

/// A state that is the same wherever the same commands were applied in the same order.
///
/// It has no clock and no randomness, and a clone of it costs little: a snapshot is made of one,
/// while the state goes on.
pub trait Replicated: Debug + Default + Clone + Send + Sync + 'static {
    /// Applies the command of the entry at an index, and answers it.
    fn apply(&mut self, index: u64, command: &Bytes) -> Bytes;

    /// Entries up to this index have nothing for it.
    fn pass(&mut self, index: u64);

    /// All of it in chunks, each of at most [`CHUNK_LEN_MAX`](super::snapshots::CHUNK_LEN_MAX) bytes.
    fn chunks(&self) -> Box<dyn Iterator<Item = Bytes> + Send + '_>;

    /// The state of which these are the chunks.
    ///
    /// # Errors
    ///
    /// Why they are those of none.
    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, String>;
}

/// The state of this member. Clones are the same.
#[derive(Debug)]
pub(super) struct Machine<R>(Arc<Shared<R>>);

impl<R> Clone for Machine<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<R> {
    snapshots: Snapshots,
    /// The log whose entries are applied.
    log: Option<LogStore>,
    state: RwLock<Applied<R>>,
    index: watch::Sender<u64>,
}

#[derive(Debug, Clone, Default)]
struct Applied<R> {
    state: R,
    last: Option<LogId>,
    membership: Membership,
}

fn restored<R: Replicated>(image: &Image) -> Result<R, StoreError> {
    let mut failure = None;
    let mut chunks = (0..image.chunks()).map_while(|at| match image.chunk(at) {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let state = R::restore(&mut chunks);
    match (failure, state) {
        (Some(error), _) => Err(error),
        (None, state) => state.map_err(|why| {
            let what = "the snapshot".to_owned();
            let damage = super::sealed::Damage::Meaning { what, why };
            StoreError::Damaged { file: super::snapshots::FILE, damage }
        }),
    }
}

impl<R: Replicated> Machine<R> {
    /// The state of the current snapshot. What is applied to it has to be on the disk of a log before, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read.
    pub(super) fn open(snapshots: Snapshots, log: Option<LogStore>) -> Result<Self, StoreError> {
        let applied = match snapshots.current() {
            Some((meta, image)) => Applied {
                state: restored(&image)?,
                last: meta.last_log_id,
                membership: meta.last_membership,
            },
            None => Applied::default(),
        };
        let (index, _) = watch::channel(applied.last.map_or(0, |last| last.index));
        Ok(Self(Arc::new(Shared { snapshots, log, state: RwLock::new(applied), index })))
    }

    /// The state as it is now. Nothing is applied while it is held.
    pub(super) fn state(&self) -> impl std::ops::Deref<Target = R> + '_ {
        RwLockReadGuard::map(self.0.state.read(), |applied| &applied.state)
    }

    /// Up to which index all is applied, as it grows.
    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.0.index.subscribe()
    }

    pub(super) fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }
}

impl<R: Replicated> RaftSnapshotBuilder<Types> for Machine<R> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let (applied, snapshots) = (self.0.state.read().clone(), self.0.snapshots.clone());
        snapshots.lag().await;
        let built = tokio::task::spawn_blocking(move || build(&applied, &snapshots)).await;
        let built = built.unwrap_or_else(|panic| {
            let why = panic.to_string();
            Err(StoreError::Io { file: super::snapshots::FILE, why })
        });
        built.map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }
}

fn build<R: Replicated>(
    applied: &Applied<R>,
    snapshots: &Snapshots,
) -> Result<Snapshot<Types>, StoreError> {
    let mut draft = snapshots.begin();
    for chunk in applied.state.chunks() {
        draft.add(chunk)?;
    }
    let image = draft.end()?;
    let meta = SnapshotMeta {
        last_log_id: applied.last,
        last_membership: applied.membership.clone(),
        snapshot_id: image.id(),
    };
    image.install(&meta)?;
    Ok(Snapshot { meta, snapshot: Box::new(image) })
}

impl<R: Replicated> RaftStateMachine<Types> for Machine<R> {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let applied = self.0.state.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let (Some(log), Some(last)) = (&self.0.log, entries.last())
            && !log.has(Bug::AppliesEarly)
        {
            let flushed = log.flushed_to(last.log_id.index).await;
            flushed.map_err(|error| StorageIOError::apply(last.log_id, &error))?;
        }
        let mut replies = Vec::new();
        let mut applied = self.0.state.write();
        for entry in entries {
            let index = entry.log_id.index;
            applied.last = Some(entry.log_id);
            replies.push(Reply(match entry.payload {
                EntryPayload::Normal(command) => applied.state.apply(index, &command.0),
                EntryPayload::Blank => {
                    applied.state.pass(index);
                    Bytes::new()
                }
                EntryPayload::Membership(membership) => {
                    applied.state.pass(index);
                    applied.membership = Membership::new(Some(entry.log_id), membership);
                    Bytes::new()
                }
            }));
        }
        let last = applied.last.map_or(0, |last| last.index);
        drop(applied);
        self.0.index.send_replace(last);
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        let image = self.0.snapshots.begin().end();
        image.map(Box::new).map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Box<Image>,
    ) -> Result<(), StorageError> {
        let (machine, kept) = (self.clone(), meta.clone());
        self.0.snapshots.lag().await;
        let installed = tokio::task::spawn_blocking(move || machine.install(&kept, &image)).await;
        let installed = installed.unwrap_or_else(|panic| {
            let why = panic.to_string();
            Err(StoreError::Io { file: super::snapshots::FILE, why })
        });
        if installed.is_err() {
            self.0.snapshots.fail();
        }
        let signature = Some(meta.signature());
        installed.map_err(|error| StorageIOError::write_snapshot(signature, &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let current = self.0.snapshots.current();
        Ok(current.map(|(meta, image)| Snapshot { meta, snapshot: Box::new(image) }))
    }
}

impl<R: Replicated> Machine<R> {
    fn install(&self, meta: &SnapshotMeta, image: &Image) -> Result<(), StoreError> {
        // First it is understood, then it is kept, then it is what all see.
        let state = restored(image)?;
        self.0.snapshots.adopt(image)?.install(meta)?;
        let membership = meta.last_membership.clone();
        *self.0.state.write() = Applied { state, last: meta.last_log_id, membership };
        self.0.index.send_replace(meta.last_log_id.map_or(0, |last| last.index));
        Ok(())
    }
}
