//! The fuzz targets without a fuzzer: every file of the corpus, and thousands of mutants of them.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use macula_core::entropy::Entropy;
use macula_core::identity::{Authority, Keypair, Validity, crl_to_pem, self_signed};
use macula_core::wire::{Flags, Kind, Limits, encode_frame, encode_raw, to_body};
use macula_tests::fuzz::{self, Choice, Message};
use macula_tests::seeds::{self, Case, FailedSeed};
use serde_bytes::ByteBuf;

/// How many mutants each target gets.
const MUTANTS: u64 = 20_000;

/// The longest mutant, in bytes.
const MUTANT_LEN_MAX: usize = 4096;

/// The environment variable that has the corpus written anew.
const WRITE_VARIABLE: &str = "MACULA_CORPUS_WRITE";

type Files = BTreeMap<&'static str, Vec<u8>>;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The files of a target that are kept, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "bin"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
}

fn pick(entropy: &mut Entropy, below: usize) -> usize {
    usize::try_from(entropy.below(u64::try_from(below).unwrap())).unwrap()
}

/// What changes more than any byte does: ends of ranges, and first bytes of MessagePack and DER.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x0f, 0x10, 0x1f, 0x20, 0x30, 0x7f, 0x80, 0x81, 0x82, 0x90, 0x91, 0xa0, 0xc0,
    0xc1, 0xc4, 0xc7, 0xd9, 0xdc, 0xdd, 0xdf, 0xff,
];

