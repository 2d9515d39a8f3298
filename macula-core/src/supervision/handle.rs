//! A stable way to an actor: a handle names a place in the tree and outlives every restart.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorRef, RpcReplyPort};

use crate::path::Path;

use super::exit::ExitReason;
use super::mailbox::{Absence, Overflow};
use super::slot::{MailboxStats, Presence, Rejected, Slot};

/// A message that was not accepted, given back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError<M> {
    /// As many messages as the mailbox admits wait. Nothing else changed.
    #[error("the mailbox is full ({capacity} messages wait)")]
    Full {
        /// The message.
        message: M,
        /// The bound that was met.
        capacity: usize,
    },
    /// The actor is not there; `presence` says whether it will be.
    #[error("the actor is not there ({presence:?})")]
    Unavailable {
        /// The message.
        message: M,
        /// Whether to expect it.
        presence: Presence,
    },
}

impl<M> SendError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full { message, .. } | Self::Unavailable { message, .. } => message,
        }
    }
}

impl<M> Debug for SendError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { capacity, .. } => {
                f.debug_struct("Full").field("capacity", capacity).finish_non_exhaustive()
            }
            Self::Unavailable { presence, .. } => {
                f.debug_struct("Unavailable").field("presence", presence).finish_non_exhaustive()
            }
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The question was not accepted: the mailbox is full.
    #[error("the mailbox is full ({capacity} messages wait)")]
    Full {
        /// The bound that was met.
        capacity: usize,
    },
    /// The question was not accepted: the actor is not there.
    #[error("the actor is not there ({0:?})")]
    Unavailable(Presence),
    /// No answer in time. The question may still be handled.
    #[error("no answer within {}", crate::clock::shown(*.0))]
    Timeout(Duration),
    /// The actor dropped the question, or ended while it had it.
    #[error("the actor ended or dropped the question before it answered")]
    NoReply,
}

/// A stable handle to a supervised actor that takes messages of type `M`.
///
/// It names the actor's place in the tree. The actor behind it may be restarted any number of
/// times; what a message meets while it is away is what the child's
/// [`Mailbox`](super::mailbox::Mailbox) says. Messages of one sender arrive in order. Clones are
/// cheap and name the same place.
pub struct Handle<M>(pub(super) Arc<Slot<M>>);

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Debug for Handle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.0).finish()
    }
}

impl<M: Send + 'static> Handle<M> {
    /// Sends a message and does not wait for anything.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message, if the mailbox is full or the actor is not there.
    pub fn cast(&self, message: M) -> Result<(), SendError<M>> {
        self.0.offer(message).map_err(|rejected| match rejected {
            Rejected::Full(message, capacity) => SendError::Full { message, capacity },
            Rejected::Absent(message, presence) => SendError::Unavailable { message, presence },
        })
    }

    /// Sends a message, waiting where the child's mailbox says that senders wait: for room, or for
    /// the end of a restart.
    ///
    /// # Errors
    ///
    /// As [`cast`](Self::cast), after the wait that was declared.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message was not sent, and is dropped.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        match self.cast(message) {
            Ok(()) => Ok(()),
            Err(error) => self.insist(error).await,
        }
    }

    /// Goes on with a send that was not accepted at once. The bound is one for all restarts that
    /// the message meets.
    async fn insist(&self, mut error: SendError<M>) -> Result<(), SendError<M>> {
        let bound = match self.0.mailbox.absence {
            Absence::Wait(bound) => bound,
            Absence::FailFast | Absence::Stash(_) => Duration::ZERO,
        };
        let patience = tokio::time::sleep(bound);
        tokio::pin!(patience);
        loop {
            match &error {
                SendError::Full { .. } if self.0.mailbox.overflow == Overflow::Wait => {
                    self.0.room().await;
                }
                SendError::Unavailable {
                    presence: Presence::Restarting | Presence::Unborn,
                    ..
                } if !bound.is_zero() => {
                    tokio::select! {
                        biased;
                        _ = self.0.settled() => {}
                        () = &mut patience => return Err(error),
                    }
                }
                SendError::Full { .. } | SendError::Unavailable { .. } => return Err(error),
            }
            error = match self.cast(error.into_message()) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
        }
    }

    /// Asks a question and waits for the answer, up to the mailbox's `call_timeout`.
    ///
    /// `question` gets the port that the actor answers on, and makes the message.
    ///
    /// # Errors
    ///
    /// [`CallError`]. After [`Timeout`](CallError::Timeout) and [`NoReply`](CallError::NoReply) the
    /// question may have been handled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the question may still be handled; its answer goes nowhere.
    pub async fn call<R: Send + 'static>(
        &self,
        question: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, CallError> {
        self.call_within(self.0.mailbox.call_timeout, question).await
    }

    /// As [`call`](Self::call), with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn call_within<R: Send + 'static>(
        &self,
        timeout: Duration,
        question: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, CallError> {
        let (port, answer) = tokio::sync::oneshot::channel();
        let question = question(RpcReplyPort::from((port, timeout)));
        let asked = async {
            self.send(question).await.map_err(|error| match error {
                SendError::Full { capacity, .. } => CallError::Full { capacity },
                SendError::Unavailable { presence, .. } => CallError::Unavailable(presence),
            })?;
            answer.await.map_err(|_closed| CallError::NoReply)
        };
        tokio::time::timeout(timeout, asked)
            .await
            .unwrap_or_else(|_elapsed| Err(CallError::Timeout(timeout)))
    }

    /// Waits until the mailbox has room, or the actor has come or gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing happens.
    pub async fn room(&self) {
        self.0.room().await;
    }

    /// Waits until the actor is up, and says in which incarnation; none if it will not be.
    pub async fn ready(&self) -> Option<u64> {
        (self.0.settled().await == Presence::Up).then(|| self.0.incarnation())
    }

    /// Waits until the actor is up in a life later than `incarnation`, and says in which; none if it
    /// will not be.
    ///
    /// Read [`incarnation`](Self::incarnation) first, then do what ends the actor, then wait here.
    pub async fn next_life(&self, incarnation: u64) -> Option<u64> {
        let (presence, life) = self.0.settled_after(incarnation).await;
        (presence == Presence::Up).then_some(life)
    }

    /// Waits until a life of the actor has ended with all that it held, and says why it did; none
    /// if a later life has ended since, or if there will be no such life.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the end can be asked for again.
    pub async fn ended(&self, incarnation: u64) -> Option<ExitReason> {
        self.0.ended(incarnation).await
    }

    /// The actor of the current incarnation, for what needs a plain ractor reference.
    ///
    /// Messages sent to it directly go past the mailbox and its bound, and are not in its counts.
    /// Do not monitor it with ractor's `monitor`: an actor's bell is an event to its monitors, so
    /// each message through a handle would be one. Watch the tree's events instead.
    #[must_use]
    pub fn actor_ref(&self) -> Option<ActorRef<M>> {
        self.0.cell().map(ActorRef::from)
    }
}

impl<M> Handle<M> {
    /// Where the actor stands in the tree; none before its first start.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        self.0.path()
    }

    /// Whether the actor is there.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.0.presence()
    }

    /// The number of the actor's current or last life; 0 before its first.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation()
    }

    /// What became of the messages.
    #[must_use]
    pub fn stats(&self) -> MailboxStats {
        self.0.stats()
    }
}
