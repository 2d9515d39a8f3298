//! Messages as bytes, and presences that nobody has signed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use macula_core::identity::{BadSignature, Envelope, Keypair};
use macula_core::wire::Limits;
use proptest::prelude::*;

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
fn every_message_has_its_bytes_for_ever() {
    let golden = messages().iter().fold(String::new(), |mut golden, message| {
        let bytes = encode(message, LEN_MAX).unwrap();
        let name = format!("{:?}", message.body);
        let name = name.split([' ', '(']).next().unwrap_or_default();
        golden.push_str(&format!("{name} {}\n", HEXLOWER.encode(&bytes)));
        golden
    });
    insta::assert_snapshot!(golden);
}

#[test]
fn a_message_with_one_forged_presence_is_refused_as_a_whole() {
    let honest = Update::Presence(seen(1));
    let Presence { contact, role, leaving, .. } = presence(2);
    // Somebody else says that the node has signed a later version.
    let stamp = Stamp { life: u64::MAX, version: u64::MAX };
    let forged = key(3).seal(Presence { contact, stamp, role, leaving });
    let written = encode(
        &Message { updates: vec![honest, Update::Presence(Arc::new(forged))], body: Body::Gossip },
        LEN_MAX,
    );
    // The envelope names its true author, so the lie has to be written over it.
    let (of, by) = (key(2).node_id(), key(3).node_id());
    let mut bytes = written.unwrap().to_vec();
    let at = bytes.windows(32).position(|window| window == by.as_bytes()).unwrap();
    bytes[at..at + 32].copy_from_slice(of.as_bytes());
    let refused = decode(&bytes, &Limits::default(), |_| None).unwrap_err();
    let forged = InvalidMessage::Presence(InvalidPresence::Signature(BadSignature));
    assert_eq!(refused, forged);
    // What is held of the node lends the lie nothing.
    let refused = decode(&bytes, &Limits::default(), |_| Some(seen(2))).unwrap_err();
    assert_eq!(refused, forged);
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

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u64, u64)>().prop_map(|(life, version)| Stamp { life, version })
}

fn any_update() -> impl Strategy<Value = Update> {
    let role = prop_oneof![Just(Role::Server), Just(Role::Client), Just(Role::Bootstrap)];
    let addresses = prop::collection::vec(any::<SocketAddr>(), 0..4);
    let presence = (0..4_u8, stamp(), role, any::<bool>(), addresses);
    let presence = presence.prop_map(|(seed, stamp, role, leaving, addresses)| {
        let contact = Contact::new(key(seed).node_id(), addresses);
        Update::Presence(Arc::new(key(seed).seal(Presence { contact, stamp, role, leaving })))
    });
    let verdict = prop_oneof![Just(Verdict::Suspect), Just(Verdict::Down)];
    let claim = (0..4_u8, stamp(), verdict, 0..4_u8).prop_map(|(of, stamp, verdict, by)| {
        let (node, by) = (key(of).node_id(), key(by).node_id());
        Update::Claim(Claim { node, stamp, verdict, by })
    });
    prop_oneof![presence, claim]
}

fn any_body() -> impl Strategy<Value = Body> {
    let node = || (0..4_u8).prop_map(|seed| key(seed).node_id());
    let brief = (node(), stamp(), any::<bool>()).prop_map(|(node, stamp, gone)| Brief {
        node,
        stamp,
        gone,
    });
    let page = (any::<u8>(), prop::option::of(node()), prop::option::of(node()));
    let page =
        (page, prop::collection::vec(brief, 0..4)).prop_map(|((bucket, after, upto), entries)| {
            Body::Page(Page { bucket, after, upto, entries })
        });
    let ping_req = (any::<u64>(), node(), any::<u32>()).prop_map(|(nonce, target, wait)| {
        Body::PingReq { nonce, target, wait: Duration::from_millis(wait.into()) }
    });
    prop_oneof![
        any::<u64>().prop_map(|nonce| Body::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Body::Ack { nonce }),
        any::<u64>().prop_map(|nonce| Body::Nack { nonce }),
        ping_req,
        Just(Body::Gossip),
        prop::collection::vec(any::<u64>(), 0..70).prop_map(|sums| Body::Digest { sums }),
        page,
        prop::collection::vec(node(), 0..4).prop_map(|nodes| Body::Ask { nodes }),
        prop::collection::vec(any_update(), 0..4).prop_map(|updates| Body::Tell { updates }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(updates in prop::collection::vec(any_update(), 0..4), body in any_body()) {
        let message = Message { updates, body };
        let bytes = encode(&message, LEN_MAX).unwrap();
        prop_assert_eq!(decode(&bytes, &Limits::default(), |_| None).unwrap(), message);
    }

    #[test]
    fn no_bytes_whatever_do_any_harm(
        noise in prop::collection::vec(any::<u8>(), 0..64),
        which in 0..9_usize,
        at in 0..800_usize,
    ) {
        drop(decode(&noise, &Limits::default(), |_| None));
        // Nor does a message that is broken anywhere: what can be read of it can be written.
        let mut bytes = encode(&messages()[which], LEN_MAX).unwrap().to_vec();
        let at = at % bytes.len();
        let end = (at + noise.len()).min(bytes.len());
        bytes.splice(at..end, noise);
        if let Ok(message) = decode(&bytes, &Limits::default(), |_| None) {
            prop_assert!(encode(&message, LEN_MAX).is_ok());
        }
    }
}
