//! Wrong peers among real endpoints.

use std::net::SocketAddr;

use macula_core::identity::NodeId;
use macula_infra::transport::tls::{Enforcement, JoinToken, Refusal, Trust};
use macula_infra::transport::{Config, Connection, DialError};

use crate::matrix::Good;
use crate::pki;

const BOTH: [Enforcement; 2] = [Enforcement::Enforce, Enforcement::Report];

async fn good(seed: u8, trust: Trust, enforcement: Enforcement) -> (Good, SocketAddr) {
    let good = Good::with(Config::default(), seed, trust, enforcement).await;
    let address = good.endpoint.listening().first().copied().unwrap();
    (good, address)
}

fn ids(allow: &[NodeId], token: Option<&str>) -> Trust {
    let token = token.map(|token| JoinToken::new(token).unwrap());
    Trust::NodeId { allow: allow.iter().copied().collect(), token }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_talk_to_itself() {
    for enforcement in BOTH {
        for expected in [Some(pki::node(1)), None] {
            let (mut good, address) = good(1, pki::trust(), enforcement).await;
            let dialled = good.endpoint.dial(address, expected).await;
            assert!(dialled.is_err(), "{dialled:?}");
            good.until_refused("myself").await;
            assert!(good.arrivals.try_recv().is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptor_does_not_hear_of_a_dialler_that_wanted_another() {
    let (one, _) = good(1, pki::trust(), Enforcement::Enforce).await;
    let (mut two, address) = good(2, pki::trust(), Enforcement::Enforce).await;
    let dialled = one.endpoint.dial(address, Some(pki::node(3))).await;
    let (expected, found) = (pki::node(3), pki::node(2));
    let refusal = Refusal::WrongNode { expected, found };
    assert_eq!(dialled.err(), Some(DialError::Refused { address, refusal }));
    assert_eq!(one.refused("wrong_node"), 1);
    assert!(two.arrivals.try_recv().is_err());
    // The same in a trust where ids are all there is.
    let trust = || ids(&[pki::node(1), pki::node(2)], None);
    let (one, _) = good(1, trust(), Enforcement::Enforce).await;
    let (mut two, address) = good(2, trust(), Enforcement::Enforce).await;
    let dialled = one.endpoint.dial(address, None).await;
    let refusal = Refusal::Anonymous;
    assert_eq!(dialled.err(), Some(DialError::Refused { address, refusal }));
    assert!(two.arrivals.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_is_told_why_it_is_turned_away() {
    for (shown, why, kind) in [
        (Some("the wrong join token"), "wrong join token", "wrong_token"),
        (None, "no join token", "not_allowed"),
    ] {
        let (one, _) = good(1, ids(&[], shown), Enforcement::Enforce).await;
        let (mut two, address) =
            good(2, ids(&[], Some("the right join token")), Enforcement::Enforce).await;
        let dialled = one.endpoint.dial(address, Some(pki::node(2))).await;
        let told = matches!(&dialled, Err(DialError::RefusedByPeer { why: told, .. }) if told.contains(why));
        assert!(told, "{dialled:?}");
        assert_eq!(two.refused(kind), 1);
        assert!(two.arrivals.try_recv().is_err());
        // Reported only, it is let in.
        let (one, _) = good(1, ids(&[], shown), Enforcement::Enforce).await;
        let (mut two, address) =
            good(2, ids(&[], Some("the right join token")), Enforcement::Report).await;
        let dialled: Connection = one.endpoint.dial(address, Some(pki::node(2))).await.unwrap();
        let arrived = two.arrivals.recv().await.unwrap();
        assert_eq!((dialled.opener.node, arrived.opener.node), (pki::node(2), pki::node(1)));
        assert_eq!(two.refused(kind), 1);
    }
}
