//! Replicas of one bucket on a simulated network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use macula_core::machine::Machine;
use macula_core::sim::{Address, Birth, Effect, Faults, Moment, Node, Sim};
use macula_workload::crdt::Level;
use macula_workload::crdt::config::Config;
use macula_workload::crdt::proto::{Change, Event, Input, Output, Parts, Replica};
use macula_workload::crdt::state::Kinds;
use macula_workload::crdt::types::PnCounter;

use super::number;
use crate::bench::Amounts;
use crate::bench::report::Measure;

/// How many replicas converge.
const NODES: u32 = 100;

/// How many of them write at one time.
const WRITERS: u32 = 10;

/// How long they may take, in virtual time.
const WITHIN: Duration = Duration::from_secs(600);

/// A replica that keeps nothing on disk.
#[derive(Debug)]
pub(super) struct Member(pub(super) Replica);

impl Machine for Member {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.0.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.0.poll_output()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.0.poll_timeout()
    }
}

/// How members meet the network.
#[derive(Debug)]
pub(super) struct Group;

const fn number_of(address: Address) -> u64 {
    address.0 as u64 + 1
}

impl Node for Group {
    type Machine = Member;
    type Message = Bytes;
    type Seen = ();

    fn received(from: Address, frame: Bytes, moment: Moment) -> Input {
        let event = Event::Frame { from: number_of(from), frame };
        Input { wall: moment.since_epoch, event }
    }

    fn bytes(frame: &Bytes) -> usize {
        frame.len()
    }

    fn effect(output: Output) -> Effect<Bytes, ()> {
        let Output::Send { to, frame } = output else { return Effect::Nothing };
        let address = to.checked_sub(1).and_then(|place| u32::try_from(place).ok());
        address.map_or(Effect::Nothing, |address| Effect::Send(Address(address), frame))
    }
}

/// The replicas, in touch with one another.
pub(super) fn group(seed: u64, nodes: u32, config: Config) -> anyhow::Result<Sim<Group>> {
    config.check()?;
    let near: BTreeSet<u64> = (1..=u64::from(nodes)).collect();
    let make = move |mut birth: Birth<Member>| {
        let parts = Parts {
            config,
            kinds: Arc::new(Kinds::default()),
            node: number_of(birth.address),
            life: birth.life,
            seed: birth.entropy.next_u64(),
            saved: None,
        };
        #[expect(clippy::expect_used, reason = "the configuration was checked")]
        let mut replica = Replica::new(parts).expect("a replica of a legal configuration");
        let wall = birth.moment.since_epoch;
        replica.handle(birth.moment.now, Input { wall, event: Event::Near(near.clone()) });
        Member(replica)
    };
    Ok(Sim::new(seed, nodes, Faults::NONE, make))
}

/// Has a replica change a key.
pub(super) fn write(sim: &mut Sim<Group>, at: Address, key: &str, change: Change) {
    let (key, level, within) = (key.into(), Level::Local, WITHIN);
    let event = Event::Write { ticket: 0, key, change, level, within };
    sim.input(at, |moment| Input { wall: moment.since_epoch, event });
}

/// Whether all have seen the same, and know all members.
fn is_equal(sim: &Sim<Group>) -> bool {
    let mut machines = sim.machines().map(|(_, member)| &member.0);
    let nodes = sim.addresses().len();
    let Some(first) = machines.next() else { return true };
    first.members().len() == nodes
        && machines.all(|other| {
            other.bucket().context() == first.bucket().context() && other.members().len() == nodes
        })
}

/// Runs until all have the same, and gives how long that took in virtual time.
pub(super) fn converged(sim: &mut Sim<Group>) -> anyhow::Result<Duration> {
    sim.run_until_holds(WITHIN, is_equal)?.context("the replicas do not converge")
}

/// How long it takes until what ten of a hundred have written at one time is everywhere.
pub(super) fn measure(amounts: Amounts) -> anyhow::Result<Measure> {
    let scale = u32::try_from(amounts.scale).unwrap_or(u32::MAX);
    let nodes = (NODES / scale).max(5);
    let mut sim = group(amounts.seed, nodes, Config::default())?;
    converged(&mut sim)?;
    let mut times = Vec::new();
    for round in 0..20 {
        for writer in 0..WRITERS.min(nodes) {
            let key = format!("bench/{}", writer % 4);
            let count = Change::of(|sum: &PnCounter, write| sum.increment(1, write));
            write(&mut sim, Address((writer * 7 + round) % nodes), &key, count);
        }
        times.push(converged(&mut sim)?.as_secs_f64() * 1e3);
    }
    let median = crate::bench::report::quantile(&mut times, 0.5);
    Ok(Measure::new("converge_100", "ms", median)
        .p99(crate::bench::report::quantile(&mut times, 0.99))
        .against("the time of one message", number(1))
        .note(
            "simulated: ten of a hundred replicas write at one time, and it is looked every 10 ms",
        ))
}
