//! Snapshots on disk: chunks under a number, of which one is the current one.
//!
//! A snapshot is built, or received, under the next number while the current one can still be read.
//! It becomes the current one at once, when all of it is there. An older one goes when nobody reads
//! it any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use redb::{ReadableTable as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::media::{Medium, Store, StoreError};
use super::sealed::{self, Damage};
use super::types::{LogId, SnapshotMeta};

/// The name of the file.
pub(super) const FILE: &str = "snapshots.redb";

/// Chunks by the number of their snapshot and their own.
const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks");

/// What the current one is, under one name.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const CURRENT: &str = "current";

/// How many bytes a chunk has at most.
pub const CHUNK_LEN_MAX: usize = 4 << 20;

/// How many bytes of chunks are brought to disk together.
const TOGETHER_LEN: usize = 4 << 20;

/// What a snapshot is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    number: u64,
    chunks: u64,
    meta: SnapshotMeta,
}

/// The snapshots of a member. Clones are the same.
#[derive(Debug, Clone)]
pub struct Snapshots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    state: Mutex<State>,
    kept: watch::Sender<Kept>,
}

/// Up to where all entries are in a snapshot that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    last: Option<LogId>,
    /// Nothing more comes to be.
    has_failed: bool,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Header>,
    /// The number of the next one.
    next: u64,
    /// How many read, or write, which.
    users: BTreeMap<u64, usize>,
}

/// A snapshot that can be read for as long as this lives. Clones are the same.
#[derive(Debug, Clone)]
pub struct Image {
    used: Used,
    chunks: u64,
}

/// A number in use.
#[derive(Debug)]
struct Used {
    snapshots: Snapshots,
    number: u64,
}

impl Used {
    fn new(snapshots: &Snapshots, number: u64) -> Self {
        *snapshots.0.state.lock().users.entry(number).or_default() += 1;
        Self { snapshots: snapshots.clone(), number }
    }
}

impl Clone for Used {
    fn clone(&self) -> Self {
        Self::new(&self.snapshots, self.number)
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut state = self.snapshots.0.state.lock();
        if let Some(users) = state.users.get_mut(&self.number) {
            *users -= 1;
            if *users == 0 {
                state.users.remove(&self.number);
            }
        }
    }
}

impl Image {
    /// How many chunks it has.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks
    }

    /// What openraft calls it by.
    pub(super) fn id(&self) -> String {
        self.used.number.to_string()
    }

    /// A chunk. It waits for the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it is damaged or missing.
    pub fn chunk(&self, at: u64) -> Result<Bytes, StoreError> {
        let store = &self.used.snapshots.0.store;
        let key = (self.used.number, at);
        let what = || format!("chunk {at} of snapshot {}", self.used.number);
        store.read(|read| {
            let table = read.open_table(CHUNKS).map_err(|error| store.failed(error))?;
            let row = table.get(key).map_err(|error| store.failed(error))?;
            let row = row.ok_or_else(|| store.damaged(Damage::Missing { what: what() }))?;
            let chunk = sealed::open_bytes(&what(), &key_of(key), row.value());
            chunk.map(Bytes::copy_from_slice).map_err(|damage| store.damaged(damage))
        })
    }
}

fn key_of((number, at): (u64, u64)) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&at.to_be_bytes());
    key
}

impl Snapshots {
    /// Opens the file, and looks at all of the current snapshot. What was never finished goes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if anything is damaged or missing.
    pub fn open(medium: &dyn Medium) -> Result<Self, StoreError> {
        let store = Store::open(medium, FILE)?;
        let current: Option<Header> = store.write(|write| {
            let failed = |error: TableError| store.failed(error);
            write.open_table(CHUNKS).map_err(failed)?;
            let facts = write.open_table(FACTS).map_err(failed)?;
            let row = facts.get(CURRENT).map_err(|error| store.failed(error))?;
            let header =
                row.map(|row| sealed::open(CURRENT, CURRENT.as_bytes(), row.value())).transpose();
            header.map_err(|damage| store.damaged(damage))
        })?;
        let next = current.as_ref().map_or(0, |header| header.number + 1);
        let last = current.as_ref().and_then(|header| header.meta.last_log_id);
        let kept = watch::Sender::new(Kept { last, has_failed: false });
        let state = Mutex::new(State { current, next, users: BTreeMap::new() });
        let snapshots = Self(Arc::new(Shared { store, state, kept }));
        snapshots.sweep()?;
        if let Some((_, image)) = snapshots.current() {
            for at in 0..image.chunks {
                drop(image.chunk(at)?);
            }
        }
        Ok(snapshots)
    }

    /// Waits as long as the next commit takes in virtual time.
    pub(super) async fn lag(&self) {
        self.0.store.lag().await;
    }

    /// The current one.
    #[must_use]
    pub fn current(&self) -> Option<(SnapshotMeta, Image)> {
        let header = self.0.state.lock().current.clone()?;
        let image = Image { used: Used::new(self, header.number), chunks: header.chunks };
        Some((header.meta, image))
    }

