//! The store and whole members of a group, on disks and networks that fail.

mod crashes;
mod flips;
mod gates;
mod group;
pub(crate) mod harness;
mod logs;
mod purging;
mod suite;
mod supervised;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader as _};

use super::log::{self, LogStore};
use super::machine::Replicated;
use super::media::{Medium, StoreError};
use super::types::{Command, Entry, LogId, MemberId, Vote};

fn node() -> NodeId {
    Keypair::from_seed([1; 32]).node_id()
}

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, MemberId::new(node(), 1)), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let body = Bytes::from(format!("entry {index} of term {term}").repeat(20));
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Command(body)) }
}

fn vote(term: u64) -> Vote {
    Vote::new(term, MemberId::new(node(), 1))
}

fn open(medium: &dyn Medium) -> Result<LogStore, StoreError> {
    log::open(medium, node(), 1)
}

async fn all(log: &mut LogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

/// Adds up how many bytes were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sum(u64, u64);

impl Replicated for Sum {
    fn apply(&mut self, index: u64, command: &Bytes) -> Bytes {
        *self = Self(self.0 + command.len() as u64, index);
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }

    fn pass(&mut self, index: u64) {
        self.1 = index;
    }

    fn chunks(&self) -> Box<dyn Iterator<Item = Bytes> + Send + '_> {
        let parts = [self.0, self.1];
        Box::new(parts.into_iter().map(|part| Bytes::copy_from_slice(&part.to_be_bytes())))
    }

    fn restore(chunks: &mut dyn Iterator<Item = Bytes>) -> Result<Self, String> {
        let mut next = || {
            let Some(chunk) = chunks.next() else { return Ok(0) };
            chunk.as_ref().try_into().map(u64::from_be_bytes).map_err(|_len| "no number".to_owned())
        };
        Ok(Self(next()?, next()?))
    }
}
