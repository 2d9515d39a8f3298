//! The cases: what bad peers show.

mod modes;

use macula_core::identity::NodeId;
use macula_infra::transport::tls::ALPN;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};

use crate::matrix::{Case, Role};
use crate::peer::Bad;
use crate::pki::{self, BAD, NOW_S};

/// A peer that shows a chain and is otherwise as it should be.
pub(crate) fn shows(chain: Vec<Vec<u8>>) -> Bad {
    Bad {
        chain: Some(chain),
        key: pki::signing(BAD),
        alpn: vec![ALPN.to_vec()],
        claims: pki::node(BAD),
        token: None,
    }
}

/// A peer with nothing wrong.
pub(crate) fn fine() -> Bad {
    shows(vec![pki::issued(|_| {})])
}

fn times() -> Vec<Case> {
    let until = |end: u64| {
        shows(vec![pki::issued(|leaf| {
            leaf.not_before = pki::date(NOW_S - 1_000_000);
            leaf.not_after = pki::date(end);
        })])
    };
    let from = |begin: u64| shows(vec![pki::issued(|leaf| leaf.not_before = pki::date(begin))]);
    vec![
        Case::both("expired by a second", "expired", until(NOW_S - 1)),
        Case::both("expired long ago", "expired", until(NOW_S - 900_000)),
        Case::both("not valid for another second", "not_yet_valid", from(NOW_S + 1)),
        Case::both("not valid for another hour", "not_yet_valid", from(NOW_S + 3_600)),
        Case::control("the last second of a certificate", until(NOW_S)),
        Case::control("the first second of a certificate", from(NOW_S)),
    ]
}

fn issuers() -> Vec<Case> {
    let leaf = pki::leaf(pki::node(BAD));
    let by = |name: &str, seed| {
        let issuer = pki::issuer(&pki::named_authority(name, seed), seed);
        shows(vec![pki::signed(&leaf, &pki::pair(BAD), &issuer)])
    };
    let self_signed = leaf.self_signed(&pki::pair(BAD)).unwrap().der().to_vec();
    // A leaf of the realm that issues another leaf.
    let above = pki::signed(&pki::leaf(pki::node(3)), &pki::pair(3), &pki::home());
    let issuer = Issuer::new(pki::leaf(pki::node(3)), pki::pair(3));
    let below = pki::signed(&leaf, &pki::pair(BAD), &issuer);
    // An intermediate authority below one that may have none.
    let between = pki::ca("between", BasicConstraints::Constrained(0));
    let intermediate = pki::signed(&between, &pki::pair(4), &pki::home());
    let issuer = Issuer::new(between, pki::pair(4));
    let deep = pki::signed(&leaf, &pki::pair(BAD), &issuer);
    let own = pki::ca(&pki::node(BAD).to_string(), BasicConstraints::Constrained(0));
    let own_ca = pki::signed(&own, &pki::pair(BAD), &pki::home());
    let foreign = pki::named_authority("other", 98).certificate().der().to_vec();
    let issuer = pki::issuer(&pki::named_authority("other", 98), 98);
    let brings = pki::signed(&leaf, &pki::pair(BAD), &issuer);
    vec![
        Case::both("another authority of the same name", "bad_signature", by("home", 98)),
        Case::both("another authority of another name", "unknown_issuer", by("other", 98)),
        Case::both(
            "another authority, shown along",
            "unknown_issuer",
            shows(vec![brings, foreign]),
        ),
        Case::both("self-signed", "self_signed", shows(vec![self_signed])),
        Case::both("an authority's certificate as a node's", "authority", shows(vec![own_ca])),
        Case::both("a leaf issued by a leaf", "constraint", shows(vec![below, above])),
        Case::both("pathlen 0 forbids it", "constraint", shows(vec![deep.clone(), intermediate])),
        Case::both("an intermediate that is not shown", "unknown_issuer", shows(vec![deep])),
    ]
}

