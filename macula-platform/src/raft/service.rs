//! Answers what other members ask.

use std::sync::Arc;

use futures_util::FutureExt as _;
use macula_core::identity::NodeId;
use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use openraft::{Raft, Snapshot};
use parking_lot::Mutex;

use super::driving::Driving;
use super::elector::{self, Elector};
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
    /// Which leader wants this member to stand.
    offered: Arc<Mutex<Option<Vote>>>,
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
        offered: Arc<Mutex<Option<Vote>>>,
    ) -> Self {
        Self { raft, log, snapshots, driving, offered, incoming: Arc::default() }
    }

    /// Answers a question of a node.
    ///
    /// # Errors
    ///
    /// In words, if it is none, or the member has failed.
    pub(super) async fn answer(&self, node: NodeId, question: &[u8]) -> Result<Answer, String> {
        let Question { from, to, group, ask } =
            wire::read(question).map_err(|error| error.to_string())?;
        if from.node() != Ok(node) {
            return Err(format!("{from} is no member of the node that asks"));
        }
        if to != self.log.member() {
            return Ok(Answer::NotMe);
        }
        if let (Some(theirs), Some(own)) = (group, self.log.group())
            && theirs != own
        {
            // What one of them has agreed upon would overwrite what the other one has.
            tracing::error!(%from, %theirs, %own, "a member of another group asks, and is not heard");
            return Ok(Answer::NotMe);
        }
        if let (Some(theirs), Ask::Append(_) | Ask::Chunk(_)) = (group, &ask) {
            self.log.belong(theirs).await.map_err(|error| error.to_string())?;
        }
        match ask {
            Ask::Append(request) => self.append(request).await,
            Ask::Vote(request, offered) => self.vote(request, offered).await,
            Ask::Stand(offered) => {
                // One that has stood in vain has a vote of its own.
                let stands = self.is_free_of(offered);
                if stands {
                    *self.offered.lock() = Some(offered);
                    self.driving.tell(elector::Input::Hurry);
                }
                Ok(Answer::Stands(stands))
            }
            Ask::WouldVote(last) => {
                let (now, own) = (self.driving.now(), self.log.last());
                Ok(Answer::WouldVote(self.driving.elector().would_vote(now, last, own)))
            }
            Ask::Chunk(chunk) => self.chunk(from, chunk).await,
        }
    }

    async fn append(&self, request: AppendEntriesRequest<Types>) -> Result<Answer, String> {
        use openraft::raft::AppendEntriesResponse as Appended;
        // Whoever has an older vote than this member's is no leader any more. It is heard before the
        // entries are on disk, too: what is answered then is a promise since now.
        if request.vote >= self.raft.server_metrics().borrow().vote {
            self.driving.tell(elector::Input::Heard);
        }
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let last = last.map(|last| last.index);
        let appended =
            self.raft.append_entries(request).await.map_err(|error| error.to_string())?;
        if !matches!(appended, Appended::HigherVote(_)) {
            // What is acknowledged is on disk, whatever was said to openraft.
            self.log.acknowledged(last).await.map_err(|error| error.to_string())?;
            self.driving.tell(elector::Input::Heard);
        }
        Ok(Answer::Appended(appended))
    }

    /// Whether this member has promised nothing to anybody but the leader with this vote, who has given
    /// its lease up. A word of it that comes late does not free from what was promised to the next.
    fn is_free_of(&self, offered: Vote) -> bool {
        let vote = self.raft.server_metrics().borrow().vote;
        vote == offered || !vote.is_committed()
    }

    /// Votes, but not while a leader is heard, unless it is that leader's wish. openraft would not
    /// either; but it does not know of wishes, so that its own lease is as short as it can be.
    async fn vote(
        &self,
        request: VoteRequest<MemberId>,
        offered: Option<Vote>,
    ) -> Result<Answer, String> {
        let own = self.log.last();
        let is_hurried = offered.is_some_and(|offered| self.is_free_of(offered));
        let last = request.last_log_id;
        let would = |elector: &Elector, now| is_hurried || elector.would_vote(now, last, own);
        let asked = self.driving.vote(would, || {
            let mut voting = Box::pin(self.raft.vote(request));
            // openraft has got the question then.
            let voted = (&mut voting).now_or_never();
            (voting, voted)
        });
        let voted = match asked {
            None => {
                let vote = self.raft.server_metrics().borrow().vote;
                return Ok(Answer::Voted(VoteResponse::new(vote, own, false)));
            }
            Some((_, Some(voted))) => voted,
            Some((voting, None)) => voting.await,
        };
        let voted = voted.map_err(|error| error.to_string())?;
        if voted.vote_granted {
            self.driving.tell(elector::Input::Voted);
        }
        Ok(Answer::Voted(voted))
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
