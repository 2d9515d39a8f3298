//! Golden bytes, and properties of whatever may come.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
    count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    #[serde(default)]
    colour: Option<String>,
    count: u32,
}

fn framed(id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_raw(&mut out, Kind(7), Flags(3), id, body, &Limits::default()).unwrap();
    out.to_vec()
}

#[test]
fn a_header_has_its_bytes_for_ever() {
    let header =
        Header { version: VERSION, kind: Kind(0x10), flags: Flags(0x0203), id: 0x0405, body_len: 6 };
    assert_eq!(header.encode(), [0, 0, 0, 6, 1, 0x10, 2, 3, 0, 0, 0, 0, 0, 0, 4, 5]);
    assert_eq!(Header::decode(&header.encode()), header);
}

#[test]
fn a_body_has_its_bytes_for_ever() {
    let body = to_body(&Old { name: "ada".to_owned(), count: 300 }, 64).unwrap();
    assert_eq!(&body[..], b"\x82\xa4name\xa3ada\xa5count\xcd\x01\x2c");
}

#[test]
fn old_and_new_understand_each_other() {
    let old = to_body(&Old { name: "ada".to_owned(), count: 1 }, 64).unwrap();
    let new = New { name: "ada".to_owned(), colour: None, count: 1 };
    assert_eq!(from_body::<New>(&old, &Limits::default()).unwrap(), new);
    let new = New { colour: Some("red".to_owned()), ..new };
    let new = to_body(&new, 64).unwrap();
    let old = from_body::<Old>(&new, &Limits::default()).unwrap();
    assert_eq!(old, Old { name: "ada".to_owned(), count: 1 });
}

#[test]
fn an_encoding_that_fails_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let limits = Limits { frame_len_max: 4, ..Limits::default() };
    let long = encode_frame(&mut out, Kind(1), Flags(0), 1, "too long", &limits);
    assert_eq!(long.unwrap_err(), EncodeError::TooLong { len: 9, max: 4 });
    assert_eq!(&out[..], b"before");
    assert!(encode_raw(&mut out, Kind(1), Flags(0), 1, b"12345", &limits).is_err());
    assert_eq!(&out[..], b"before");
    assert_eq!(encode_frame(&mut out, Kind(1), Flags(0), 1, &7_u8, &limits).unwrap(), 17);
}

#[test]
fn each_cap_has_its_own_refusal() {
    let limits = Limits { frame_len_max: 64, depth_max: 3, count_max: 8 };
    let refused = |body: &[u8]| scan(body, &limits).unwrap_err();
    assert_eq!(refused(&[0x91, 0x91, 0x91, 0x91, 1]), BodyError::TooDeep { offset: 3, max: 3 });
    assert_eq!(refused(&[0x99, 0, 0, 0, 0]), BodyError::TooMany { offset: 0, max: 8 });
    assert_eq!(
        refused(&[0xdd, 0xff, 0xff, 0xff, 0xff]),
        BodyError::TooMany { offset: 0, max: 8 }
    );
    assert_eq!(
        refused(&[0xc6, 0xff, 0xff, 0xff, 0xff, 0]),
        BodyError::Truncated { offset: 5, missing: 0xffff_fffe }
    );
    assert_eq!(refused(&[0x01, 0x02]), BodyError::Trailing { offset: 1, len: 1 });
    assert_eq!(refused(&[0xc1]), BodyError::Reserved { offset: 0 });
    assert_eq!(refused(&[]), BodyError::Truncated { offset: 0, missing: 1 });
    assert_eq!(refused(&[0; 65]), BodyError::TooLong { len: 65, max: 64 });
    let wrong = from_body::<Old>(&[0x01], &limits).unwrap_err();
    assert!(matches!(wrong, BodyError::Invalid(_)), "{wrong}");
}

#[test]
fn a_frame_of_another_version_or_length_ends_the_stream() {
    let mut bytes = framed(1, b"x");
    bytes[4] = 9;
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes.into());
    assert_eq!(decoder.next_frame().unwrap_err(), DecodeError::Version { found: 9 });
    decoder.push(framed(2, b"y").into());
    assert_eq!(decoder.next_frame().unwrap_err(), DecodeError::Version { found: 9 });
    let mut decoder = Decoder::new(Limits { frame_len_max: 3, ..Limits::default() });
    decoder.push(framed(1, b"1234").into());
    assert_eq!(decoder.next_frame().unwrap_err(), DecodeError::TooLong { len: 4, max: 3 });
}

#[test]
fn a_stream_that_ends_in_a_frame_is_truncated() {
    let bytes = Bytes::from(framed(1, b"1234"));
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes.slice(..10));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Truncated { missing: 6 });
    decoder.push(bytes.slice(10..18));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Truncated { missing: 2 });
    decoder.push(bytes.slice(18..));
    assert_eq!(decoder.next_frame().unwrap().unwrap().body, &b"1234"[..]);
    decoder.finish().unwrap();
}

/// Takes all frames out of chunks that end at these places.
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
        let held = decoder.partial.capacity();
        assert!(held <= 4 * (limits.frame_len_max + HEADER_LEN), "{held} bytes are held");
    }
    decoder.finish()?;
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for (id, body) in (0..).zip(&bodies) {
            bytes.extend(framed(id, body));
        }
        let frames = cut(&bytes.into(), cuts, Limits::default()).unwrap();
        let found: Vec<&[u8]> = frames.iter().map(|frame| &frame.body[..]).collect();
        prop_assert_eq!(found, bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        prop_assert!((0..).zip(&frames).all(|(id, frame)| frame.id == id));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hoard(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
        versions in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if versions && bytes.len() > 4 {
            bytes[4] = VERSION;
            bytes[..3].fill(0);
        }
        drop(cut(&bytes.into(), cuts, Limits { frame_len_max: 128, ..Limits::default() }));
    }

    #[test]
    fn what_the_scan_takes_serde_reads_to_its_end(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        if scan(&bytes, &Limits::default()).is_ok() {
            let mut rest = &bytes[..];
            let mut reader = rmp_serde::Deserializer::new(&mut rest);
            let read = serde::de::IgnoredAny::deserialize(&mut reader);
            drop(reader);
            // Extension types have no place in serde's model; all else is read.
            if read.is_ok() {
                prop_assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn what_is_written_is_taken_and_read(name in ".{0,40}", count in any::<u32>()) {
        let old = Old { name, count };
        let body = to_body(&old, 1024).unwrap();
        prop_assert_eq!(from_body::<Old>(&body, &Limits::default()).unwrap(), old);
        prop_assert!(scan(&body[..body.len() - 1], &Limits::default()).is_err());
    }
}
