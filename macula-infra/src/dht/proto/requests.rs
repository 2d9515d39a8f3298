//! Questions to other nodes, and their answers.
//!
//! Each [submitted](Requests::submit) operation ends exactly once, with [`Output::Done`], and not
//! after its deadline; only one that was [cancelled](Requests::cancel) ends without a word.
//!
//! # Batching
//!
//! Operations to one peer share requests. To a peer that is idle the first one goes at once; while
//! [`window`](Config::window) requests are under way, further ones gather and go together as soon as
//! one of those ends. So nothing waits for a timer, and the busier a peer, the larger the requests.
//!
//! # Timeouts
//!
//! The round trip to each peer is measured (RFC 6298). A request that takes longer than the peer's
//! timeout gives its place in the window back, and its operations are sent anew, if there is a
//! budget for it: one retry for every ten operations, so that a mesh in trouble is not asked twice
//! as much. All operations can be repeated without harm. An answer to the first request still
//! counts. An operation that is slower than about 95 % of those to its peer is said to be
//! [slow](Output::Slow), so that the caller can ask another node meanwhile.
//!
//! # Lies
//!
//! An answer has to come from the node that was asked, once, with one result of the right kind for
//! each operation. Whatever else comes is an [`Output::Misbehaved`].

mod config;
mod machine;
mod peer;
mod rtt;
mod sending;

use std::time::{Duration, Instant};

use macula_core::identity::NodeId;

use crate::contact::Contact;
use crate::dht::wire::{Op, OpResult};

pub use config::Config;
pub use machine::Requests;

/// An operation; the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request: the correlation id of its answer; the number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a request has not reached its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no connection, and none could be made.
    Unreachable,
    /// This node has too much to send to it.
    Congested,
    /// The connection was lost while the answer was waited for.
    Lost,
}

/// What a peer has done that nobody does by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// It has answered what was not asked, or twice.
    UnknownRequest,
    /// It has answered what another peer was asked.
    WrongPeer,
    /// It has given more or fewer results than there were operations.
    WrongCount {
        /// How many operations there were.
        asked: usize,
        /// How many results.
        got: usize,
    },
    /// It has given a result of another kind.
    WrongKind,
    /// Its answer could not be read.
    Malformed,
}

/// Which bound was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of one peer's queue.
    Peer,
    /// That of all operations.
    All,
}

/// How an operation has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has answered; it may have refused.
    Answered(OpResult),
    /// There was no answer by the deadline.
    TimedOut,
    /// The request has not reached the peer, or its answer not this node.
    Undelivered(Fault),
    /// The answer was none.
    Misbehaved(Misbehaviour),
    /// It was not sent: there are too many.
    Busy(Full),
    /// It was not sent: it is longer than a request may be.
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a request.
    Send {
        /// Its correlation id.
        id: RequestId,
        /// To whom.
        to: Contact,
        /// What is asked: at most [`OPS_MAX`](crate::dht::wire::OPS_MAX) operations.
        ops: Vec<Op>,
        /// When nobody waits for any of them any more.
        deadline: Instant,
    },
    /// An operation has ended.
    Done {
        /// Which.
        ticket: Ticket,
        /// Who was asked.
        peer: NodeId,
        /// How.
        outcome: Outcome,
        /// How long it took since it was submitted.
        took: Duration,
    },
    /// An operation takes longer than most. It is not over.
    Slow {
        /// Which.
        ticket: Ticket,
    },
    /// A peer has done what nobody does by mistake.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// What.
        what: Misbehaviour,
    },
}

/// What was counted, and how things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Operations that were submitted.
    pub submitted: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// Operations in them, those that were sent anew among them.
    pub sent: u64,
    /// Operations that were sent anew.
    pub retries: u64,
    /// Operations for whose retry there was no budget.
    pub retries_denied: u64,
    /// Operations that have ended without an answer by their deadline.
    pub timed_out: u64,
    /// Operations that were not sent because there were too many.
    pub busy: u64,
    /// Answers that were none.
    pub misbehaved: u64,
    /// How many operations are under way now.
    pub pending: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// How many peers are known by their round trip.
    pub peers: usize,
}

#[cfg(test)]
mod tests;
