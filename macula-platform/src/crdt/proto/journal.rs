//! What has to be on disk before anybody is told of it.
//!
//! Changes go into a log, and from time to time the states of all keys that changed are written whole,
//! with the context, and the log begins anew. While the disk is busy what comes meanwhile is gathered
//! for the next write (group commit). Whatever a replica says waits until all is on disk that it had
//! done before: so a dot that anybody has seen is never used again, and what is acknowledged is kept.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::epoch::{Collection, Epoch, Lineages};
use super::roster::{Roster, count};
use super::snapshot::slot;
use crate::crdt::bucket::{Bucket, KeyDelta, put_state, take_state};
use crate::crdt::codec::{DecodeError, Decoder, Encoder};
use crate::crdt::context::Context;
use crate::crdt::state::{Kinds, State};

/// How many bytes the log has at least when the states are written instead.
const LOG_LEN_MAX: usize = 4 << 20;

const DELTA: u8 = 0;
const CLAIM: u8 = 1;

/// Something to be written, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number, which comes back when it is on disk.
    pub ticket: u64,
    /// What the replica knows of its group, if that changed.
    pub group: Option<Vec<u8>>,
    /// The states that changed since the last ones were written. The log is empty then.
    pub checkpoint: Option<Checkpoint>,
    /// What comes at the end of the log.
    pub records: Vec<Vec<u8>>,
}

/// All that a bucket has, written over what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whether all that was there goes first.
    pub anew: bool,
    /// The keys that changed: what they have, or nothing.
    pub rows: Vec<(Arc<str>, Option<Vec<u8>>)>,
    /// The context.
    pub context: Vec<u8>,
}

/// What a replica knows beside its states.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Group {
    pub(in crate::crdt) incarnation: u64,
    pub(in crate::crdt) epoch: Epoch,
    pub(in crate::crdt) lineages: Lineages,
    pub(in crate::crdt) roster: Roster,
    pub(in crate::crdt) collection: Collection,
}

impl Group {
    pub(in crate::crdt) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.number(self.incarnation);
        self.epoch.encode(&mut out);
        self.lineages.encode(&mut out);
        self.roster.encode(&mut out);
        self.collection.encode(&mut out);
        out.finish()
    }

    pub(in crate::crdt) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let from = &mut Decoder::new(bytes)?;
        let (incarnation, epoch) = (from.number()?, Epoch::decode(from)?);
        let lineages = Lineages::decode(from)?;
        let (roster, collection) = (Roster::decode(from)?, Collection::decode(from)?);
        from.finish()?;
        Ok(Self { incarnation, epoch, lineages, roster, collection })
    }
}

/// Gathers what is to be written.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Journal {
    /// Whether there is a disk.
    on: bool,
    emitted: u64,
    done: u64,
    records: VecDeque<Vec<u8>>,
    /// How many bytes the log has.
    log_len: usize,
    dirty: BTreeSet<Arc<str>>,
    /// Whether the states are to be written, and whether all that is there goes first.
    states: bool,
    anew: bool,
    group: bool,
}

impl Journal {
    pub(in crate::crdt) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// A change of the bucket.
    pub(in crate::crdt) fn change(&mut self, change: &KeyDelta) {
        if self.on {
            let mut out = Encoder::default();
            out.byte(DELTA);
            change.encode(&mut out);
            self.record(out);
            self.dirty.insert(Arc::clone(&change.key));
        }
    }

    /// More was seen.
    pub(in crate::crdt) fn claim(&mut self, context: &Context) {
        if self.on {
            let mut out = Encoder::default();
            out.byte(CLAIM);
            out.context(context);
            self.record(out);
        }
    }

    fn record(&mut self, out: Encoder) {
        let record = out.finish();
        self.log_len += record.len();
        self.records.push_back(record);
    }

    /// Something is known of the group.
    pub(in crate::crdt) const fn group(&mut self) {
        self.group = self.on;
    }

