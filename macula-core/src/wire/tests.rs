//! Golden bytes, and each refusal with its numbers.

mod properties;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize, Serializer};
use serde_bytes::ByteBuf;

use super::*;

/// A type before it gained a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
    count: u32,
}

/// The same type after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    #[serde(default)]
    colour: Option<String>,
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(u64),
    Tuple(i8, i64),
    Struct { left: Option<Box<Self>>, right: Vec<Self> },
}

/// A type that holds itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

impl Nest {
    fn of(depth: usize) -> Self {
        Self((1..depth).map(Self::of).next_back().into_iter().collect())
    }
}

fn framed(id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_raw(&mut out, Kind(7), Flags(3), id, body, &Limits::default()).unwrap();
    out.to_vec()
}

#[test]
fn a_header_has_its_bytes_for_ever() {
    let header = Header {
        version: VERSION,
        kind: Kind(0x10),
        flags: Flags(0x0203),
        id: 0x0405_0607_0809_0a0b,
        body_len: 0x0c0d_0e0f,
    };
    let bytes = [0x0c, 0x0d, 0x0e, 0x0f, 1, 0x10, 2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0x0b];
    assert_eq!(header.encode(), bytes);
    assert_eq!(Header::decode(&bytes), header);
}

#[test]
fn flags_are_sets() {
    let both = Flags(1).with(Flags(4));
    assert_eq!(both, Flags(5));
    assert!(both.contains(Flags(4)) && both.contains(Flags::default()));
    assert!(!both.contains(Flags(6)));
}

#[test]
fn bodies_have_their_bytes_for_ever() {
    let bytes = |value: &dyn erased::Value| value.body().to_vec();
    assert_eq!(
        bytes(&Old { name: "ada".to_owned(), count: 300 }),
        b"\x82\xa4name\xa3ada\xa5count\xcd\x01\x2c"
    );
    assert_eq!(bytes(&Choice::Unit), b"\xa4Unit");
    assert_eq!(bytes(&Choice::Newtype(1)), b"\x81\xa7Newtype\x01");
    assert_eq!(bytes(&Choice::Tuple(-1, -200)), b"\x81\xa5Tuple\x92\xff\xd1\xff\x38");
    assert_eq!(
        bytes(&Choice::Struct { left: None, right: Vec::new() }),
        b"\x81\xa6Struct\x82\xa4left\xc0\xa5right\x90"
    );
    assert_eq!(bytes(&ByteBuf::from([1, 2, 3])), b"\xc4\x03\x01\x02\x03");
    assert_eq!(bytes(&BTreeMap::from([("a", true)])), b"\x81\xa1a\xc3");
    assert_eq!(bytes(&()), b"\xc0");
}

/// Values of several types in one place.
mod erased {
    use super::{Bytes, Serialize, to_body};

    pub(super) trait Value {
        fn body(&self) -> Bytes;
    }

    impl<T: Serialize> Value for T {
        fn body(&self) -> Bytes {
            to_body(self, 1024).unwrap()
        }
    }
}

#[test]
fn a_frame_has_its_bytes_for_ever() {
    let mut out = BytesMut::from(&b"before"[..]);
    let body = Old { name: "ada".to_owned(), count: 300 };
    let limits = Limits::default();
    let appended = encode_frame(&mut out, Kind(0x10), Flags(1), 258, &body, &limits).unwrap();
    let header = b"\x00\x00\x00\x13\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x01\x02";
    assert_eq!(out[..6 + HEADER_LEN], [&b"before"[..], header].concat());
    assert_eq!(out[6 + HEADER_LEN..], to_body(&body, 64).unwrap());
    assert_eq!(appended, out.len() - 6);
    let mut raw = BytesMut::from(&b"before"[..]);
    let body = to_body(&body, 64).unwrap();
    assert_eq!(encode_raw(&mut raw, Kind(0x10), Flags(1), 258, &body, &limits).unwrap(), appended);
    assert_eq!(raw, out);
}

