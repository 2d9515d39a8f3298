//! Revocation lists are looked at before they are put to use, and what is in use stays if they are
//! not good.

use macula_core::identity::Revocation;
use macula_infra::transport::tls::{
    Credentials, Enforcement, IncompleteCredentials, Trust, UnusableList,
};

use crate::pki::{self, NOW, SERIAL};
use crate::tiers::{realm, showing};

#[test]
fn a_list_that_cannot_be_used_is_refused_when_it_comes() {
    let by = pki::home();
    let alike = pki::issuer(&pki::named_authority("home", 98), 98);
    let other = pki::issuer(&pki::named_authority("other", 98), 98);
    let good = pki::revocation(&by, 2, &[SERIAL]);
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    let longer = [&good[..], b"x"].concat();
    let cases = [
        ("a wrong signature", broken, true),
        ("of a namesake", pki::revocation(&alike, 1, &[SERIAL]), true),
        ("of another realm", pki::revocation(&other, 1, &[SERIAL]), true),
        ("no list", b"hello".to_vec(), false),
        ("a byte follows", longer, false),
        ("cut off", good[..good.len() - 1].to_vec(), false),
    ];
    let authority = pki::authority();
    let own = showing(1, &authority, NOW, 60);
    let trust = |lists| realm(&[&authority], lists);
    let credentials =
        Credentials::new(&own, trust(vec![good.clone()]), Enforcement::Enforce, || NOW).unwrap();
    for (name, list, readable) in cases {
        match credentials.replace(&own, trust(vec![list]), Enforcement::Enforce) {
            Err(IncompleteCredentials::List(UnusableList::Foreign { .. })) if readable => {}
            Err(IncompleteCredentials::List(UnusableList::Malformed { .. })) if !readable => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_was_revoked_is_not_forgotten() {
    let authority = pki::authority();
    let own = showing(1, &authority, NOW, 60);
    let valid = macula_core::identity::Validity::from_now(NOW, std::time::Duration::from_secs(60));
    let list = |number| {
        let revoked = [Revocation { serial: vec![7], at: NOW }];
        authority.revocation_list(&revoked, number, valid).unwrap()
    };
    let trust = |lists| realm(&[&authority], lists);
    let credentials =
        Credentials::new(&own, trust(Vec::new()), Enforcement::Enforce, || NOW).unwrap();
    let replace = |trust: Trust| credentials.replace(&own, trust, Enforcement::Enforce);
    assert_eq!(replace(trust(vec![list(2)])), Ok(()));
    for older in [vec![list(1)], Vec::new()] {
        let refused = replace(trust(older)).unwrap_err().to_string();
        assert!(refused.contains("would be believed again"), "{refused}");
    }
    assert_eq!(replace(trust(vec![list(2)])), Ok(()));
    assert_eq!(replace(trust(vec![list(1), list(3)])), Ok(()));
    // An authority that is not believed any more has nothing to take back.
    let next = pki::named_authority("next", 98);
    assert_eq!(replace(realm(&[&next], Vec::new())), Ok(()));
    assert_eq!(credentials.own_fault().map(|fault| fault.kind()), Some("unknown_issuer"));
}
