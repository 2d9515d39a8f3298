//! What nodes show and believe is replaced while they work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use macula_core::identity::{Authority, Certificate};
use macula_infra::remote::CallError;
use macula_infra::transport::tls::{Credentials, Enforcement, Trust};
use tokio::task::JoinSet;

use crate::pki::{self, NOW};
use crate::tiers::{Node, realm, showing, until};

fn pins(seeds: &[u8]) -> Trust {
    let pin = |seed: &u8| {
        let shown: Vec<Certificate> = showing(*seed, &pki::authority(), NOW, 60).chain;
        shown.first().unwrap().spki_sha256().unwrap()
    };
    Trust::Pin { pins: seeds.iter().map(pin).collect(), realm: None }
}

/// How old a connection becomes, give or take a tenth.
const LIFETIME: Duration = Duration::from_secs(10);

/// Callers without pause, in both directions.
struct Load {
    calls: Arc<[AtomicU64]>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<CallError>>,
}

impl Load {
    fn start(one: &Node, two: &Node) -> Self {
        let callers = 16;
        let calls: Arc<[AtomicU64]> = (0..callers).map(|_| AtomicU64::new(0)).collect();
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..callers {
            let back = number % 2 == 1;
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
    let load = Load::start(one, two);
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
    let start = async |seed: u8| {
        let showing = showing(seed, &old, NOW, 3_600);
        let credentials = Credentials::new(&showing, trust(&[&old]), Enforcement::Enforce, || NOW);
        Node::start(seed, credentials.unwrap(), LIFETIME).await
    };
    let (one, two) = (start(1).await, start(2).await);
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    assert_eq!(one.ask(&two, 1).await, Ok(1));
    let both = trust(&[&old, &new]);
    let first = [(&old, trust(&[&old])), (&old, both.clone()), (&new, both)];
    replaced(&one, &two, &first).await;
    // Connections have a lifetime. Once they were made anew, nobody needs the old authority.
    let load = Load::start(&one, &two);
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
