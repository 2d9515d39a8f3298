//! Messages as bytes, and presences that nobody has signed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::{Envelope, Keypair};
use macula_core::wire::Limits;

use super::super::proto::{Body, Brief, Message, PAGE_ENTRIES_MAX, Page, UPDATES_MAX};
use super::super::update::{Claim, Presence, Role, Seen, Stamp, Update, Verdict};
use super::{InvalidMessage, InvalidPresence, Seal as _, decode, encode, estimate, open, seal};
use crate::contact::Contact;

const LEN_MAX: usize = 65_536;

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn presence(seed: u8) -> Presence {
    let address = SocketAddr::from(([192, 168, 0, seed], 40_000));
    let contact = Contact::new(key(seed).node_id(), [address]);
    let stamp = Stamp { life: 1_700_000_000_000 + u64::from(seed), version: 3 };
    Presence { contact, stamp, role: Role::Server, leaving: false }
}

fn seen(seed: u8) -> Arc<Seen> {
    Arc::new(key(seed).seal(presence(seed)))
}

fn claim(seed: u8) -> Claim {
    let Presence { contact, stamp, .. } = presence(seed);
    Claim { node: contact.node, stamp, verdict: Verdict::Down, by: key(9).node_id() }
}

fn messages() -> Vec<Message> {
    let updates = vec![Update::Presence(seen(1)), Update::Claim(claim(2))];
    let node = key(3).node_id();
    let brief = Brief { node, stamp: presence(3).stamp, gone: true };
    let page = Page { bucket: 63, after: None, upto: Some(node), entries: vec![brief; 9] };
    let wait = Duration::from_millis(300);
    let nonce = u64::MAX / 3;
    [
        Body::Ping { nonce },
        Body::Ack { nonce },
        Body::PingReq { nonce, target: node, wait },
        Body::Nack { nonce },
        Body::Gossip,
        Body::Digest { sums: vec![u64::MAX / 7; 64] },
        Body::Page(page),
        Body::Ask { nodes: vec![node; 5] },
        Body::Tell { updates: updates.clone() },
    ]
    .into_iter()
    .map(|body| Message { updates: updates.clone(), body })
    .collect()
}

#[test]
fn messages_are_read_as_they_were_written() {
    for message in messages() {
        let bytes = encode(&message, LEN_MAX).unwrap();
        assert_eq!(decode(&bytes, &Limits::default(), |_| None).unwrap(), message);
        // What is held already is not verified again, and is shared.
        let held = seen(1);
        let read = decode(&bytes, &Limits::default(), |_| Some(Arc::clone(&held))).unwrap();
        let Some(Update::Presence(shared)) = read.updates.first() else { panic!("{read:?}") };
        assert!(Arc::ptr_eq(shared, &held));
    }
}

#[test]
fn an_estimate_is_near_the_truth() {
    for message in messages() {
        let (told, len) = (estimate(&message), encode(&message, LEN_MAX).unwrap().len());
        assert!(told * 20 > len * 19 && told * 20 < len * 21, "{told} for {len} of {message:?}");
    }
}

#[test]
fn a_presence_of_another_hand_is_refused() {
    let sealed = seal(&presence(1), &key(1));
    assert_eq!(*open(sealed.clone()).unwrap().presence(), presence(1));
    // Signed by another, it is the presence of that other.
    let other = seal(&presence(1), &key(2));
    assert_eq!(open(other).unwrap().node(), key(2).node_id());
    let body = sealed.open(super::CONTEXT).unwrap().clone();
    let record = Envelope::seal(&key(1), "macula record 1", body);
    assert!(matches!(open(record), Err(InvalidPresence::Signature(_))));
    let nonsense = Envelope::seal(&key(1), super::CONTEXT, "nonsense");
    assert!(matches!(open(nonsense), Err(InvalidPresence::Body(_))));
    let many = super::Signed {
        life: 1,
        version: 1,
        role: Role::Client,
        leaving: false,
        addresses: presence(1).contact.addresses.repeat(9),
    };
    let body = macula_core::wire::to_body(&many, LEN_MAX).unwrap();
    let many = Envelope::seal(&key(1), super::CONTEXT, body);
    assert_eq!(open(many).unwrap_err(), InvalidPresence::Addresses { found: 9 });
}

#[test]
fn the_longest_presence_can_be_signed() {
    let address = SocketAddr::from(([0xffff; 8], u16::MAX));
    let contact = Contact::new(key(1).node_id(), [address; 8]);
    let stamp = Stamp { life: u64::MAX, version: u64::MAX };
    let presence = Presence { contact, stamp, role: Role::Bootstrap, leaving: true };
    open(seal(&presence, &key(1))).unwrap();
}

#[test]
fn lists_that_are_too_long_are_refused() {
    let updates = vec![Update::Claim(claim(1)); UPDATES_MAX + 1];
    let bytes = encode(&Message { updates, body: Body::Gossip }, LEN_MAX).unwrap();
    let refused = decode(&bytes, &Limits::default(), |_| None).unwrap_err();
    let (found, max) = (UPDATES_MAX + 1, UPDATES_MAX);
    assert_eq!(refused, InvalidMessage::TooMany { what: "updates", found, max });
    let brief = Brief { node: key(1).node_id(), stamp: Stamp::default(), gone: false };
    let entries = vec![brief; PAGE_ENTRIES_MAX + 1];
    let page = Page { bucket: 0, after: None, upto: None, entries };
    let message = Message { updates: Vec::new(), body: Body::Page(page) };
    let refused = decode(&encode(&message, LEN_MAX).unwrap(), &Limits::default(), |_| None);
    assert!(matches!(refused, Err(InvalidMessage::TooMany { what: "entries", .. })));
}
