//! An endpoint whose parts end by themselves is noticed, and made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use macula_core::identity::{Authority, Certificate, Keypair, NodeId, Validity};
use macula_core::supervision::{Handle, Root, Supervisor, TreeOptions};
use parking_lot::Mutex;

use super::{Broken, Current, Parts, worker};
use crate::transport::tls::{Credentials, Enforcement, Realm, Showing, Trust};
use crate::transport::{Config, Endpoint, Me, Sockets};

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A bound for what would otherwise hang.
const WITHIN: Duration = Duration::from_secs(60);

fn shown(seed: u8) -> (Showing, Trust) {
    let valid = Validity::from_now(NOW, Duration::from_secs(86_400));
    let authority = Authority::with_key("home", Keypair::from_seed([99; 32]), valid).unwrap();
    let key = Keypair::from_seed([seed; 32]);
    let chain: Vec<Certificate> = vec![authority.issue(key.node_id(), valid, &[]).unwrap()];
    let authorities = vec![authority.certificate().clone()];
    let realm = Realm { authorities, revocation_lists: Vec::new() };
    (Showing { key, chain }, Trust::Realm(realm))
}

/// A supervised endpoint, and how to break it.
struct Supervised {
    root: Root,
    handle: Handle<Broken>,
    current: Current,
    credentials: Credentials,
    node: NodeId,
    /// At which look from now on the calendar panics; 0 for none.
    calendar_panics: Arc<AtomicU32>,
    sink_panics: Arc<AtomicBool>,
}

async fn supervised(seed: u8, config: Config) -> Supervised {
    let (calendar_panics, sink_panics) = (Arc::new(AtomicU32::new(0)), Arc::default());
    let ((showing, trust), panics) = (shown(seed), Arc::clone(&calendar_panics));
    let calendar = move || {
        let next = |left: u32| left.checked_sub(1);
        let left = panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        assert_ne!(left, Ok(1), "asked to");
        NOW
    };
    let credentials = Credentials::new(&showing, trust, Enforcement::Enforce, calendar).unwrap();
    let sockets = Arc::new(Sockets::bind(&config).unwrap());
    let listen = sockets.listening();
    let me =
        Me { credentials: credentials.clone(), incarnation: 1, listen, realm: [0; 32], seed: None };
    let (current, panics) = (Current::default(), Arc::<AtomicBool>::clone(&sink_panics));
    let held = Mutex::new(Vec::new());
    let sink = Arc::new(move |connection, _gone| {
        held.lock().push(connection);
        assert!(!panics.swap(false, Ordering::Relaxed), "asked to");
    });
    let parts = Parts { config, sockets, me, current: current.clone(), sink };
    let (spec, handle) = worker(parts).unwrap().split();
    let root = Supervisor::new("root").unwrap().child(spec).start(TreeOptions::default());
    let (root, node) = (root.await.unwrap(), credentials.node());
    Supervised { root, handle, current, credentials, node, calendar_panics, sink_panics }
}

impl Supervised {
    /// Waits for the next life, and dials it.
    async fn is_back(&self, dialler: &Endpoint) {
        assert_eq!(tokio::time::timeout(WITHIN, self.handle.next_life(1)).await, Ok(Some(2)));
        let (endpoint, _gone) = self.current.get().unwrap();
        let address = *endpoint.listening().first().unwrap();
        dialler.dial(address, Some(self.node)).await.unwrap();
    }
}

async fn dialler() -> Endpoint {
    let (showing, trust) = shown(2);
    let credentials = Credentials::new(&showing, trust, Enforcement::Enforce, || NOW).unwrap();
    let config = Config { listen: Vec::new(), ..Config::default() };
    let sockets = Arc::new(Sockets::bind(&config).unwrap());
    let me = Me { credentials, incarnation: 1, listen: Vec::new(), realm: [0; 32], seed: None };
    Endpoint::start(config, sockets, me).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_hear_any_more_is_made_anew() {
    let (one, two) = (supervised(1, Config::default()).await, dialler().await);
    one.current.get().unwrap().0.kill_listeners();
    one.is_back(&two).await;
    one.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_watch_over_trust_is_noticed() {
    let (one, two) = (supervised(1, Config::default()).await, dialler().await);
    // Whoever replaces looks first.
    one.calendar_panics.store(2, Ordering::Relaxed);
    let (showing, trust) = shown(1);
    one.credentials.replace(&showing, trust, Enforcement::Enforce).unwrap();
    one.is_back(&two).await;
    one.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_whoever_takes_arrivals_is_noticed() {
    let (one, two) = (supervised(1, Config::default()).await, dialler().await);
    one.sink_panics.store(true, Ordering::Relaxed);
    let address = *one.current.get().unwrap().0.listening().first().unwrap();
    // The panic may come before the dialler has all of the greeting, or after.
    drop(two.dial(address, Some(one.node)).await);
    one.is_back(&two).await;
    one.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_only_dials_is_not_broken() {
    let one = supervised(2, Config { listen: Vec::new(), ..Config::default() }).await;
    let two = supervised(1, Config::default()).await;
    let (dials, _gone) = one.current.get().unwrap();
    let address = *two.current.get().unwrap().0.listening().first().unwrap();
    // One after the other, so that any word of an end would have been heard.
    for _ in 0..3 {
        dials.dial(address, Some(two.node)).await.unwrap();
    }
    assert_eq!(one.handle.incarnation(), 1);
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialler_that_has_ended_is_made_anew() {
    let (one, two) = (supervised(1, Config::default()).await, dialler().await);
    let address = *one.current.get().unwrap().0.listening().first().unwrap();
    let made = two.dial(address, Some(one.node)).await.unwrap();
    two.kill_dialler().await;
    // What was dialled from it ends with it.
    let (_opener, mut streams, _control, _control_out) = made.into_parts();
    let ended = async { while streams.next().await.is_ok() {} };
    tokio::time::timeout(WITHIN, ended).await.unwrap();
    while two.dial(address, Some(one.node)).await.is_err() {}
    one.root.stop().await;
}
