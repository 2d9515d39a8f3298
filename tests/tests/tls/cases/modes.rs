//! Cases of revocation, pins, node ids and protocols.

use std::collections::BTreeSet;

use macula_core::identity::{Certificate, NodeId};
use macula_infra::transport::tls::{JoinToken, Trust};
use rcgen::CertificateParams;

use super::{fine, shows};
use crate::matrix::{BY_PEER, Case, Role};
use crate::peer::Bad;
use crate::pki::{self, BAD, NOW_S, SERIAL};

/// The realm with revocation lists.
fn lists(lists: Vec<Vec<u8>>) -> Trust {
    Trust::Realm(pki::realm(lists))
}

pub(super) fn revocation() -> Vec<Case> {
    let by = pki::home();
    let named_alike = pki::issuer(&pki::named_authority("home", 98), 98);
    let takes = pki::revocation(&by, 2, &[SERIAL]);
    let none = pki::revocation(&by, 1, &[SERIAL + 1]);
    let alike = pki::revocation(&named_alike, 1, &[SERIAL]);
    // The realm has two authorities of one name, as while its key is replaced.
    let mut both = pki::realm(vec![alike.clone()]);
    both.authorities.push(pki::named_authority("home", 98).certificate().clone());
    let mut takes_both = both.clone();
    takes_both.revocation_lists.push(takes.clone());
    let case = |name, kind, trust| Case::both(name, kind, fine()).trust(trust);
    vec![
        case("revoked", "revoked", lists(vec![takes.clone()])),
        case("revoked by a second list", "revoked", lists(vec![none.clone(), takes.clone()])),
        case(
            "revoked by a first of two lists",
            "revoked",
            lists(vec![takes.clone(), none.clone()]),
        ),
        case("revoked while there are two keys", "revoked", Trust::Realm(takes_both)),
        Case::control("revoked is another", fine()).trust(lists(vec![none])),
        Case::control("the list of the other key", fine()).trust(Trust::Realm(both)),
    ]
}

fn self_signed(spoil: impl FnOnce(&mut CertificateParams)) -> Bad {
    let mut leaf = pki::leaf(pki::node(BAD));
    spoil(&mut leaf);
    shows(vec![leaf.self_signed(&pki::pair(BAD)).unwrap().der().to_vec()])
}

fn pinned(bad: &Bad, realm: bool) -> Trust {
    let leaf = bad.chain.as_ref().and_then(|chain| chain.first()).unwrap();
    let pin = Certificate::from_der(leaf.clone()).unwrap().spki_sha256().unwrap();
    Trust::Pin { pins: BTreeSet::from([pin]), realm: realm.then(|| pki::realm(Vec::new())) }
}

pub(super) fn pins() -> Vec<Case> {
    let expired = self_signed(|leaf| leaf.not_after = pki::date(NOW_S - 1));
    let own = self_signed(|_| {});
    let third = shows(vec![pki::signed(&pki::leaf(pki::node(3)), &pki::pair(3), &pki::home())]);
    let issuer = pki::issuer(&pki::named_authority("other", 98), 98);
    let foreign = pki::signed(&pki::leaf(pki::node(BAD)), &pki::pair(BAD), &issuer);
    let foreign = shows(vec![foreign]);
    let stolen = Bad { key: pki::signing(3), ..own.clone() };
    let pins = |bad: &Bad| pinned(bad, false);
    let (pin, pin_realm) = (pins(&own), pinned(&own, true));
    let case = |name, kind, bad: &Bad, trust| Case::both(name, kind, bad.clone()).trust(trust);
    vec![
        case("not pinned", "not_pinned", &own, pins(&third)),
        case("not pinned, and of the realm", "not_pinned", &fine(), pinned(&third, true)),
        case("pinned, and of another authority", "unknown_issuer", &foreign, pinned(&own, true)),
        case("pinned, and self-signed", "self_signed", &own, pin_realm.clone()),
        case("pinned, and expired", "expired", &expired, pin.clone()),
        case("pinned, and signed with another's key", "no_proof", &stolen, pin.clone())
            .cannot("it would have another's node id"),
        Case::control("pinned", own).trust(pin),
        Case::control("pinned, and of the realm", fine()).trust(pin_realm),
    ]
}

