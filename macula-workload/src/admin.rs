//! The admin socket: how the `macula` command talks to a node that runs.
//!
//! It is a Unix socket that only its owner may open. A client sends one line of JSON, a [`Request`],
//! and gets one line back: `{"ok": ..}`, `{"error": ".."}`, or `{"wrong": ".."}` if it was asked for
//! what cannot be.

mod actor;
mod answer;
mod topics;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Take, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_infra::mesh::Mesh;
use macula_platform::consensus::Consensus;
use macula_platform::crdt::Crdts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use actor::worker;

/// The name of the socket in the folder of a node's identity.
pub const SOCKET: &str = "admin.sock";

/// How long the path of a socket may be, in bytes: the system takes 107, and while it is made it is
/// called `.<process id>.new` beside.
pub(crate) const SOCKET_LEN_MAX: usize = 92;

/// The longest line, in bytes: one with the longest message, of which JSON may make more.
const LINE_LEN_MAX: u64 = 8 << 20;

/// The longest that a node may be asked to wait for others: its answer has to come before the client of
/// the socket gives up.
pub const WITHIN_MAX: Duration = Duration::from_secs(50);

/// How long a client waits for its answer: longer than any command takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What a node tells about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) mesh: Mesh,
    pub(crate) agreement: Consensus,
    pub(crate) crdts: Crdts,
}

