//! Whatever may come, by whoever, cut however.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::super::*;
use super::{Choice, New, Old};

/// One field for each thing that serde can say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Zoo {
    truth: bool,
    small: (i8, u8, i16, u16),
    large: (i32, u32, i64, u64),
    huge: u128,
    broken: (f32, f64),
    letter: char,
    text: String,
    blob: ByteBuf,
    nothing: (),
    maybe: Option<Option<u8>>,
    list: Vec<u32>,
    map: BTreeMap<String, i64>,
    choices: Vec<Choice>,
}

fn choice() -> impl Strategy<Value = Choice> {
    let leaf = prop_oneof![
        Just(Choice::Unit),
        any::<u64>().prop_map(Choice::Newtype),
        any::<(i8, i64)>().prop_map(|(a, b)| Choice::Tuple(a, b)),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        (prop::option::of(inner.clone().prop_map(Box::new)), vec(inner, 0..3))
            .prop_map(|(left, right)| Choice::Struct { left, right })
    })
}

fn zoo() -> impl Strategy<Value = Zoo> {
    let numbers = (any::<bool>(), any::<(i8, u8, i16, u16)>(), any::<(i32, u32, i64, u64)>());
    let words = (any::<char>(), ".{0,300}", vec(any::<u8>(), 0..300));
    let many = (vec(any::<u32>(), 0..20), btree_map(".{0,40}", any::<i64>(), 0..20));
    let rest = (any::<u128>(), -1e30_f32..1e30, -1e300_f64..1e300, prop::option::of(any::<u8>()));
    (numbers, words, many, rest, vec(choice(), 0..4)).prop_map(
        |((truth, small, large), (letter, text, blob), (list, map), rest, choices)| Zoo {
            truth,
            small,
            large,
            huge: rest.0,
            broken: (rest.1, rest.2),
            letter,
            text,
            blob: ByteBuf::from(blob),
            nothing: (),
            maybe: rest.3.map(Some),
            list,
            map,
            choices,
        },
    )
}

/// A first byte and what belongs to it: any value without others in it.
fn scalar() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop_oneof![
        prop_oneof![0_u8..0x80, 0xe0_u8..=0xff, Just(0xc0), Just(0xc2), Just(0xc3)]
            .prop_map(|first| (first, 0)),
        (0xa0_u8..0xc0).prop_map(|first| (first, usize::from(first & 0x1f))),
        prop::sample::select(vec![
            (0xca, 4),
            (0xcb, 8),
            (0xcc, 1),
            (0xcd, 2),
            (0xce, 4),
            (0xcf, 8),
            (0xd0, 1),
            (0xd1, 2),
            (0xd2, 4),
            (0xd3, 8),
            (0xd4, 2),
            (0xd5, 3),
            (0xd6, 5),
            (0xd7, 9),
            (0xd8, 17),
        ]),
    ];
    let fixed = (fixed, vec(any::<u8>(), 32))
        .prop_map(|((first, len), tail)| [&[first][..], &tail[..len]].concat());
    // The first bytes of texts, blobs and extensions whose lengths have one, two and four bytes.
    let sized = prop::sample::select(vec![
        (0xc4, 1, 0),
        (0xc5, 2, 0),
        (0xc6, 4, 0),
        (0xd9, 1, 0),
        (0xda, 2, 0),
        (0xdb, 4, 0),
        (0xc7, 1, 1),
        (0xc8, 2, 1),
        (0xc9, 4, 1),
    ]);
    let sized = (sized, vec(any::<u8>(), 1..40)).prop_map(|((first, width, more), tail)| {
        let len = u32::try_from(tail.len() - more).unwrap().to_be_bytes();
        [&[first][..], &len[4 - width..], &tail].concat()
    });
    prop_oneof![fixed, sized]
}

/// The bytes of any value.
fn value() -> impl Strategy<Value = Vec<u8>> {
    scalar().prop_recursive(4, 32, 6, |inner| {
        (vec(inner, 0..6), any::<bool>(), 0_usize..3).prop_map(|(mut items, map, width)| {
            if map && items.len() % 2 == 1 {
                items.pop();
            }
            let count = u8::try_from(if map { items.len() / 2 } else { items.len() }).unwrap();
            let head = match (map, width) {
                (false, 0) => vec![0x90 | count],
                (false, 1) => vec![0xdc, 0, count],
                (false, _) => vec![0xdd, 0, 0, 0, count],
                (true, 0) => vec![0x80 | count],
                (true, 1) => vec![0xde, 0, count],
                (true, _) => vec![0xdf, 0, 0, 0, count],
            };
            [head, items.concat()].concat()
        })
    })
}

