//! The bytes: for ever the same, and harmless whatever they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use macula_core::identity::Keypair;
use macula_core::wire::{Limits, to_body};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Invalid, LEN_MAX, What, WireBatch, WireEntry, decode, decode_batch, encode};
use crate::pubsub::message::{Missed, Priority, Qos};
use crate::pubsub::proto::tree::{self, Said};
use crate::pubsub::proto::view;
use crate::pubsub::proto::word::{
    BATCH_ENTRIES_MAX, Batch, Carried, Decline, Entry, Failure, FlowId, FlowReport, GROUP_LEN_MAX,
    Interest, Life, Missing, PREFIXES_MAX, Plant, Replay, Route, Standing, SubId, TreeId, Wanted,
    Window, Word,
};

const LIFE: Life = Life { node: 1_700_000_000_000, broker: 2 };

fn limits() -> Limits {
    Limits::for_body(LEN_MAX)
}

fn words() -> Vec<Word> {
    let prefixes = || vec![Arc::from(""), Arc::from("game"), Arc::from("game.room7")];
    let wanted = |pattern: &str, group: Option<&str>| {
        Wanted::new(pattern.parse().unwrap(), group.map(Arc::from))
    };
    let report = FlowReport {
        flow: FlowId::of(Priority::High, Qos::AtLeastOnce),
        received: 70_000,
        done: 300,
        failures: vec![
            (7, Failure::Slow),
            (8, Failure::Expired),
            (9, Failure::Unsubscribed),
            (10, Failure::Forbidden),
        ],
        again: true,
    };
    vec![
        Word::Hello { realm: [9; 32], life: LIFE, is_new: true },
        Word::Ask { prefixes: prefixes() },
        Word::Bye,
        Word::Welcome {
            life: LIFE,
            window: Window { messages: 2_048, bytes: 1 << 20 },
            version: 3,
            received: vec![0, 1, 127, 128, 255, 256, 65_535, 65_536],
        },
        Word::Interest(Interest {
            version: 4,
            anew: prefixes(),
            entries: vec![
                (wanted("game.*.chat", None), Standing::Open),
                (wanted("game.**", Some("workers")), Standing::Paused),
                (wanted("game.room7", None), Standing::Gone),
            ],
            forbidden: Vec::new(),
        }),
        Word::Replay {
            sub: SubId(5),
            pattern: "game.**".parse().unwrap(),
            replay: Replay {
                last: Some(10),
                within: Some(Duration::from_secs(60)),
                retained: true,
            },
            max: 8_192,
        },
        Word::Report { life: LIFE, flows: vec![report] },
        Word::Reset,
        Word::Refused { why: "it is of another realm".to_owned() },
        Word::News { prefixes: prefixes() },
        Word::Forbidden { patterns: vec!["game.*.chat".parse().unwrap()] },
    ]
}

