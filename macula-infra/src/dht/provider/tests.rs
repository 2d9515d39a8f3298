//! Providers: each refusal has its own error.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use macula_core::identity::Envelope;
use macula_core::wire::to_body;

use super::{Provider, Refusal, Signed, Statement as _};
use crate::contact::Contact;
use crate::dht::key::RealmId;
use crate::dht::record::tests::{NOW, keypair, rules};
use crate::dht::rules::{Oversized, Part, SignError, space};

const TTL: Duration = Duration::from_secs(300);
const MS: Duration = Duration::from_millis(1);

pub(in crate::dht) fn provider(seed: u8, name: &str) -> Provider {
    let address = SocketAddr::from(([10, 0, 0, seed], 4433));
    Provider {
        realm: RealmId::named("tests"),
        space: space::NAME.to_owned(),
        name: name.as_bytes().to_vec(),
        contact: Contact::new(keypair(seed).node_id(), [address]),
        metadata: Bytes::from_static(b"weight=1"),
        issued_at: NOW,
        expires_at: NOW + TTL,
    }
}

fn signed(provider: &Provider) -> Signed {
    provider.sign(&keypair(1)).unwrap()
}

fn refused(provider: &Provider) -> Refusal {
    signed(provider).verify(NOW, None, &rules()).unwrap_err()
}

#[test]
fn a_provider_has_its_bytes_for_ever() {
    let provider = provider(1, "name");
    let all = [signed(&provider), signed(&provider.withdrawal(NOW + MS))];
    let all = all.map(|signed| HEXLOWER.encode(&to_body(&signed, 4096).unwrap()));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_signed_provider_is_believed_and_is_the_same() {
    let provider = provider(1, "name");
    let verified = signed(&provider).verify(NOW, Some(provider.key()), &rules()).unwrap();
    assert_eq!((verified.provider(), verified.key()), (&provider, provider.key()));
    assert_eq!(verified.kept_until(), provider.expires_at);
    assert_eq!(verified.into_what(), provider);
}

#[test]
fn a_withdrawal_is_newer_than_what_it_withdraws_and_outlives_it() {
    let provider = provider(1, "name");
    let withdrawal = provider.withdrawal(NOW);
    assert!(withdrawal.is_withdrawal() && withdrawal.issued_at > provider.issued_at);
    let limits = rules().limits;
    let last = withdrawal.issued_at + limits.provider_ttl_max + limits.skew_max;
    let verified = signed(&withdrawal).verify(last - MS, None, &rules()).unwrap();
    assert_eq!(verified.kept_until(), last);
    let refused = signed(&withdrawal).verify(last, None, &rules()).unwrap_err();
    assert_eq!(refused, Refusal::Expired { ago: Duration::ZERO });
}

#[test]
fn each_refusal_has_its_own_error() {
    let good = provider(1, "name");
    let body = good.encode().unwrap();
    let forged = Signed::from(Envelope::seal(&keypair(1), "macula dht record 1", body));
    assert_eq!(forged.verify(NOW, None, &rules()).unwrap_err(), Refusal::Forged);
    let garbage = Signed::from(Envelope::seal(&keypair(1), Provider::CONTEXT, &b"\xc0"[..]));
    let malformed = garbage.verify(NOW, None, &rules()).unwrap_err();
    assert!(matches!(malformed, Refusal::Malformed(_)), "{malformed}");
    let other = Provider { realm: RealmId::named("other"), ..good.clone() };
    assert_eq!(refused(&other), Refusal::OtherRealm);
    let long = Provider { metadata: vec![0; 1025].into(), ..good.clone() };
    let oversized = Oversized { part: Part::Value, len: 1025, max: 1024 };
    assert_eq!(refused(&long), Refusal::Oversized(oversized));
    let mut crowded = good.clone();
    crowded.contact.addresses = vec![good.contact.addresses[0]; 9];
    assert_eq!(refused(&crowded), Refusal::TooManyAddresses { len: 9 });
    let asked = provider(1, "other").key();
    let wrong = signed(&good).verify(NOW, Some(asked), &rules()).unwrap_err();
    assert_eq!(wrong, Refusal::WrongKey { belongs: good.key(), asked });
    let over = Provider { expires_at: NOW, ..good.clone() };
    assert_eq!(refused(&over), Refusal::Expired { ago: Duration::ZERO });
    let ahead = rules().limits.skew_max + MS;
    let early = Provider { issued_at: NOW + ahead, expires_at: NOW + ahead + TTL, ..good.clone() };
    assert_eq!(refused(&early), Refusal::FromTheFuture { ahead });
    let max = rules().limits.provider_ttl_max;
    let long = Provider { expires_at: NOW + max + MS, ..good.clone() };
    assert_eq!(refused(&long), Refusal::LivesTooLong { ttl: max + MS, max });
    let unknown = Provider { space: "unknown".to_owned(), ..good.clone() };
    assert!(matches!(refused(&unknown), Refusal::Invalid(_)));
    assert!(matches!(good.sign(&keypair(2)), Err(SignError::NotTheAuthor { .. })));
}
