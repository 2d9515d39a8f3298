//! Brings to disk what comes in, together.

use std::sync::{Arc, Weak};

use openraft::storage::LogFlushed;
use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot};

use super::super::media::{Store, StoreError};
use super::super::sealed;
use super::super::types::{LogId, Types, Vote};
use super::{COMMITTED, ENTRIES, FACTS, FILE, PURGED, Shared, VOTE, WRITES_MAX};

type Done = oneshot::Sender<Result<(), StoreError>>;

/// Something that has to be on disk.
pub(super) enum Write {
    Append(Vec<(u64, Vec<u8>)>, LogFlushed<Types>),
    Truncate(u64, Done),
    Purge(LogId, Done),
    Vote(Vote, Done),
    Committed(Option<LogId>),
}

/// Writes until the log is dropped, or a write fails: then what the file has is not known, and
/// nothing is written any more.
pub(super) async fn run(store: Arc<Store>, log: Weak<Shared>, mut writes: mpsc::Receiver<Write>) {
    let (mut together, mut has_failed) = (Vec::new(), false);
    while writes.recv_many(&mut together, WRITES_MAX).await > 0 {
        let batch = std::mem::take(&mut together);
        if has_failed {
            batch.into_iter().for_each(|write| tell(write, Err(StoreError::Failed { file: FILE })));
            continue;
        }
        let to = Arc::clone(&store);
        let written = tokio::task::spawn_blocking(move || {
            let committed = commit(&to, &batch);
            (batch, committed)
        });
        // A panic of the library drops who waits, and they take it for a failure.
        let Ok((batch, committed)) = written.await else {
            has_failed = true;
            continue;
        };
        if let Err(error) = &committed {
            tracing::error!(%error, "the raft log was not written");
            has_failed = true;
        } else if let Some(log) = log.upgrade() {
            note(&log, &batch);
        }
        for write in batch {
            tell(
                write,
                committed.as_ref().map_or(Err(StoreError::Failed { file: FILE }), |()| Ok(())),
            );
        }
    }
}

/// Notes in memory what is on disk now.
fn note(log: &Shared, batch: &[Write]) {
    let mut tail = log.tail.lock();
    for write in batch {
        match write {
            Write::Append(rows, _) => {
                tail.flushed = rows.last().map_or(tail.flushed, |(index, _)| *index);
            }
            Write::Truncate(from, _) => tail.flushed = from.saturating_sub(1),
            Write::Purge(to, _) => tail.flushed = tail.flushed.max(to.index),
            Write::Vote(..) | Write::Committed(_) => {}
        }
    }
    tail.trim();
}

/// All of it or nothing.
fn commit(store: &Store, batch: &[Write]) -> Result<(), StoreError> {
    store.write(|write| batch.iter().try_for_each(|one| put(store, write, one)))
}

fn put(store: &Store, write: &WriteTransaction, one: &Write) -> Result<(), StoreError> {
    let mut entries = write.open_table(ENTRIES).map_err(|error| store.failed(error))?;
    let mut facts = write.open_table(FACTS).map_err(|error| store.failed(error))?;
    let mut fact = |name: &'static str, row: Result<Vec<u8>, sealed::Damage>| {
        let row = row.map_err(|damage| store.damaged(damage))?;
        facts.insert(name, row.as_slice()).map_err(|error| store.failed(error)).map(drop)
    };
    match one {
        Write::Append(rows, _) => {
            for (index, row) in rows {
                entries.insert(index, row.as_slice()).map_err(|error| store.failed(error))?;
            }
        }
        Write::Truncate(from, _) => {
            entries.retain_in(*from.., |_, _| false).map_err(|error| store.failed(error))?;
        }
        Write::Purge(to, _) => {
            entries.retain_in(..=to.index, |_, _| false).map_err(|error| store.failed(error))?;
            fact(PURGED, sealed::seal(PURGED, PURGED.as_bytes(), to))?;
        }
        Write::Vote(vote, _) => fact(VOTE, sealed::seal(VOTE, VOTE.as_bytes(), vote))?,
        Write::Committed(committed) => {
            fact(COMMITTED, sealed::seal(COMMITTED, COMMITTED.as_bytes(), committed))?;
        }
    }
    Ok(())
}

/// Tells whoever waits for a write how it went.
fn tell(write: Write, how: Result<(), StoreError>) {
    match write {
        Write::Append(_, callback) => {
            callback.log_io_completed(how.map_err(std::io::Error::other));
        }
        Write::Truncate(_, done) | Write::Purge(_, done) | Write::Vote(_, done) => {
            // Whoever has stopped waiting need not know.
            drop(done.send(how));
        }
        Write::Committed(_) => {}
    }
}
