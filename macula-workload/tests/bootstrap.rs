//! A node that only helps others to find each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use macula_workload::bootstrap::Seed;
use macula_workload::config::Config;
use macula_workload::identity::EphemeralRealm;
use macula_workload::membership::update::Role;
use macula_workload::node::Error;
use macula_workload::prelude::*;
use macula_workload::remote::{ReplyTo, ServeError};
use macula_workload::supervision::{AdminError, Handle};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Far longer than anything takes.
const WITHIN: Duration = Duration::from_secs(30);

struct Doubler;

struct Double(u64, ReplyTo<u64>);

impl Actor for Doubler {
    type Msg = Double;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Double>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Double>,
        Double(number, reply): Double,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        drop(reply.send(number * 2));
        Ok(())
    }
}

fn doubler() -> Worker<Doubler> {
    Worker::new("doubler", || (Doubler, ())).unwrap()
}

fn config(role: Role, through: Option<&Node>) -> Config {
    let mut config = Config::default();
    config.mesh.role = role;
    let seeds = through.into_iter().flat_map(|node| node.mesh().listening());
    config.mesh.bootstrap.seeds = seeds.map(Seed::Address).collect();
    config
}

async fn start(realm: &EphemeralRealm, role: Role, through: Option<&Node>) -> Node {
    let builder = Node::builder().credentials(realm.member().unwrap());
    builder.config(config(role, through)).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_node_brings_others_together_and_runs_no_workloads() {
    let realm = EphemeralRealm::new().unwrap();
    let bootstrap = start(&realm, Role::Bootstrap, None).await;
    let tiers: Vec<String> =
        bootstrap.snapshot().await.children.iter().map(|child| child.path.to_string()).collect();
    assert_eq!(tiers, ["infrastructure"]);
    let refused = bootstrap.spawn(doubler()).await;
    assert!(matches!(refused, Err(AdminError::Refused(_))), "{refused:?}");

    let one = start(&realm, Role::Server, Some(&bootstrap)).await;
    let two = start(&realm, Role::Server, Some(&bootstrap)).await;
    let actor: Handle<Double> = one.spawn(doubler()).await.unwrap();
    let refused = bootstrap.serve("doubler", &actor, Double);
    assert_eq!(refused.err(), Some(ServeError::Bootstrap));
    let _serving = one.serve("workload/doubler", &actor, Double).unwrap();
    tokio::time::timeout(WITHIN, one.mesh().announced()).await.unwrap();
    let doubler = two.named::<u64, u64>("workload/doubler").wait_for_ready();
    assert_eq!(doubler.call_within(WITHIN, &21).await, Ok(42));
    for node in [two, one, bootstrap] {
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_bootstrap_node_for_which_workloads_are_declared_does_not_start() {
    let realm = EphemeralRealm::new().unwrap();
    let builder = Node::builder().credentials(realm.member().unwrap()).workload(doubler());
    let started = builder.config(config(Role::Bootstrap, None)).start().await;
    let error = started.err().unwrap();
    assert!(matches!(error, Error::Workloads(1)), "{error}");
}