/// What is said of broadcasts, and in them.
fn of_broadcasts() -> Vec<Word> {
    let node = |number| Keypair::from_seed([number; 32]).node_id();
    let (tree, origin) = (
        TreeId { publisher: node(1), number: 1 << 63 },
        tree::Origin { node: node(1), life: 1 << 63 },
    );
    let digest = tree::Digest { origin, oldest: 2, have: 300, seen: 70_000 };
    let failed = tree::Failed { slow: 1, unsubscribed: 2, forbidden: 3, expired: 4, unreached: 5 };
    let known = vec![node(2), node(3)];
    let views = [
        view::Said::Join,
        view::Said::ForwardJoin { node: node(2), walk: 6 },
        view::Said::Neighbour { urgent: true },
        view::Said::Accept,
        view::Said::Refuse,
        view::Said::Disconnect,
        view::Said::Shuffle { node: node(2), walk: 3, known: known.clone() },
        view::Said::ShuffleReply { known },
    ];
    let said = views.map(Said::View).into_iter().chain([
        Said::Pulse { digests: vec![digest] },
        Said::Gossip {
            origin,
            sequence: 128,
            left_ms: None,
            payload: Bytes::from_static(b"hello"),
            seal: Bytes::from_static(b"signed"),
        },
        Said::Gossip {
            origin,
            sequence: 129,
            left_ms: Some(1_500),
            payload: Bytes::new(),
            seal: Bytes::from_static(b"signed"),
        },
        Said::Have { messages: vec![(origin, 1), (origin, 300)] },
        Said::Prune,
        Said::Graft { origin, messages: vec![1, 300] },
        Said::Floor { origin, oldest: 7 },
        Said::Ack { origin, from: 17, upto: 300, failed },
    ]);
    let plant = Plant {
        number: 1 << 63,
        life: LIFE,
        topic: "game.chat".parse().unwrap(),
        from: 17,
        lost: 3,
        contacts: vec![node(2), node(3)],
        is_allowed: true,
    };
    let branches = said.map(|said| Word::Branch { tree, said, is_allowed: true });
    let declined = [Decline::Forbidden, Decline::Full].map(|why| Word::Declined { tree, why });
    let words = [Word::Plant(plant), Word::Fell { tree }].into_iter().chain(declined);
    words.chain(branches).collect()
}

fn batch() -> Batch {
    let carried = |topic: &str, sequence, payload: &'static [u8], route| {
        Entry::Message(Carried {
            topic: topic.parse().unwrap(),
            sequence,
            payload: Bytes::from_static(payload),
            route,
            is_allowed: true,
        })
    };
    let missing = |from| Missing {
        topic: "game.score".parse().unwrap(),
        from,
        to: from + 5,
        count: 4,
        why: Missed::SlowSubscriber,
    };
    let all = || Route { plain: true, ..Route::default() };
    Batch {
        flow: FlowId::of(Priority::Normal, Qos::AtMostOnce),
        first: 1_000,
        known: 990,
        entries: vec![
            carried("game.chat", 1, b"hello", all()),
            carried("game.chat", 2, b"", all()),
            carried("game.chat", 4, &[b'x'; 130], all()),
            carried("game.score", 300, b"12", Route { groups: vec!["g".into()], ..all() }),
            carried("game.chat", 301, b"old", Route { only: Some(SubId(8)), ..Route::default() }),
            Entry::Missing(missing(400)),
            Entry::Void(missing(500)),
            Entry::Missing(Missing { why: Missed::OutOfReach, ..missing(600) }),
            Entry::Cut(SubId(8)),
        ],
    }
}

#[test]
fn every_message_has_its_bytes_for_ever() {
    let bytes = |word: &Word| HEXLOWER.encode(&encode(word).unwrap());
    insta::assert_snapshot!("words", words().iter().map(bytes).collect::<Vec<_>>().join("\n"));
    let broadcasts = of_broadcasts().iter().map(bytes).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("broadcasts", broadcasts);
    insta::assert_snapshot!("batch", bytes(&Word::Batch(batch())));
}

#[test]
fn what_is_written_is_read() {
    for word in words().into_iter().chain(of_broadcasts()) {
        assert_eq!(decode(&encode(&word).unwrap(), &limits()).unwrap(), word);
    }
    let encoded = encode(&Word::Batch(batch())).unwrap();
    assert_eq!(decode_batch(&encoded, &limits()).unwrap(), batch());
}

#[test]
fn a_small_message_in_a_batch_costs_few_bytes_more_than_its_own() {
    let one = |sequence| {
        Entry::Message(Carried {
            topic: "game.room7.chat".parse().unwrap(),
            sequence,
            payload: Bytes::from(vec![0; 128]),
            route: Route { plain: true, ..Route::default() },
            is_allowed: true,
        })
    };
    let entries = (1_000_000..1_000_100).map(one).collect();
    let encoded = encode(&Word::Batch(Batch { entries, ..batch() })).unwrap();
    assert!(encoded.len() < 100 * (128 + 2) + 110, "{}", encoded.len());
}

