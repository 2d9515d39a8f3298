//! What bytes are written, and which are refused.

use std::time::Duration;

use macula_core::replica::ReplicaId;
use proptest::prelude::*;

use super::{DecodeError, Decoder, Encoder, Reader, VERSION, put_number, put_ordered};
use crate::crdt::Crdt;
use crate::crdt::bucket::{KeyDelta, take_state};
use crate::crdt::context::Context;
use crate::crdt::contract::{Delta, Place};
use crate::crdt::dot::Dot;
use crate::crdt::kind::Kind;
use crate::crdt::limits::{DEPTH_CAP, ELEMENT_LEN_CAP, Limits, Refused};
use crate::crdt::stamps::Stamps;
use crate::crdt::state::{Kinds, State};
use crate::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, Pair,
    PnCounter,
};
use crate::crdt::write::Write;

/// Makes a state by updates of two replicas that do not see each other.
struct Made<C> {
    parts: Vec<(C, Context)>,
    deltas: Vec<Delta<C>>,
}

type Change<C> = fn(&C, &mut Write<'_>) -> Result<Delta<C>, Refused>;

impl<C: Crdt> Made<C> {
    fn by(changes: &[&[Change<C>]]) -> Self {
        let (mut parts, mut deltas) = (Vec::new(), Vec::new());
        for (node, changes) in (1..).zip(changes) {
            let (mut state, mut context) = (C::default(), Context::default());
            let replica = ReplicaId { node: node * 0x0101_0101, incarnation: 200 * node };
            for (counter, change) in (0..).zip(*changes) {
                let now = Duration::from_millis(1_700_000_000_000 + node);
                let counter = (counter + context.last(replica).saturating_sub(counter), u64::MAX);
                let limits = Limits::default();
                let mut write = Write::new(replica, counter, Stamps::default(), now, &limits);
                let delta = change(&state, &mut write).unwrap();
                state.join(&context, &delta.state, &delta.context);
                context.join(&delta.context);
                deltas.push(delta);
            }
            parts.push((state, context));
        }
        Self { parts, deltas }
    }

    fn state(&self) -> (C, Context) {
        let mut all = (C::default(), Context::default());
        for (state, context) in &self.parts {
            all.0.join(&all.1, state, context);
            all.1.join(context);
        }
        all
    }

    /// The state with its context, and then each delta with its own.
    fn golden(&self) -> String {
        let hex = |state: &C, context: &Context| {
            let mut out = Encoder::default();
            out.kind(&C::kind());
            state.encode(&mut out);
            out.context(context);
            out.finish().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let (state, context) = self.state();
        let mut lines = vec![hex(&state, &context)];
        lines.extend(self.deltas.iter().map(|delta| hex(&delta.state, &delta.context)));
        lines.join("\n")
    }
}

fn lww_register() -> Made<LwwRegister> {
    Made::by(&[&[|at, write| at.set(*b"one", write)], &[|at, write| at.set(*b"two", write)]])
}

fn mv_register() -> Made<MvRegister> {
    Made::by(&[
        &[|at, write| at.set(*b"one", write), |at, write| at.set(*b"", write)],
        &[|at, write| at.set(*b"two", write)],
    ])
}

fn g_counter() -> Made<GCounter> {
    Made::by(&[
        &[|at, write| at.increment(1, write), |at, write| at.increment(299, write)],
        &[|at, write| at.increment(u64::MAX, write)],
    ])
}

fn pn_counter() -> Made<PnCounter> {
    Made::by(&[
        &[|at, write| at.increment(5, write), |at, write| at.decrement(300, write)],
        &[|at, write| at.decrement(1, write)],
    ])
}

fn g_set() -> Made<GSet> {
    Made::by(&[&[|at, write| at.add(*b"ada", write)], &[|at, write| at.add(*b"ben", write)]])
}

fn or_set() -> Made<OrSet> {
    Made::by(&[
        &[
            |at, write| at.add(*b"ada", write),
            |at, write| at.add(*b"ben", write),
            |at, _| Ok(at.remove(b"ada")),
        ],
        &[|at, write| at.add(*b"ben", write)],
    ])
}

fn lww_element_set() -> Made<LwwElementSet> {
    Made::by(&[
        &[|at, write| at.add(*b"ada", write), |at, write| at.remove(*b"ben", write)],
        &[|at, write| at.add(*b"ben", write)],
    ])
}

fn ew_flag() -> Made<EwFlag> {
    Made::by(&[&[EwFlag::enable, |at, _| Ok(at.disable())], &[EwFlag::enable]])
}

fn dw_flag() -> Made<DwFlag> {
    Made::by(&[&[DwFlag::disable], &[DwFlag::disable, |at, _| Ok(at.enable())]])
}

fn or_map() -> Made<OrMap<PnCounter>> {
    Made::by(&[
        &[
            |at, write| at.update(*b"a", write, |count, write| count.increment(1, write)),
            |at, write| at.update(*b"b", write, |count, write| count.increment(2, write)),
            |at, _| Ok(at.remove(b"a")),
        ],
        &[|at, write| at.update(*b"a", write, |count, write| count.decrement(3, write))],
    ])
}

fn pair() -> Made<Pair<GCounter, OrSet>> {
    Made::by(&[
        &[|at, write| at.update_first(write, |count, write| count.increment(7, write))],
        &[|at, write| at.update_second(write, |set, write| set.add(*b"ada", write))],
    ])
}

/// The bytes of a version do not change: nodes of different programs are in one group.
#[test]
fn each_type_has_its_bytes() {
    insta::assert_snapshot!("lww-register", lww_register().golden());
    insta::assert_snapshot!("mv-register", mv_register().golden());
    insta::assert_snapshot!("g-counter", g_counter().golden());
    insta::assert_snapshot!("pn-counter", pn_counter().golden());
    insta::assert_snapshot!("g-set", g_set().golden());
    insta::assert_snapshot!("or-set", or_set().golden());
    insta::assert_snapshot!("lww-element-set", lww_element_set().golden());
    insta::assert_snapshot!("ew-flag", ew_flag().golden());
    insta::assert_snapshot!("dw-flag", dw_flag().golden());
    insta::assert_snapshot!("or-map", or_map().golden());
    insta::assert_snapshot!("pair", pair().golden());
}

fn dot(node: u64, counter: u64) -> Dot {
    Dot { replica: ReplicaId { node, incarnation: 1 }, counter }
}

fn context_of(bytes: &[u8]) -> Result<Context, DecodeError> {
    let mut from = Decoder::new(bytes)?;
    let context = from.context()?;
    from.finish()?;
    Ok(context)
}

#[test]
fn a_context_comes_back_with_its_gaps_and_its_end() {
    let mut context = Context::default();
    context.insert_span(dot(1, 1), 5);
    context.insert_span(dot(1, 7), 7);
    context.insert_span(dot(2, 3), u64::MAX);
    let mut out = Encoder::default();
    out.context(&context);
    let bytes = out.finish();
    insta::assert_debug_snapshot!(
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    assert_eq!(context_of(&bytes), Ok(context));
}

#[test]
fn numbers_have_one_form() {
    for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        let mut from = Reader::new(&bytes);
        assert_eq!(from.number(), Ok(number));
        assert_eq!(from.finish(), Ok(()));
    }
    let what = "no number in its shortest form";
    for bytes in
        [&[0x80, 0][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
    {
        assert_eq!(Reader::new(bytes).number(), Err(DecodeError::Form { offset: 0, what }));
    }
    assert_eq!(Reader::new(&[0x80]).number(), Err(DecodeError::Truncated { offset: 1 }));
}

#[test]
fn ordered_numbers_come_back_and_are_in_the_order_of_their_bytes() {
    let mut numbers: Vec<u64> = (0..64).flat_map(|bits| [1 << bits, (1 << bits) - 1]).collect();
    numbers.extend([246, 247, 248, 249, 65_535, 65_536, u64::MAX]);
    numbers.sort_unstable();
    numbers.dedup();
    let bytes = numbers.iter().map(|number| {
        let mut bytes = Vec::new();
        put_ordered(&mut bytes, *number);
        let mut from = Reader::new(&bytes);
        assert_eq!((from.ordered(), from.left()), (Ok(*number), 0));
        bytes
    });
    assert!(bytes.collect::<Vec<_>>().is_sorted_by(|one, other| one < other));
    let what = "no number in its shortest form";
    for bytes in [[248, 247].as_slice(), &[249, 0, 255], &[255, 0, 1, 1, 1, 1, 1, 1, 1]] {
        assert_eq!(Reader::new(bytes).ordered(), Err(DecodeError::Form { offset: 0, what }));
    }
    assert_eq!(Reader::new(&[249, 1]).ordered(), Err(DecodeError::Truncated { offset: 2 }));
}

#[test]
fn an_encoder_goes_back_to_a_mark_as_if_nothing_had_been_written() {
    let mut out = Encoder::default();
    out.dot(dot(1, 300));
    let (mark, len) = (out.mark(), out.len());
    let written = out.clone().finish();
    out.dot(dot(2, 1));
    out.dot(dot(1, 2));
    assert!(out.len() > len);
    out.rewind(mark);
    assert_eq!((out.len(), out.clone().finish()), (len, written));
    out.dot(dot(2, 1));
    let bytes = out.finish();
    let mut from = Decoder::new(&bytes).unwrap();
    assert_eq!((from.dot(), from.dot()), (Ok(dot(1, 300)), Ok(dot(2, 1))));
    assert_eq!(from.finish(), Ok(()));
}

/// Bytes of one replica and of what follows.
fn with_replica(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![VERSION, 1];
    bytes.extend_from_slice(&7_u64.to_be_bytes());
    bytes.push(1);
    bytes.extend_from_slice(body);
    bytes
}

fn refusal<C: Crdt>(bytes: &[u8]) -> String {
    let read = Decoder::new(bytes).and_then(|mut from| {
        C::decode(&mut from)?;
        from.finish()
    });
    read.unwrap_err().to_string()
}

#[test]
fn what_is_not_in_its_form_is_refused() {
    let set = |body: &[u8]| refusal::<OrSet>(&with_replica(body));
    let flag = |body: &[u8]| refusal::<EwFlag>(&with_replica(body));
    let long = u8::try_from(ELEMENT_LEN_CAP >> 14).unwrap();
    let refusals = [
        ("another version", refusal::<OrSet>(&[9])),
        ("no bytes", refusal::<OrSet>(&[])),
        ("replicas without end", refusal::<OrSet>(&[VERSION, 0xff, 0xff, 0x7f, 1, 2])),
        ("a replica that nothing names", flag(&[0])),
        ("dots of a set", set(&[1 << 3, 0, 1])),
        ("a replica that is not there", flag(&[1 << 3, 1, 1])),
        ("a dot without a counter", flag(&[1 << 3, 0, 0])),
        ("dots out of order", flag(&[2 << 3, 0, 2, 0, 1])),
        ("one dot twice", flag(&[2 << 3, 0, 1, 0, 1])),
        ("dots without end", flag(&[0xfc, 0xff, 0xff, 0xff, 0x7f, 0, 1])),
        ("something behind", flag(&[1 << 3, 0, 1, 9])),
        ("an empty map", set(&[2])),
        ("an element that is not there", set(&[1 << 3 | 2, 1, b'a', 0])),
        ("elements out of order", set(&[2 << 3 | 2, 1, b'b', 8, 0, 1, 1, b'a', 8, 0, 2])),
        ("an element that is too long", set(&[1 << 3 | 2, 0x81, 0x80, long])),
        ("an element that ends early", set(&[1 << 3 | 2, 3, b'a'])),
        (
            "a stamp's counter",
            refusal::<LwwRegister>(&with_replica(&[
                1 << 3 | 1,
                0,
                1,
                6,
                1,
                0xff,
                0xff,
                0xff,
                0xff,
                0x7f,
            ])),
        ),
        ("a payload with more", refusal::<GCounter>(&with_replica(&[1 << 3 | 1, 0, 1, 2, 1, 1]))),
        (
            "a part in a whole",
            refusal::<OrMap<OrSet>>(&with_replica(&[
                1 << 3 | 2,
                1,
                b'a',
                1 << 3 | 3,
                1,
                b'a',
                4,
                0,
                1,
            ])),
        ),
    ];
    let lines: Vec<String> =
        refusals.iter().map(|(what, refusal)| format!("{what}: {refusal}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn maps_of_an_unknown_kind_are_not_nested_without_end() {
    let nested = |depth: usize| {
        let mut body = [1 << 3 | 2, 1, b'a'].repeat(depth);
        body.extend_from_slice(&[8, 0, 1]);
        let bytes = with_replica(&body);
        let kind = Kind::new("unknown");
        Kinds::default().decode(&kind, &mut Decoder::new(&bytes).unwrap())
    };
    assert!(nested(DEPTH_CAP).is_ok());
    let error = nested(DEPTH_CAP + 1).unwrap_err();
    insta::assert_snapshot!(error, @"maps are nested deeper than 16 levels at 60");
    assert!(nested(100_000).is_err());
}

/// A message as peers send them.
fn message<C: Crdt>(made: &Made<C>) -> Vec<u8> {
    let mut out = Encoder::default();
    for delta in &made.deltas {
        let delta =
            Delta { state: State::new(delta.state.clone()), context: delta.context.clone() };
        KeyDelta { key: "key".into(), delta }.encode(&mut out);
    }
    out.finish()
}

/// A message with a state in its pieces.
fn pieces<C: Crdt>(state: &C) -> Vec<u8> {
    let (mut out, mut place) = (Encoder::default(), Some(Place::new()));
    while let Some(from) = place {
        let piece = State::new(state.clone()).piece(&from, 0);
        let delta = Delta { context: piece.state.dots(), state: piece.state };
        KeyDelta { key: "key".into(), delta }.encode(&mut out);
        place = piece.next;
    }
    out.finish()
}

fn messages() -> Vec<Vec<u8>> {
    vec![
        message(&lww_register()),
        message(&mv_register()),
        message(&g_counter()),
        message(&pn_counter()),
        message(&g_set()),
        message(&or_set()),
        message(&lww_element_set()),
        message(&ew_flag()),
        message(&dw_flag()),
        message(&or_map()),
        message(&pair()),
        pieces(&or_map().state().0),
    ]
}

/// Reads a message as what it may be, and checks that what is read is written in the same bytes.
fn survive(kinds: &Kinds, bytes: &[u8]) {
    let deltas = |from: &mut Decoder<'_>| -> Result<Vec<KeyDelta>, DecodeError> {
        let mut deltas = Vec::new();
        while from.finish().is_err() {
            deltas.push(KeyDelta::decode(kinds, from)?);
        }
        Ok(deltas)
    };
    if let Ok(deltas) = Decoder::new(bytes).and_then(|mut from| deltas(&mut from)) {
        let mut out = Encoder::default();
        deltas.iter().for_each(|delta| delta.encode(&mut out));
        assert_eq!(out.finish(), bytes);
    }
    let states = |mut from: Decoder<'_>| take_state(kinds, &mut from);
    drop(Decoder::new(bytes).and_then(states));
    if let Ok(context) = context_of(bytes) {
        let mut out = Encoder::default();
        out.context(&context);
        assert_eq!(out.finish(), bytes);
    }
}

/// How a message is spoilt.
#[derive(Debug, Clone)]
enum Spoil {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Drop(prop::sample::Index),
    Put(prop::sample::Index, Vec<u8>),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Spoil::Set(at, byte)),
        1 => at().prop_map(Spoil::Cut),
        1 => at().prop_map(Spoil::Drop),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Spoil::Put(at, more)),
    ]
}

fn spoilt(mut bytes: Vec<u8>, spoils: &[Spoil]) -> Vec<u8> {
    for spoil in spoils {
        if bytes.is_empty() {
            return bytes;
        }
        let len = bytes.len();
        match spoil {
            Spoil::Set(at, byte) => bytes[at.index(len)] = *byte,
            Spoil::Cut(at) => bytes.truncate(at.index(len)),
            Spoil::Drop(at) => drop(bytes.remove(at.index(len))),
            Spoil::Put(at, more) => {
                let place = at.index(len);
                drop(bytes.splice(place..place, more.iter().copied()));
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// No bytes do any harm, and whatever is accepted is the one form of what it says.
    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let kinds = Kinds::default();
        survive(&kinds, &bytes);
        survive(&kinds, &with_replica(&bytes));
    }

    #[test]
    fn spoilt_messages_are_survived(
        which in 0..12_usize,
        spoils in prop::collection::vec(spoil(), 0..4),
    ) {
        let bytes = spoilt(messages()[which].clone(), &spoils);
        survive(&Kinds::default(), &bytes);
    }
}