fn usages() -> Vec<Case> {
    let uses = |eku: Vec<ExtendedKeyUsagePurpose>| {
        shows(vec![pki::issued(|leaf| leaf.extended_key_usages = eku)])
    };
    let client = uses(vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let server = uses(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let role = |bad: &Bad, kind| Some(Role { bad: bad.clone(), kind });
    let crossed = |name, dials: &Bad, accepts: &Bad, kind| {
        let case = Case::control(name, fine());
        Case { dialler: role(dials, kind), acceptor: role(accepts, kind), ..case }
    };
    let code = uses(vec![ExtendedKeyUsagePurpose::CodeSigning]);
    let odd = uses(vec![ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 55_555, 2])]);
    let agrees = pki::issued(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    let wrong = Some("wrong_key_usage");
    vec![
        crossed("only for the other side", &server, &client, wrong),
        crossed("only for its own side", &client, &server, None),
        Case::both("only for signing code", "wrong_key_usage", code),
        Case::both("only for something unknown", "wrong_key_usage", odd),
        Case::both("no digital signatures", "wrong_key_usage", shows(vec![agrees])),
        Case::both(
            "an unknown critical extension",
            "unknown_critical",
            shows(vec![pki::issued(|leaf| leaf.custom_extensions.push(pki::unknown(8, true)))]),
        ),
        Case::control(
            "an unknown extension that is not critical",
            shows(vec![pki::issued(|leaf| leaf.custom_extensions.push(pki::unknown(8, false)))]),
        ),
    ]
}

/// The bytes of a good certificate with a bit flipped at a place.
fn flipped(at: impl FnOnce(&[u8]) -> usize) -> Bad {
    let mut der = pki::issued(|_| {});
    let at = at(&der);
    if let Some(byte) = der.get_mut(at) {
        *byte ^= 1;
    }
    shows(vec![der])
}

fn bytes() -> Vec<Case> {
    let good = pki::issued(|_| {});
    let half = good.get(..good.len() / 2).unwrap().to_vec();
    let short = good.get(..good.len() - 1).unwrap().to_vec();
    let long = [good.clone(), vec![0]].concat();
    let random = (0_u32..600).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let key = pki::node(BAD);
    let bytes = key.as_bytes();
    // Some such keys are points of the curve, and some are none.
    let flips = |whether: bool| {
        let point = move |at: &usize| {
            let mut bytes = *pki::node(BAD).as_bytes();
            bytes.get_mut(*at).is_some_and(|byte| {
                *byte ^= 1;
                true
            }) && NodeId::from_bytes(bytes).is_ok() == whether
        };
        let at = (0..bytes.len()).find(point).unwrap();
        flipped(|der| at + der.windows(32).position(|at| at == bytes).unwrap())
    };
    vec![
        Case::both("half of a certificate", "malformed", shows(vec![half])),
        Case::both("the last byte is missing", "malformed", shows(vec![short])),
        Case::both("an empty certificate", "malformed", shows(vec![Vec::new()])),
        Case::both("random bytes", "malformed", shows(vec![random])),
        Case::both("a byte follows", "malformed", shows(vec![long])),
        Case::both("a text in place of a certificate", "malformed", shows(vec![b"hello".to_vec()])),
        Case::both("a bit of the signature flipped", "bad_signature", flipped(|der| der.len() - 9)),
        Case::both("a bit of the key flipped", "bad_signature", flips(true))
            .cannot("it would have another node's id"),
        Case::both("a key that is none any more", "wrong_key_type", flips(false)),
    ]
}

fn keys() -> Vec<Case> {
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let chain = vec![pki::signed(&pki::leaf(pki::node(BAD)), &p256, &pki::home())];
    let ecdsa = Bad { key: pki::signing_der(p256.serialize_der()), ..shows(chain) };
    let stolen = Bad { key: pki::signing(3), ..fine() };
    let other = pki::signed(&pki::leaf(pki::node(3)), &pki::pair(BAD), &pki::home());
    let long: Vec<_> = (10..14)
        .map(|seed| pki::signed(&pki::leaf(pki::node(seed)), &pki::pair(seed), &pki::home()))
        .collect();
    let long = [vec![pki::issued(|_| {})], long].concat();
    let four: Vec<_> = long.iter().take(4).cloned().collect();
    let large = pki::issued(|leaf| leaf.custom_extensions.push(pki::unknown(16 * 1024, false)));
    let impostor = Bad { claims: pki::node(3), ..fine() };
    vec![
        Case::both("signed with another's key", "no_proof", stolen)
            .cannot("it would have another's node id"),
        Case::both("an ECDSA key", "wrong_key_type", ecdsa),
        Case::both("the name of another node", "name_mismatch", shows(vec![other])),
        Case::both("five certificates", "too_long", shows(long)),
        Case::control("four certificates", shows(four)),
        Case::both("more than 16 KiB", "too_long", shows(vec![large])),
        Case::both("its hello claims another node", "false_claim", impostor),
    ]
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let mut all = vec![Case::control("nothing is wrong", fine())];
    all.extend(times());
    all.extend(issuers());
    all.extend(usages());
    all.extend(bytes());
    all.extend(keys());
    all.extend(modes::revocation());
    all.extend(modes::pins());
    all.extend(modes::node_ids());
    all.extend(modes::protocols());
    all
}