#[test]
fn what_is_too_much_is_refused() {
    let prefixes = vec![Arc::from("a"); PREFIXES_MAX + 1];
    let many = encode(&Word::Ask { prefixes }).unwrap();
    let refused = |bytes: &[u8]| decode(bytes, &limits()).unwrap_err();
    assert!(matches!(refused(&many), Invalid::TooMany { what: "prefixes", .. }));
    let wrong = encode(&Word::News { prefixes: vec![Arc::from("a..b")] }).unwrap();
    assert!(matches!(refused(&wrong), Invalid::Topic(_)));
    let group = "g".repeat(GROUP_LEN_MAX + 1);
    let wanted = Wanted::new("a".parse().unwrap(), Some(group.into()));
    let entries = vec![(wanted, Standing::Open)];
    let long =
        Word::Interest(Interest { version: 1, anew: Vec::new(), entries, forbidden: Vec::new() });
    assert!(matches!(refused(&encode(&long).unwrap()), Invalid::TooMany { .. }));
    let entries = vec![Entry::Cut(SubId(1)); BATCH_ENTRIES_MAX + 1];
    let long = encode(&Word::Batch(Batch { entries, ..batch() })).unwrap();
    let refused = decode_batch(&long, &limits()).unwrap_err();
    assert!(matches!(refused, Invalid::TooMany { what: "entries", .. }));
}

/// What only a peer that is none of ours writes.
#[test]
fn a_batch_whose_parts_do_not_fit_is_refused() {
    let refused = |entries: Vec<WireEntry>, lens: &[u8], payloads: &[u8]| {
        let (lens, payloads) = (serde_bytes::Bytes::new(lens), serde_bytes::Bytes::new(payloads));
        let topics = vec!["a".into()];
        let wire = WireBatch { flow: 4, first: 0, known: 0, topics, entries, lens, payloads };
        decode_batch(&to_body(&wire, LEN_MAX).unwrap(), &limits()).map(drop)
    };
    let many = |count| vec![WireEntry(What::Message, 0, 1, count, None)];
    assert_eq!(refused(many(2), &[1, 1], b"ab"), Ok(()));
    assert_eq!(refused(many(2), &[1], b"ab"), Err(Invalid::Wrong("length")));
    assert_eq!(refused(many(2), &[1, 2], b"ab"), Err(Invalid::Wrong("length")));
    let last = vec![WireEntry(What::Message, 0, u64::MAX, 2, None)];
    assert_eq!(refused(last, &[1, 1], b"ab"), Err(Invalid::Wrong("number")));
    let cut = vec![WireEntry(What::Cut, 0, 1, 2, None)];
    assert_eq!(refused(cut, &[], b""), Err(Invalid::Wrong("count")));
    let missing = vec![WireEntry(What::Missing, 0, 1, 1, None)];
    assert_eq!(refused(missing, &[], b""), Err(Invalid::Wrong("entry")));
    let nowhere = vec![WireEntry(What::Message, 1, 1, 1, None)];
    assert_eq!(refused(nowhere, &[1], b"a"), Err(Invalid::Wrong("topic")));
    let max = u32::try_from(BATCH_ENTRIES_MAX).unwrap();
    let refused = refused(many(max).into_iter().chain(many(1)).collect(), &[0], b"").unwrap_err();
    assert!(matches!(refused, Invalid::TooMany { what: "entries", .. }), "{refused}");
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(bytes in vec(any::<u8>(), 0..300)) {
        drop(decode(&bytes, &limits()));
        drop(decode_batch(&bytes, &limits()));
    }

    #[test]
    fn no_changed_bytes_do_any_harm(
        which in 0_usize..32,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut all = words();
        all.extend(of_broadcasts());
        all.push(Word::Batch(batch()));
        assert_eq!(all.len(), 32);
        let mut bytes = encode(&all[which]).unwrap().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        drop(decode(&bytes, &limits()));
        drop(decode_batch(&bytes, &limits()));
    }
}