#[test]
fn old_and_new_understand_each_other() {
    let old = Old { name: "ada".to_owned(), count: 1 };
    let new = New { name: "ada".to_owned(), colour: None, count: 1 };
    let read: New = from_body(&to_body(&old, 64).unwrap(), &Limits::default()).unwrap();
    assert_eq!(read, new);
    let new = New { colour: Some("red".to_owned()), ..new };
    let read: Old = from_body(&to_body(&new, 64).unwrap(), &Limits::default()).unwrap();
    assert_eq!(read, old);
}

#[test]
fn a_body_lends_its_bytes() {
    let body = to_body(serde_bytes::Bytes::new(b"lent"), 64).unwrap();
    let lent: &serde_bytes::Bytes = from_body(&body, &Limits::default()).unwrap();
    assert_eq!(&body.slice_ref(lent)[..], b"lent");
}

/// Writes a little and then fails.
struct Failing;

impl Serialize for Failing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error as _, SerializeSeq as _};
        let mut list = serializer.serialize_seq(Some(2))?;
        list.serialize_element("written")?;
        Err(S::Error::custom("on purpose"))
    }
}

#[test]
fn an_encoding_that_fails_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let limits = Limits { frame_len_max: 4, ..Limits::default() };
    let long = encode_frame(&mut out, Kind(1), Flags(0), 1, "too long", &limits);
    assert_eq!(long.unwrap_err(), EncodeError::TooLong { len: 9, max: 4 });
    assert_eq!(&out[..], b"before");
    let long = encode_raw(&mut out, Kind(1), Flags(0), 1, b"12345", &limits);
    assert_eq!(long.unwrap_err(), EncodeError::TooLong { len: 5, max: 4 });
    assert_eq!(&out[..], b"before");
    let failed = encode_frame(&mut out, Kind(1), Flags(0), 1, &Failing, &limits).unwrap_err();
    assert_eq!(failed, EncodeError::Body("on purpose".to_owned()));
    assert_eq!(&out[..], b"before");
    assert_eq!(encode_frame(&mut out, Kind(1), Flags(0), 1, &7_u8, &limits).unwrap(), 17);
    assert_eq!(to_body("1234", 4).unwrap_err(), EncodeError::TooLong { len: 5, max: 4 });
    assert_eq!(to_body(&Failing, 4).unwrap_err(), failed);
}

/// Writes a little and then panics.
struct Panicking;

impl Serialize for Panicking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = serializer.serialize_seq(Some(2))?;
        list.serialize_element("written")?;
        panic!("on purpose")
    }
}

#[test]
fn an_encoding_that_panics_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let limits = Limits::default();
    let encoding =
        AssertUnwindSafe(|| encode_frame(&mut out, Kind(1), Flags(0), 1, &Panicking, &limits));
    catch_unwind(encoding).unwrap_err();
    assert_eq!(&out[..], b"before");
}

#[test]
fn a_peer_does_not_choose_how_long_a_refusal_is_nor_breaks_its_lines() {
    let limits = Limits::default();
    for text in ["\u{1}\n".repeat(30_000), "\u{10ffff}".repeat(16_000)] {
        let body = to_body(&text, limits.frame_len_max).unwrap();
        // The one quotes what it found with escapes, and the other as it is.
        let (escaped, plain) =
            (from_body::<Old>(&body, &limits), from_body::<Choice>(&body, &limits));
        for refused in [escaped.map(drop), plain.map(drop)] {
            let Err(BodyError::Invalid(why)) = refused else { panic!("{refused:?}") };
            assert_eq!(why.chars().count(), 256, "{} bytes", why.len());
            assert!(!why.contains(char::is_control), "{why:?}");
            assert!(why.capacity() <= 1024, "{} bytes", why.capacity());
        }
    }
    let refused = from_body::<Choice>(b"\xa3Odd", &limits).unwrap_err();
    insta::assert_snapshot!(refused, @"unknown variant `Odd`, expected one of `Unit`, `Newtype`, `Tuple`, `Struct`");
}