    /// The same snapshot in these, if it is one of others.
    pub(super) fn adopt(&self, image: &Image) -> Result<Image, StoreError> {
        if Arc::ptr_eq(&self.0, &image.used.snapshots.0) {
            return Ok(image.clone());
        }
        let mut draft = self.begin();
        for at in 0..image.chunks {
            draft.add(image.chunk(at)?)?;
        }
        draft.end()
    }

    /// Begins another.
    #[must_use]
    pub fn begin(&self) -> Draft {
        let number = {
            let mut state = self.0.state.lock();
            state.next += 1;
            state.next - 1
        };
        Draft { used: Used::new(self, number), chunks: 0, waiting: Vec::new(), waiting_len: 0 }
    }

    /// Removes what is not the current one and what nobody uses.
    fn sweep(&self) -> Result<(), StoreError> {
        let store = &self.0.store;
        store.write(|write| {
            // Looked up now that nobody else writes: whoever has written is known to use it.
            let used: Vec<u64> = {
                let state = self.0.state.lock();
                let current = state.current.as_ref().map(|header| header.number);
                state.users.keys().copied().chain(current).collect()
            };
            let mut chunks = write.open_table(CHUNKS).map_err(|error| store.failed(error))?;
            let kept = chunks.retain(|(number, _), _| used.contains(&number));
            kept.map_err(|error| store.failed(error))
        })
    }

    /// Closes the file. What is being written is on disk then, and nothing is written any more.
    pub(super) fn close(&self) {
        self.0.store.close();
        self.fail();
    }

    /// Up to where all entries are in the current one, which is on disk.
    pub(super) fn kept(&self) -> Option<LogId> {
        self.0.kept.borrow().last
    }

    /// One that was to be the current one is not: whoever waits for it waits no more.
    pub(super) fn fail(&self) {
        self.0.kept.send_modify(|kept| kept.has_failed = true);
    }

    /// Waits until the current one has all entries up to one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it will not.
    pub(super) async fn kept_to(&self, last: LogId) -> Result<(), StoreError> {
        let mut kept = self.0.kept.subscribe();
        let has = |kept: &Kept| kept.last >= Some(last);
        let now = kept.wait_for(|kept| kept.has_failed || has(kept)).await;
        match now.map(|now| has(&now)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(StoreError::Failed { file: FILE }),
        }
    }
}

/// A snapshot that is not all there yet. It goes if it is dropped.
#[derive(Debug)]
pub struct Draft {
    used: Used,
    chunks: u64,
    waiting: Vec<Bytes>,
    waiting_len: usize,
}

impl Draft {
    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks + self.waiting.len() as u64
    }

    /// Adds a chunk. It waits for the disk now and then.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn add(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.waiting_len += chunk.len();
        self.waiting.push(chunk);
        if self.waiting_len >= TOGETHER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.chunks == 0 {
            // Drafts that were given up go before another takes their room.
            self.used.snapshots.sweep()?;
        }
        let (store, number) = (&self.used.snapshots.0.store, self.used.number);
        let (waiting, chunks) = (&mut self.waiting, &mut self.chunks);
        self.waiting_len = 0;
        store.write(|write| {
            let mut table = write.open_table(CHUNKS).map_err(|error| store.failed(error))?;
            for chunk in waiting.drain(..) {
                let key = (number, *chunks);
                let row = sealed::seal_bytes(&key_of(key), &chunk);
                table.insert(key, row.as_slice()).map_err(|error| store.failed(error))?;
                *chunks += 1;
            }
            Ok(())
        })
    }

    /// All of it is there: what can be read, and is not the current one yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn end(mut self) -> Result<Image, StoreError> {
        self.flush()?;
        Ok(Image { used: self.used, chunks: self.chunks })
    }
}

impl Image {
    /// Makes it the current one, which stands for `meta`. One that is older than the current one
    /// stays what it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the current one is what it was.
    pub fn install(&self, meta: &SnapshotMeta) -> Result<(), StoreError> {
        let snapshots = &self.used.snapshots;
        let store = &snapshots.0.store;
        {
            // Held over the commit, so that the last one in memory is the last one on disk.
            let mut state = snapshots.0.state.lock();
            let is_older = |current: &Header| current.meta.last_log_id > meta.last_log_id;
            if state.current.as_ref().is_some_and(is_older) {
                return Ok(());
            }
            let header =
                Header { number: self.used.number, chunks: self.chunks, meta: meta.clone() };
            let row = sealed::seal(CURRENT, CURRENT.as_bytes(), &header);
            let row = row.map_err(|damage| store.damaged(damage))?;
            store.write(|write| {
                let mut facts = write.open_table(FACTS).map_err(|error| store.failed(error))?;
                let put = facts.insert(CURRENT, row.as_slice());
                put.map(drop).map_err(|error| store.failed(error))
            })?;
            state.current = Some(header);
            snapshots.0.kept.send_modify(|kept| kept.last = meta.last_log_id);
        }
        snapshots.sweep()
    }
}
