//! Whoever is too many is not let in, before a handshake is paid for.

use std::net::SocketAddr;
use std::time::Duration;

use macula_infra::transport::tls::Enforcement;
use macula_infra::transport::{Admission, Config, Connection, DialError};
use tokio::task::JoinSet;

use crate::matrix::Good;
use crate::pki;
use crate::tiers::WITHIN;

async fn good(seed: u8, admission: Admission) -> (Good, SocketAddr) {
    let handshake_timeout = Duration::from_millis(500);
    let config = Config { admission, handshake_timeout, ..Config::default() };
    let good = Good::with(config, seed, pki::trust(), Enforcement::Enforce).await;
    let address = good.endpoint.listening().first().copied().unwrap();
    (good, address)
}

async fn dial(from: &Good, to: SocketAddr) -> Result<Connection, DialError> {
    from.endpoint.dial(to, Some(pki::node(1))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_may_be() {
    let all = Admission { connections_max: 3, ..Admission::default() };
    let of_one = Admission { connections_per_address_max: 3, ..Admission::default() };
    for admission in [all, of_one] {
        let (mut one, address) = good(1, admission).await;
        let (two, _) = good(2, Admission::default()).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push((dial(&two, address).await.unwrap(), one.arrivals.recv().await.unwrap()));
        }
        let fourth = dial(&two, address).await;
        assert!(matches!(fourth, Err(DialError::Busy { .. })), "{fourth:?}");
        assert!(one.arrivals.try_recv().is_err());
        // Once one has gone there is room for another.
        let (_, theirs) = held.pop().unwrap();
        drop(theirs);
        let again = async {
            loop {
                if let Ok(made) = dial(&two, address).await {
                    return made;
                }
            }
        };
        let _made: Connection = tokio::time::timeout(WITHIN, again).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_attempts_in_a_second() {
    let admission = Admission { attempts_per_address_per_s: 2, ..Admission::default() };
    let (one, address) = good(1, admission).await;
    let (two, _) = good(2, Admission::default()).await;
    let mut dials = JoinSet::new();
    for _ in 0..12 {
        let two = two.endpoint.clone();
        dials.spawn(async move { two.dial(address, Some(pki::node(1))).await });
    }
    let dials = dials.join_all().await;
    let made = dials.iter().filter(|dial| dial.is_ok()).count();
    // Two are let in at once, and two that prove their address; packets that were dropped are sent
    // again, and may meet the next second.
    assert!(made <= 8, "{made}");
    let others = dials.iter().filter_map(|dial| dial.as_ref().err());
    let silent = |error: &DialError| {
        matches!(error, DialError::TimedOut { .. } | DialError::Unreachable { .. })
    };
    assert!(others.clone().all(silent), "{:?}", others.collect::<Vec<_>>());
    // Later it is let in again.
    let again = async { while dial(&two, address).await.is_err() {} };
    tokio::time::timeout(WITHIN, again).await.unwrap();
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_to_prove_its_address_does_so() {
    let admission = Admission { handshakes_retry: 0, ..Admission::default() };
    let (mut one, address) = good(1, admission).await;
    let (two, _) = good(2, Admission::default()).await;
    for _ in 0..3 {
        let made = dial(&two, address).await.unwrap();
        let arrived = one.arrivals.recv().await.unwrap();
        assert_eq!((made.opener.node, arrived.opener.node), (pki::node(1), pki::node(2)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_where_no_handshake_may_be_under_way() {
    let admission = Admission { handshakes_max: 0, ..Admission::default() };
    let (mut one, address) = good(1, admission).await;
    let (two, _) = good(2, Admission::default()).await;
    let made = dial(&two, address).await;
    assert!(matches!(made, Err(DialError::Busy { .. })), "{made:?}");
    assert!(one.arrivals.try_recv().is_err());
}

/// Dials all at once, and gives those connections that both sides have.
async fn crowd(one: &mut Good, to: &[SocketAddr], size: usize) -> usize {
    let (two, _) = good(2, Admission::default()).await;
    let mut dials = JoinSet::new();
    for address in to.iter().cycle().take(size).copied() {
        let two = two.endpoint.clone();
        dials.spawn(async move { two.dial(address, Some(pki::node(1))).await });
    }
    let made = dials.join_all().await;
    let mut arrived = Vec::new();
    while let Ok(connection) = one.arrivals.try_recv() {
        arrived.push(connection);
    }
    assert!(made.iter().filter(|dial| dial.is_ok()).count() <= arrived.len());
    arrived.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gathers_tokens_first_is_not_let_in_beyond_the_limits() {
    let retry = Admission { handshakes_retry: 0, ..Admission::default() };
    let all = Admission { connections_max: 3, ..retry.clone() };
    let of_one = Admission { connections_per_address_max: 3, ..retry };
    for admission in [all, of_one] {
        let (mut one, address) = good(1, admission).await;
        // Of so many at once all may be too late, on a machine that is busy enough.
        let crowds = async {
            loop {
                let made = crowd(&mut one, &[address], 24).await;
                assert!(made <= 3, "{made}");
                if made > 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(2 * WITHIN, crowds).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sockets_of_an_endpoint_share_its_limits() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let admission = Admission { connections_max: 3, ..Admission::default() };
    let config = Config { admission, listen: vec![local; 2], ..Config::default() };
    let mut one = Good::with(config, 1, pki::trust(), Enforcement::Enforce).await;
    let addresses = one.endpoint.listening().to_vec();
    assert_eq!(addresses.len(), 2);
    assert_eq!(crowd(&mut one, &addresses, 12).await, 3);
}