#[test]
fn each_cap_has_its_own_refusal() {
    let limits = Limits { frame_len_max: 64, depth_max: 3, count_max: 8 };
    let refused = |body: &[u8]| scan(body, &limits).unwrap_err();
    assert_eq!(refused(&[0x91, 0x91, 0x91, 0x91, 1]), BodyError::TooDeep { offset: 3, max: 3 });
    assert_eq!(refused(&[0x81, 0, 0x91, 0x91, 0x80]), BodyError::TooDeep { offset: 4, max: 3 });
    assert_eq!(refused(&[0x99, 0, 0, 0, 0]), BodyError::TooMany { offset: 0, max: 8 });
    assert_eq!(
        refused(&[0x92, 0x97, 0, 0, 0, 0, 0, 0, 0, 0]),
        BodyError::TooMany { offset: 1, max: 8 }
    );
    assert_eq!(refused(&[0x85]), BodyError::TooMany { offset: 0, max: 8 });
    assert_eq!(refused(&[0x01, 0x02]), BodyError::Trailing { offset: 1, len: 1 });
    assert_eq!(refused(&[0x90, 0xc1, 0xc1]), BodyError::Trailing { offset: 1, len: 2 });
    assert_eq!(refused(&[0xc1]), BodyError::Reserved { offset: 0 });
    assert_eq!(refused(&[0x92, 0x00, 0xc1]), BodyError::Reserved { offset: 2 });
    assert_eq!(refused(&[0; 65]), BodyError::TooLong { len: 65, max: 64 });
    let wrong = from_body::<Old>(&[0x01], &limits).unwrap_err();
    assert!(matches!(wrong, BodyError::Invalid(_)), "{wrong}");
}

#[test]
fn what_just_reaches_a_cap_is_taken() {
    let limits = Limits { frame_len_max: 9, depth_max: 2, count_max: 8 };
    scan(&[0x98, 0, 0, 0, 0, 0, 0, 0, 0], &limits).unwrap();
    scan(&[0x84, 0, 0, 0, 0, 0, 0, 0, 0], &limits).unwrap();
    assert_eq!(to_body("12345678", 9).unwrap().len(), 9);
    let mut out = BytesMut::new();
    assert_eq!(encode_frame(&mut out, Kind(1), Flags(0), 1, "12345678", &limits).unwrap(), 25);
    assert_eq!(encode_raw(&mut out, Kind(1), Flags(0), 2, &[7; 9], &limits).unwrap(), 25);
    let mut decoder = Decoder::new(limits);
    decoder.push(out.freeze());
    for id in 1..=2 {
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!((frame.id, frame.body.len()), (id, 9));
    }
}

#[test]
fn a_length_that_lies_is_refused_where_it_stands() {
    let limits = Limits { count_max: usize::MAX, ..Limits::default() };
    for (body, offset, missing) in [
        (&b""[..], 0, 1),
        (&[0xc6, 0xff, 0xff, 0xff, 0xff, 0], 5, 0xffff_fffe),
        (&[0xdb, 0xff, 0xff, 0xff, 0xff, 0], 5, 0xffff_fffe),
        (&[0xc9, 0xff, 0xff, 0xff, 0xff, 0], 5, 0xffff_ffff),
        (&[0xdd, 0xff, 0xff, 0xff, 0xff, 0], 5, 0xffff_fffe),
        (&[0xdf, 0xff, 0xff, 0xff, 0xff, 0], 5, 0x1_ffff_fffd),
        (&[0xdc, 0xff], 1, 1),
        (&[0x92, 0x00], 1, 1),
        (&[0xa5, b'a'], 1, 4),
        (&[0xd9], 1, 1),
        (&[0xcf, 0, 0], 1, 6),
        (&[0xd8, 0], 1, 16),
    ] {
        assert_eq!(
            scan(body, &limits).unwrap_err(),
            BodyError::Truncated { offset, missing },
            "{body:x?}"
        );
    }
    let huge = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let refused = from_body::<Vec<u8>>(&huge, &Limits::default()).unwrap_err();
    assert_eq!(refused, BodyError::TooMany { offset: 0, max: 65_536 });
}

