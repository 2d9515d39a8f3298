//! Opens a log, and looks at all of it.

use std::sync::{Arc, OnceLock};

use macula_core::identity::NodeId;
use parking_lot::Mutex;
use redb::{ReadableTable as _, ReadableTableMetadata as _, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::super::media::{Medium, Store, StoreError};
use super::super::sealed::{self, Damage};
use super::super::types::{LogId, MemberId, Vote};
use super::{
    COMMITTED, ENTRIES, FACTS, FILE, Flushed, GROUP, LogStore, MEMBER, PURGED, Shared, Tail, VOTE,
    WRITES_MAX, decode, writer,
};

/// Opens the log of a node. One that is new belongs to a new member, of the life `new_life`.
///
/// # Errors
///
/// [`StoreError`] if anything is damaged or missing, or if it is another node's.
pub(in super::super) fn open(
    medium: &dyn Medium,
    node: NodeId,
    new_life: u64,
) -> Result<LogStore, StoreError> {
    let store = Arc::new(Store::open(medium, FILE)?);
    let (member, tail) = store.write(|write| {
        let failed = |error: redb::TableError| store.failed(error);
        let mut facts = write.open_table(FACTS).map_err(failed)?;
        let entries = write.open_table(ENTRIES).map_err(failed)?;
        let member = match fact(&store, &facts, MEMBER)? {
            Some(member) => member,
            None => begin(&store, &mut facts, &entries, MemberId::new(node, new_life))?,
        };
        if member != MemberId::new(node, member.life()) {
            let (what, why) = ("the member".to_owned(), format!("it is that of {member}"));
            return Err(store.damaged(Damage::Meaning { what, why }));
        }
        let mut tail = tail(&store, &facts, &entries)?;
        tail.vote = tail.vote.map(|vote| to_win_again(vote, member));
        Ok((member, tail))
    })?;
    let (writes, incoming) = mpsc::channel(WRITES_MAX);
    let flushed = watch::Sender::new(Flushed {
        before: tail.flushed,
        len: tail.appended_len,
        ..Flushed::default()
    });
    let shared = Arc::new(Shared {
        store,
        member,
        tail: Mutex::new(tail),
        writes,
        flushed,
        snapshots: OnceLock::new(),
        #[cfg(test)]
        bug: OnceLock::new(),
    });
    let (store, log) = (Arc::clone(&shared.store), Arc::downgrade(&shared));
    tokio::spawn(writer::run(store, log, incoming));
    Ok(LogStore(shared))
}

/// The vote as the next life of a member has it. One that has led does not go on leading in that term: it may
/// have lost entries that others have already, and would give their ids to other ones; and its reads would miss
/// what it does not know to be agreed upon.
fn to_win_again(mut vote: Vote, member: MemberId) -> Vote {
    vote.committed &= vote.leader_id().voted_for() != Some(member);
    vote
}

/// A log that begins: there is nothing in the file yet.
fn begin(
    store: &Store,
    facts: &mut Table<'_, &'static str, &'static [u8]>,
    entries: &Table<'_, u64, &'static [u8]>,
    member: MemberId,
) -> Result<MemberId, StoreError> {
    let is_new = entries.is_empty().and_then(|none| Ok(none && facts.is_empty()?));
    if !is_new.map_err(|error| store.failed(error))? {
        return Err(store.damaged(Damage::Missing { what: "the member".to_owned() }));
    }
    let row = seal(store, MEMBER, &member)?;
    facts.insert(MEMBER, row.as_slice()).map_err(|error| store.failed(error))?;
    Ok(member)
}

fn seal<T: Serialize>(store: &Store, name: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    sealed::seal(name, name.as_bytes(), value).map_err(|damage| store.damaged(damage))
}

fn fact<T: DeserializeOwned>(
    store: &Store,
    facts: &Table<'_, &'static str, &'static [u8]>,
    name: &'static str,
) -> Result<Option<T>, StoreError> {
    let row = facts.get(name).map_err(|error| store.failed(error))?;
    let value = row.map(|row| sealed::open(name, name.as_bytes(), row.value())).transpose();
    value.map_err(|damage| store.damaged(damage))
}

/// What a log has, if all of it is whole.
fn tail(
    store: &Store,
    facts: &Table<'_, &'static str, &'static [u8]>,
    entries: &Table<'_, u64, &'static [u8]>,
) -> Result<Tail, StoreError> {
    let purged: Option<LogId> = fact(store, facts, PURGED)?;
    let mut tail = Tail {
        group: fact(store, facts, GROUP)?,
        vote: fact(store, facts, VOTE)?,
        committed: fact::<Option<LogId>>(store, facts, COMMITTED)?.flatten(),
        purged,
        last: purged,
        flushed: purged.map_or(0, |purged| purged.index + 1),
        ..Tail::default()
    };
    let begins = entries.first().map_err(|error| store.failed(error))?;
    let begins = begins.map_or(0, |(index, _)| index.value());
    // openraft numbers entries from 0, and its own tests from 1.
    let first = purged.map_or_else(|| begins.min(1), |purged| purged.index + 1);
    for (next, row) in (first..).zip(entries.iter().map_err(|error| store.failed(error))?) {
        let (index, row) = row.map_err(|error| store.failed(error))?;
        if index.value() != next {
            return Err(store.damaged(Damage::Missing { what: format!("entry {next}") }));
        }
        let entry = decode(next, row.value()).map_err(|damage| store.damaged(damage))?;
        tail.flushed = next + 1;
        tail.push(entry, row.value().len());
        tail.trim();
    }
    Ok(tail)
}
