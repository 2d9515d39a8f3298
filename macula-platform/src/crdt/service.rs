//! What other nodes ask of this one: to take a frame.
//!
//! A question is the length of a bucket's name in two bytes, the name, and a frame; the answer is one
//! byte, which says whether the bucket is held here.

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::port::{Answer, Serve};

use super::vault::Vault;

/// The frame was taken.
pub(super) const TAKEN: u8 = 0;

/// The bucket is not held here.
pub(super) const STRANGER: u8 = 1;

/// A frame of a bucket as a question.
pub(super) fn question(bucket: &str, frame: &[u8]) -> Bytes {
    let len = u16::try_from(bucket.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&len, bucket.as_bytes(), frame].concat().into()
}

fn parts(question: &Bytes) -> Option<(&str, Bytes)> {
    let (len, rest) = question.split_first_chunk()?;
    let (bucket, frame) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((std::str::from_utf8(bucket).ok()?, question.slice_ref(frame)))
}

/// Takes what other nodes say in the buckets of a vault.
#[derive(Debug, Clone)]
pub(super) struct Service(pub(super) Vault);

impl Serve for Service {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        let answer = parts(&question).map(|(bucket, frame)| {
            let is_held = self.0.receive(from, bucket, frame);
            Bytes::from_static(if is_held { &[TAKEN] } else { &[STRANGER] })
        });
        Box::pin(std::future::ready(answer.ok_or_else(|| "no frame of a bucket".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::{parts, question};
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_question_comes_back_and_any_bytes_are_survived(
            bucket in ".{0,40}",
            frame in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let asked = question(&bucket, &frame);
            prop_assert_eq!(parts(&asked), Some((bucket.as_str(), Bytes::from(frame.clone()))));
            let any = Bytes::from(frame);
            prop_assert!(parts(&any).is_none_or(|(bucket, rest)| bucket.len() + rest.len() + 2 == any.len()));
        }
    }
}
