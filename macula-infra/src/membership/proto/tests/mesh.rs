//! How soon a mesh notices a crash, and how seldom it is mistaken.
//!
//! `MACULA_MEMBERSHIP_FULL=1 cargo test --release -p macula-infra membership -- --nocapture` runs
//! all at full size; without the variable they are cut to what a debug build does in seconds.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::super::super::event::{Event, Parting};
use super::{Bug, Plan, Saw, is_whole, ms, node, quantile, secs};

pub(super) fn full() -> bool {
    std::env::var_os("MACULA_MEMBERSHIP_FULL").is_some()
}

/// How long after a crash each of the others held the node to be gone, sorted.
fn detections(plan: Plan, crashes: u32) -> Vec<Duration> {
    let nodes = plan.nodes;
    let mut sim = plan.begin();
    let mut crashed: Vec<(Address, Duration)> = Vec::new();
    let mut told: Vec<Duration> = Vec::new();
    sim.run_until(ms(1_500)).unwrap();
    for number in 0..crashes {
        let address = Address(2 + number * 7);
        sim.crash(address);
        crashed.push((address, sim.now()));
        sim.run_until(sim.now() + ms(487)).unwrap();
    }
    sim.run_until(sim.now() + secs(7)).unwrap();
    for sighting in sim.take_seen() {
        let Saw::Event(Event::Gone { node: gone, how, .. }) = sighting.what else { continue };
        assert_eq!(how, Parting::Crashed);
        let found = crashed.iter().find(|(address, _)| node(*address) == gone);
        let (_, at) = found.unwrap_or_else(|| panic!("{gone:?} is gone and runs"));
        told.push(sighting.at - *at);
    }
    let views: usize = (0..crashes).map(|later| usize::try_from(nodes - 1 - later).unwrap()).sum();
    // Whoever crashes itself may have learned of those before it, or not.
    let most = views + usize::try_from(crashes * crashes / 2).unwrap();
    assert!(is_whole(&sim), "somebody has not noticed");
    assert!((views - most.abs_diff(views)..=most).contains(&told.len()), "{}", told.len());
    told.sort_unstable();
    told
}

#[test]
fn a_crash_is_known_everywhere_in_five_seconds() {
    let crashes = if full() { 100 } else { 5 };
    let told = detections(Plan::new(1, 1_000), crashes);
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&told, part));
    println!("1,000 nodes, {crashes} crashes: gone after p50 {p50:?}, p99 {p99:?}, max {max:?}");
    assert!(p99 < secs(5), "{p99:?}");
}

#[test]
fn suspects_that_have_the_longest_time_are_found() {
    let bug = Some(Bug::ConfirmationsDoNotShorten);
    let told = detections(Plan { bug, ..Plan::new(1, 100) }, 10);
    assert!(quantile(&told, 0.99) > secs(5), "the planted bug is not found");
    let told = detections(Plan::new(1, 100), 10);
    assert!(quantile(&told, 0.99) < secs(5));
}

#[test]
fn a_lossy_network_makes_no_suspects() {
    let (nodes, lasts) = if full() { (1_000, secs(1_000)) } else { (200, secs(270)) };
    let plan = Plan::new(2, nodes);
    let faults = Faults { loss: 0.01, ..plan.faults };
    let mut sim = Plan { faults, ..plan }.begin();
    sim.run_until(lasts).unwrap();
    let stats: Vec<_> = sim.machines().map(|(_, swim)| swim.stats()).collect();
    let sum = |of: fn(&super::super::Stats) -> u64| stats.iter().map(of).sum::<u64>();
    let (probes, indirect) = (sum(|stats| stats.probes), sum(|stats| stats.indirect));
    let suspicions = sum(|stats| stats.suspicions);
    let sent = sim.sent();
    let per = |count: u64| count / u64::from(nodes) / lasts.as_secs();
    let messages = sent.messages * 100 / u64::from(nodes) / lasts.as_secs();
    println!(
        "{nodes} nodes at 1 % loss: {suspicions} suspicions in {probes} probes ({indirect} needed \
         help); {}.{:02} messages and {} bytes for each node and second",
        messages / 100,
        messages % 100,
        per(sent.bytes)
    );
    assert!(probes >= 100_000, "{probes}");
    assert!(suspicions * 100_000 < probes, "{suspicions} in {probes}");
    assert!(is_whole(&sim));
}

#[test]
fn those_who_join_soon_know_all() {
    let nodes = if full() { 1_000 } else { 100 };
    let mut sim = Plan { acquainted: false, ..Plan::new(3, nodes) }.begin();
    let took = sim.run_until_holds(secs(30), is_whole).unwrap();
    let took = took.expect("they do not find one another");
    let sent = sim.sent();
    let (messages, bytes) = (sent.messages / u64::from(nodes), sent.bytes / u64::from(nodes));
    println!("{nodes} nodes join at once: {took:?}, {messages} messages and {bytes} bytes each");
}

#[test]
fn a_farewell_is_no_crash() {
    let mut sim = Plan::new(4, 50).begin();
    sim.run_until(secs(2)).unwrap();
    sim.input(Address(7), |_| super::Input::Leave);
    sim.run_until(secs(10)).unwrap();
    let seen = sim.take_seen();
    let departed = seen.iter().filter(|sighting| sighting.what == Saw::Departed).count();
    let left = Event::Gone { node: node(Address(7)), life: 1, how: Parting::Left };
    let told: Vec<Duration> = seen
        .iter()
        .filter(|sighting| sighting.what == Saw::Event(left))
        .map(|sighting| sighting.at - secs(2))
        .collect();
    assert_eq!((departed, told.len(), seen.len()), (1, 49, 50), "{seen:?}");
    assert!(told.iter().all(|at| *at < secs(1)), "{told:?}");
    // Nobody asks for it again.
    assert!(sim.machines().all(|(_, swim)| swim.departed.down_len() == 0));
}

#[test]
fn one_seed_has_one_trace() {
    let run = |seed| {
        let mut sim = Plan { acquainted: false, ..Plan::new(seed, 20) }.begin();
        sim.run_until(secs(10)).unwrap();
        sim.hash()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