#[test]
fn a_body_may_be_just_as_deep_as_is_allowed_and_no_deeper() {
    for depth_max in [1, 2, 32, 64] {
        let limits = Limits { depth_max, ..Limits::default() };
        let deepest = Nest::of(depth_max);
        let body = to_body_within(&deepest, &limits).unwrap();
        assert_eq!(from_body::<Nest>(&body, &limits).unwrap(), deepest);
        let refused = to_body_within(&Nest::of(depth_max + 1), &limits).unwrap_err();
        assert_eq!(refused, EncodeError::TooDeep { max: depth_max });
        let deeper = [vec![0x91; depth_max], vec![0x90]].concat();
        let refused = from_body::<Nest>(&deeper, &limits).unwrap_err();
        assert_eq!(refused, BodyError::TooDeep { offset: depth_max, max: depth_max });
    }
    let any = Limits { depth_max: usize::MAX, ..Limits::default() };
    let refused = from_body::<Nest>(&[0x91; 100], &any).unwrap_err();
    assert_eq!(refused, BodyError::TooDeep { offset: 64, max: 64 });
    let flat = Limits { depth_max: 0, ..any };
    assert_eq!(from_body::<u8>(&[7], &flat).unwrap(), 7);
    assert_eq!(scan(&[0x90], &flat).unwrap_err(), BodyError::TooDeep { offset: 0, max: 0 });
}

#[test]
fn a_long_body_may_have_many_elements_and_its_writer_hears_of_too_many() {
    let many: Vec<u32> = (0..100_000).collect();
    let len_max = 1 << 20;
    let body = to_body(&many, len_max).unwrap();
    assert_eq!(from_body::<Vec<u32>>(&body, &Limits::for_body(len_max)).unwrap(), many);
    assert_eq!(Limits::for_body(usize::MAX).count_max, COUNT_CAP);
    assert_eq!(Limits::for_body(1_000).count_max, 1_000);
    let limits = Limits { count_max: 99_999, ..Limits::for_body(len_max) };
    let refused = EncodeError::TooMany { max: 99_999 };
    assert_eq!(to_body_within(&many, &limits).unwrap_err(), refused);
    let mut out = BytesMut::from(&b"before"[..]);
    let refused_frame = encode_frame(&mut out, Kind(1), Flags(0), 1, &many, &limits);
    assert_eq!(refused_frame.unwrap_err(), refused);
    assert_eq!(&out[..], b"before");
}

#[test]
fn an_extension_at_the_deepest_level_is_walked_over_by_both() {
    let limits = Limits { depth_max: 2, ..Limits::default() };
    from_body::<serde::de::IgnoredAny>(&[0x91, 0x91, 0xd4, 1, 2], &limits).unwrap();
    from_body::<serde::de::IgnoredAny>(&[0x91, 0x91, 0xc7, 0, 1], &limits).unwrap();
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
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Version { found: 9 });
    let mut decoder = Decoder::new(Limits { frame_len_max: 3, ..Limits::default() });
    decoder.push(framed(1, b"1234").into());
    assert_eq!(decoder.next_frame().unwrap_err(), DecodeError::TooLong { len: 4, max: 3 });
}

#[test]
fn a_decoder_that_has_failed_holds_nothing() {
    let mut bytes = framed(1, b"x");
    bytes[4] = 9;
    let bytes = Bytes::from(bytes);
    for cut in [0, 10] {
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(bytes.slice(..cut));
        assert_eq!(decoder.next_frame().unwrap(), None);
        decoder.push(bytes.slice(cut..));
        decoder.next_frame().unwrap_err();
        decoder.push(bytes.clone());
        assert!(bytes.is_unique(), "no chunk is kept, neither of before the error nor of after it");
        assert_eq!(decoder.partial.capacity(), 0);
    }
}

#[test]
fn a_bogus_length_is_refused_with_the_header_before_the_body_comes() {
    let mut decoder = Decoder::new(Limits::default());
    for byte in [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
        decoder.push(Bytes::from(vec![byte]));
        assert_eq!(decoder.next_frame().unwrap(), None);
    }
    decoder.push(Bytes::from_static(&[0]));
    let refused = DecodeError::TooLong { len: 0xffff_ffff, max: 65_536 };
    assert_eq!(decoder.next_frame().unwrap_err(), refused);
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn a_stream_that_ends_in_a_frame_is_truncated() {
    let bytes = Bytes::from(framed(1, b"1234"));
    let mut decoder = Decoder::new(Limits::default());
    decoder.finish().unwrap();
    decoder.push(bytes.slice(..10));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Truncated { missing: 6 });
    decoder.push(bytes.slice(10..18));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Truncated { missing: 2 });
    decoder.push(bytes.slice(18..));
    assert_eq!(decoder.next_frame().unwrap().unwrap().body, &b"1234"[..]);
    decoder.finish().unwrap();
    // As well where its beginning was not looked at yet, and lies in two chunks.
    decoder.push(bytes.slice(..3));
    decoder.push(bytes.slice(3..19));
    assert_eq!(decoder.finish().unwrap_err(), DecodeError::Truncated { missing: 1 });
}

