//! What a replica is told and what it wants done, and what it is made of.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::journal::Batch;
use super::levels::{Done, Failed, Level, Token};
use crate::crdt::bucket::{Bucket, KeyDelta};
use crate::crdt::codec::DecodeError;
use crate::crdt::config::{self, Config};
use crate::crdt::contract::{Crdt, Delta};
use crate::crdt::limits::Refused;
use crate::crdt::state::Kinds;
use crate::crdt::write::Write;

/// A change of the state of one key, to be made by the machine.
pub struct Change(pub(super) Box<Make>);

pub(super) type Make =
    dyn FnOnce(&mut Bucket, &str, Duration) -> Result<Vec<KeyDelta>, Refused> + Send;

impl Change {
    /// Makes a change of a key's state of one type.
    pub fn of<C: Crdt>(
        change: impl FnOnce(&C, &mut Write<'_>) -> Result<Delta<C>, Refused> + Send + 'static,
    ) -> Self {
        Self(Box::new(move |bucket, key, wall| {
            let made = bucket.update(key, wall, change)?;
            Ok(if made.delta.is_empty() { Vec::new() } else { vec![made] })
        }))
    }

    /// Removes the key, whatever it is.
    #[must_use]
    pub fn removal() -> Self {
        Self(Box::new(|bucket, key, _wall| bucket.remove(key)))
    }
}

impl Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

/// What happens to a replica, and the calendar's time.
#[derive(Debug)]
pub struct Input {
    /// The time since the Unix epoch, as the own calendar has it.
    pub wall: Duration,
    /// What happens.
    pub event: Event,
}

/// What can happen to a replica.
#[derive(Debug)]
pub enum Event {
    /// A node has sent a frame.
    Frame {
        /// Which node.
        from: u64,
        /// What.
        frame: Bytes,
    },
    /// These nodes are reached now, whether they hold the bucket or not.
    Near(BTreeSet<u64>),
    /// A batch is on disk.
    Written(u64),
    /// A change is to be made. [`Output::Done`]
    Write {
        /// It comes back with the output.
        ticket: u64,
        /// The key.
        key: Arc<str>,
        /// The change.
        change: Change,
        /// How many members are to have it.
        level: Level,
        /// How long to wait for them at most.
        within: Duration,
    },
    /// What others have under a key is to be joined, so that it can be read. [`Output::Done`]
    Read {
        /// It comes back with the output.
        ticket: u64,
        /// The key.
        key: Arc<str>,
        /// How many members are to be asked.
        level: Level,
        /// How long to wait for them at most.
        within: Duration,
    },
    /// Wait until something has been seen. [`Output::Done`]
    Cover {
        /// It comes back with the output.
        ticket: u64,
        /// What.
        token: Token,
        /// How long to wait at most.
        within: Duration,
    },
    /// The bucket is to be held no more. [`Output::Done`] says that this member is one no more: nothing is
    /// to be asked of the replica from then on.
    Leave {
        /// It comes back with the output.
        ticket: u64,
        /// How many members are to have all that is here, this one among them: another one at least, but for
        /// [`Level::Local`].
        level: Level,
        /// How long to wait for them at most.
        within: Duration,
    },
    /// The bucket is to be held no more if nothing is in it and nothing was ever written here.
    /// [`Output::Done`], as of [`Leave`](Self::Leave) at [`Level::Local`]; or
    /// [`Failed::Used`](super::Failed::Used), and all is as it was.
    LeaveUnused {
        /// It comes back with the output.
        ticket: u64,
    },
    /// Nobody waits any more.
    Cancel(u64),
    /// A node is there and takes no frames.
    Declined(u64),
    /// A node is gone for good, or is to count as that.
    Retire(u64),
}

/// What a replica wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a frame to a node.
    Send {
        /// Which node.
        to: u64,
        /// What.
        frame: Bytes,
    },
    /// Bring something to disk, and say when it is there.
    Persist(Batch),
    /// A write, read or wait has come to its end.
    Done {
        /// Whose.
        ticket: u64,
        /// How it went.
        result: Result<Done, Failed>,
    },
    /// The state of a key has changed. It is told only where somebody [listens](super::Replica::listen).
    Changed {
        /// How.
        change: Arc<KeyDelta>,
        /// Whether a user of this node has changed it.
        is_local: bool,
    },
}

/// What was done since the replica was made, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// How many changes were made here.
    pub written: u64,
    /// How many changes of others were joined.
    pub joined: u64,
    /// How many changes and states of others were refused.
    pub refused: u64,
    /// How many frames and messages were not to be read.
    pub malformed: u64,
    /// How many messages were lost because the disk was busy.
    pub dropped: u64,
    /// How many comparisons have come to their end, and how many were given up.
    pub compared: u64,
    /// See there.
    pub given_up: u64,
    /// How many states were received by comparisons.
    pub fetched: u64,
    /// How many collections there were.
    pub epoch: u64,
    /// How often this replica has begun anew, since the group had gone on without it.
    pub resyncs: u64,
    /// How many changes of keys were made because nobody needs something any more.
    pub tidied: u64,
    /// How many keys there are.
    pub keys: usize,
    /// About how many bytes they take.
    pub weight: usize,
    /// How many spans the context has.
    pub spans: usize,
    /// About how many bytes of changes wait for acknowledgements.
    pub buffered: usize,
    /// How many members there are, and how many of them are in touch.
    pub members: usize,
    /// See there.
    pub in_touch: usize,
    /// How many stamps were too far ahead to be followed, and how often the calendar was set back.
    pub skewed: u64,
    /// See there.
    pub set_back: u64,
}

/// What a replica is made of.
#[derive(Debug)]
pub struct Parts {
    /// How it is replicated.
    pub config: Config,
    /// What it can read.
    pub kinds: Arc<Kinds>,
    /// The node's number.
    pub node: u64,
    /// Which life of the node's memory it is: later ones are greater.
    pub life: u64,
    /// What its dice are drawn from.
    pub seed: u64,
    /// What is on disk; none if nothing is to be kept there.
    pub saved: Option<Saved>,
}

/// What was written to disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// [`Batch::group`]
    pub group: Option<Vec<u8>>,
    /// [`Checkpoint::rows`](super::Checkpoint::rows)
    pub rows: Vec<Vec<u8>>,
    /// [`Checkpoint::context`](super::Checkpoint::context)
    pub context: Option<Vec<u8>>,
    /// [`Batch::records`]
    pub records: Vec<Vec<u8>>,
}

/// Why there is no replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot be replicated so.
    #[error(transparent)]
    Config(#[from] config::Invalid),
    /// What was written to disk cannot be read. It is left as it is.
    #[error("what is on disk cannot be read: {0}")]
    Saved(#[from] DecodeError),
}