/// Whether serde reads exactly one value to the end of these bytes.
fn serde_reads(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    let read = IgnoredAny::deserialize(&mut reader);
    drop(reader);
    read.is_ok() && rest.is_empty()
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits { depth_max: 64, ..Limits::default() };
    let scanned = scan(bytes, &limits);
    let capped = matches!(scanned, Err(BodyError::TooDeep { .. } | BodyError::TooMany { .. }));
    prop_assert!(capped || scanned.is_ok() == serde_reads(bytes), "{scanned:?} for {bytes:x?}");
    if scanned.is_ok() {
        prop_assert!(rmp_serde::from_slice::<IgnoredAny>(bytes).is_ok());
        prop_assert!(from_body::<IgnoredAny>(bytes, &limits).is_ok());
    }
    Ok(())
}

/// Takes all frames out of chunks that end at these places, and looks after what is held.
fn cut(bytes: &Bytes, mut cuts: Vec<usize>, limits: Limits) -> Result<Vec<Frame>, DecodeError> {
    cuts.iter_mut().for_each(|cut| *cut %= bytes.len() + 1);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut decoder, mut frames, mut start) = (Decoder::new(limits), Vec::new(), 0);
    for end in cuts {
        decoder.push(bytes.slice(start..end));
        start = end;
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        assert!(decoder.chunk.is_empty(), "what waits has moved out of the chunk");
        let held = decoder.partial.capacity();
        assert!(held <= limits.frame_len_max + 2 * HEADER_LEN, "{held} bytes are held");
    }
    decoder.finish()?;
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(
        sent in vec((any::<(u8, u16, u64)>(), vec(any::<u8>(), 0..200)), 0..10),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let limits = Limits { frame_len_max: 200, ..Limits::default() };
        let mut out = BytesMut::new();
        let mut frames = Vec::new();
        for ((kind, flags, id), body) in sent {
            let (kind, flags) = (Kind(kind), Flags(flags));
            encode_raw(&mut out, kind, flags, id, &body, &limits).unwrap();
            frames.push(Frame { kind, flags, id, body: body.into() });
        }
        prop_assert_eq!(cut(&out.freeze(), cuts, limits).unwrap(), frames);
    }

    #[test]
    fn frames_survive_one_byte_at_a_time(bodies in vec(vec(any::<u8>(), 0..40), 0..5)) {
        let mut out = BytesMut::new();
        for (id, body) in (0..).zip(&bodies) {
            encode_raw(&mut out, Kind(1), Flags(0), id, body, &Limits::default()).unwrap();
        }
        let cuts = (0..out.len()).collect();
        let frames = cut(&out.freeze(), cuts, Limits::default()).unwrap();
        let found: Vec<&[u8]> = frames.iter().map(|frame| &frame.body[..]).collect();
        prop_assert_eq!(found, bodies);
    }

    #[test]
    fn frames_survive_chunks_that_are_pushed_too_early(
        bodies in vec(vec(any::<u8>(), 0..60), 0..8),
        steps in vec((1_usize..80, 0_usize..3), 0..20),
    ) {
        let mut out = BytesMut::new();
        for (id, body) in (0..).zip(&bodies) {
            encode_raw(&mut out, Kind(1), Flags(0), id, body, &Limits::default()).unwrap();
        }
        let (mut stream, mut decoder) = (out.freeze(), Decoder::new(Limits::default()));
        let mut found = Vec::new();
        for (len, takes) in steps {
            decoder.push(stream.split_to(len.min(stream.len())));
            for _ in 0..takes {
                found.extend(decoder.next_frame().unwrap());
            }
        }
        decoder.push(stream);
        found.extend(std::iter::from_fn(|| decoder.next_frame().unwrap()));
        prop_assert!(found.iter().map(|frame| frame.id).eq(0..bodies.len() as u64));
        let found: Vec<&[u8]> = found.iter().map(|frame| &frame.body[..]).collect();
        prop_assert_eq!(found, bodies);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_stream_that_ends_says_what_it_lacks(
        bodies in vec(vec(any::<u8>(), 0..60), 1..5),
        end in any::<prop::sample::Index>(),
        middle in any::<prop::sample::Index>(),
    ) {
        let mut out = BytesMut::new();
        // Where a stream may end, or lacks a header to go on.
        let mut ends = vec![0];
        for body in &bodies {
            encode_raw(&mut out, Kind(1), Flags(0), 0, body, &Limits::default()).unwrap();
            ends.push(out.len());
        }
        let end = end.index(out.len() + 1);
        let middle = middle.index(end + 1);
        let start = *ends.iter().rfind(|start| **start <= end).unwrap();
        let held = end - start;
        let expected = match ends.iter().find(|whole| **whole > end) {
            _ if held == 0 => Ok(()),
            Some(whole) if held >= HEADER_LEN => {
                Err(DecodeError::Truncated { missing: whole - end })
            }
            _ => Err(DecodeError::Truncated { missing: HEADER_LEN - held }),
        };
        let (stream, mut decoder) = (out.freeze(), Decoder::new(Limits::default()));
        for chunk in [stream.slice(..middle), stream.slice(middle..end)] {
            decoder.push(chunk);
            while decoder.next_frame().unwrap().is_some() {}
        }
        prop_assert_eq!(decoder.finish(), expected);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hoard(
        mut bytes in vec(any::<u8>(), 0..300),
        cuts in vec(any::<usize>(), 0..10),
        plausible in any::<bool>(),
    ) {
        if plausible && bytes.len() > 4 {
            bytes[4] = VERSION;
            bytes[..3].fill(0);
        }
        let limits = Limits { frame_len_max: 128, ..Limits::default() };
        let bytes = Bytes::from(bytes);
        // How a stream is cut changes neither its frames nor its error, but for when it is seen.
        let (whole, pieces) = (cut(&bytes, Vec::new(), limits), cut(&bytes, cuts, limits));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn the_scan_and_serde_agree_on_values(bytes in value()) {
        prop_assert_eq!(scan(&bytes, &Limits::default()), Ok(()));
        agree(&bytes)?;
    }

    #[test]
    fn the_scan_and_serde_agree_on_damaged_values(
        mut bytes in value(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in vec(any::<u8>(), 0..3),
    ) {
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        agree(&bytes)?;
    }

    #[test]
    fn the_scan_and_serde_agree_on_noise(bytes in vec(any::<u8>(), 0..64)) {
        agree(&bytes)?;
        drop(from_body::<Zoo>(&bytes, &Limits::default()));
        drop(from_body::<Choice>(&bytes, &Limits::default()));
    }

    #[test]
    fn what_is_written_is_taken_and_read(zoo in zoo()) {
        let limits = Limits::default();
        let body = to_body(&zoo, limits.frame_len_max).unwrap();
        prop_assert_eq!(scan(&body, &limits), Ok(()));
        prop_assert_eq!(from_body::<Zoo>(&body, &limits).unwrap(), zoo);
        let short = scan(&body[..body.len() - 1], &limits);
        let truncated = matches!(short, Err(BodyError::Truncated { .. }));
        prop_assert!(truncated, "{short:?}");
        let long = [&body[..], &[0]].concat();
        let trailing = BodyError::Trailing { offset: body.len(), len: 1 };
        prop_assert_eq!(from_body::<Zoo>(&long, &limits).unwrap_err(), trailing);
    }

    #[test]
    fn a_frame_and_a_body_are_encoded_alike(zoo in zoo(), id in any::<u64>()) {
        let limits = Limits::default();
        let body = to_body(&zoo, limits.frame_len_max).unwrap();
        let mut out = BytesMut::new();
        let appended = encode_frame(&mut out, Kind(2), Flags(1), id, &zoo, &limits).unwrap();
        prop_assert_eq!(appended, out.len());
        let mut decoder = Decoder::new(limits);
        decoder.push(out.freeze());
        let frame = Frame { kind: Kind(2), flags: Flags(1), id, body };
        prop_assert_eq!(decoder.next_frame().unwrap(), Some(frame));
    }

    #[test]
    fn a_gained_field_hurts_neither_side(
        name in ".{0,40}",
        colour in prop::option::of(".{0,40}"),
        count in any::<u32>(),
    ) {
        let limits = Limits::default();
        let old = Old { name: name.clone(), count };
        let new = New { name, colour, count };
        let read: Old = from_body(&to_body(&new, 1024).unwrap(), &limits).unwrap();
        prop_assert_eq!(&read, &old);
        let read: New = from_body(&to_body(&old, 1024).unwrap(), &limits).unwrap();
        prop_assert_eq!(read, New { colour: None, ..new });
    }
}
