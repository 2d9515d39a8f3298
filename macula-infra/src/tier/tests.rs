//! Whole tiers, two in one process, over real QUIC on the loopback interface.

mod access;
mod discovery;
mod names;
mod ports;
mod pubsub;
mod relay;
mod rpc;
mod streams;

use std::time::Duration;

use macula_core::identity::{Authority, Keypair, Validity};
use macula_core::supervision::{Handle, Root, Supervisor, TreeOptions, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Config, Infrastructure, spec, transport};
use crate::remote::{CallError, DownReason, ReplyTo, Unavailability};
use crate::transport::tls::{Credentials, Enforcement, Realm, Showing, Trust};

const NOW: Duration = Duration::from_secs(1_800_000_000);

pub(crate) fn authority() -> Authority {
    let valid = Validity::from_now(NOW, Duration::from_secs(86_400));
    Authority::with_key("home", Keypair::from_seed([99; 32]), valid).unwrap()
}

pub(crate) fn credentials(authority: &Authority, seed: u8) -> Credentials {
    credentials_with(authority, seed, &[])
}

fn credentials_with(authority: &Authority, seed: u8, roles: &[&str]) -> Credentials {
    credentials_of(&[authority], authority, seed, roles)
}

/// Of a node that one authority vouches for, and that believes several.
fn believing(believed: &[&Authority], authority: &Authority, seed: u8) -> Credentials {
    credentials_of(believed, authority, seed, &[])
}

fn credentials_of(
    believed: &[&Authority],
    authority: &Authority,
    seed: u8,
    roles: &[&str],
) -> Credentials {
    let key = Keypair::from_seed([seed; 32]);
    let valid = Validity::from_now(NOW, Duration::from_secs(3_600));
    let certificate = authority.issue(key.node_id(), valid, roles).unwrap();
    let authorities = believed.iter().map(|authority| authority.certificate().clone()).collect();
    let trust = Trust::Realm(Realm { authorities, revocation_lists: Vec::new() });
    let showing = Showing { key, chain: vec![certificate] };
    Credentials::new(&showing, trust, Enforcement::Enforce, || NOW).unwrap()
}

pub(crate) enum Ask {
    Add(u64, ReplyTo<u64>),
    Panic(ReplyTo<u64>),
    Slow(ReplyTo<u64>),
}

struct Counter;

impl Actor for Counter {
    type Msg = Ask;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Add(number, reply) => {
                *sum += number;
                drop(reply.send(*sum));
            }
            Ask::Panic(_reply) => panic!("asked to"),
            Ask::Slow(reply) => reply.cancelled().await,
        }
        Ok(())
    }
}

pub(crate) struct Node {
    pub(crate) root: Root,
    pub(crate) infra: Infrastructure,
    pub(crate) counter: Handle<Ask>,
}