/// Trust by node id.
fn ids(allow: &[NodeId], token: Option<&str>) -> Trust {
    let token = token.map(|token| JoinToken::new(token).unwrap());
    Trust::NodeId { allow: allow.iter().copied().collect(), token }
}

pub(super) fn node_ids() -> Vec<Case> {
    let (own, me) = (self_signed(|_| {}), pki::node(BAD));
    let shown = |text: &str| Bad { token: Some(text.to_owned()), ..own.clone() };
    let expired = self_signed(|leaf| leaf.not_after = pki::date(NOW_S - 1));
    let stolen = Bad { key: pki::signing(3), ..own.clone() };
    let case = |name, kind, bad: &Bad, trust| Case::both(name, kind, bad.clone()).trust(trust);
    let crossed = |name, kind, bad: &Bad, trust| {
        // An acceptor is not asked for a token; what it proves is another thing than expected.
        let acceptor = Some(Role { bad: own.clone(), kind: Some("wrong_node") });
        let case = Case { acceptor, ..case(name, kind, bad, trust) };
        case.expecting(Some(pki::node(3)))
    };
    vec![
        crossed("not on the list", "not_allowed", &own, ids(&[pki::node(3)], None)),
        crossed(
            "a wrong join token",
            "wrong_token",
            &shown("the wrong join token"),
            ids(&[], Some("the right join token")),
        ),
        crossed(
            "an empty join token",
            "wrong_token",
            &shown(""),
            ids(&[], Some("the right join token")),
        ),
        crossed("no join token", "not_allowed", &own, ids(&[], Some("the right join token"))),
        case("by id, expired", "expired", &expired, ids(&[me], None)),
        case("by id, signed with another's key", "no_proof", &stolen, ids(&[me], None))
            .cannot("it would have another's node id"),
        Case::both("by id, and nobody is expected", "anonymous", own.clone())
            .trust(ids(&[me], None))
            .expecting(None)
            .only_accepts(),
        Case::both("another node than expected", "wrong_node", fine())
            .expecting(Some(pki::node(3)))
            .only_accepts(),
        Case::control("the right join token", shown("the right join token"))
            .trust(ids(&[], Some("the right join token"))),
        Case::control("on the list", own.clone()).trust(ids(&[me], None)),
        Case::control("nobody is expected in a realm", fine()).expecting(None).only_accepts(),
    ]
}

pub(super) fn protocols() -> Vec<Case> {
    let none = Bad { chain: None, ..fine() };
    let empty = Bad { chain: Some(Vec::new()), ..fine() };
    let speaks = |alpn: Vec<Vec<u8>>| Bad { alpn, ..fine() };
    let alpn = "RFC 9001, section 8.1: without a common protocol there is no connection";
    let by_peer = |name, kind, bad: Bad| {
        // An acceptor of this kind has to end the handshake itself.
        let acceptor = Some(Role { bad: bad.clone(), kind: Some(BY_PEER) });
        Case { acceptor, ..Case::both(name, kind, bad) }
    };
    let http = speaks(vec![b"h3".to_vec()]);
    let next = speaks(vec![b"macula/2".to_vec()]);
    let myself = Bad { claims: pki::node(1), ..fine() };
    vec![
        by_peer("no certificate", "no_certificate", none),
        Case::both("an empty list of certificates", "no_certificate", empty)
            .only_accepts()
            .cannot("RFC 8446, section 4.4.2.4: a dialler has to end the handshake"),
        by_peer("another protocol", "wrong_protocol", http).cannot(alpn),
        by_peer("a later version of the protocol", "wrong_protocol", next).cannot(alpn),
        by_peer("no protocol", "wrong_protocol", speaks(Vec::new())).cannot(alpn),
        Case::both("it says that it is this node", "myself", myself)
            .cannot("a node has no use for a connection to itself"),
    ]
}
