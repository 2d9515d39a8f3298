//! What sessions hand on, and what they do not.

use std::net::SocketAddr;
use std::sync::Arc;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::Keypair;
use macula_core::shell::Inbox;

use super::super::proto::{Body, Message};
use super::super::update::{Presence, Role, Stamp, Update};
use super::super::wire::{Seal as _, encode};
use super::{Config, Membership, Refusal, Refused};
use crate::contact::Contact;

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn ping(nonce: u64, updates: Vec<Update>) -> bytes::Bytes {
    encode(&Message { updates, body: Body::Ping { nonce } }, super::MESSAGE_LEN_MAX).unwrap()
}

#[test]
fn a_flooder_is_counted_and_dropped_and_nobody_else_is() {
    let config = Config { peer_rate_per_s: 10, peer_burst: 100, ..Config::default() };
    let (membership, inbox) = (Membership::new(Vec::new(), &config), Inbox::new(1_000));
    let _seat = membership.0.desk.begin(&inbox);
    let (now, flooder, other) = (TokioClock.now(), key(1).node_id(), key(2).node_id());
    for nonce in 0..500 {
        let heard = membership.hear(now, flooder, &ping(nonce, Vec::new()));
        assert_eq!(heard.is_ok(), nonce < 100, "{nonce}: {heard:?}");
        if nonce % 100 == 99 {
            membership.hear(now, other, &ping(1_000 + nonce, Vec::new())).unwrap();
        }
    }
    assert_eq!(membership.refused(), Refused { flood: 400, ..Refused::default() });
    assert_eq!(inbox.len(), 100 + 5, "all that the other has said, and a part of the flood");
    // Whoever has flooded may speak again when its time has come.
    let later = now + std::time::Duration::from_millis(100);
    membership.hear(later, flooder, &ping(7, Vec::new())).unwrap();
    assert_eq!(inbox.len(), 106);
}

#[test]
fn a_liar_is_refused_and_counted() {
    let (membership, inbox) = (Membership::new(Vec::new(), &Config::default()), Inbox::new(10));
    let _seat = membership.0.desk.begin(&inbox);
    let (now, liar, victim) = (TokioClock.now(), key(1), key(2).node_id());
    let contact = Contact::new(liar.node_id(), [SocketAddr::from(([10, 0, 0, 1], 4_433))]);
    let stamp = Stamp { life: u64::MAX, version: u64::MAX };
    let presence = Presence { contact, stamp, role: Role::Server, leaving: true };
    let update = Update::Presence(Arc::new(liar.seal(presence)));
    let mut bytes = ping(1, vec![update]).to_vec();
    // It says in the victim's name that the victim has left.
    let liar = liar.node_id();
    let at = bytes.windows(32).position(|window| window == liar.as_bytes()).unwrap();
    bytes[at..at + 32].copy_from_slice(victim.as_bytes());
    let told = membership.hear(now, liar, &bytes).unwrap_err().to_string();
    assert_eq!(told, "the signature is not that of the node over this message");
    let nonsense = membership.hear(now, liar, b"nonsense").unwrap_err();
    assert!(matches!(nonsense, Refusal::Invalid(_)), "{nonsense}");
    assert_eq!(membership.refused(), Refused { forged: 1, malformed: 1, flood: 0 });
    assert!(inbox.is_empty(), "nothing of it was taken");
}
