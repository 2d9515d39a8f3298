//! The older system's scenario of calls through gateways, as its name says: a bootstrap node, a
//! gateway, and three edges that do not reach one another. (There, nothing was ever called.)

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use macula_core::topic::Topic;
use macula_infra::relay::Use;
use macula_infra::remote::{CallError, Context, Unavailability};
use macula_infra::rpc::{CallOptions, Options};
use macula_infra::transport::overlay::is_overlay;
use macula_tests::world::{Faults, Life, Log, Look, Scenario, What, World};
use macula_workload::Config;

/// No edge reaches another.
const APART: &[(usize, usize)] = &[(2, 3), (2, 4), (3, 4)];

/// The edge that provides.
const PROVIDER: usize = 4;

/// How many nodes there are.
const NODES: usize = 5;

/// How long a call may take.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Seen {
    /// The sum of two numbers, as an edge has it from another, and whether it came over a gateway.
    Sum { sum: u64, relayed: bool },
    /// Nobody provides what was called.
    NoProvider,
    /// The provider has not answered in time.
    TimedOut,
    /// Something else.
    Other(String),
}

#[derive(Clone)]
struct Hops;

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

fn provide(life: &Life<Seen>) {
    let rpc = life.node.mesh().rpc();
    let add = |(a, b): (u64, u64), _: Context| async move { Ok::<_, Infallible>(a + b) };
    rpc.advertise(&topic("test.calculator.add"), &Options::default(), add).unwrap().keep();
    let never = |(): (), _: Context| async move {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(())
    };
    rpc.advertise(&topic("test.calculator.never"), &Options::default(), never).unwrap().keep();
}

async fn call(life: &Life<Seen>) {
    let rpc = life.node.mesh().rpc().clone();
    let options = CallOptions { within: WITHIN, ..CallOptions::default() };
    let add = topic("test.calculator.add");
    let sum = loop {
        match rpc.call_with::<_, u64>(&add, &(5_u64, 3_u64), &options).await {
            Ok(sum) => break sum,
            // It is not known yet who provides it, or how the provider is reached.
            Err(CallError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return life.saw(Seen::Other(error.to_string())),
        }
    };
    let provider = life.ids.get(PROVIDER).copied();
    let links = life.node.mesh().links();
    let link = links.iter().find(|link| Some(link.node()) == provider);
    let relayed = link.is_some_and(|link| is_overlay(link.peer().address));
    life.saw(Seen::Sum { sum, relayed });
    let none = rpc.call_with::<_, u64>(&topic("test.nothing"), &(), &options).await;
    life.saw(match none {
        Err(CallError::Unavailable(Unavailability::NoProvider(_))) => Seen::NoProvider,
        other => Seen::Other(format!("{other:?}")),
    });
    let never = topic("test.calculator.never");
    let short = CallOptions { within: Duration::from_secs(1), ..CallOptions::default() };
    let late = rpc.call_with::<_, ()>(&never, &(), &short).await;
    life.saw(match late {
        Err(CallError::TimedOut { .. }) => Seen::TimedOut,
        other => Seen::Other(format!("{other:?}")),
    });
}

impl Scenario for Hops {
    type Seen = Seen;

    async fn live(&self, life: Life<Seen>) {
        match life.index {
            0 | 1 => {}
            PROVIDER => provide(&life),
            _ => call(&life).await,
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        look.log().read(|log| log.iter().filter(|entry| is_seen(&entry.what)).count() >= 6)
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        let expected = [Seen::Sum { sum: 8, relayed: true }, Seen::NoProvider, Seen::TimedOut];
        let expected: BTreeSet<String> = expected.iter().map(|seen| format!("{seen:?}")).collect();
        log.read(|log| {
            for edge in [2, 3] {
                let of_edge = log.iter().filter(|entry| entry.node == edge);
                let seen: BTreeSet<String> = of_edge
                    .filter_map(|entry| match &entry.what {
                        What::Seen(seen) => Some(format!("{seen:?}")),
                        _ => None,
                    })
                    .collect();
                if seen != expected {
                    return Err(format!("edge {edge} has seen {seen:?}"));
                }
            }
            Ok(())
        })
    }
}

const fn is_seen(what: &What<Seen>) -> bool {
    matches!(what, What::Seen(_))
}

/// The bootstrap node and the gateway relay, and the edges use them.
fn of_each(index: usize, config: &mut Config) {
    if index < 2 {
        config.relay.gives.serve = true;
    } else {
        config.relay.uses = Use::Always;
    }
}

#[test]
fn multi_hop_rpc_through_gateways() {
    for seed in 0..5 {
        let world = World::builder(seed).nodes(NODES).joins().storm(Duration::ZERO);
        let world = world
            .faults(Faults::NONE)
            .apart(APART)
            .of_each(of_each)
            .config(macula_tests::world::meet_quickly);
        let run = world.healing_max(Duration::from_secs(60)).run(&Hops);
        let healed_after = run.unwrap().healed_after;
        assert!(healed_after < Duration::from_secs(30), "seed {seed}: {healed_after:?}");
    }
}
