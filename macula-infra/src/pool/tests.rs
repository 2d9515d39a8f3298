//! The pool around its policy: what becomes of callers and connections when the policy is restarted,
//! or when there is no place for a connection in the tree.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use macula_core::identity::{Authority, Keypair, NodeId, Validity};
use macula_core::shell::Inbox;
use macula_core::supervision::Supervisor;
use macula_core::wire::{Frame, Limits};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::proto::{Class, Input, Ticket};
use super::{AddressBook, Ground, LinkError, Pool};
use crate::link::{Caps, Link, Service, Services, Session};
use crate::transport::lane::{Body, Lane};
use crate::transport::tls::{Credentials, Enforcement, Realm, Showing, Trust};
use crate::transport::{Closed, Config, Connection, Current, Endpoint, Me, Sockets};

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A bound for what would otherwise hang.
const WITHIN: Duration = Duration::from_secs(60);

fn credentials(seed: u8) -> Credentials {
    let valid = Validity::from_now(NOW, Duration::from_secs(86_400));
    let authority = Authority::with_key("home", Keypair::from_seed([99; 32]), valid).unwrap();
    let key = Keypair::from_seed([seed; 32]);
    let chain = vec![authority.issue(key.node_id(), valid, &[]).unwrap()];
    let authorities = vec![authority.certificate().clone()];
    let trust = Trust::Realm(Realm { authorities, revocation_lists: Vec::new() });
    Credentials::new(&Showing { key, chain }, trust, Enforcement::Enforce, || NOW).unwrap()
}

async fn endpoint(credentials: Credentials) -> (Endpoint, mpsc::Receiver<Connection>) {
    let config = Config::default();
    let sockets = Arc::new(Sockets::bind(&config).unwrap());
    let me =
        Me { credentials, incarnation: 1, listen: sockets.listening(), realm: [0; 32], seed: None };
    Endpoint::start(config, sockets, me).await.unwrap()
}

/// A service that counts how often it is told of an end.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<AtomicU32>);

impl Service for Counts {
    fn first_kind(&self) -> u8 {
        0x20
    }

    fn open(&self, _link: &Arc<Link>) -> Arc<dyn Session> {
        Arc::new(self.clone())
    }
}

impl Session for Counts {
    fn frame(&self, _: &Arc<Link>, _: Lane, _: Frame) {}

    fn bulk(self: Arc<Self>, _: Arc<Link>, _: Frame, _: Body) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn unsupported(&self, _: &Arc<Link>, _: macula_core::wire::Kind, _: u64) {}

    fn closed(&self, _: &Arc<Link>, _: &Closed) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// A pool whose policy and whose place for connections are not there.
pub(crate) fn pool(node: NodeId, counts: &Counts) -> Pool {
    let (_never_started, peers) = Supervisor::dynamic("peers", 1).unwrap().split();
    Pool::new(Ground {
        node,
        caps: Caps {
            limits: Limits::default(),
            body_len_max: 1 << 20,
            lane_len_max: 1 << 20,
            writes_apart: false,
        },
        services: Services::default().with(Arc::new(counts.clone())),
        book: AddressBook::default(),
        current: Current::default(),
        peers,
    })
}

fn node(seed: u8) -> NodeId {
    Keypair::from_seed([seed; 32]).node_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_place_in_the_tree_is_over_for_all_who_use_it() {
    let ((one, mut arrivals), (two, _arrivals)) =
        (endpoint(credentials(1)).await, endpoint(credentials(2)).await);
    let address = *one.listening().first().unwrap();
    let _dialled = two.dial(address, Some(node(1))).await.unwrap();
    let (counts, inbox) = (Counts::default(), Inbox::new(16));
    let pool = pool(node(1), &counts);
    pool.0.roster.begin(&inbox);
    pool.arrived(arrivals.recv().await.unwrap(), CancellationToken::new());
    let over = async {
        while counts.0.load(Ordering::Relaxed) == 0 || !pool.links().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, over).await.unwrap();
    assert_eq!(counts.0.load(Ordering::Relaxed), 1);
    // The policy has heard that it came, and that it has gone.
    assert_eq!(inbox.len(), 2);
}

#[tokio::test]
async fn whoever_waits_for_a_policy_that_ends_asks_the_next() {
    let pool = pool(node(1), &Counts::default());
    let (first, second) = (Inbox::new(16), Inbox::new(16));
    pool.0.roster.begin(&first);
    let (caller, peer) = (pool.clone(), node(2));
    let waiting = tokio::spawn(async move { caller.link(peer).await });
    while first.is_empty() {
        tokio::task::yield_now().await;
    }
    // It is never answered. There may be none for a while, and the next one hears of the wish.
    pool.0.roster.end();
    tokio::task::yield_now().await;
    pool.0.roster.begin(&second);
    let asked = async {
        while second.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, asked).await.unwrap();
    assert_eq!(first.len(), 1);
    waiting.abort();
}

#[tokio::test]
async fn whoever_asks_while_the_policy_changes_asks_the_new_one() {
    let pool = pool(node(1), &Counts::default());
    let (first, second) = (Inbox::new(16), Inbox::new(16));
    pool.0.roster.begin(&first);
    // Its life is over, and nobody has noticed yet.
    let want = Input::Want { ticket: Ticket(1), peer: node(2), addresses: Vec::new() };
    let granted = pool.0.roster.ask(Ticket(1), want).await.unwrap();
    pool.0.roster.begin(&second);
    let told = tokio::time::timeout(WITHIN, granted).await.unwrap();
    assert!(told.is_err(), "it has to ask again");
    assert!(pool.0.roster.answer(Ticket(1)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_not_there_is_not_waited_for_for_ever() {
    let pool = pool(node(1), &Counts::default());
    let told = pool.link(node(2)).await.unwrap_err();
    assert_eq!(told, LinkError::NotReady("the pool's policy is not there"));
}

#[tokio::test]
async fn what_is_protected_stays_so_when_the_policy_is_restarted() {
    let pool = pool(node(1), &Counts::default());
    pool.introduce(node(2), [SocketAddr::from(([127, 0, 0, 1], 1))]);
    // Also if there is no policy now.
    pool.protect(node(2), Class::Voter);
    pool.protect(node(3), Class::Relay);
    let (first, second) = (Inbox::new(16), Inbox::new(16));
    pool.0.roster.begin(&first);
    assert_eq!(first.len(), 2);
    pool.release(node(3), Class::Relay);
    assert_eq!(first.len(), 3);
    pool.0.roster.begin(&second);
    assert_eq!(second.len(), 1);
}
