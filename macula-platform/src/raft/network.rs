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
    pub(super) call: Arc<dyn Call>,
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
        let Network { own, call } = &self.network;
        if self.target == *own {
            return Err(Silent::Oneself);
        }
        let node = self.target.node().map_err(|_none| Silent::NotThere)?;
        let question = wire::write(&Question { from: *own, to: self.target, ask })?;
        let answer = call.call(node, question, within).await?;
        match wire::read(&answer)? {
            Answer::NotMe => Err(Silent::NotThere),
            answer => Ok(answer),
        }
    }
}

type Rpc<T> = Result<T, RPCError<MemberId, EmptyNode, RaftError<MemberId>>>;

impl Way {
    /// Asks for an answer of one kind. Whoever does not answer is asked again after a while, and not
    /// at once.
    async fn rpc<T>(&self, ask: Ask, option: &RPCOption, kind: fn(Answer) -> Option<T>) -> Rpc<T> {
        let answer = self.ask(ask, option.hard_ttl()).await;
        let answer = answer.and_then(|answer| kind(answer).ok_or(Silent::Mistaken));
        answer.map_err(|silent| RPCError::Unreachable(Unreachable::new(&silent)))
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
        self.rpc(Ask::Append(request), &option, kind).await
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
        self.rpc(Ask::Vote(request), &option, kind).await
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
