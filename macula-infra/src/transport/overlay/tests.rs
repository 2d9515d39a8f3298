//! Datagrams between nodes, and whole connections upon them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::{Keypair, NodeId};
use tokio::sync::mpsc;

use super::{DIAL, Datagram, LISTEN, Overlay, WAITING_MAX, is_overlay};
use crate::tier::tests::{authority, credentials};
use crate::transport::datagrams::Datagrams as _;
use crate::transport::{Arrival, Config, Endpoint, Me, Side, Sockets};

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

#[test]
fn addresses_follow_from_nodes() {
    let (one, two) = (Overlay::address_of(node(1)), Overlay::address_of(node(2)));
    assert!(is_overlay(one) && is_overlay(two) && one != two);
    assert_eq!(one.to_string(), "[fd6d:6163:756c:e4ea:2b0a:fe2f:d477:d121]:1");
    assert!(!is_overlay("[fd6d:6163:756d::1]:1".parse().unwrap()));
    assert!(!is_overlay("127.0.0.1:1".parse().unwrap()));
}

#[test]
fn what_is_sent_is_carried_to_a_node_that_is_known_and_received_in_order() {
    let (one, two) = (Overlay::new(node(1)), Overlay::new(node(2)));
    let carried = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&carried);
    one.carry(Box::new(move |datagram| log.lock().unwrap().push(datagram)));
    let to = Overlay::address_of(node(2));
    one.dialler().send(b"nobody", to);
    one.know(node(2));
    one.dialler().send(b"first", to);
    one.dialler().send(b"second", to);
    let carried = std::mem::take(&mut *carried.lock().unwrap());
    assert_eq!(carried.len(), 2);
    for datagram in carried {
        assert_eq!((datagram.node, datagram.from, datagram.to), (node(2), DIAL, LISTEN));
        two.deliver(Datagram { node: node(1), ..datagram });
    }
    let (tap, mut buffer) = (two.listener(), [0; 64]);
    let (len, from) = tap.receive(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from.ip()), (&b"first"[..], Overlay::address_of(node(1)).ip()));
    assert_eq!(from.port(), DIAL);
    assert_eq!(tap.receive(&mut buffer).map(|(len, _)| len), Some(6));
    assert_eq!(tap.receive(&mut buffer), None);
    assert_eq!(two.dialler().receive(&mut buffer), None);
}

#[test]
fn no_more_waits_than_may() {
    let two = Overlay::new(node(2));
    for _ in 0..2 * WAITING_MAX {
        let payload = Bytes::from("x");
        two.deliver(Datagram { node: node(1), from: DIAL, to: LISTEN, payload: payload.clone() });
        two.deliver(Datagram { node: node(1), from: DIAL, to: 7, payload });
    }
    assert_eq!(two.0.listen.waiting.lock().len(), WAITING_MAX);
}

/// An endpoint that is on the overlay alone, and what arrives there.
async fn endpoint(seed: u8, overlay: &Overlay) -> (Endpoint, mpsc::Receiver<Arrival>) {
    let config = Config { listen: Vec::new(), ..Config::default() };
    let sockets = Sockets::bind(&config).unwrap();
    sockets.attach(overlay.clone(), true);
    let credentials = credentials(&authority(), seed);
    let me = Me { credentials, incarnation: 1, listen: Vec::new(), realm: [0; 32], seed: None };
    Endpoint::start(config, Arc::new(sockets), me).await.unwrap()
}

/// Carries what one sends to the other, all but every `lost`th datagram.
fn wire(from: &Overlay, own: NodeId, to: &Overlay, lost: usize) {
    let (to, count) = (to.clone(), Mutex::new(0_usize));
    from.carry(Box::new(move |datagram| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if !count.is_multiple_of(lost) {
            to.deliver(Datagram { node: own, ..datagram });
        }
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_dialled_over_the_overlay_proves_who_it_is() {
    let (one, two) = (Overlay::new(node(1)), Overlay::new(node(2)));
    wire(&one, node(1), &two, 20);
    wire(&two, node(2), &one, 20);
    let (dialler, _none) = endpoint(1, &one).await;
    let (_listener, mut arrivals) = endpoint(2, &two).await;
    one.know(node(2));
    let address = Overlay::address_of(node(2));
    let dialled = dialler.dial(address, Some(node(2))).await.unwrap();
    assert_eq!((dialled.opener.node, dialled.opener.address), (node(2), address));
    let arrived = arrivals.recv().await.unwrap();
    assert_eq!((arrived.opener.node, arrived.opener.side), (node(1), Side::Acceptor));
    assert!(is_overlay(arrived.opener.address));
    // Somebody else who is reached under that address is found out.
    let refused = dialler.dial(address, Some(node(3))).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_carries_to_is_not_reached() {
    let one = Overlay::new(node(1));
    let config = Config {
        listen: Vec::new(),
        handshake_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let sockets = Sockets::bind(&config).unwrap();
    sockets.attach(one.clone(), true);
    let credentials = credentials(&authority(), 1);
    let me = Me { credentials, incarnation: 1, listen: Vec::new(), realm: [0; 32], seed: None };
    let (endpoint, _none) = Endpoint::start(config, Arc::new(sockets), me).await.unwrap();
    let dialled = endpoint.dial(Overlay::address_of(node(2)), Some(node(2))).await;
    assert!(dialled.is_err(), "{dialled:?}");
}