/// What a node is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who is in the mesh. The braces are for serde: only so it refuses what is unknown.
    Peers {},
    /// The record under a name.
    DhtGet {
        /// The key space.
        space: String,
        /// The name.
        name: String,
    },
    /// That a value is kept under a name.
    DhtPut {
        /// The key space.
        space: String,
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// For how many seconds.
        ttl_s: u64,
        /// The sequence number that has to be there; 0 if nothing may be.
        expected: Option<u64>,
        /// How many nodes have to keep it: `one`, `majority`, `all` or a number.
        quorum: String,
    },
    /// Who provides what has a name.
    DhtProviders {
        /// The key space.
        space: String,
        /// The name.
        name: String,
        /// How many are enough.
        max: usize,
    },
    /// The nodes that are closest to a name's key.
    DhtLookup {
        /// The key space.
        space: String,
        /// The name.
        name: String,
    },
    /// The routing table.
    DhtTable {},
    /// What the rules of access, or the lack of a certificate, have kept others from lately.
    Audit {},
    /// The procedures that the node provides.
    RpcList {},
    /// Who provides a procedure.
    RpcProviders {
        /// The procedure.
        procedure: String,
    },
    /// What a provider of a procedure answers.
    RpcCall {
        /// The procedure.
        procedure: String,
        /// The question.
        question: Value,
        /// For how many milliseconds the node waits.
        within_ms: u64,
    },
    /// That something is published.
    Publish {
        /// The topic.
        topic: String,
        /// What it says.
        value: String,
        /// Whether all of its subscribers have to get it.
        at_least_once: bool,
        /// Whether it is the value of its topic from now on.
        retain: bool,
        /// Whether it is kept for those who subscribe later.
        keep: bool,
    },
    /// What a key of the realm's group has.
    KvGet {
        /// The key.
        key: String,
        /// How fresh: `linearizable`, `lease` or `stale`.
        level: String,
        /// For how many milliseconds an answer of the group is waited for.
        within_ms: Option<u64>,
    },
    /// That a key has a value.
    KvPut {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The revision at which it has to have been changed last; 0 if it may not be there.
        expected: Option<u64>,
        /// The lease on which it hangs.
        lease: Option<u64>,
        /// For how many milliseconds it is there, on a lease of its own.
        ttl_ms: Option<u64>,
        /// For how many milliseconds an answer of the group is waited for.
        within_ms: Option<u64>,
    },
    /// That a key is there no more.
    KvDelete {
        /// The key.
        key: String,
        /// The revision at which it has to have been changed last.
        expected: Option<u64>,
        /// For how many milliseconds an answer of the group is waited for.
        within_ms: Option<u64>,
    },
    /// The keys that begin with a prefix, and what they have.
    KvRange {
        /// The prefix.
        prefix: String,
        /// From which key on.
        from: Option<String>,
        /// How many at most.
        max: usize,
        /// How fresh.
        level: String,
        /// For how many milliseconds an answer of the group is waited for.
        within_ms: Option<u64>,
    },
    /// What happens to the keys that begin with a prefix: after the answer one event a line, until the
    /// client goes.
    KvWatch {
        /// The prefix.
        prefix: String,
        /// After which revision; without it, from now on.
        after: Option<u64>,
    },
    /// What a key of the replicated types has.
    CrdtGet {
        /// The key.
        key: String,
        /// How many members are asked: `local`, `majority`, `all` or a number.
        level: String,
        /// For how many milliseconds they are waited for.
        within_ms: Option<u64>,
    },
    /// The keys of a bucket that begin with a prefix, or without one the buckets that the node holds.
    CrdtKeys {
        /// The bucket.
        bucket: Option<String>,
        /// The prefix.
        prefix: String,
    },
    /// What happens to the keys of a bucket that begin with a prefix: after the answer one event a line,
    /// until the client goes.
    CrdtWatch {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
    /// That a key of the replicated types changes.
    CrdtUpdate {
        /// The key.
        key: String,
        /// Of which type it is, if nothing is there yet.
        kind: Option<String>,
        /// How.
        deed: Deed,
        /// How many members are to have it: `local`, `majority`, `all` or a number.
        level: String,
        /// For how many milliseconds they are waited for.
        within_ms: Option<u64>,
    },
    /// That the node lets go of a bucket, once so many members have all that it has.
    CrdtRelease {
        /// The bucket.
        bucket: String,
        /// How many members are to have it, this node among them: `local`, `majority`, `all` or a number.
        level: String,
        /// For how many milliseconds they are waited for.
        within_ms: Option<u64>,
    },
    /// That nobody waits for a member of a bucket any more that does not come back.
    CrdtRetire {
        /// The bucket.
        bucket: String,
        /// The member.
        node: String,
        /// Also if it is in the mesh.
        even_if_alive: bool,
    },
    /// The elections in which somebody leads.
    ElectionList {
        /// After which name.
        after: Option<String>,
    },
    /// That whoever leads an election resigns.
    ElectionResign {
        /// The election.
        name: String,
        /// For how many milliseconds to wait until it leads no more; without it, not at all.
        within_ms: Option<u64>,
    },
    /// Who leads an election: after the answer how it stands, and each change, a line each, until the
    /// client goes.
    ElectionObserve {
        /// The election.
        name: String,
    },
    /// That the node takes part in an election for the client: after the answer one event a line, until
    /// the client goes, with whom the candidacy ends.
    ElectionCampaign {
        /// The election.
        name: String,
        /// For how many milliseconds it leads without a word from the group.
        ttl_ms: u64,
    },
    /// How it stands with the realm's group.
    RaftStatus {
        /// As this node's member sees it; without one, as the leader does.
        node: Option<String>,
    },
    /// That a node votes.
    RaftAddVoter {
        /// The node.
        node: String,
    },
    /// That a node has all, and does not vote.
    RaftAddLearner {
        /// The node.
        node: String,
    },
    /// That a node is in the group no more.
    RaftRemove {
        /// The node.
        node: String,
    },
    /// That one node votes in the place of another.
    RaftReplace {
        /// Who goes.
        old: String,
        /// Who comes: the same, if its files were lost.
        new: String,
    },
    /// That this node's member, whose files are damaged, gets all anew from the others.
    RaftRebuild {},
    /// That a node leads.
    RaftTransfer {
        /// The node.
        node: String,
    },
    /// That a member makes a snapshot.
    RaftSnapshot {
        /// Its node; without one, the one that is asked.
        node: Option<String>,
    },
    /// What is published to topics that a pattern matches: after the answer one event a line, until
    /// the client goes.
    Subscribe {
        /// The pattern.
        pattern: String,
        /// The queue group.
        group: Option<String>,
        /// How many of the last messages of each topic are wanted that were kept.
        last: Option<u32>,
        /// Whether the retained message of each topic is wanted.
        retained: bool,
    },
}

/// What is done to a key of the replicated types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Deed {
    /// A counter counts.
    Count {
        /// How much, which may be less than zero.
        by: i64,
    },
    /// A set has an element from now on.
    Add {
        /// The element.
        value: Value,
    },
    /// A register has a value from now on, or a flag.
    Set {
        /// The value.
        value: Value,
    },
    /// A set has an element no more.
    Take {
        /// The element.
        value: Value,
    },
    /// The key is there no more.
    Remove {},
}

