//! Whole nodes whose certificates are replaced, end and are taken back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use macula_core::identity::{Authority, Certificate, Validity};
use macula_core::supervision::{Root, Supervisor, TreeOptions, Worker};
use macula_infra::remote::{CallError, ReplyTo};
use macula_infra::tier::{self, Infrastructure};
use macula_infra::transport::tls::{Credentials, Enforcement, Realm, Showing, Trust};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::pki::{self, NOW};

/// The longest that a state is waited for: far more than it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Echo;

#[derive(Debug)]
pub(crate) struct Ask(u64, ReplyTo<u64>);

impl Actor for Echo {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(number, reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        drop(reply.send(number));
        Ok(())
    }
}

/// A whole node that serves an echo.
pub(crate) struct Node {
    seed: u8,
    pub(crate) root: Root,
    pub(crate) infra: Infrastructure,
}

impl Node {
    pub(crate) async fn start(seed: u8, credentials: Credentials, lifetime: Duration) -> Self {
        let mut config = tier::Config::new(credentials, 1);
        config.pool.lifetime = lifetime;
        let (spec, infra) = tier::spec(config).unwrap();
        let (worker, echo) = Worker::new("echo", || (Echo, ())).unwrap().split();
        let root = Supervisor::new("root").unwrap().child(spec).child(worker);
        let root = root.start(TreeOptions::default()).await.unwrap();
        infra.mesh.serve("echo", &echo, Ask).unwrap().keep();
        Self { seed, root, infra }
    }

    pub(crate) async fn ask(&self, other: &Self, number: u64) -> Result<u64, CallError> {
        self.infra.mesh.remote(other.infra.mesh.node()).handle("echo").call(&number).await
    }

    fn credentials(&self) -> &Credentials {
        self.infra.mesh.credentials()
    }

    /// The node shows a certificate of an authority, and believes something.
    pub(crate) fn replace(&self, by: &Authority, trust: Trust) {
        let (showing, enforcement) = (showing(self.seed, by, NOW, 3_600), Enforcement::Enforce);
        self.credentials().replace(&showing, trust, enforcement).unwrap();
    }

    fn link_ids(&self) -> BTreeSet<macula_infra::pool::proto::ConnId> {
        self.infra.mesh.links().iter().map(|link| link.id).collect()
    }
}

pub(crate) fn showing(seed: u8, by: &Authority, now: Duration, seconds: u64) -> Showing {
    let key = pki::key(seed);
    let valid = Validity::from_now(now, Duration::from_secs(seconds));
    let chain = vec![by.issue(key.node_id(), valid, &[]).unwrap()];
    Showing { key, chain }
}

pub(crate) fn realm(authorities: &[&Authority], revocation_lists: Vec<Vec<u8>>) -> Trust {
    let authorities = authorities.iter().map(|by| by.certificate().clone()).collect();
    Trust::Realm(Realm { authorities, revocation_lists })
}

fn pins(seeds: &[u8]) -> Trust {
    let pin = |seed: &u8| {
        let shown: Vec<Certificate> = showing(*seed, &pki::authority(), NOW, 60).chain;
        shown.first().unwrap().spki_sha256().unwrap()
    };
    Trust::Pin { pins: seeds.iter().map(pin).collect(), realm: None }
}

/// Waits for a state.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, waiting).await.is_ok(), "it never came that {what}");
}

/// In which directions callers call.
#[derive(Clone, Copy)]
enum Ways {
    /// From the first node only.
    There,
    /// From both.
    ThereAndBack,
}

/// Callers without pause.
struct Load {
    calls: Arc<[AtomicU64]>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<CallError>>,
}

impl Load {
    fn start(one: &Node, two: &Node, ways: Ways) -> Self {
        let callers = 16;
        let calls: Arc<[AtomicU64]> = (0..callers).map(|_| AtomicU64::new(0)).collect();
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..callers {
            let back = number % 2 == 1 && matches!(ways, Ways::ThereAndBack);
            let (from, to) = if back { (two, one) } else { (one, two) };
            let echo = from.infra.mesh.remote(to.infra.mesh.node()).handle::<u64, u64>("echo");
            let (calls, stop) = (Arc::clone(&calls), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut failed = Vec::new();
                let mut sent = 0;
                while !stop.load(Ordering::SeqCst) {
                    sent += 1;
                    match echo.call(&sent).await {
                        Ok(answer) => assert_eq!(answer, sent),
                        Err(error) => failed.push(error),
                    }
                    calls.get(number).unwrap().fetch_add(1, Ordering::SeqCst);
                }
                failed
            });
        }
        Self { calls, stop, tasks }
    }

    /// Waits until each caller has called some more times.
    async fn goes_on(&self, times: u64) {
        let count = || self.calls.iter().map(|calls| calls.load(Ordering::SeqCst));
        let begin: Vec<u64> = count().collect();
        let on = || count().zip(&begin).all(|(now, begin)| now >= begin + times);
        until("all callers go on", on).await;
    }

    /// No call has failed.
    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        let failed: Vec<_> = self.tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(failed, []);
        let calls: u64 = self.calls.iter().map(|calls| calls.load(Ordering::SeqCst)).sum();
        println!("{calls} calls, and none has failed");
    }
}

/// Replaces what both nodes show and believe, one after the other and step by step, under load. No
/// call fails, and no connection is closed.
async fn replaced(one: &Node, two: &Node, steps: &[(&Authority, Trust)]) {
    let load = Load::start(one, two, Ways::ThereAndBack);
    load.goes_on(50).await;
    let links = (one.link_ids(), two.link_ids());
    for (by, trust) in steps {
        for node in [one, two] {
            node.replace(by, trust.clone());
            load.goes_on(50).await;
        }
    }
    assert_eq!((one.link_ids(), two.link_ids()), links);
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_authorities_and_pins_are_replaced_under_load_and_no_call_fails() {
    let (old, new) = (pki::authority(), pki::named_authority("home", 98));
    let trust = |by: &[&Authority]| realm(by, Vec::new());
    let start = async |seed: u8, lifetime: u64| {
        let showing = showing(seed, &old, NOW, 3_600);
        let credentials = Credentials::new(&showing, trust(&[&old]), Enforcement::Enforce, || NOW);
        Node::start(seed, credentials.unwrap(), Duration::from_secs(lifetime)).await
    };
    let (one, two) = (start(1, 10).await, start(2, 86_400).await);
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    assert_eq!(one.ask(&two, 1).await, Ok(1));
    let both = trust(&[&old, &new]);
    let first = [(&old, trust(&[&old])), (&old, both.clone()), (&new, both)];
    replaced(&one, &two, &first).await;
    // Connections have a lifetime. Once they were made anew, nobody needs the old authority.
    let load = Load::start(&one, &two, Ways::There);
    let links = (one.link_ids(), two.link_ids());
    let anew = |node: &Node, old: &BTreeSet<_>| {
        let now = node.link_ids();
        !now.is_empty() && now.is_disjoint(old)
    };
    until("connections are made anew", || anew(&one, &links.0) && anew(&two, &links.1)).await;
    load.stop().await;
    let last = [(&new, trust(&[&new])), (&new, pins(&[1, 2, 3])), (&new, pins(&[1, 2]))];
    replaced(&one, &two, &last).await;
    one.root.stop().await;
    two.root.stop().await;
}
