//! Where a handler sends its answer, whoever asked.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use ractor::RpcReplyPort;
use serde::Serialize;
use tokio::sync::Notify;

use super::context::Context;
use super::error::{CallError, Interruption};
use super::headers::Headers;
use super::metrics;

/// Takes answers to a caller: over a connection, or to a caller on this very node.
pub(crate) trait Answer: Send + Sync {
    /// Sends a reply, which ends the question. On an error the question is still open.
    fn reply(&self, id: u64, reply: &dyn Encodes) -> Result<(), CallError>;
    /// Says that there will be none, which ends the question.
    fn fail(&self, id: u64, error: &CallError);
}

/// A reply whose type is not known here.
pub(crate) trait Encodes {
    /// Writes it as the body of a frame.
    fn encode(&self, len_max: usize) -> Result<bytes::Bytes, macula_core::wire::EncodeError>;
    /// Sends it as a frame.
    fn send(
        &self,
        lane: &crate::transport::lane::Sender,
        head: (macula_core::wire::Kind, macula_core::wire::Flags, u64),
    ) -> Result<(), crate::transport::lane::SendError>;
}

impl<T: Serialize> Encodes for T {
    fn encode(&self, len_max: usize) -> Result<bytes::Bytes, macula_core::wire::EncodeError> {
        macula_core::wire::to_body(self, len_max)
    }

    fn send(
        &self,
        lane: &crate::transport::lane::Sender,
        head: (macula_core::wire::Kind, macula_core::wire::Flags, u64),
    ) -> Result<(), crate::transport::lane::SendError> {
        lane.send(head, self)
    }
}

/// Tells a handler that nobody waits for its answer any more.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    flag: AtomicBool,
    bell: Notify,
}

impl Cancelled {
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    pub(super) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    pub(super) async fn wait(&self) {
        loop {
            let bell = self.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            if self.is_set() {
                return;
            }
            bell.await;
        }
    }
}

/// A handler has got a question.
pub(crate) fn taken() {
    ::metrics::counter!(metrics::QUESTIONS, "outcome" => "taken").increment(1);
}

/// A question that came from outside, until it is answered.
pub(crate) struct Ticket {
    parts: TicketParts,
    settled: AtomicBool,
}

/// What a question comes with.
pub(crate) struct TicketParts {
    pub(crate) id: u64,
    pub(crate) caller: NodeId,
    /// How long the caller waits.
    pub(crate) within: Duration,
    /// Until when it does.
    pub(crate) deadline: Instant,
    pub(crate) headers: Headers,
    pub(crate) cancelled: Arc<Cancelled>,
    pub(crate) answer: Arc<dyn Answer>,
}

impl Ticket {
    pub(crate) const fn new(parts: TicketParts) -> Self {
        Self { parts, settled: AtomicBool::new(false) }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn cancel(&self) {
        self.parts.cancelled.set();
    }

    /// True for the first that asks: only that one may answer.
    fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn context(&self) -> Context {
        Context::new(self.parts.caller, self.parts.deadline, self.parts.headers.clone())
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_over(&self) -> bool {
        self.parts.cancelled.is_set() || TokioClock.now() >= self.parts.deadline
    }

    /// Waits until nobody does.
    pub(crate) async fn over(&self) {
        let cancelled = self.parts.cancelled.wait();
        drop(tokio::time::timeout_at(self.parts.deadline.into(), cancelled).await);
    }

    pub(crate) const fn timed_out(&self) -> CallError {
        CallError::TimedOut { within: self.parts.within }
    }

    /// The actor does not get the question.
    pub(crate) fn turn_down(&self, error: &CallError) {
        if self.settle() {
            ::metrics::counter!(metrics::QUESTIONS, "outcome" => error.kind()).increment(1);
            self.parts.answer.fail(self.parts.id, error);
        }
    }

    /// Says that there will be no answer. A caller that does not wait any more is not told.
    pub(crate) fn fail(&self, error: &CallError) {
        if self.settle() {
            self.parts.answer.fail(self.parts.id, error);
        }
    }
}

/// A question that is being answered. If the answer panics while it is encoded, the caller is told.
struct Answering<'a>(Option<&'a Ticket>);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.0 {
            ticket.parts.answer.fail(ticket.parts.id, &CallError::RemotePanic);
        }
    }
}

/// Where the answer to one question goes: to a caller on this node or on another.
///
/// A served actor has it in its messages where a local one would have ractor's [`RpcReplyPort`],
/// from which it can be made, so that one message serves both. If it is dropped without an answer
/// the caller is told: that the handler panicked, if it is dropped by a panic, and else that the
/// question was dropped.
pub struct ReplyTo<R>(Way<R>);

enum Way<R> {
    Local(RpcReplyPort<R>),
    Remote(Arc<Ticket>),
    Done,
}

impl<R> Debug for ReplyTo<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyTo").field("caller", &self.caller()).finish()
    }
}

