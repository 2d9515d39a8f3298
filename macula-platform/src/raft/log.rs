//! The log of a member, its vote, and who the member is.
//!
//! What is appended can be read at once, and is told to be written when it is on disk. Whatever
//! comes in while the disk is busy goes to it together, in the order in which it came: one commit
//! for all (Hagmann, *Reimplementing the Cedar File System Using Logging and Group Commit*, 1987).
//! When it is opened every row is looked at, and there may be no hole between them.

mod opening;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use redb::{ReadTransaction, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::media::{Store, StoreError};
use super::sealed::{self, Damage};
use super::types::{Entry, LogId, MemberId, StorageError, Types, Vote};

pub(super) use opening::open;
use writer::Write;

/// The name of the file.
const FILE: &str = "log.redb";

/// Entries by index.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// Everything else by name.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// Facts: who the member is, whom it has voted for, up to where the log is gone, and committed.
const MEMBER: &str = "member";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// How many writes wait for the disk at most. Further ones wait for room.
const WRITES_MAX: usize = 4_096;

/// How many bytes of entries that are on disk are kept in memory too, for those who follow.
const CACHE_LEN: usize = 8 << 20;

/// How many bytes of entries are read at one time, unless the first alone has more.
const READ_LEN: usize = 1 << 20;

/// The log. Clones are the same.
#[derive(Clone)]
pub(super) struct LogStore(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    member: MemberId,
    tail: Mutex<Tail>,
    writes: mpsc::Sender<Write>,
}

/// What is known of the log without asking the disk.
#[derive(Debug, Default)]
struct Tail {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The index of the first entry, as long as none is purged.
    first: u64,
    /// The latest entries: all that are not on disk, and some that are.
    entries: BTreeMap<u64, (Entry, usize)>,
    /// How many bytes they have.
    len: usize,
    /// Up to which index all is on disk.
    flushed: u64,
    /// How many bytes were appended since it was opened, with what it had then.
    appended_len: u64,
}

impl Tail {
    fn push(&mut self, entry: Entry, len: usize) {
        if self.last.is_none() {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.len += len;
        self.appended_len += len as u64;
        self.entries.insert(entry.log_id.index, (entry, len));
    }

    /// Forgets what is on disk and more than the cache holds.
    fn trim(&mut self) {
        while self.len > CACHE_LEN {
            let Some(first) = self.entries.first_entry().filter(|e| *e.key() <= self.flushed)
            else {
                break;
            };
            self.len -= first.remove().1;
        }
    }
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").field("member", &self.0.member).finish_non_exhaustive()
    }
}

fn key_of(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn encode(entry: &Entry) -> Result<Vec<u8>, Damage> {
    let index = entry.log_id.index;
    sealed::seal(&format!("entry {index}"), &key_of(index), entry)
}

fn decode(index: u64, row: &[u8]) -> Result<Entry, Damage> {
    let what = format!("entry {index}");
    let entry: Entry = sealed::open(&what, &key_of(index), row)?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(Damage::Meaning { what, why: format!("it says it is entry {}", entry.log_id.index) })
    }
}

impl LogStore {
    /// The member whose log it is.
    pub(super) fn member(&self) -> MemberId {
        self.0.member
    }

    /// Closes the file. What is being written is on disk then, and nothing is written any more.
    pub(super) fn close(&self) {
        self.0.store.close();
    }

    /// How many bytes were appended since it was opened.
    pub(super) fn appended_len(&self) -> u64 {
        self.0.tail.lock().appended_len
    }

    /// The last entry of the log.
    pub(super) fn last(&self) -> Option<LogId> {
        self.0.tail.lock().last
    }

    /// Room for one more write. It is sent while the memory is held, so that both have one order.
    async fn room(&self) -> Result<mpsc::Permit<'_, Write>, StoreError> {
        self.0.writes.reserve().await.map_err(|_ended| StoreError::Failed { file: FILE })
    }

    /// The entries from an index on, up to another, as far as they are there and may be read
    /// together: the first in any case.
    async fn entries(&self, from: u64, to: u64, len_max: usize) -> Result<Vec<Entry>, StoreError> {
        let (mut found, mut len, mut next) = (Vec::new(), 0, from);
        let mut is_missing = false;
        loop {
            let until = {
                let tail = self.0.tail.lock();
                let first = tail.purged.map_or(tail.first, |purged| purged.index + 1);
                if next < first {
                    if !found.is_empty() {
                        return Ok(found);
                    }
                    next = first;
                }
                let end = to.min(tail.last.map_or(0, |last| last.index + 1));
                let cached = tail.entries.first_key_value().map_or(end, |(index, _)| *index);
                if next >= cached.min(end) {
                    for (entry, entry_len) in tail.entries.range(next..end.max(next)).map(|e| e.1) {
                        if !found.is_empty() && len + entry_len > len_max {
                            break;
                        }
                        len += entry_len;
                        found.push(entry.clone());
                    }
                    return Ok(found);
                }
                cached.min(end)
            };
            let (log, room) = (self.clone(), len_max.saturating_sub(len));
            let read = tokio::task::spawn_blocking(move || log.read_rows(next, until, room)).await;
            let rows = read.map_err(|_panic| StoreError::Failed { file: FILE })??;
            if rows.is_empty() {
                // What was purged or truncated meanwhile is not missing: that is seen at once.
                if is_missing {
                    let what = format!("entry {next}");
                    return Err(self.0.store.damaged(Damage::Missing { what }));
                }
                is_missing = true;
            }
            for (entry, entry_len) in rows {
                (next, len) = (entry.log_id.index + 1, len + entry_len);
                found.push(entry);
            }
            if len >= len_max {
                return Ok(found);
            }
        }
    }

