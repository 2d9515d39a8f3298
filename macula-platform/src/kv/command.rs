//! What a group is asked to agree upon, and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A revision: the index of the entry that made a change.
pub type Revision = u64;

/// A lease: the index of the entry that granted it.
pub type LeaseId = u64;

/// The session of those who need none, because their commands do no more when they are done again.
pub const NOBODY: u128 = 0;

/// A command of a client that counts its commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Which client: a random number that it has for its life, and that a [`Command::Open`] has made
    /// known. Or [`NOBODY`], whose commands are applied as often as they are proposed.
    pub session: u128,
    /// When the session was opened, as [`Answer::Opened`] has said; 0 in a [`Command::Open`] and for
    /// [`NOBODY`]. A session that was forgotten and, by a late copy of its opening, is opened again is
    /// another one: what was meant for the first is not applied once more.
    pub opened: u64,
    /// Which of its commands, from 1. It is applied once, however often it is proposed.
    pub serial: u64,
    /// It has the answers of all commands before this one.
    pub done_below: u64,
    /// What is to be done.
    pub command: Command,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make the session known. All other commands of one that is not known, or not any more, are
    /// refused: they may have been applied already.
    Open,
    /// Look, and then do one or the other, at one moment.
    Txn(Txn),
    /// Grant a lease that lasts so many milliseconds from each time that it is kept alive.
    Grant {
        /// How long.
        ttl_ms: u64,
    },
    /// End a lease, and delete all keys that hang on it.
    Revoke {
        /// Which.
        lease: LeaseId,
    },
    /// Forget all events up to a revision.
    Compact {
        /// Which.
        revision: Revision,
    },
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Txn {
    /// If all of these hold,
    pub conditions: Vec<Condition>,
    /// this is done, in its order,
    pub then: Vec<Op>,
    /// and else this.
    pub otherwise: Vec<Op>,
}

/// Something about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The key.
    pub key: Bytes,
    /// What has to be so.
    pub holds: Holds,
}

/// What has to be so of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// It is there.
    Exists,
    /// It is not there.
    Absent,
    /// It was changed last at this revision.
    ModifiedAt(Revision),
    /// It was made at this revision.
    CreatedAt(Revision),
    /// It has this value.
    Is(Bytes),
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Tell what is there.
    Get(Bytes),
    /// Give a key a value.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease on which it hangs.
        lease: Option<LeaseId>,
    },
    /// Delete a key.
    Delete(Bytes),
}

impl Op {
    /// The key that it is about.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Get(key) | Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// What a key has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The value.
    pub value: Bytes,
    /// When the key was made.
    pub created: Revision,
    /// When it was changed last.
    pub modified: Revision,
    /// How often it has been put since it was made.
    pub version: u64,
    /// The lease on which it hangs.
    pub lease: Option<LeaseId>,
}

/// What has happened to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// To which.
    pub key: Bytes,
    /// What it has since; none if it was deleted.
    pub item: Option<Item>,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The session is known from now on.
    Opened {
        /// The entry that has opened it.
        at: u64,
    },
    /// What a transaction did.
    Done {
        /// Whether its conditions held.
        held: bool,
        /// What each operation found there: before it, if it is no `Get`.
        found: Vec<Option<Item>>,
        /// The revision of the state after it.
        revision: Revision,
    },
    /// A lease was granted.
    Granted(LeaseId),
    /// A lease has ended, and this many keys with it.
    Revoked(u64),
    /// Events up to the revision are forgotten.
    Compacted(Revision),
    /// It was not done, and nothing else was either.
    Refused(Refusal),
}

/// Why a command was not done. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// A key is nothing.
    #[error("a key has one byte at least")]
    NoKey,
    /// A part of it is longer than may be.
    #[error("its {what} has {len} bytes, and at most {max} are possible")]
    TooLong {
        /// Which part.
        what: String,
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// It has more of something than may be.
    #[error("it has {len} {what}, and at most {max} are possible")]
    TooMany {
        /// Of what.
        what: String,
        /// How many.
        len: u64,
        /// How many may be.
        max: u64,
    },
    /// There is no room for more.
    #[error("there is no room: {what} would have {len}, and at most {max} are possible")]
    Full {
        /// What.
        what: String,
        /// How much.
        len: u64,
        /// How much may be.
        max: u64,
    },
    /// A key is a claim ([`CLAIMS`](super::limits::CLAIMS)): it may not be deleted, nor hang on no lease or
    /// on another one.
    #[error(
        "{key:?} is a claim: it keeps its lease, and goes only with it; an election is resigned from"
    )]
    Claim {
        /// The key, as text.
        key: String,
    },
    /// A lease cannot last so long, or so short.
    #[error("a lease of {ttl_ms} ms is not between {min} and {max} ms")]
    NoTtl {
        /// How long it was to be, in milliseconds.
        ttl_ms: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// There is no such lease, or none any more.
    #[error("there is no lease {0}")]
    NoLease(LeaseId),
    /// A revision that is not there yet, or is forgotten already.
    #[error("revision {revision} is not between {oldest} and {newest}")]
    NoRevision {
        /// Which.
        revision: Revision,
        /// The first that is remembered.
        oldest: Revision,
        /// The last.
        newest: Revision,
    },
    /// The client was not heard of for so long that its commands are forgotten: whether this one was
    /// done before is not known.
    #[error("the client's earlier commands are forgotten; whether this one was done is not known")]
    Forgotten,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}