#[test]
fn a_frame_in_one_chunk_is_a_slice_of_it() {
    let bytes = Bytes::from([framed(1, b"one"), framed(2, b"two"), framed(3, b"")].concat());
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes.clone());
    for at in [HEADER_LEN, 2 * HEADER_LEN + 3] {
        let body = decoder.next_frame().unwrap().unwrap().body;
        assert_eq!(body.as_ptr(), bytes[at..].as_ptr());
    }
    let empty = decoder.next_frame().unwrap().unwrap();
    assert_eq!(empty.body, Bytes::new());
    assert!(bytes.is_unique(), "neither an empty body nor the decoder keeps the chunk");
    assert_eq!(decoder.next_frame().unwrap(), None);
}

#[test]
fn a_decoder_between_frames_holds_nothing() {
    assert!(size_of::<Decoder>() <= 128, "{} bytes", size_of::<Decoder>());
    let bytes = Bytes::from([framed(1, &[7; 5000]), framed(2, b"two")].concat());
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes.slice(..3000));
    assert_eq!(decoder.next_frame().unwrap(), None);
    assert_eq!(decoder.partial.capacity(), 5000 + HEADER_LEN);
    decoder.push(bytes.slice(3000..));
    assert_eq!(decoder.next_frame().unwrap().unwrap().body, &[7; 5000][..]);
    assert_eq!(decoder.next_frame().unwrap().unwrap().body, &b"two"[..]);
    assert!(bytes.is_unique());
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn chunks_that_are_pushed_too_early_are_not_lost() {
    let mut decoder = Decoder::new(Limits::default());
    for id in 0..5 {
        let bytes = Bytes::from(framed(id, &[1; 40]));
        decoder.push(bytes.slice(..30));
        decoder.push(bytes.slice(30..));
    }
    let ids: Vec<u64> =
        std::iter::from_fn(|| decoder.next_frame().unwrap()).map(|frame| frame.id).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    decoder.finish().unwrap();
}

#[test]
fn errors_read_well() {
    let texts = [
        EncodeError::TooLong { len: 9, max: 4 }.to_string(),
        EncodeError::TooDeep { max: 2 }.to_string(),
        EncodeError::TooMany { max: 2 }.to_string(),
        EncodeError::Body("no".to_owned()).to_string(),
        DecodeError::Version { found: 9 }.to_string(),
        DecodeError::TooLong { len: 9, max: 4 }.to_string(),
        DecodeError::Truncated { missing: 3 }.to_string(),
        BodyError::TooLong { len: 9, max: 4 }.to_string(),
        BodyError::TooDeep { offset: 3, max: 2 }.to_string(),
        BodyError::TooMany { offset: 3, max: 2 }.to_string(),
        BodyError::Truncated { offset: 3, missing: 2 }.to_string(),
        BodyError::Trailing { offset: 3, len: 2 }.to_string(),
        BodyError::Reserved { offset: 3 }.to_string(),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    a body of 9 bytes, at most 4 are allowed; nothing was written
    the value is nested deeper than 2 levels; nothing was written
    the value has more than 2 elements; nothing was written
    the value cannot be encoded: no; nothing was written
    a frame of version 9, and only version 1 is known
    a frame with a body of 9 bytes, at most 4 are taken
    the stream ended 3 bytes before its last frame did
    a body of 9 bytes, at most 4 are taken
    byte 3: nested deeper than 2 levels
    byte 3: more than 2 elements
    byte 3: 2 bytes are missing
    byte 3: 2 bytes too many
    byte 3: 0xc1 has no meaning in MessagePack
    ");
}
