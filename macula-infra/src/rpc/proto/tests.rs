//! The choice among providers: in single steps, by numbers, and against random calls.

mod directed;
mod model;

use std::sync::Arc;

use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};

use super::balance::Balance;
use super::chooser::{Candidate, Chooser};
use super::course::Plan;

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

fn candidates(count: u8, is_idempotent: bool) -> Vec<Candidate> {
    (1..=count).map(|number| Candidate { node: node(number), is_idempotent }).collect()
}

fn chooser(seed: u64) -> Chooser {
    Chooser::new(node(0), Entropy::from_seed(seed))
}

fn procedure() -> Arc<str> {
    "game.match".into()
}

fn plan(candidates: Vec<Candidate>) -> Plan {
    let (procedure, balance) = (procedure(), Balance::PowerOfTwo);
    Plan { procedure, candidates, balance, attempts_max: 3, hedges: true }
}