#[tokio::test]
async fn what_cannot_stand_is_told_before_anything_runs() {
    let told = |change: &dyn Fn(&mut super::Discovery)| {
        let mut config = Config::new(credentials(&authority(), 1), 1);
        change(&mut config.discovery);
        spec(config).map(drop).unwrap_err().to_string()
    };
    let all = [
        told(&|discovery| discovery.membership.relays = 0),
        told(&|discovery| discovery.dht.lookup.alpha = 0),
        told(&|discovery| discovery.limits.provider_ttl_max = Duration::from_secs(1)),
    ];
    insta::assert_snapshot!(all.join("\n"), @r"
    membership: relays is 0, and has to be 1 to 16
    dht: alpha is 0, and has to be 1 to 16
    dht: provider_ttl_max is 1s, and has to be 1m to 1day
    ");
}

async fn node(authority: &Authority, seed: u8) -> Node {
    node_with(authority, seed, transport::Config::default()).await
}

pub(crate) async fn node_with(
    authority: &Authority,
    seed: u8,
    transport: transport::Config,
) -> Node {
    node_of(Config { transport, ..Config::new(credentials(authority, seed), 1) }).await
}

async fn node_of(config: Config) -> Node {
    let (spec, infra) = spec(config).unwrap();
    let (worker, counter) = Worker::new("counter", || (Counter, ())).unwrap().split();
    let root = Supervisor::new("root").unwrap().intensity(100, Duration::from_secs(1));
    let root = root.child(spec).child(worker).start(TreeOptions::default()).await.unwrap();
    infra.mesh.serve("counter", &counter, Ask::Add).unwrap().keep();
    infra.mesh.serve("panic", &counter, |(): (), reply| Ask::Panic(reply)).unwrap().keep();
    infra.mesh.serve("slow", &counter, |(): (), reply| Ask::Slow(reply)).unwrap().keep();
    Node { root, infra, counter }
}

pub(crate) async fn pair() -> (Node, Node) {
    let authority = authority();
    let (one, two) = (node(&authority, 1).await, node(&authority, 2).await);
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_on_another_node_answers() {
    let (one, two) = pair().await;
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let counter = remote.handle::<u64, u64>("counter");
    assert_eq!(counter.call(&3).await, Ok(3));
    assert_eq!(counter.call(&4).await, Ok(7));
    // And the other way round, over the same connection.
    let back = two.infra.mesh.remote(one.infra.mesh.node()).handle::<u64, u64>("counter");
    assert_eq!(back.call(&1).await, Ok(1));
    assert_eq!(one.infra.mesh.links().len(), 1);
    assert_eq!(two.infra.mesh.links().len(), 1);
    let itself = one.infra.mesh.remote(one.infra.mesh.node()).handle::<u64, u64>("counter");
    assert_eq!(itself.call(&1).await, Ok(2));
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_error() {
    let (one, two) = pair().await;
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let nothing = remote.handle::<u64, u64>("nothing").call(&1).await;
    let not_served = Unavailability::NotServed("nothing".to_owned());
    assert_eq!(nothing, Err(CallError::Unavailable(not_served)));
    let other = remote.handle::<String, u64>("counter").call(&"x".to_owned()).await;
    assert!(matches!(other, Err(CallError::Unsupported(_))), "{other:?}");
    let slow = remote.handle::<(), u64>("slow");
    let within = Duration::from_millis(50);
    assert_eq!(slow.call_within(within, &()).await, Err(CallError::TimedOut { within }));
    // The handler was cancelled, or the actor would not answer any more.
    assert_eq!(remote.handle::<u64, u64>("counter").call(&1).await, Ok(1));
    let panic = remote.handle::<(), u64>("panic").call(&()).await;
    assert_eq!(panic, Err(CallError::RemotePanic));
    two.counter.next_life(1).await;
    assert_eq!(remote.handle::<u64, u64>("counter").call(&1).await, Ok(1));
    let long = remote.handle::<String, u64>("counter").call(&"x".repeat(100 << 20)).await;
    assert!(matches!(long, Err(CallError::TooLarge { what: "question", .. })), "{long:?}");
    let nobody = Keypair::from_seed([7; 32]).node_id();
    let nobody = one.infra.mesh.remote(nobody).handle::<u64, u64>("counter").call(&1).await;
    assert_eq!(nobody, Err(CallError::Unavailable(Unavailability::NoAddress)));
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_actor_and_of_a_node_is_told_once() {
    let (one, two) = pair().await;
    let counter = one.infra.mesh.remote(two.infra.mesh.node()).handle::<u64, u64>("counter");
    let mut first = counter.monitor().await.unwrap();
    assert_eq!(first.incarnation(), 1);
    two.counter.actor_ref().unwrap().kill();
    let down = first.down().await.unwrap();
    assert_eq!(down.incarnation, 1);
    assert!(matches!(&down.reason, DownReason::Ended { kind, .. } if kind == "killed"), "{down:?}");
    assert_eq!(first.down().await, None);
    two.counter.next_life(1).await;
    let mut second = counter.monitor().await.unwrap();
    assert_eq!(second.incarnation(), 2);
    two.root.stop().await;
    let down = second.down().await.unwrap();
    assert_eq!(down.incarnation, 2);
    one.root.stop().await;
}
