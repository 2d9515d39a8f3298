//! The routing parts alone: directed scenarios, random inputs, and a simulated mesh of them.

mod density;
mod lookup;
mod mesh;
mod table;

use std::net::SocketAddr;
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::peer::Peer;
use crate::contact::Contact;

/// A bug that is put in on purpose, and has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lookup does not ask those of the k closest that are left when nobody closer comes.
    EndsOneRoundEarly,
    /// No bucket is ever refreshed.
    NeverRefreshes,
}

fn begin() -> Instant {
    TokioClock.now()
}

/// A node id of a number: the first curve point that its stream of random bytes gives.
fn node(number: u64) -> NodeId {
    crate::dht::simulated::node_id(&mut Entropy::from_seed(number))
}

/// Peers, each in a network of its own.
fn peers(count: u32) -> Vec<Peer> {
    (1..=count).map(|number| peer(number, number << 8 | 1)).collect()
}

fn peer(number: u32, ip: u32) -> Peer {
    let address = SocketAddr::from((ip.to_be_bytes(), 4_433));
    Peer::new(Contact::new(node(number.into()), [address]))
}
