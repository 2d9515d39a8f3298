//! The log of a member, its vote, and who the member is.
//!
//! What is appended can be read at once. Whatever comes in while the disk is busy goes to it together, in
//! the order in which it came: one commit for all (Hagmann, *Reimplementing the Cedar File System Using
//! Logging and Group Commit*, 1987).
//!
//! openraft 0.9 waits for each append, one command after the other, and hears nobody meanwhile. So it is
//! told at once that an entry is written, and whoever would act upon that waits for the disk instead:
//!
//! - a [service](super::service) does not acknowledge entries before they are [on disk](LogStore::acknowledged),
//! - a leader takes no acknowledgement of others for entries that are not on its own disk, and tells nobody
//!   that they are agreed upon ([`Way`](super::network)),
//! - a [state](super::machine) applies nothing that is not on its own disk.
//!
//! So an entry is agreed upon, applied and answered only when it is on the disks of most, the leader's
//! among them; and the leader's disk and those of the others work at the same time (Ongaro, *Consensus:
//! Bridging Theory and Practice*, 2014, section 10.2.1). What else rests on entries that are on disk:
//!
//! - *Votes.* They are waited for, and all writes have one order: whoever has voted, or stands, has on disk
//!   what it had when it did. What it has lost it has acknowledged to nobody.
//! - *One term, one leader's life.* A leader may lose entries of its term that others have. If it went on
//!   leading in that term, as openraft would have it, it would give the same ids to other entries; and not
//!   knowing any more what was agreed upon in its term it would answer reads with what is old. So its vote
//!   is [not taken for won](opening) when the log is opened again, and it has to win a later term.
//! - *Up to where all is agreed upon* is a hint for the next life, written after the entries that it names.
//! - *Truncation* is waited for. *Purging* is not: what is there in spite of it does no harm, and what comes
//!   later is written later. But nothing is purged before the snapshot that has it is on disk; openraft has
//!   the one installed and the other purged at one time.
//! - *Members.* Entries that change them count from when they are appended, as in Raft; openraft takes one
//!   for agreed upon early only if its leader alone votes, and what follows waits for its being applied.
//! - *Reads* wait for the state, which has nothing early.
//!
//! When it is opened every row is looked at, and there may be no hole between them.

mod bug;
mod flushing;
mod opening;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, OnceLock};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use redb::{ReadTransaction, TableDefinition};
use tokio::sync::{mpsc, oneshot, watch};

use super::media::{Store, StoreError};
use super::sealed::{self, Damage};
use super::snapshots::Snapshots;
use super::types::{Entry, LogId, MemberId, StorageError, Types, Vote};

pub(crate) use bug::Bug;
use flushing::Flushed;
pub(super) use opening::open;
use writer::Write;

/// The name of the file.
pub(super) const FILE: &str = "log.redb";

/// Entries by index.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// Everything else by name.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// Facts: who the member is, of which group, whom it has voted for, up to where the log is gone, and
/// committed.
const MEMBER: &str = "member";
const GROUP: &str = "group";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// How many writes wait for the disk at most. Further ones wait for room.
const WRITES_MAX: usize = 4_096;

/// How many bytes of entries that are on disk are kept in memory too, for those who follow.
const CACHE_LEN: usize = 8 << 20;

/// How many bytes of entries wait for the disk at most, with what comes in at one time beyond. Further ones
/// wait, and openraft with them.
const WAITING_LEN_MAX: u64 = 64 << 20;

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
    flushed: watch::Sender<Flushed>,
    /// What has what is purged.
    snapshots: OnceLock<Snapshots>,
    #[cfg(test)]
    bug: OnceLock<Bug>,
}

