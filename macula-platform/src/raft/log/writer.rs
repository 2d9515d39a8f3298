//! Brings to disk what comes in, together.

use std::sync::{Arc, Weak};

use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot};

use super::super::media::{Store, StoreError};
use super::super::types::{LogId, MemberId, Vote};
use super::super::{metrics, sealed, timer};
use super::{COMMITTED, ENTRIES, FACTS, FILE, GROUP, PURGED, Shared, VOTE, WRITES_MAX};

type Done = oneshot::Sender<Result<(), StoreError>>;

/// Something that has to be on disk.
pub(super) enum Write {
    Append(Vec<(u64, Vec<u8>)>),
    Truncate(u64, Done),
    Purge(LogId),
    Vote(Vote, Done),
    Group(MemberId, Done),
    Committed(Option<LogId>),
}

/// Writes until the log is dropped, or a write fails: then what the file has is not known, and
/// nothing is written any more.
pub(super) async fn run(store: Arc<Store>, log: Weak<Shared>, mut writes: mpsc::Receiver<Write>) {
    let (mut together, mut has_failed) = (Vec::new(), false);
    let mut hint = None;
    while writes.recv_many(&mut together, WRITES_MAX).await > 0 {
        let mut batch = std::mem::take(&mut together);
        // Nobody waits for a hint, and it is worth no commit of its own: it goes with what comes next.
        if batch.iter().all(|write| matches!(write, Write::Committed(_))) {
            hint = batch.pop();
            continue;
        }
        if let Some(hint) = hint.take() {
            batch.insert(0, hint);
        }
        if has_failed {
            batch.into_iter().for_each(|write| tell(write, Err(StoreError::Failed { file: FILE })));
            continue;
        }
        let to = Arc::clone(&store);
        let began = timer::now();
        ::metrics::histogram!(metrics::TOGETHER).record(metrics::real(batch.len() as u64));
        store.lag().await;
        let written = tokio::task::spawn_blocking(move || {
            let committed = commit(&to, &batch);
            (batch, committed)
        });
        // A panic of the library drops who waits, and they take it for a failure.
        let (batch, committed) = match written.await {
            Ok((batch, committed)) => (batch, committed),
            Err(panic) => (Vec::new(), Err(StoreError::Io { file: FILE, why: panic.to_string() })),
        };
        ::metrics::histogram!(metrics::COMMIT).record(timer::now() - began);
        has_failed = committed.is_err();
        if let Err(error) = &committed {
            tracing::error!(%error, "the raft log was not written");
        }
        if let Some(log) = log.upgrade() {
            if has_failed {
                log.flushed.send_modify(|flushed| flushed.has_failed = true);
            } else {
                note(&log, &batch);
            }
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
    let (mut writes, mut len) = (0, 0);
    for write in batch {
        match write {
            Write::Append(rows) => {
                len += rows.iter().map(|(_, row)| row.len() as u64).sum::<u64>();
                tail.flushed = rows.last().map_or(tail.flushed, |(index, _)| index + 1);
            }
            Write::Truncate(from, _) => tail.flushed = *from,
            Write::Purge(to) => tail.flushed = tail.flushed.max(to.index + 1),
            Write::Vote(..) | Write::Group(..) | Write::Committed(_) => {}
        }
        writes += u64::from(!matches!(write, Write::Committed(_)));
    }
    tail.trim();
    log.flushed.send_modify(|flushed| {
        flushed.writes += writes;
        flushed.len += len;
        flushed.before = tail.flushed;
    });
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
        Write::Append(rows) => {
            for (index, row) in rows {
                entries.insert(index, row.as_slice()).map_err(|error| store.failed(error))?;
            }
        }
        Write::Truncate(from, _) => {
            entries.retain_in(*from.., |_, _| false).map_err(|error| store.failed(error))?;
        }
        Write::Purge(to) => {
            entries.retain_in(..=to.index, |_, _| false).map_err(|error| store.failed(error))?;
            fact(PURGED, sealed::seal(PURGED, PURGED.as_bytes(), to))?;
        }
        Write::Vote(vote, _) => fact(VOTE, sealed::seal(VOTE, VOTE.as_bytes(), vote))?,
        Write::Group(group, _) => fact(GROUP, sealed::seal(GROUP, GROUP.as_bytes(), group))?,
        Write::Committed(committed) => {
            fact(COMMITTED, sealed::seal(COMMITTED, COMMITTED.as_bytes(), committed))?;
        }
    }
    Ok(())
}

/// Tells whoever waits for a write how it went.
fn tell(write: Write, how: Result<(), StoreError>) {
    match write {
        Write::Truncate(_, done) | Write::Vote(_, done) | Write::Group(_, done) => {
            // Whoever has stopped waiting need not know.
            drop(done.send(how));
        }
        Write::Append(_) | Write::Purge(_) | Write::Committed(_) => {}
    }
}
