//! Answers what other members ask.

use std::sync::Arc;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use openraft::raft::AppendEntriesRequest;
use openraft::{Raft, Snapshot};
use parking_lot::Mutex;

use super::driving::Driving;
use super::elector;
use super::log::LogStore;
use super::snapshots::{Draft, Snapshots};
use super::types::{MemberId, SnapshotMeta, Types, Vote};
use super::wire::{self, Answer, Ask, Chunk, Question};

/// What answers for one member. Clones are the same.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) raft: Raft<Types>,
    pub(super) log: LogStore,
    pub(super) snapshots: Snapshots,
    pub(super) driving: Arc<Driving>,
    incoming: Arc<Mutex<Option<Incoming>>>,
}

/// A snapshot of which not all parts are there. There is one at a time.
struct Incoming {
    from: MemberId,
    vote: Vote,
    meta: SnapshotMeta,
    draft: Draft,
}

impl Service {
    pub(super) fn new(
        raft: Raft<Types>,
        log: LogStore,
        snapshots: Snapshots,
        driving: Arc<Driving>,
    ) -> Self {
        Self { raft, log, snapshots, driving, incoming: Arc::default() }
    }

    /// Answers a question of a node.
    ///
    /// # Errors
    ///
    /// In words, if it is none, or the member has failed.
    pub(super) async fn answer(&self, node: NodeId, question: &[u8]) -> Result<Answer, String> {
        let Question { from, to, ask } = wire::read(question).map_err(|error| error.to_string())?;
        if from.node() != Ok(node) {
            return Err(format!("{from} is no member of the node that asks"));
        }
        if to != self.log.member() {
            return Ok(Answer::NotMe);
        }
        match ask {
            Ask::Append(request) => self.append(request).await,
            Ask::Vote(request) => {
                let voted = self.raft.vote(request).await.map_err(|error| error.to_string())?;
                Ok(Answer::Voted(voted))
            }
            Ask::WouldVote(last) => {
                let (now, own) = (TokioClock.now(), self.log.last());
                Ok(Answer::WouldVote(self.driving.elector().would_vote(now, last, own)))
            }
            Ask::Chunk(chunk) => self.chunk(from, chunk).await,
        }
    }

    async fn append(&self, request: AppendEntriesRequest<Types>) -> Result<Answer, String> {
        use openraft::raft::AppendEntriesResponse as Appended;
        let appended =
            self.raft.append_entries(request).await.map_err(|error| error.to_string())?;
        // Whoever has an older vote than this member's is no leader any more.
        if !matches!(appended, Appended::HigherVote(_)) {
            self.driving.tell(elector::Input::Heard);
        }
        Ok(Answer::Appended(appended))
    }

    async fn chunk(&self, from: MemberId, chunk: Chunk) -> Result<Answer, String> {
        // Whoever has an older vote than this member's is no leader any more.
        if chunk.vote >= self.raft.metrics().borrow().vote {
            self.driving.tell(elector::Input::Heard);
        }
        let (snapshots, incoming) = (self.snapshots.clone(), Arc::clone(&self.incoming));
        let kept = tokio::task::spawn_blocking(move || {
            let mut incoming = incoming.lock();
            keep(&snapshots, &mut incoming, from, chunk)
        });
        let kept = kept.await.map_err(|panic| panic.to_string())?;
        match kept? {
            Kept::Next(next) => Ok(Answer::Next(next)),
            Kept::All(vote, snapshot) => {
                let installed = self.raft.install_full_snapshot(vote, *snapshot).await;
                Ok(Answer::Installed(installed.map_err(|error| error.to_string())?))
            }
        }
    }
}

enum Kept {
    Next(u64),
    All(Vote, Box<Snapshot<Types>>),
}

/// Keeps a part, if it is the one that is wanted next.
fn keep(
    snapshots: &Snapshots,
    incoming: &mut Option<Incoming>,
    from: MemberId,
    chunk: Chunk,
) -> Result<Kept, String> {
    let Chunk { vote, meta, at, of, bytes } = chunk;
    let is_same = incoming.as_ref().is_some_and(|incoming| {
        incoming.from == from && incoming.vote == vote && incoming.meta == meta
    });
    if !is_same {
        let draft = snapshots.begin();
        *incoming = Some(Incoming { from, vote, meta, draft });
    }
    let Some(current) = incoming.as_mut() else { return Ok(Kept::Next(0)) };
    if at < of && at == current.draft.chunks() {
        current.draft.add(bytes).map_err(|error| error.to_string())?;
    }
    let next = current.draft.chunks();
    if next < of {
        return Ok(Kept::Next(next));
    }
    let Some(Incoming { vote, meta, draft, .. }) = incoming.take() else {
        return Ok(Kept::Next(0));
    };
    let image = draft.end().map_err(|error| error.to_string())?;
    Ok(Kept::All(vote, Box::new(Snapshot { meta, snapshot: Box::new(image) })))
}
