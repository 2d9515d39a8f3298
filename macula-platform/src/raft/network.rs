//! How openraft asks other members.

use std::sync::Arc;
use std::time::Duration;

use macula_core::port::{Call, CallError};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, RaftNetwork, RaftNetworkFactory, Snapshot, StorageIOError};
use parking_lot::Mutex;

use super::acks::Acks;
use super::log::LogStore;
use super::timer::Timer;
use super::types::{MemberId, StorageError, Types, Vote};
use super::wire::{self, Answer, Ask, Chunk, Question};

/// How long after a member was not reached it is tried again: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// How long a part of a snapshot may take.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);

/// How often a part is sent before the whole is given up for now.
const CHUNK_TRIES: u32 = 5;

/// Makes the ways to members.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) own: MemberId,
    pub(super) log: LogStore,
    pub(super) call: Arc<dyn Call>,
    pub(super) timer: Arc<dyn Timer>,
    /// Who has said that this member leads.
    pub(super) acks: Arc<Mutex<Acks>>,
    /// Which leader wants this member to stand, if it stands because of that.
    pub(super) offered: Arc<Mutex<Option<Vote>>>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: MemberId, _node: &EmptyNode) -> Way {
        Way { network: self.clone(), target }
    }
}

/// The way to one member.
#[derive(Debug, Clone)]
pub(super) struct Way {
    network: Network,
    target: MemberId,
}

/// Why a member has not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silent {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("a member does not ask itself")]
    Oneself,
    #[error("the node is another member now, or none")]
    NotThere,
    #[error(transparent)]
    Unreadable(#[from] wire::Unreadable),
    #[error("it has answered something else")]
    Mistaken,
}

impl Network {
    /// The way to a member.
    pub(super) fn to(&self, target: MemberId) -> Way {
        Way { network: self.clone(), target }
    }
}

impl Way {
    pub(super) async fn ask(&self, ask: Ask, within: Duration) -> Result<Answer, Silent> {
        let Network { own, call, log, .. } = &self.network;
        if self.target == *own {
            return Err(Silent::Oneself);
        }
        let node = self.target.node().map_err(|_none| Silent::NotThere)?;
        let question =
            wire::write(&Question { from: *own, to: self.target, group: log.group(), ask })?;
        let answer = call.call(node, question, within).await?;
        match wire::read(&answer)? {
            Answer::NotMe => Err(Silent::NotThere),
            answer => Ok(answer),
        }
    }
}

type Rpc<T> = Result<T, RPCError<MemberId, EmptyNode, RaftError<MemberId>>>;

impl Way {
    /// Asks for an answer of one kind. Whoever is not reached is asked again after a while, and not at once;
    /// who has not answered in time has been waited for already.
    async fn rpc<T>(&self, ask: Ask, option: &RPCOption, kind: fn(Answer) -> Option<T>) -> Rpc<T> {
        let answer = self.ask(ask, option.hard_ttl()).await;
        let answer = answer.and_then(|answer| kind(answer).ok_or(Silent::Mistaken));
        answer.map_err(|silent| match silent {
            Silent::Call(CallError::NoAnswer(_)) => RPCError::Network(NetworkError::new(&silent)),
            _ => RPCError::Unreachable(Unreachable::new(&silent)),
        })
    }
}

impl Way {
    /// Waits until the entries up to an index are on this member's own disk. openraft gives up in time.
    async fn on_own_disk(&self, index: Option<u64>) -> Rpc<()> {
        let Some(index) = index else { return Ok(()) };
        let flushed = self.network.log.flushed_to(index).await;
        flushed.map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

impl RaftNetwork<Types> for Way {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<MemberId>> {
        let kind = |answer| match answer {
            Answer::Appended(appended) => Some(appended),
            _ => None,
        };
        let (vote, asked) = (request.vote, self.network.timer.now());
        let commit = request.leader_commit.map(|commit| commit.index);
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let last = last.map(|last| last.index);
        // Nobody applies what is on too few disks, and the leader's own is one that counts.
        self.on_own_disk(commit).await?;
        let appended = self.rpc(Ask::Append(request), &option, kind).await?;
        if !matches!(appended, AppendEntriesResponse::HigherVote(_)) {
            self.network.acks.lock().acked(vote, self.target, asked);
            self.on_own_disk(last).await?;
        }
        Ok(appended)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<MemberId>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<MemberId>> {
        let kind = |answer| match answer {
            Answer::Voted(voted) => Some(voted),
            _ => None,
        };
        let offered = *self.network.offered.lock();
        self.rpc(Ask::Vote(request, offered), &option, kind).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, Fatal<MemberId>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send(vote, &snapshot) => sent,
        }
    }

    fn backoff(&self) -> Backoff {
        let (first, max) = RETRY;
        Backoff::new(std::iter::successors(Some(first), move |last| Some((*last * 2).min(max))))
    }
}

impl Way {
    /// Sends a snapshot, part by part. The member says which part it wants next.
    async fn send(
        &self,
        vote: Vote,
        snapshot: &Snapshot<Types>,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, Fatal<MemberId>>> {
        let (of, mut at, mut tries) = (snapshot.snapshot.chunks(), 0, 0);
        loop {
            let image = snapshot.snapshot.clone();
            let bytes = if at < of {
                let read = tokio::task::spawn_blocking(move || image.chunk(at)).await;
                let read =
                    read.map_err(|panic| StreamingError::Network(NetworkError::new(&panic)))?;
                read.map_err(|error| {
                    let signature = Some(snapshot.meta.signature());
                    StorageError::from(StorageIOError::read_snapshot(signature, &error))
                })?
            } else {
                bytes::Bytes::new()
            };
            let chunk = Chunk { vote, meta: snapshot.meta.clone(), at, of, bytes };
            match self.ask(Ask::Chunk(chunk), CHUNK_WITHIN).await {
                Ok(Answer::Installed(installed)) => return Ok(installed),
                // One that wants what it has had begins anew, and not for ever.
                Ok(Answer::Next(next)) if next > at => (at, tries) = (next, 0),
                Ok(Answer::Next(next)) if tries < CHUNK_TRIES => (at, tries) = (next, tries + 1),
                Err(Silent::Call(CallError::NoAnswer(_))) if tries < CHUNK_TRIES => tries += 1,
                Ok(_) => {
                    return Err(StreamingError::Unreachable(Unreachable::new(&Silent::Mistaken)));
                }
                Err(silent) => return Err(StreamingError::Unreachable(Unreachable::new(&silent))),
            }
        }
    }
}
