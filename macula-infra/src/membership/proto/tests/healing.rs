//! Partitions that heal, and a mesh that is replaced over and over.

use std::time::Duration;

use macula_core::sim::{Address, Sim};

use super::mesh::full;
use super::{Bug, Config, Input, Mesh, Plan, is_whole, secs};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Parts a mesh into halves, and says how long after that has ended it is whole again.
///
/// The days in the middle are played with sparse timers, which all nodes are told of for that time:
/// what matters is that nothing which is needed for healing is forgotten by then.
fn heals_after(plan: Plan, apart: Duration) -> Option<Duration> {
    let (nodes, config) = (plan.nodes, plan.config.clone());
    let mut sim = plan.begin();
    sim.run_until(secs(5)).unwrap();
    let (one, other): (Vec<Address>, Vec<Address>) =
        sim.addresses().into_iter().partition(|address| address.0 % 2 == 0);
    sim.sever(&[&one, &other]);
    let begin = sim.now();
    let half = usize::try_from(nodes / 2).unwrap();
    let parted = |sim: &Sim<Mesh>| sim.machines().all(|(_, swim)| swim.members.len() + 1 == half);
    let took = sim.run_until_holds(secs(120), parted).unwrap();
    println!("{nodes} nodes: each half is alone after {took:?}");
    assert!(took.is_some(), "the halves do not notice");
    let sparse = Config {
        probe_interval: secs(600),
        sync_interval: secs(3_600),
        reconnect_interval: secs(3_600),
        ..config.clone()
    };
    let reconfigure = |sim: &mut Sim<Mesh>, config: &Config| {
        for address in sim.addresses() {
            sim.input(address, |_| Input::Reconfigure(config.clone()));
        }
    };
    if apart > secs(600) {
        reconfigure(&mut sim, &sparse);
        sim.run_until(begin + apart - secs(20)).unwrap();
        reconfigure(&mut sim, &config);
    }
    sim.run_until(begin + apart).unwrap();
    assert!(parted(&sim));
    sim.mend();
    let before = sim.sent();
    let healed = sim.run_until_holds(secs(60), is_whole).unwrap();
    let messages = (sim.sent().messages - before.messages) / u64::from(nodes);
    let bytes = (sim.sent().bytes - before.bytes) / u64::from(nodes);
    println!(
        "apart for {apart:?}: whole after {healed:?}, {messages} messages, {bytes} bytes each"
    );
    healed
}

#[test]
fn a_partition_of_a_week_heals_within_a_minute() {
    let nodes = if full() { 1_000 } else { 100 };
    let healed = heals_after(Plan::new(1, nodes), WEEK);
    let healed = healed.expect("the halves do not find each other");
    assert!(healed < secs(60));
}

#[test]
fn a_partition_of_a_minute_heals_within_a_minute() {
    let nodes = if full() { 1_000 } else { 100 };
    let healed = heals_after(Plan::new(2, nodes), secs(60));
    assert!(healed.is_some());
}

#[test]
fn the_dead_that_are_never_probed_are_found() {
    // One of the seeds is in each half, so these have to be left out as well.
    let plan = Plan { bug: Some(Bug::NeverProbesTheDead), ..Plan::new(1, 20) };
    assert_eq!(heals_after(plan, secs(60)), None, "the planted bug is not found");
}

#[test]
fn refutations_of_the_same_version_are_found() {
    let plan = Plan { bug: Some(Bug::RefutesWithTheSameVersion), ..Plan::new(1, 20) };
    assert_eq!(heals_after(plan, secs(60)), None, "the planted bug is not found");
}
