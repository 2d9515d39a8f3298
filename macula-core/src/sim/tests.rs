//! The simulator with a machine that counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::machine::Machine;

use super::{Address, Birth, Effect, Faults, Moment, Node, Sim};

/// Sends a number to its neighbour at its deadline, which never comes again; repeats what it gets.
#[derive(Debug, Default)]
struct Counter {
    life: u64,
    due: Option<Instant>,
    heard: Vec<u64>,
    outputs: VecDeque<u64>,
    eager: bool,
}

impl Machine for Counter {
    type Input = u64;
    type Output = u64;

    fn handle(&mut self, _now: Instant, input: u64) {
        self.heard.push(input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.eager || self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.outputs.push_back(self.life);
        }
    }

    fn poll_output(&mut self) -> Option<u64> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.due.map(|due| (due, "count"))
    }
}

struct Counting;

impl Node for Counting {
    type Machine = Counter;
    type Message = u64;
    type Seen = ();

    fn received(_from: Address, message: u64, _moment: Moment) -> u64 {
        message
    }

    fn effect(output: u64) -> Effect<u64, ()> {
        Effect::Send(Address(1), output)
    }
}

fn sim(faults: Faults, eager: bool) -> Sim<Counting> {
    Sim::new(1, 2, faults, move |Birth { address, life, moment, remains, .. }| {
        let due = (address == Address(0)).then(|| moment.now + Duration::from_secs(1));
        let heard = remains.map(|remains: Counter| remains.heard).unwrap_or_default();
        Counter { life, due, heard, outputs: VecDeque::new(), eager }
    })
}

fn heard(sim: &Sim<Counting>) -> Vec<u64> {
    sim.machine(Address(1)).unwrap().heard.clone()
}

#[test]
fn deadlines_and_messages_come_at_their_time() {
    let mut sim = sim(Faults::NONE, false);
    sim.run_until(Duration::from_secs(1)).unwrap();
    assert!(heard(&sim).is_empty());
    assert!(sim.run_quiet(Duration::from_secs(60)).unwrap());
    assert_eq!((heard(&sim), sim.now()), (vec![1], Duration::from_millis(1001)));
}

#[test]
fn a_crash_takes_deadlines_along_and_leaves_remains() {
    let mut sim = sim(Faults::NONE, false);
    sim.run_until(Duration::from_millis(500)).unwrap();
    sim.crash(Address(0));
    assert!(sim.run_quiet(Duration::from_secs(60)).unwrap());
    assert!(sim.machine(Address(0)).is_none() && heard(&sim).is_empty());
    sim.start(Address(0));
    sim.run_quiet(Duration::from_secs(60)).unwrap();
    assert_eq!(heard(&sim), [2]);
    sim.crash(Address(1));
    sim.start(Address(1));
    assert_eq!(heard(&sim), [2]);
}

#[test]
fn what_is_under_way_when_the_network_parts_is_lost() {
    let mut sim = sim(Faults::NONE, false);
    sim.run_until(Duration::from_secs(1)).unwrap();
    sim.sever(&[&[Address(0)]]);
    assert!(sim.run_quiet(Duration::from_secs(60)).unwrap());
    assert!(heard(&sim).is_empty());
}

#[test]
fn the_trace_of_a_seed_is_the_same_on_every_machine_and_in_every_process() {
    let mut sim = sim(Faults::STORM, false);
    sim.run_until(Duration::from_secs(30)).unwrap();
    assert!(sim.events() > 10, "{} events", sim.events());
    assert_eq!(format!("{:016x}", sim.hash()), "ba7a87b6cfd77b10");
}

#[test]
fn a_machine_that_acts_before_it_is_due_is_accused() {
    let faults = Faults { early_wake: 1.0, ..Faults::NONE };
    let mut good = sim(faults, false);
    good.run_until(Duration::from_secs(2)).unwrap();
    let mut eager = sim(faults, true);
    let misconduct = eager.run_until(Duration::from_secs(2)).unwrap_err();
    assert_eq!(misconduct.address, Address(1));
    assert_eq!(misconduct.what, "did something before it was due");
}