    /// Something happened to the bucket that is no change: all of it is written, or these keys.
    pub(in crate::crdt) fn rewrite(&mut self, keys: Option<Vec<Arc<str>>>) {
        if self.on {
            self.states = true;
            match keys {
                Some(keys) => self.dirty.extend(keys),
                None => self.anew = true,
            }
        }
    }

    /// Which batch has to be on disk before anything is told.
    pub(in crate::crdt) fn barrier(&self) -> u64 {
        let is_clean = self.records.is_empty() && !self.states && !self.group;
        self.emitted + u64::from(!is_clean)
    }

    /// Up to which batch all is on disk.
    pub(in crate::crdt) const fn done(&self) -> u64 {
        self.done
    }

    pub(in crate::crdt) fn written(&mut self, ticket: u64) {
        self.done = self.done.max(ticket.min(self.emitted));
    }

    /// The next batch, if there is anything to be written and the disk is free.
    pub(in crate::crdt) fn next(&mut self, bucket: &Bucket, group: &Group) -> Option<Batch> {
        if self.done < self.emitted || self.barrier() == self.emitted {
            return None;
        }
        self.emitted += 1;
        let mut batch = Batch {
            ticket: self.emitted,
            group: std::mem::take(&mut self.group).then(|| group.encode()),
            checkpoint: None,
            records: std::mem::take(&mut self.records).into(),
        };
        if self.log_len >= LOG_LEN_MAX || self.states {
            // All of them are in the states.
            batch.records = Vec::new();
            batch.checkpoint = Some(self.checkpoint(bucket));
            self.log_len = 0;
        }
        Some(batch)
    }

    fn checkpoint(&mut self, bucket: &Bucket) -> Checkpoint {
        self.states = false;
        let anew = std::mem::take(&mut self.anew);
        let mut dirty = std::mem::take(&mut self.dirty);
        if anew {
            let entries = bucket.entries(std::ops::Bound::Unbounded);
            dirty = entries.map(|(key, _)| Arc::clone(key)).collect();
        }
        let rows = dirty.into_iter().map(|key| {
            let row = row(bucket, &key);
            (key, row)
        });
        let rows = rows.collect();
        let mut out = Encoder::default();
        out.context(bucket.context());
        Checkpoint { anew, rows, context: out.finish() }
    }
}

/// What a key has, as bytes.
fn row(bucket: &Bucket, key: &str) -> Option<Vec<u8>> {
    let states: Vec<&State> = slot(bucket, key).map(|entry| entry.state()).collect();
    let mut out = Encoder::default();
    out.number(count(states.len()));
    states.iter().for_each(|state| put_state(&mut out, key, state));
    (!states.is_empty()).then(|| out.finish())
}

/// Puts a bucket together from what was written: rows and the context, and then the log. What the log has is
/// not in the rows, and has to be in the next checkpoint: until then the journal goes on with it.
pub(in crate::crdt) fn restore(
    journal: &mut Journal,
    bucket: &mut Bucket,
    rows: &[Vec<u8>],
    context: Option<&[u8]>,
    records: &[Vec<u8>],
) -> Result<(), DecodeError> {
    let kinds = Arc::clone(bucket.kinds());
    for row in rows {
        let from = &mut Decoder::new(row)?;
        for _ in 0..from.number()? {
            let (key, state) = take_state(&kinds, from)?;
            bucket.put_back(&key, state);
        }
        from.finish()?;
    }
    if let Some(context) = context {
        let from = &mut Decoder::new(context)?;
        bucket.claim(&from.context()?);
        from.finish()?;
    }
    for record in records {
        journal.log_len += record.len();
        replay(journal, bucket, &kinds, record)?;
    }
    Ok(())
}

fn replay(
    journal: &mut Journal,
    bucket: &mut Bucket,
    kinds: &Kinds,
    record: &[u8],
) -> Result<(), DecodeError> {
    let from = &mut Decoder::new(record)?;
    match from.byte()? {
        DELTA => {
            let change = KeyDelta::decode(kinds, from)?;
            bucket.put_back_change(&change);
            journal.dirty.insert(change.key);
        }
        CLAIM => bucket.claim(&from.context()?),
        _ => return Err(from.form("no record of a log")),
    }
    from.finish()
}
