//! The policy alone: directed scenarios, random inputs, and several of them in a faulty world.

mod directed;
mod model;
mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine as _;

use super::super::config::Config;
use super::{Bug, Input, Output, Policy};

/// Node ids in ascending order.
fn nodes(count: u8) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> =
        (1..=count).map(|seed| Keypair::from_seed([seed; 32]).node_id()).collect();
    nodes.sort_unstable();
    nodes
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

fn begin() -> Instant {
    TokioClock.now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A policy without chance in its waits, of the smallest of the nodes.
fn policy(config: Config) -> Policy {
    let config = Config { jitter: 0.0, ..config };
    Policy::new(nodes(8)[0], config, Entropy::from_seed(1))
}

fn tell(policy: &mut Policy, now: Instant, input: Input) -> Vec<Output> {
    policy.handle(now, input);
    std::iter::from_fn(|| policy.poll_output()).collect()
}

fn wake(policy: &mut Policy, now: Instant) -> Vec<Output> {
    policy.handle_timeout(now);
    std::iter::from_fn(|| policy.poll_output()).collect()
}