/// Why a running node was not asked, or has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("{}: no node answers there ({source}); is it running?", path.display())]
    NotThere {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No answer in time. What was asked for may be done all the same.
    #[error(
        "{}: the node did not answer within {}: whether it was done is not known", path.display(),
        humantime::format_duration(ANSWER_WITHIN)
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// The talk was cut off.
    #[error("{}: the node did not answer: {source}", path.display())]
    CutOff {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The node has ended, or has cut off who asked.
    #[error("{}: the node ended the talk; is it running still?", path.display())]
    Ended {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is none.
    #[error("{}: what was answered is no answer: {why}", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The node has said no.
    #[error("{0}")]
    Refused(String),
    /// What was asked is nothing that can be asked. Nothing was done.
    #[error("{0}")]
    Wrong(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    Ok(Value),
    Error(String),
    Wrong(String),
}

/// Why a request has no answer, in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// It did not succeed.
    Failed(String),
    /// It can never succeed as it was asked, and nothing was done.
    Wrong(String),
}

impl Declined {
    /// It did not succeed, for a reason that says itself in words.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// It can never succeed, for such a reason.
    pub(crate) fn wrong(error: impl std::fmt::Display) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<Declined> for Response {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::Failed(why) => Self::Error(why),
            Declined::Wrong(why) => Self::Wrong(why),
        }
    }
}

/// Asks the node that listens at a socket, and waits for its answer for at most a minute.
///
/// # Errors
///
/// [`Error`].
pub fn ask(path: &Path, request: &Request) -> Result<Value, Error> {
    Asking::begin(path, request).map(|(answer, _asking)| answer)
}

/// Asks a node, and goes on reading what it tells after its answer. `each` says whether it wants
/// more; the answer is the first.
///
/// # Errors
///
/// [`Error`], also when the node ends.
pub fn follow(
    path: &Path,
    request: &Request,
    mut each: impl FnMut(Value) -> bool,
) -> Result<(), Error> {
    let (mut told, mut asking) = Asking::begin(path, request)?;
    asking
        .read
        .get_ref()
        .get_ref()
        .set_read_timeout(None)
        .map_err(|source| asking.cut_off(source))?;
    while each(told) {
        told = asking.next()?;
    }
    Ok(())
}

/// A talk with a node.
struct Asking<'a> {
    path: &'a Path,
    read: BufReader<Take<UnixStream>>,
}

impl<'a> Asking<'a> {
    /// Says what is wanted, and waits for the answer.
    fn begin(path: &'a Path, request: &Request) -> Result<(Value, Self), Error> {
        let not_there = |source| Error::NotThere { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(not_there)?;
        let mut asking = Self { path, read: BufReader::new(stream.take(LINE_LEN_MAX)) };
        let line = serde_json::to_string(request);
        let line = line.map_err(|error| asking.no_answer(error.to_string()))?;
        let stream = asking.read.get_mut().get_mut();
        let said = stream
            .set_read_timeout(Some(ANSWER_WITHIN))
            .and_then(|()| stream.write_all(format!("{line}\n").as_bytes()));
        said.map_err(|source| asking.cut_off(source))?;
        Ok((asking.next()?, asking))
    }

    fn next(&mut self) -> Result<Value, Error> {
        self.read.get_mut().set_limit(LINE_LEN_MAX);
        let mut answer = String::new();
        self.read.read_line(&mut answer).map_err(|source| self.cut_off(source))?;
        if !answer.ends_with('\n')
            && answer.len() < usize::try_from(LINE_LEN_MAX).unwrap_or(usize::MAX)
        {
            return Err(Error::Ended { path: self.path.to_owned() });
        }
        match serde_json::from_str(&answer).map_err(|error| self.no_answer(error.to_string()))? {
            Response::Ok(value) => Ok(value),
            Response::Error(why) => Err(Error::Refused(why)),
            Response::Wrong(why) => Err(Error::Wrong(why)),
        }
    }

    fn cut_off(&self, source: std::io::Error) -> Error {
        let path = self.path.to_owned();
        match source.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::TimedOut { path },
            _ => Error::CutOff { path, source },
        }
    }

    fn no_answer(&self, why: String) -> Error {
        Error::NoAnswer { path: self.path.to_owned(), why }
    }
}
