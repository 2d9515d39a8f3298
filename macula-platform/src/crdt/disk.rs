//! The disk on which buckets are kept: one file for all, in which each row has a checksum.
//!
//! What several buckets have to write while the file is busy goes to it together.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::proto::{Batch, Checkpoint, Saved};
use crate::raft::media::{Medium, Store, StoreError};
use crate::raft::sealed::{open_bytes, seal_bytes};

/// The name of the file.
const FILE: &str = "crdt.redb";

type Rows<'a> = Table<'a, (&'static str, &'static str), &'static [u8]>;

type Row<'a> = TableDefinition<'a, (&'static str, &'static str), &'static [u8]>;

/// What keys have, by bucket and key.
const ROWS: Row<'_> = TableDefinition::new("rows");

/// What else a bucket has, by name.
const FACTS: Row<'_> = TableDefinition::new("facts");

/// What came since, by bucket and number.
const LOG: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("log");

const GROUP: &str = "group";
const CONTEXT: &str = "context";

/// Told once a batch is on disk, or is not.
pub(super) type Notice = Box<dyn FnOnce(Result<u64, String>) + Send>;

struct Job {
    bucket: Arc<str>,
    /// Nothing, if all that the bucket has is to go.
    batch: Option<Batch>,
    notice: Notice,
}

/// An open file. Clones are the same.
#[derive(Clone)]
pub(super) struct Disk(Arc<Inner>);

struct Inner {
    store: Store,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_busy: bool,
    has_failed: bool,
}

impl Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// What the checksum of a row hangs on beside its body.
fn place(table: &str, bucket: &str, key: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bucket.len()).unwrap_or(u32::MAX);
    [table.as_bytes(), &len.to_be_bytes(), bucket.as_bytes(), key].concat()
}

impl Disk {
    /// Opens the file, and looks at all of its pages.
    pub(super) fn open(medium: &dyn Medium) -> Result<Self, StoreError> {
        let store = Store::open(medium, FILE)?;
        store.write(|write| {
            write.open_table(ROWS).map_err(|error| store.failed(error))?;
            write.open_table(FACTS).map_err(|error| store.failed(error))?;
            write.open_table(LOG).map_err(|error| store.failed(error))?;
            Ok(())
        })?;
        Ok(Self(Arc::new(Inner { store, queue: Mutex::default() })))
    }

    /// All that a bucket has.
    pub(super) fn load(&self, bucket: &str) -> Result<Saved, StoreError> {
        self.0.store.read(|read| self.saved(read, bucket))
    }

    fn saved(&self, read: &ReadTransaction, bucket: &str) -> Result<Saved, StoreError> {
        let store = &self.0.store;
        let whole = |table: &str, key: &[u8], row: &[u8]| {
            let what = format!("{table} of {bucket:?}, {}", String::from_utf8_lossy(key));
            let body = open_bytes(&what, &place(table, bucket, key), row);
            body.map(<[u8]>::to_vec).map_err(|damage| store.damaged(damage))
        };
        let mut saved = Saved::default();
        let facts = read.open_table(FACTS).map_err(|error| store.failed(error))?;
        for (name, to) in [(GROUP, &mut saved.group), (CONTEXT, &mut saved.context)] {
            let row = facts.get((bucket, name)).map_err(|error| store.failed(error))?;
            *to = row.map(|row| whole("facts", name.as_bytes(), row.value())).transpose()?;
        }
        let rows = read.open_table(ROWS).map_err(|error| store.failed(error))?;
        for row in rows.range((bucket, "")..).map_err(|error| store.failed(error))? {
            let (at, row) = row.map_err(|error| store.failed(error))?;
            let (of, key) = at.value();
            if of != bucket {
                break;
            }
            saved.rows.push(whole("rows", key.as_bytes(), row.value())?);
        }
        let log = read.open_table(LOG).map_err(|error| store.failed(error))?;
        for row in
            log.range((bucket, 0)..=(bucket, u64::MAX)).map_err(|error| store.failed(error))?
        {
            let (at, row) = row.map_err(|error| store.failed(error))?;
            let (_, number) = at.value();
            saved.records.push(whole("log", &number.to_be_bytes(), row.value())?);
        }
        Ok(saved)
    }

    /// The buckets of which there is something.
    pub(super) fn buckets(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let store = &self.0.store;
        store.read(|read| {
            let facts = read.open_table(FACTS).map_err(|error| store.failed(error))?;
            let mut buckets: Vec<Arc<str>> = Vec::new();
            for row in facts.iter().map_err(|error| store.failed(error))? {
                let (at, _) = row.map_err(|error| store.failed(error))?;
                let (bucket, _) = at.value();
                if buckets.last().is_none_or(|last| **last != *bucket) {
                    buckets.push(bucket.into());
                }
            }
            Ok(buckets)
        })
    }

    /// Brings a batch to disk, soon. It has to be called where tokio runs.
    pub(super) fn submit(&self, bucket: &Arc<str>, batch: Batch, notice: Notice) {
        self.enqueue(Job { bucket: Arc::clone(bucket), batch: Some(batch), notice });
    }

    /// Takes all that a bucket has from disk, soon. It has to be called where tokio runs.
    pub(super) fn erase(&self, bucket: &Arc<str>, notice: Notice) {
        self.enqueue(Job { bucket: Arc::clone(bucket), batch: None, notice });
    }