/// What is known of the log without asking the disk.
#[derive(Debug, Default)]
struct Tail {
    /// The group, by the member that has founded it.
    group: Option<MemberId>,
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
    /// All entries before this index are on disk.
    flushed: u64,
    /// How many writes were given to the writer, those aside for which nobody waits.
    sent: u64,
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
            let Some(first) = self.entries.first_entry().filter(|e| *e.key() < self.flushed) else {
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

    /// The group that the log is of, by the member that has founded it. One that this member was about to
    /// found is none as long as the log has nothing.
    pub(super) fn group(&self) -> Option<MemberId> {
        let tail = self.0.tail.lock();
        tail.group.filter(|group| tail.last.is_some() || *group != self.0.member)
    }

    /// The log is of this group from now on.
    pub(super) async fn belong(&self, group: MemberId) -> Result<(), StoreError> {
        if self.0.tail.lock().group == Some(group) {
            return Ok(());
        }
        let room = self.room().await?;
        let (done, written) = oneshot::channel();
        {
            let mut tail = self.0.tail.lock();
            tail.group = Some(group);
            tail.sent += 1;
            room.send(Write::Group(group, done));
        }
        on_disk(written).await
    }

    /// Goes with these snapshots from now on: nothing is purged that they do not have on disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if they lack what is purged.
    pub(super) fn goes_with(&self, snapshots: &Snapshots) -> Result<(), StoreError> {
        let purged = self.0.tail.lock().purged;
        if purged > snapshots.kept() {
            let what = format!("the snapshot of what is purged, {purged:?}");
            return Err(self.0.store.damaged(Damage::Missing { what }));
        }
        // A log is opened for one member, which has one set of snapshots.
        let _: &Snapshots = self.0.snapshots.get_or_init(|| snapshots.clone());
        Ok(())
    }

    /// Up to where all is agreed upon, as far as the log knows.
    pub(super) fn committed(&self) -> Option<LogId> {
        self.0.tail.lock().committed
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
        let found = self.entries(from, to, READ_LEN).await.map_err(reading)?;
        // A replication that has ended without knowing may ask for what is purged. What comes after it does
        // not follow upon what it says was before, and a member that took it would have a hole in its log.
        Ok(if found.first().is_some_and(|first| first.log_id.index != from) {
            Vec::new()
        } else {
            found
        })
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
            tail.sent += 1;
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
        self.not_too_far().await.map_err(writing)?;
        let mut rows = Vec::new();
        let mut whole = Vec::new();
        for entry in entries {
            let row = encode(&entry).map_err(|damage| writing(self.0.store.damaged(damage)))?;
            whole.push((entry, row.len()));
            rows.push((whole.last().map_or(0, |(entry, _)| entry.log_id.index), row));
        }
        let room = self.room().await.map_err(writing)?;
        {
            let mut tail = self.0.tail.lock();
            whole.into_iter().for_each(|(entry, len)| tail.push(entry, len));
            tail.sent += 1;
            room.send(Write::Append(rows));
        }
        // It is not yet: whoever would act upon it waits.
        callback.log_io_completed(Ok(()));
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
            tail.flushed = tail.flushed.min(from.index);
            tail.last = before.or(tail.purged);
            tail.sent += 1;
            room.send(Write::Truncate(from.index, done));
        }
        on_disk(written).await.map_err(writing)
    }

    async fn purge(&mut self, to: LogId) -> Result<(), StorageError> {
        // Nobody need wait for the purging itself: what is there in spite of it does no harm.
        if let Some(snapshots) = self.0.snapshots.get() {
            snapshots.kept_to(to).await.map_err(writing)?;
        }
        let room = self.room().await.map_err(writing)?;
        {
            let mut tail = self.0.tail.lock();
            let kept = tail.entries.split_off(&(to.index + 1));
            let gone = std::mem::replace(&mut tail.entries, kept);
            tail.len -= gone.values().map(|(_, len)| len).sum::<usize>();
            tail.purged = Some(to);
            if tail.last.is_none_or(|last| last.index <= to.index) {
                tail.last = Some(to);
            }
            tail.sent += 1;
            room.send(Write::Purge(to));
        }
        Ok(())
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
