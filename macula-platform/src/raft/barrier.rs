//! Reads that wait at the same time wait for one and the same round.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::error::{CheckIsLeaderError, RaftError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::acks::Acks;
use super::member::ProposeError;
use super::types::Types;

/// How long a round may take. One that takes longer has met a leader that leads no more.
const ROUND_WITHIN: Duration = Duration::from_secs(2);

type Told = Result<(), ProposeError>;

/// Asks most of the members whether this one leads, for all that wait. Clones are the same.
#[derive(Clone)]
pub(super) struct Barrier {
    raft: Raft<Types>,
    acks: Arc<Mutex<Acks>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// Who came since the last round began.
    next: Vec<oneshot::Sender<Told>>,
    is_under_way: bool,
    rounds: u64,
}

impl Barrier {
    pub(super) fn new(raft: Raft<Types>, acks: Arc<Mutex<Acks>>) -> Self {
        Self { raft, acks, waiting: Arc::default() }
    }

    /// How many rounds there were.
    pub(super) fn rounds(&self) -> u64 {
        self.waiting.lock().rounds
    }

    /// Waits for a round that begins after this was called.
    pub(super) async fn pass(&self) -> Told {
        let (tell, told) = oneshot::channel();
        let begins = {
            let mut waiting = self.waiting.lock();
            waiting.next.push(tell);
            !std::mem::replace(&mut waiting.is_under_way, true)
        };
        if begins {
            // In a task of its own, so that nobody who goes away leaves the others behind.
            tokio::spawn(self.clone().run());
        }
        told.await.unwrap_or_else(|_ended| Err(ProposeError::Failed("it has ended".to_owned())))
    }

    async fn run(self) {
        loop {
            let waiting = {
                let mut waiting = self.waiting.lock();
                if waiting.next.is_empty() {
                    waiting.is_under_way = false;
                    return;
                }
                waiting.rounds += 1;
                std::mem::take(&mut waiting.next)
            };
            let told = self.round().await;
            for tell in waiting {
                // Who has gone away needs no word.
                drop(tell.send(told.clone()));
            }
        }
    }

    async fn round(&self) -> Told {
        let vote = self.raft.server_metrics().borrow().vote;
        let round = tokio::time::timeout(ROUND_WITHIN, self.raft.ensure_linearizable());
        match round.await {
            Ok(Ok(_)) => {
                // Only if it was one and the same leadership all the time.
                if self.raft.server_metrics().borrow().vote == vote {
                    self.acks.lock().caught_up(vote);
                }
                Ok(())
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(other)))) => {
                Err(ProposeError::NotLeader { leader: other.leader_id })
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Ok(Err(error)) => Err(ProposeError::Failed(error.to_string())),
        }
    }
}