    fn enqueue(&self, job: Job) {
        {
            let mut queue = self.0.queue.lock();
            queue.jobs.push_back(job);
            if std::mem::replace(&mut queue.is_busy, true) {
                return;
            }
        }
        let disk = self.clone();
        drop(tokio::task::spawn_blocking(move || disk.work()));
    }

    /// Writes all that waits, together, until nothing waits.
    fn work(&self) {
        loop {
            let (jobs, has_failed) = {
                let mut queue = self.0.queue.lock();
                if queue.jobs.is_empty() {
                    queue.is_busy = false;
                    return;
                }
                (std::mem::take(&mut queue.jobs), queue.has_failed)
            };
            // After a write has failed it is not known what the file has.
            let written = if has_failed {
                Err(StoreError::Failed { file: FILE })
            } else {
                self.0
                    .store
                    .write(|write| jobs.iter().try_for_each(|job| self.carry_out(write, job)))
            };
            if let Err(error) = &written {
                tracing::error!(%error, "replicated types were not written");
                self.0.queue.lock().has_failed = true;
            }
            let why = written.err().map(|error| error.to_string());
            for Job { batch, notice, .. } in jobs {
                let ticket = batch.map_or(0, |batch| batch.ticket);
                notice(why.clone().map_or(Ok(ticket), Err));
            }
        }
    }

    fn carry_out(&self, write: &WriteTransaction, job: &Job) -> Result<(), StoreError> {
        match &job.batch {
            Some(batch) => self.put(write, &job.bucket, batch),
            None => self.remove(write, &job.bucket),
        }
    }

    fn remove(&self, write: &WriteTransaction, bucket: &str) -> Result<(), StoreError> {
        let store = &self.0.store;
        let mut facts = write.open_table(FACTS).map_err(|error| store.failed(error))?;
        for name in [GROUP, CONTEXT] {
            facts.remove((bucket, name)).map_err(|error| store.failed(error))?;
        }
        let mut log = write.open_table(LOG).map_err(|error| store.failed(error))?;
        log.retain_in((bucket, 0)..=(bucket, u64::MAX), |_, _| false)
            .map_err(|error| store.failed(error))?;
        let mut rows = write.open_table(ROWS).map_err(|error| store.failed(error))?;
        self.remove_states(&mut rows, bucket)
    }

    fn put(&self, write: &WriteTransaction, bucket: &str, batch: &Batch) -> Result<(), StoreError> {
        let store = &self.0.store;
        let mut facts = write.open_table(FACTS).map_err(|error| store.failed(error))?;
        let mut log = write.open_table(LOG).map_err(|error| store.failed(error))?;
        let mut fact = |name: &str, body: &[u8]| {
            let row = seal_bytes(&place("facts", bucket, name.as_bytes()), body);
            let put = facts.insert((bucket, name), row.as_slice());
            put.map(drop).map_err(|error| store.failed(error))
        };
        if let Some(group) = &batch.group {
            fact(GROUP, group)?;
        }
        if let Some(checkpoint) = &batch.checkpoint {
            fact(CONTEXT, &checkpoint.context)?;
            log.retain_in((bucket, 0)..=(bucket, u64::MAX), |_, _| false)
                .map_err(|error| store.failed(error))?;
            self.put_states(write, bucket, checkpoint)?;
        }
        let last = {
            let of_bucket = log.range((bucket, 0)..=(bucket, u64::MAX));
            let last = of_bucket.map_err(|error| store.failed(error))?.next_back();
            last.transpose().map_err(|error| store.failed(error))?.map(|(at, _)| at.value().1)
        };
        for (number, record) in (last.map_or(0, |last| last + 1)..).zip(&batch.records) {
            let row = seal_bytes(&place("log", bucket, &number.to_be_bytes()), record);
            log.insert((bucket, number), row.as_slice()).map_err(|error| store.failed(error))?;
        }
        Ok(())
    }

    fn put_states(
        &self,
        write: &WriteTransaction,
        bucket: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let store = &self.0.store;
        let mut rows = write.open_table(ROWS).map_err(|error| store.failed(error))?;
        if checkpoint.anew {
            self.remove_states(&mut rows, bucket)?;
        }
        for (key, row) in &checkpoint.rows {
            match row {
                Some(row) => {
                    let row = seal_bytes(&place("rows", bucket, key.as_bytes()), row);
                    let put = rows.insert((bucket, &**key), row.as_slice());
                    put.map_err(|error| store.failed(error))?;
                }
                None => {
                    rows.remove((bucket, &**key)).map_err(|error| store.failed(error))?;
                }
            }
        }
        Ok(())
    }

    fn remove_states(&self, rows: &mut Rows<'_>, bucket: &str) -> Result<(), StoreError> {
        let store = &self.0.store;
        let of_bucket = rows.range((bucket, "")..).map_err(|error| store.failed(error))?;
        let mut keys = Vec::new();
        for row in of_bucket {
            let (at, _) = row.map_err(|error| store.failed(error))?;
            let (of, key) = at.value();
            if of != bucket {
                break;
            }
            keys.push(key.to_owned());
        }
        for key in keys {
            rows.remove((bucket, key.as_str())).map_err(|error| store.failed(error))?;
        }
        Ok(())
    }
}