impl<R> From<RpcReplyPort<R>> for ReplyTo<R> {
    fn from(port: RpcReplyPort<R>) -> Self {
        Self(Way::Local(port))
    }
}

impl<R> ReplyTo<R> {
    pub(crate) const fn remote(ticket: Arc<Ticket>) -> Self {
        Self(Way::Remote(ticket))
    }

    /// The node that asked; none for an actor of this node that asked directly.
    #[must_use]
    pub fn caller(&self) -> Option<NodeId> {
        match &self.0 {
            Way::Remote(ticket) => Some(ticket.parts.caller),
            Way::Local(_) | Way::Done => None,
        }
    }

    /// The call that it answers; none for an actor of this node that asked directly. Calls that the
    /// handler makes within its [`scope`](Context::scope) have the time that is left, and its trace.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        match &self.0 {
            Way::Remote(ticket) => Some(ticket.context()),
            Way::Local(_) | Way::Done => None,
        }
    }

    /// Until when the caller waits; none if that is not known.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.0 {
            Way::Remote(ticket) => Some(ticket.parts.deadline),
            Way::Local(_) | Way::Done => None,
        }
    }

    /// How long a local caller waits from its call on, if it said so.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match &self.0 {
            Way::Local(port) => port.get_timeout(),
            Way::Remote(_) | Way::Done => None,
        }
    }

    /// Whether nobody waits for the answer any more: the caller has given up, or its time is over.
    /// Asked first, it spares an actor with a long mailbox what came too late.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match &self.0 {
            Way::Local(port) => port.is_closed(),
            Way::Remote(ticket) => ticket.is_over(),
            Way::Done => true,
        }
    }

    /// Waits until a caller on another node does not wait any more: it has given up, or its time is
    /// over. Never ready for a local one: ask [`is_cancelled`](Self::is_cancelled) between steps
    /// instead.
    pub async fn cancelled(&self) {
        match &self.0 {
            Way::Remote(ticket) => ticket.over().await,
            Way::Local(_) | Way::Done => std::future::pending().await,
        }
    }
}

impl<R> ReplyTo<R> {
    /// Says that there is no answer because the handler failed, and how. A local caller sees that
    /// its question was dropped.
    pub fn fail(mut self, why: impl Into<String>) {
        if let Way::Remote(ticket) = std::mem::replace(&mut self.0, Way::Done) {
            let failed = CallError::Failed(why.into());
            ticket.fail(&if ticket.is_over() { ticket.timed_out() } else { failed });
        }
    }
}

impl<R: Serialize + Send + 'static> ReplyTo<R> {
    /// Answers, and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`CallError`] if the answer does not reach its caller: it is too large or too many answers
    /// wait, which the caller is told, or the caller does not wait any more, or is gone.
    pub fn send(mut self, reply: R) -> Result<(), CallError> {
        match std::mem::replace(&mut self.0, Way::Done) {
            Way::Local(port) => {
                port.send(reply).map_err(|_gone| CallError::Interrupted(Interruption::Dropped))
            }
            Way::Remote(ticket) => {
                if ticket.is_over() {
                    ticket.fail(&ticket.timed_out());
                    return Err(ticket.timed_out());
                }
                if !ticket.settle() {
                    return Err(CallError::Interrupted(Interruption::Dropped));
                }
                let mut answering = Answering(Some(&ticket));
                let sent = ticket.parts.answer.reply(ticket.parts.id, &reply);
                answering.0 = None;
                if let Err(error) = &sent {
                    ticket.parts.answer.fail(ticket.parts.id, error);
                }
                sent
            }
            Way::Done => Err(CallError::Interrupted(Interruption::Dropped)),
        }
    }
}

impl<R> Drop for ReplyTo<R> {
    fn drop(&mut self) {
        if let Way::Remote(ticket) = &self.0 {
            ticket.fail(&if std::thread::panicking() {
                CallError::RemotePanic
            } else if ticket.is_over() {
                ticket.timed_out()
            } else {
                CallError::Interrupted(Interruption::Dropped)
            });
        }
    }
}

/// Answers with what a handler's work gives, for as long as its caller waits.
pub(crate) async fn respond<R, E, F>(ticket: &Arc<Ticket>, work: impl FnOnce(Context) -> F)
where
    R: Serialize + Send + 'static,
    E: Display,
    F: Future<Output = Result<R, E>>,
{
    taken();
    // If the handler panics this is dropped by the panic, and says so.
    let reply = ReplyTo::<R>::remote(Arc::clone(ticket));
    let context = ticket.context();
    let work = context.clone().scope(async { work(context).await });
    tokio::select! {
        biased;
        () = ticket.over() => drop(reply),
        // Whoever has given up is not told.
        answer = work => match answer {
            Ok(answer) => drop(reply.send(answer)),
            Err(error) => reply.fail(error.to_string()),
        },
    }
}
