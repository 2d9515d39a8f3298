//! Safety under all faults at once, and healing after.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::sim::{Address, Faults, Sighting, Sim};

use super::super::super::event::Event;
use super::super::super::update::{Claim, Stamp, Update, Verdict};
use super::super::Body;
use super::mesh::full;
use super::{Input, Mesh, Message, Plan, Saw, is_whole, ms, node, secs};

/// What an observer has been told of each node: whether it is there, and in which life.
type Told = BTreeMap<NodeId, (bool, u64)>;

/// What all observers have been told in their present lives.
#[derive(Default)]
struct Ledger {
    told: BTreeMap<Address, Told>,
    events: u64,
}

impl Ledger {
    /// Events tell of one life after the other, and none is told twice or out of order.
    fn take(&mut self, sighting: &Sighting<Saw>) {
        let Sighting { address, what, .. } = sighting;
        let event = match what {
            Saw::Event(event) => *event,
            Saw::Departed => return,
            Saw::Superseded(life) => panic!("{address:?} is superseded by its life {life}"),
            Saw::Misbehaved(peer, why) => panic!("{address:?} accuses {peer:?} of {why:?}"),
        };
        self.events += 1;
        assert_ne!(event.node(), node(*address), "{address:?} is told of itself");
        let told = self.told.entry(*address).or_default();
        let held = told.get(&event.node()).copied();
        let fits = match event {
            Event::Joined { .. } => held.is_none(),
            Event::Returned { life, .. } => held.is_some_and(|(there, was)| !there && life >= was),
            Event::Gone { life, .. }
            | Event::Suspected { life, .. }
            | Event::Cleared { life, .. }
            | Event::Updated { life, .. } => held == Some((true, life)),
        };
        assert!(fits, "{address:?} is told {event:?} after {held:?}");
        match event {
            Event::Joined { life, .. } | Event::Returned { life, .. } => {
                told.insert(event.node(), (true, life));
            }
            Event::Gone { life, .. } => {
                told.insert(event.node(), (false, life));
            }
            Event::Suspected { .. } | Event::Cleared { .. } | Event::Updated { .. } => {}
        }
    }

    /// What was told is what is held, so of each node one life at most is held to be there.
    fn check(&self, sim: &Sim<Mesh>) {
        for (address, swim) in sim.machines() {
            assert!(!swim.members.contains_key(&node(address)), "a member of itself");
            assert!(swim.departed.get(&node(address)).is_none(), "it holds itself to be gone");
            let empty = Told::new();
            let told = self.told.get(&address).unwrap_or(&empty);
            let told = told.iter().filter(|(_, (there, _))| *there);
            let told: Vec<(NodeId, u64)> = told.map(|(node, (_, life))| (*node, *life)).collect();
            let held = swim.members.iter();
            let held: Vec<(NodeId, u64)> =
                held.map(|(node, member)| (*node, member.belief.seen.stamp().life)).collect();
            assert_eq!(told, held, "{address:?} was told of others than it holds");
            for node in swim.members.keys() {
                assert!(swim.departed.get(node).is_none(), "{node:?} is there and gone");
            }
        }
    }
}

/// Runs a mesh through a storm, and then until it is whole.
fn storm(seed: u64, nodes: u32, lasts: Duration) -> (u64, Duration) {
    let faults = Faults::STORM;
    let plan = Plan { acquainted: false, faults, ..Plan::new(seed, nodes) };
    let births = std::rc::Rc::clone(&plan.births);
    let mut sim = plan.begin();
    let base: Instant = births.borrow()[0].1;
    let mut ledger = Ledger::default();
    let mut look = |sim: &mut Sim<Mesh>| {
        let mut born = births.take();
        for sighting in sim.take_seen() {
            // Whoever was born before that has been told nothing before.
            let (earlier, later): (Vec<_>, Vec<_>) =
                born.into_iter().partition(|(_, at)| *at - base <= sighting.at);
            born = later;
            for (address, _) in earlier {
                ledger.told.remove(&address);
            }
            ledger.take(&sighting);
        }
        for (address, _) in born {
            ledger.told.remove(&address);
        }
        ledger.check(sim);
    };
    while sim.now() < lasts {
        sim.run_until(sim.now() + ms(50)).unwrap();
        look(&mut sim);
    }
    sim.heal();
    let healed = sim.run_until_holds(secs(60), is_whole).unwrap();
    look(&mut sim);
    let healed = healed.unwrap_or_else(|| panic!("seed {seed}: the mesh does not heal"));
    (ledger.events, healed)
}

#[test]
fn a_storm_is_survived() {
    let (seeds, nodes) = if full() { (1_000, 20) } else { (40, 12) };
    let mut longest = Duration::ZERO;
    let mut events = 0;
    for seed in 0..seeds {
        let (told, healed) = storm(seed, nodes, secs(30));
        events += told;
        longest = longest.max(healed);
    }
    println!("{seeds} storms of {nodes} nodes: {events} events, healed within {longest:?}");
}

#[test]
fn a_liar_does_not_bury_the_living() {
    let mut sim = Plan::new(7, 20).begin();
    sim.run_until(secs(1)).unwrap();
    let (liar, victim) = (Address(3), Address(5));
    for turn in 0..200_u32 {
        let version = sim.machine(victim).unwrap().me.stamp().version;
        let stamp = Stamp { life: 1, version };
        for address in sim.addresses() {
            if address == victim || address == liar {
                continue;
            }
            // It knows the newest version always, and names another accuser each time.
            let by = node(Address(turn % 20));
            let claim = |verdict| Claim { node: node(victim), stamp, verdict, by };
            let updates = [Verdict::Suspect, Verdict::Down].map(|it| Update::Claim(claim(it)));
            let message = Message { updates: updates.to_vec(), body: Body::Gossip };
            sim.input(address, |_| Input::Message { from: node(liar), message });
        }
        sim.run_until(sim.now() + ms(100)).unwrap();
    }
    let gone = |what: &Saw| matches!(what, Saw::Event(Event::Gone { .. }));
    let seen = sim.take_seen();
    assert!(!seen.iter().any(|sighting| gone(&sighting.what)), "the liar is believed");
    assert!(seen.len() > 1_000, "the liar is not even heard");
    assert!(sim.run_until_holds(secs(10), is_whole).unwrap().is_some());
}
