//! Connections whose peer's certificate ends, or is taken back.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use macula_core::identity::{Authority, Revocation, Validity};
use macula_infra::remote::DownReason;
use macula_infra::transport::tls::{Credentials, Enforcement, JoinToken, Showing, Trust};
use macula_infra::transport::{CloseCode, Closed};

use crate::pki;
use crate::tiers::{Node, WITHIN, realm, showing, until};

#[expect(clippy::disallowed_methods, reason = "certificates end by the system's own time")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn authority() -> Authority {
    let valid = Validity::from_now(now(), Duration::from_secs(86_400));
    Authority::with_key("home", pki::key(99), valid).unwrap()
}

async fn node(showing: &Showing, seed: u8, trust: Trust, enforcement: Enforcement) -> Node {
    let credentials = Credentials::new(showing, trust, enforcement, now).unwrap();
    Node::start(seed, credentials, Duration::from_secs(86_400)).await
}

/// Two nodes with a connection; the certificate of the second holds for some seconds.
async fn pair(by: &Authority, seconds: u64) -> (Node, Node) {
    let trust = || realm(&[by], Vec::new());
    let one = node(&showing(1, by, now(), 3_600), 1, trust(), Enforcement::Enforce).await;
    let two = node(&showing(2, by, now(), seconds), 2, trust(), Enforcement::Enforce).await;
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    assert_eq!(one.ask(&two, 1).await, Ok(1));
    (one, two)
}

