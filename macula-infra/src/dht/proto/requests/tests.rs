//! Questions and answers: directed scenarios, and random ones.

mod directed;
mod model;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;

use super::{Config, Fault, Full, Misbehaviour, Outcome, Output, RequestId, Requests, Ticket};
use crate::contact::Contact;
use crate::dht::key::Key;
use crate::dht::record::tests::keypair;
use crate::dht::wire::{Op, OpResult, Refusal};

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Results are handed out in the wrong order.
    MixesUp,
    /// An operation that has ended is not over.
    EndsTwice,
    /// A request that took too long keeps its place in the window.
    KeepsTheWindowShut,
    /// What was not sent has no deadline.
    ForgetsTheQueued,
}

fn begin() -> Instant {
    TokioClock.now()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn node(seed: u8) -> NodeId {
    keypair(seed).node_id()
}

fn contact(node: NodeId) -> Contact {
    Contact::new(node, [SocketAddr::from(([10, 0, 0, 1], 1))])
}

/// An operation with a number in it.
fn op(number: u64) -> Op {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Op::FindValue { key: Key::from_bytes(bytes) }
}

/// The answer of an honest peer, with the operation's number in it.
fn answer(op: &Op) -> OpResult {
    let Op::FindValue { key } = op else { panic!("{op:?} was not asked") };
    let (number, _) = key.as_bytes().split_at(8);
    let stored = u64::from_be_bytes(number.try_into().unwrap());
    OpResult::Refused(Refusal::Older { stored })
}

fn outputs(requests: &mut Requests) -> Vec<Output> {
    std::iter::from_fn(|| requests.poll_output()).collect()
}
