//! Registers on a faulty network: safety in the storm, convergence after it, and bugs put in on
//! purpose, each of which has to be found.

#[path = "sim/gossip.rs"]
mod gossip;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gossip::{Bug, Entry, Gossip, Gossiping, Told};
use macula_core::entropy::Entropy;
use macula_core::sim::{Address, Faults, Sim};
use macula_platform::registers::Register;
use macula_tests::seeds::{self, Case, FailedSeed};

const NODES: u32 = 5;
const SEEDS: u64 = 50;

/// Every so often two nodes write the same key at one moment, so that timestamps can be equal.
const WRITE_EVERY: Duration = Duration::from_millis(100);
const STORM: Duration = Duration::from_secs(10);

/// How long the replicas may take to agree once all faults have ended: 25 rounds.
const HEALING_MAX: Duration = Duration::from_secs(5);

/// What was acknowledged, and what every replica had when it was last looked at.
#[derive(Debug, Default)]
struct Ledger {
    acknowledged: BTreeSet<Entry>,
    held: BTreeMap<(Address, Arc<str>), Register>,
}

impl Ledger {
    /// Safety: a replica holds only what somebody wrote, and never goes back.
    fn look(&mut self, sim: &mut Sim<Gossiping>) -> Result<(), String> {
        self.acknowledged.extend(sim.take_seen().into_iter().map(|seen| seen.what));
        for (address, machine) in sim.machines() {
            for (key, register) in machine.table() {
                let entry = (Arc::clone(&key), register.clone());
                if !self.acknowledged.contains(&entry) {
                    return Err(format!("{address:?} holds what nobody wrote: {entry:?}"));
                }
                let before = self.held.insert((address, key), register.clone());
                if before.as_ref().is_some_and(|before| *before > register) {
                    return Err(format!("{address:?} went back from {before:?} to {register:?}"));
                }
            }
        }
        Ok(())
    }

    /// The table that everybody has to hold in the end: of each key the winner of all writes that
    /// were acknowledged.
    fn winners(&self) -> Vec<Entry> {
        let mut winners: BTreeMap<Arc<str>, Register> = BTreeMap::new();
        for (key, register) in &self.acknowledged {
            // The set is in order, so the greatest register of a key comes last.
            winners.insert(Arc::clone(key), register.clone());
        }
        winners.into_iter().collect()
    }
}

fn sim(seed: u64, bug: Option<Bug>) -> Sim<Gossiping> {
    let mut sim = Sim::new(seed, NODES, Faults::STORM, move |birth| Gossip::new(birth, NODES, bug));
    if seeds::replayed().is_some() {
        sim.keep_lines(200);
    }
    sim
}

/// The safety phase: writes in the storm.
fn storm(sim: &mut Sim<Gossiping>, seed: u64, ledger: &mut Ledger) -> Result<(), String> {
    let mut entropy = Entropy::from_seed(seed).fork();
    let mut written = 0_u32;
    while sim.now() < STORM {
        sim.run_until(sim.now() + WRITE_EVERY).map_err(|error| error.to_string())?;
        let key: Arc<str> = format!("key/{}", entropy.below(4)).into();
        for _ in 0..2 {
            let node = Address(u32::try_from(entropy.below(NODES.into())).unwrap_or_default());
            written += 1;
            let (key, value) = (Arc::clone(&key), Arc::from(written.to_le_bytes()));
            sim.input(node, |moment| Told::Write { key, value, wall: moment.since_epoch });
        }
        ledger.look(sim)?;
    }
    Ok(())
}

/// Both phases; gives the hash of the trace.
fn run(seed: u64, bug: Option<Bug>) -> Result<u64, String> {
    let (mut sim, mut ledger) = (sim(seed, bug), Ledger::default());
    let held = phases(&mut sim, seed, &mut ledger);
    held.map(|()| sim.hash()).map_err(|why| format!("{why}\n{}", sim.lines()))
}

fn phases(sim: &mut Sim<Gossiping>, seed: u64, ledger: &mut Ledger) -> Result<(), String> {
    storm(sim, seed, ledger)?;
    sim.heal();
    let winners = ledger.winners();
    let agreed = sim
        .run_until_holds(HEALING_MAX, |sim| {
            sim.machines().count() == 5 && sim.machines().all(|(_, node)| node.table() == winners)
        })
        .map_err(|error| error.to_string())?;
    ledger.look(sim)?;
    if agreed.is_none() {
        let tables: Vec<_> = sim.machines().map(|(_, node)| node.table()).collect();
        return Err(format!("no agreement on {winners:?} within {HEALING_MAX:?}: {tables:?}"));
    }
    Ok(())
}

/// The first seed that finds a bug.
fn found(bug: Bug) -> Option<FailedSeed> {
    let case = Case { target: "sim", test: "planted" };
    seeds::find(case, 0..SEEDS, |seed| run(seed, Some(bug)).map(drop))
}

#[test]
fn replicas_converge_on_every_acknowledged_write_that_wins() -> Result<(), FailedSeed> {
    let test = "replicas_converge_on_every_acknowledged_write_that_wins";
    seeds::check(Case { target: "sim", test }, 0..SEEDS, |seed| run(seed, None).map(drop))
}

#[test]
fn a_seed_has_one_trace_and_seeds_have_different_ones() {
    let hashes: Vec<_> = (0..10).map(|seed| run(seed, None).unwrap()).collect();
    let again: Vec<_> = (0..10).map(|seed| run(seed, None).unwrap()).collect();
    assert_eq!(hashes, again);
    assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), 10);
}

#[test]
fn the_trace_of_a_seed_is_the_same_on_every_machine_and_in_every_process() {
    insta::assert_snapshot!(format!("{:016x}", run(0, None).unwrap()));
}

#[test]
fn the_storm_is_one() {
    let (mut sim, mut ledger) = (sim(0, None), Ledger::default());
    sim.keep_lines(usize::MAX);
    storm(&mut sim, 0, &mut ledger).unwrap();
    let lines = sim.lines();
    let count =
        |word: &str| lines.lines().filter(|line| line.split(' ').nth(1) == Some(word)).count();
    for (word, least) in [("crash", 2), ("start", 2), ("sever", 1), ("mend", 1), ("lost", 10)] {
        assert!(count(word) >= least, "{word}: {}", count(word));
    }
    assert!(ledger.acknowledged.len() > 100);
    // Ties, without which the tie-break would not be tested.
    let times: BTreeSet<_> = ledger.acknowledged.iter().map(|(_, at)| at.stamp.at).collect();
    assert!(times.len() < ledger.acknowledged.len());
}

#[test]
fn a_merge_that_ignores_the_tie_break_is_found() {
    assert!(found(Bug::NoTieBreak).unwrap().why.starts_with("no agreement"));
}

#[test]
fn a_gossip_that_never_looks_for_what_it_lost_is_found() {
    assert!(found(Bug::NoRounds).unwrap().why.starts_with("no agreement"));
}

#[test]
fn a_node_that_forgets_acknowledged_writes_is_found() {
    let why = found(Bug::Volatile).unwrap().why;
    assert!(why.contains("went back") || why.starts_with("no agreement"), "{why}");
}