/// A file of the corpus with one to four changes.
fn mutant(seed: u64, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut entropy = Entropy::from_seed(seed);
    let mut bytes = corpus[pick(&mut entropy, corpus.len())].1.clone();
    for _ in 0..=entropy.below(4) {
        let at = pick(&mut entropy, bytes.len() + 1);
        let end = (at + 1 + pick(&mut entropy, 8)).min(bytes.len());
        match entropy.below(8) {
            0 if at < end => bytes[at] ^= 1 << entropy.below(8),
            1 | 2 if at < end => bytes[at] = TELLING[pick(&mut entropy, TELLING.len())],
            3 => bytes.insert(at, TELLING[pick(&mut entropy, TELLING.len())]),
            4 => drop(bytes.drain(at.min(end)..end)),
            5 => bytes.truncate(at),
            6 if at < end => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            7 => {
                let other = &corpus[pick(&mut entropy, corpus.len())].1;
                let from = pick(&mut entropy, other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => bytes.insert(at, entropy.next_u64().to_be_bytes()[0]),
        }
    }
    bytes.truncate(MUTANT_LEN_MAX);
    bytes
}

fn smoke(target: &str, test: &'static str, run: fn(&[u8])) -> Result<(), FailedSeed> {
    let corpus = corpus(target);
    corpus.iter().for_each(|(_, bytes)| run(bytes));
    seeds::check(Case { target: "fuzz_smoke", test }, 0..MUTANTS, |seed| {
        run(&mutant(seed, &corpus));
        Ok(())
    })
}

#[test]
fn frames_stand_whatever_comes() -> Result<(), FailedSeed> {
    smoke("frames", "frames_stand_whatever_comes", fuzz::frames)
}

#[test]
fn bodies_stand_whatever_comes() -> Result<(), FailedSeed> {
    smoke("body", "bodies_stand_whatever_comes", fuzz::body)
}

#[test]
fn certificates_stand_whatever_comes() -> Result<(), FailedSeed> {
    smoke("certificate", "certificates_stand_whatever_comes", fuzz::certificate)
}

/// Mutants are worth their time only if many of them are still read.
#[test]
fn a_fair_share_of_the_mutants_is_not_refused_at_once() {
    let bodies = corpus("body");
    let taken = (0..1000)
        .filter(|seed| macula_core::wire::scan(&mutant(*seed, &bodies), &Limits::default()).is_ok())
        .count();
    assert!((50..950).contains(&taken), "{taken} of 1000 are taken");
}

fn message() -> Message {
    Message {
        truth: true,
        signed: (-1, -200, -70_000, i64::MIN),
        unsigned: (200, 60_000, 70_000, u64::MAX),
        huge: u128::MAX,
        broken: (0.5, f64::NAN),
        letter: 'ß',
        text: "a text of more than thirty-one bytes".to_owned(),
        blob: ByteBuf::from([7; 40]),
        maybe: Some("maybe".to_owned()),
        list: (0..20).collect(),
        map: [("one".to_owned(), Some(1)), ("none".to_owned(), None)].into(),
        choice: Choice::Tuple("left".to_owned(), ByteBuf::from([1, 2])),
    }
}

fn body_files() -> Files {
    let body = |message: &Message| to_body(message, 65_536).unwrap().to_vec();
    let inner = Message { choice: Choice::Newtype(7), ..Message::default() };
    let others = vec![Choice::Unit, Choice::Newtype(1)];
    let nested =
        Message { choice: Choice::Struct { inner: Box::new(inner), others }, ..Message::default() };
    [
        ("default.bin", body(&Message::default())),
        ("full.bin", body(&message())),
        ("nested.bin", body(&nested)),
        ("empty_map.bin", vec![0x80]),
        ("extension.bin", vec![0x92, 0xd4, 1, 2, 0xc7, 3, 5, 1, 2, 3]),
        ("deep.bin", [&[0x91; 31][..], &[0x90]].concat()),
        ("bogus_length.bin", vec![0xc6, 0xff, 0xff, 0xff, 0xff, 1]),
        (
            "wide.bin",
            b"\xde\x00\x02\xa1a\xdc\x00\x01\xdb\x00\x00\x00\x01x\xa1b\xdd\0\0\0\x00".to_vec(),
        ),
    ]
    .into()
}

fn frame_files() -> Files {
    let limits = Limits::default();
    let stream = |step: u8, bodies: &[&[u8]]| {
        let mut out = BytesMut::from(&[step][..]);
        for (id, body) in (1..).zip(bodies) {
            encode_raw(&mut out, Kind(0x10), Flags(1), id, body, &limits).unwrap();
        }
        out.to_vec()
    };
    let mut message_frame = BytesMut::from(&[5][..]);
    encode_frame(&mut message_frame, Kind(1), Flags(0), 9, &message(), &limits).unwrap();
    let mut version = stream(3, &[b"\x01", b"\x02"]);
    version[1 + 16 + 1 + 4] = 9;
    [
        ("no_frame.bin", stream(0, &[])),
        ("one.bin", stream(1, &[b"\xa3one"])),
        ("three.bin", stream(17, &[b"\x80", b"", b"\xc4\x02\x01\x02"])),
        ("message.bin", message_frame.to_vec()),
        ("too_long.bin", stream(200, &[&[0; 1025]])),
        ("other_version.bin", version),
        ("truncated.bin", stream(9, &[b"\x01", b"\xa3one"])[..30].to_vec()),
    ]
    .into()
}

fn certificate_files() -> Files {
    let valid = Validity {
        not_before: Duration::from_secs(1_700_000_000),
        not_after: Duration::from_secs(1_800_000_000),
    };
    let node = Keypair::from_seed([2; 32]);
    let authority = Authority::with_key("example", Keypair::from_seed([1; 32]), valid).unwrap();
    let leaf = authority.issue(node.node_id(), valid, &["worker", "admin"]).unwrap();
    let list = authority.revocation_list(&[], 1, valid).unwrap();
    let bundle = [authority.certificate().to_pem(), leaf.to_pem()].concat();
    [
        ("authority.bin", authority.certificate().der().to_vec()),
        ("leaf.bin", leaf.der().to_vec()),
        ("self_signed.bin", self_signed(&node, valid).unwrap().der().to_vec()),
        ("bundle_pem.bin", bundle.into_bytes()),
        ("revocations_pem.bin", crl_to_pem(&list).into_bytes()),
    ]
    .into()
}

/// Writes the corpus if the environment says so. Certificates have random serial numbers: only
/// their names are compared.
#[test]
fn the_corpus_is_what_its_generator_makes() {
    let made =
        [("body", body_files()), ("frames", frame_files()), ("certificate", certificate_files())];
    for (target, files) in made {
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            std::fs::create_dir_all(folder(target)).unwrap();
            for (name, bytes) in &files {
                std::fs::write(folder(target).join(name), bytes).unwrap();
            }
        }
        let kept = corpus(target);
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, files.keys().copied().collect::<Vec<_>>(), "{target}");
        for (name, bytes) in kept.iter().filter(|_| target != "certificate") {
            assert_eq!(bytes, &files[name.as_str()], "{target}/{name} is old: {WRITE_VARIABLE}=1");
        }
    }
}