/// The first node closes its connection to the second as distrusted, and tells those who watch.
async fn closes(one: &Node, two: &Node, then: impl FnOnce()) {
    let link = one.infra.mesh.links().into_iter().next().unwrap();
    let back = two.infra.mesh.links().into_iter().next().unwrap();
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let mut monitor = remote.handle::<u64, u64>("echo").monitor().await.unwrap();
    then();
    let down = tokio::time::timeout(WITHIN, monitor.down()).await.unwrap().unwrap();
    let told = matches!(&down.reason, DownReason::NodeGone(why) if why.contains("distrusted"));
    assert!(told, "{down:?}");
    assert_eq!(link.ended(), Some(Closed::Here(CloseCode::Distrusted)));
    until("the peer hears of it", || back.ended().is_some()).await;
    println!("the peer was told {:?}", back.ended());
    assert!(one.ask(two, 2).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_closes_its_connection() {
    let by = authority();
    let (one, two) = pair(&by, 2).await;
    closes(&one, &two, || ()).await;
    let refused = one.credentials().refusals();
    assert!(refused.get("expired").is_some_and(|count| *count > 0), "{refused:?}");
    // With a new certificate it is as before.
    let renewed = showing(2, &by, now(), 3_600);
    let trust = realm(&[&by], Vec::new());
    two.credentials().replace(&renewed, trust, Enforcement::Enforce).unwrap();
    let again = async { while one.ask(&two, 3).await.is_err() {} };
    tokio::time::timeout(WITHIN, again).await.unwrap();
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_back_a_certificate_that_no_connection_was_made_with_closes_none() {
    let by = authority();
    let (one, two) = pair(&by, 3_600).await;
    let leaf = showing(2, &by, now(), 3_600);
    // The second node shows this one from now on, over a connection that stays.
    let trust = realm(&[&by], Vec::new());
    two.credentials().replace(&leaf, trust, Enforcement::Enforce).unwrap();
    assert_eq!(one.ask(&two, 2).await, Ok(2));
    let valid = Validity::from_now(now(), Duration::from_secs(3_600));
    let take_back = |showing: &Showing, number: u64| {
        let serial = showing.chain.first().unwrap().facts().unwrap().serial;
        let revoked = [Revocation { serial, at: now() }];
        let list = by.revocation_list(&revoked, number, valid).unwrap();
        let own = self::showing(1, &by, now(), 3_600);
        let trust = realm(&[&by], vec![list]);
        one.credentials().replace(&own, trust, Enforcement::Enforce).unwrap();
    };
    // It was not this one that the connection was made with.
    let links = one.link_ids();
    take_back(&leaf, 1);
    assert_eq!(one.ask(&two, 3).await, Ok(3));
    assert_eq!(one.link_ids(), links);
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_taken_back_closes_its_connection() {
    let by = authority();
    let trust = || realm(&[&by], Vec::new());
    let shown = showing(2, &by, now(), 3_600);
    let one = node(&showing(1, &by, now(), 3_600), 1, trust(), Enforcement::Enforce).await;
    let two = node(&shown, 2, trust(), Enforcement::Enforce).await;
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    assert_eq!(one.ask(&two, 1).await, Ok(1));
    closes(&one, &two, || {
        let serial = shown.chain.first().unwrap().facts().unwrap().serial;
        let valid = Validity::from_now(now(), Duration::from_secs(3_600));
        let list = by.revocation_list(&[Revocation { serial, at: now() }], 1, valid).unwrap();
        let (own, trust) = (showing(1, &by, now(), 3_600), realm(&[&by], vec![list]));
        one.credentials().replace(&own, trust, Enforcement::Enforce).unwrap();
    })
    .await;
    assert!(one.credentials().refusals().get("revoked").is_some_and(|count| *count > 0));
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_only_reported_stays_until_refusals_are_enforced() {
    let (by, other) = (authority(), pki::named_authority("other", 98));
    let trust = || realm(&[&by], Vec::new());
    let one = node(&showing(1, &by, now(), 3_600), 1, trust(), Enforcement::Report).await;
    let two = node(&showing(2, &other, now(), 3_600), 2, trust(), Enforcement::Report).await;
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    assert_eq!(one.ask(&two, 1).await, Ok(1));
    assert!(one.credentials().refusals().get("unknown_issuer").is_some_and(|count| *count > 0));
    closes(&one, &two, || {
        let own = showing(1, &by, now(), 3_600);
        one.credentials().replace(&own, trust(), Enforcement::Enforce).unwrap();
    })
    .await;
    one.root.stop().await;
    two.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_struck_off_the_list_loses_its_connection() {
    let by = authority();
    let pin = |seed| showing(seed, &by, now(), 60).chain.first().unwrap().spki_sha256().unwrap();
    let ids = |seeds: &[u8]| {
        let allow = seeds.iter().map(|seed| pki::node(*seed)).collect();
        Trust::NodeId { allow, token: None }
    };
    let pins =
        |seeds: &[u8]| Trust::Pin { pins: seeds.iter().copied().map(pin).collect(), realm: None };
    for (before, after, kind) in
        [(ids(&[1, 2]), ids(&[1]), "not_allowed"), (pins(&[1, 2]), pins(&[1]), "not_pinned")]
    {
        let own = showing(1, &by, now(), 3_600);
        let one = node(&own, 1, before.clone(), Enforcement::Enforce).await;
        let shown = showing(2, &by, now(), 3_600);
        let two = node(&shown, 2, before, Enforcement::Enforce).await;
        two.infra.mesh.introduce(one.infra.mesh.node(), one.infra.mesh.listening());
        assert_eq!(two.ask(&one, 1).await, Ok(1));
        // The acceptor's list says whom it lets in, so the other has to have dialled.
        let link = one.infra.mesh.links().into_iter().next().unwrap();
        one.credentials().replace(&own, after, Enforcement::Enforce).unwrap();
        until("the connection is closed", || link.ended().is_some()).await;
        assert_eq!(link.ended(), Some(Closed::Here(CloseCode::Distrusted)));
        assert!(one.credentials().refusals().get(kind).is_some_and(|count| *count > 0));
        one.root.stop().await;
        two.root.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_came_with_a_join_token_stays_as_long_as_it_is_the_token() {
    let by = authority();
    let token = |text: &str| JoinToken::new(text).unwrap();
    let ids = |text: &str| Trust::NodeId { allow: BTreeSet::new(), token: Some(token(text)) };
    let own = showing(1, &by, now(), 3_600);
    let before = ids("the first join token");
    let one = node(&own, 1, before.clone(), Enforcement::Enforce).await;
    let two = node(&showing(2, &by, now(), 3_600), 2, before.clone(), Enforcement::Enforce).await;
    two.infra.mesh.introduce(one.infra.mesh.node(), one.infra.mesh.listening());
    assert_eq!(two.ask(&one, 1).await, Ok(1));
    let link = one.infra.mesh.links().into_iter().next().unwrap();
    one.credentials().replace(&own, before, Enforcement::Enforce).unwrap();
    assert_eq!(two.ask(&one, 2).await, Ok(2));
    one.credentials().believe(ids("the second join token"), Enforcement::Enforce).unwrap();
    until("the connection is closed", || link.ended().is_some()).await;
    assert!(one.credentials().refusals().get("wrong_token").is_some_and(|count| *count > 0));
    one.root.stop().await;
    two.root.stop().await;
}
