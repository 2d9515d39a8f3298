//! What holds for whatever bytes come: the bodies of the fuzz targets.
//!
//! libFuzzer runs them in `tests/fuzz`, and the smoke test runs them with mutants of the corpus. A
//! function returns if all is well, and panics if not.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use macula_core::identity::{Certificate, crl_from_pem};
use macula_core::wire::{
    DecodeError, Decoder, Frame, Limits, encode_raw, from_body, scan, to_body_within,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The longest body of a frame in a stream, in bytes: short, so that frames are refused too.
const FRAME_LEN_MAX: usize = 1024;

/// A field for each thing that serde can say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// A bool.
    pub truth: bool,
    /// Signed numbers.
    pub signed: (i8, i16, i32, i64),
    /// Unsigned numbers.
    pub unsigned: (u8, u16, u32, u64),
    /// A number that is written as a blob.
    pub huge: u128,
    /// Broken numbers.
    pub broken: (f32, f64),
    /// A letter.
    pub letter: char,
    /// A text.
    pub text: String,
    /// A blob.
    pub blob: ByteBuf,
    /// Something that may be absent.
    pub maybe: Option<String>,
    /// A list.
    pub list: Vec<u32>,
    /// A map.
    pub map: BTreeMap<String, Option<i64>>,
    /// One of several things.
    pub choice: Choice,
}

/// A variant of each form.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub enum Choice {
    /// Without anything.
    #[default]
    Unit,
    /// With one thing.
    Newtype(u64),
    /// With two.
    Tuple(String, ByteBuf),
    /// With named ones, which nest.
    Struct {
        /// A message in a message.
        inner: Box<Message>,
        /// More choices.
        others: Vec<Self>,
    },
}

/// A stream of frames, after one byte that says in which pieces it comes.
///
/// # Panics
///
/// If the pieces change what is read, or what is read is not what was sent.
pub fn frames(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let stream = Bytes::copy_from_slice(stream);
    let whole = decode(&stream, stream.len());
    let pieces = decode(&stream, usize::from(*step));
    assert_eq!(whole, pieces, "how a stream is cut does not change it");
    let limits = Limits { frame_len_max: FRAME_LEN_MAX, ..Limits::default() };
    let mut again = BytesMut::new();
    for Frame { kind, flags, id, body: bytes } in &whole.0 {
        let appended = encode_raw(&mut again, *kind, *flags, *id, bytes, &limits);
        assert!(appended.is_ok(), "what was taken can be sent: {appended:?}");
        body(bytes);
    }
    assert!(stream.starts_with(&again), "the frames are the stream");
    assert_eq!(whole.1.is_ok(), again.len() == stream.len(), "{:?}", whole.1);
}

/// All frames of a stream, and how it ends.
fn decode(stream: &Bytes, step: usize) -> (Vec<Frame>, Result<(), DecodeError>) {
    let limits = Limits { frame_len_max: FRAME_LEN_MAX, ..Limits::default() };
    let (mut decoder, mut frames, mut rest) = (Decoder::new(limits), Vec::new(), stream.clone());
    while !rest.is_empty() {
        decoder.push(rest.split_to(step.clamp(1, rest.len())));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.finish(), Err(error.clone()), "an error stays");
                    return (frames, Err(error));
                }
            }
        }
    }
    (frames, decoder.finish())
}

/// One body.
///
/// # Panics
///
/// If the scan and serde do not agree on it, or a message that was read from it is not written and
/// read again the same.
pub fn body(data: &[u8]) {
    let limits = Limits::default();
    let ignored = from_body::<IgnoredAny>(data, &limits).map(drop);
    assert_eq!(scan(data, &limits), ignored, "serde reads what the scan takes");
    let Ok(message) = from_body::<Message>(data, &limits) else { return };
    assert_eq!(ignored, Ok(()), "nothing is read that the scan refuses");
    // Names make a body longer than one that was written without them.
    let limits = Limits { frame_len_max: usize::MAX, depth_max: 64, count_max: usize::MAX };
    let written = to_body_within(&message, &limits);
    assert!(written.is_ok(), "what was read can be written: {written:?}");
    let written = written.unwrap_or_default();
    let again = from_body::<Message>(&written, &limits);
    assert!(again.is_ok(), "what was written can be read: {again:?}");
    assert_eq!(to_body_within(&again.unwrap_or_default(), &limits), Ok(written));
}

/// A certificate in DER, or certificates and revocation lists in PEM.
///
/// # Panics
///
/// If one that has facts has no pin, or does not survive PEM.
pub fn certificate(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        drop(crl_from_pem(text));
        for certificate in Certificate::read_pem_bundle(text).unwrap_or_default() {
            drop(certificate.facts());
        }
    }
    let Ok(certificate) = Certificate::from_der(data) else { return };
    assert_eq!(certificate.der(), data);
    if certificate.facts().is_ok() {
        assert!(certificate.spki_sha256().is_ok(), "whose facts are known, its pin is");
    }
    assert!(!format!("{certificate:?}").is_empty());
    assert_eq!(Certificate::read_pem_bundle(&certificate.to_pem()), Ok(vec![certificate]));
}