    /// Rows from the disk, without a hole.
    fn read_rows(
        &self,
        from: u64,
        to: u64,
        len_max: usize,
    ) -> Result<Vec<(Entry, usize)>, StoreError> {
        self.0.store.read(|read| self.rows_of(read, (from, to), len_max))
    }

    fn rows_of(
        &self,
        read: &ReadTransaction,
        (from, to): (u64, u64),
        len_max: usize,
    ) -> Result<Vec<(Entry, usize)>, StoreError> {
        let store = &self.0.store;
        let table = read.open_table(ENTRIES).map_err(|error| store.failed(error))?;
        let (mut rows, mut len, mut next) = (Vec::new(), 0, from);
        for row in table.range(from..to).map_err(|error| store.failed(error))? {
            let (index, row) = row.map_err(|error| store.failed(error))?;
            if index.value() != next {
                let what = format!("entry {next}");
                return Err(store.damaged(Damage::Missing { what }));
            }
            let row = row.value();
            if !rows.is_empty() && len + row.len() > len_max {
                break;
            }
            let entry = decode(next, row).map_err(|damage| store.damaged(damage))?;
            (next, len) = (next + 1, len + row.len());
            rows.push((entry, row.len()));
        }
        Ok(rows)
    }
}

/// Waits until something is on disk.
async fn on_disk(written: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    written.await.unwrap_or(Err(StoreError::Failed { file: FILE }))
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

fn reading(error: StoreError) -> StorageError {
    StorageIOError::read_logs(&error).into()
}

fn writing(error: StoreError) -> StorageError {
    StorageIOError::write_logs(&error).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let (from, to) = bounds(&range);
        self.entries(from, to, usize::MAX).await.map_err(reading)
    }

    async fn limited_get_log_entries(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(from, to, READ_LEN).await.map_err(reading)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let tail = self.0.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last.or(tail.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let failed = |error| StorageError::from(StorageIOError::write_vote(&error));
        let room = self.room().await.map_err(failed)?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.0.tail.lock();
            tail.vote = Some(*vote);
            room.send(Write::Vote(*vote, done));
        }
        on_disk(written).await.map_err(failed)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.0.tail.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        // It is a hint that may be old, so nobody waits until it is on disk.
        let room = self.room().await.map_err(writing)?;
        self.0.tail.lock().committed = committed;
        room.send(Write::Committed(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.0.tail.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let mut whole = Vec::new();
        for entry in entries {
            let row = encode(&entry).map_err(|damage| writing(self.0.store.damaged(damage)))?;
            whole.push((entry, row.len()));
            rows.push((whole.last().map_or(0, |(entry, _)| entry.log_id.index), row));
        }
        let room = self.room().await.map_err(writing)?;
        let mut tail = self.0.tail.lock();
        whole.into_iter().for_each(|(entry, len)| tail.push(entry, len));
        room.send(Write::Append(rows, callback));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let before = self.before(from.index).await.map_err(reading)?;
        let room = self.room().await.map_err(writing)?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.0.tail.lock();
            let gone = tail.entries.split_off(&from.index);
            tail.len -= gone.values().map(|(_, len)| len).sum::<usize>();
            tail.flushed = tail.flushed.min(from.index.saturating_sub(1));
            tail.last = before.or(tail.purged);
            room.send(Write::Truncate(from.index, done));
        }
        on_disk(written).await.map_err(writing)
    }

    async fn purge(&mut self, to: LogId) -> Result<(), StorageError> {
        let room = self.room().await.map_err(writing)?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.0.tail.lock();
            let kept = tail.entries.split_off(&(to.index + 1));
            let gone = std::mem::replace(&mut tail.entries, kept);
            tail.len -= gone.values().map(|(_, len)| len).sum::<usize>();
            tail.purged = Some(to);
            if tail.last.is_none_or(|last| last.index <= to.index) {
                tail.last = Some(to);
            }
            room.send(Write::Purge(to, done));
        }
        on_disk(written).await.map_err(writing)
    }
}

impl LogStore {
    /// The entry before an index, if the log has one that is not purged.
    async fn before(&self, index: u64) -> Result<Option<LogId>, StoreError> {
        let Some(before) = index.checked_sub(1) else { return Ok(None) };
        let found = self.entries(before, index, usize::MAX).await?;
        Ok(found.first().map(|entry| entry.log_id))
    }
}
