//! Messages that are longer than a frame go in parts.
//!
//! A frame is a byte that says what it is, and then a whole message, or a part: the name of the
//! message (a hash of it), how many parts it has, which this is, and its bytes. Parts are kept until
//! all are there, so that a message that is sent once more completes what was lost of it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::roster::first_u64;

const WHOLE: u8 = 0;
const PART: u8 = 1;

/// How many bytes a part has beside its own: what it is, name, how many, which.
const PART_HEAD_LEN: usize = 1 + 8 + 4 + 4;

/// How many messages of one sender are put together at one time. Of more the oldest is given up.
const MESSAGES_MAX: usize = 3;

/// A message as frames of `frame_len_max` bytes at most.
pub(in crate::crdt) fn split(message: &[u8], frame_len_max: usize) -> Vec<Bytes> {
    if message.len() < frame_len_max {
        return vec![Bytes::from([&[WHOLE], message].concat())];
    }
    let room = frame_len_max.saturating_sub(PART_HEAD_LEN).max(1);
    let parts = u32::try_from(message.len().div_ceil(room)).unwrap_or(u32::MAX);
    let name = name_of(message).to_be_bytes();
    let frame = |(place, part): (u32, &[u8])| {
        let head = [&[PART], &name[..], &parts.to_be_bytes(), &place.to_be_bytes()].concat();
        Bytes::from([&head, part].concat())
    };
    (0..parts).zip(message.chunks(room)).map(frame).collect()
}

fn name_of(message: &[u8]) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(message);
    first_u64(&hash)
}

/// A message of which parts are missing.
#[derive(Debug)]
struct Partial {
    name: u64,
    parts: Vec<Option<Bytes>>,
    missing: usize,
    len: usize,
}

/// What one sender's parts are put together from.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Fragments {
    partial: VecDeque<Partial>,
}

/// A frame is none, or is of a message that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::crdt) struct Malformed;

impl Fragments {
    /// Takes a frame. Gives a message if one is complete.
    pub(in crate::crdt) fn take(
        &mut self,
        frame: &Bytes,
        (frame_len_max, message_len_max): (usize, usize),
    ) -> Result<Option<Bytes>, Malformed> {
        let (&what, rest) = frame.split_first().ok_or(Malformed)?;
        match what {
            WHOLE => return Ok(Some(frame.slice_ref(rest))),
            PART => {}
            _ => return Err(Malformed),
        }
        let (name, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (parts, rest) = rest.split_first_chunk().ok_or(Malformed)?;
        let (place, part) = rest.split_first_chunk().ok_or(Malformed)?;
        let name = u64::from_be_bytes(*name);
        let count = usize::try_from(u32::from_be_bytes(*parts)).map_err(|_wide| Malformed)?;
        let place = usize::try_from(u32::from_be_bytes(*place)).map_err(|_wide| Malformed)?;
        let room = frame_len_max.saturating_sub(PART_HEAD_LEN).max(1);
        if place >= count || count > message_len_max.div_ceil(room).saturating_add(1) {
            return Err(Malformed);
        }
        let part = frame.slice_ref(part);
        self.put(name, (count, place), part, message_len_max)
    }

    fn put(
        &mut self,
        name: u64,
        (count, place): (usize, usize),
        part: Bytes,
        message_len_max: usize,
    ) -> Result<Option<Bytes>, Malformed> {
        if !self.partial.iter().any(|partial| partial.name == name) {
            if self.partial.len() >= MESSAGES_MAX {
                self.partial.pop_front();
            }
            let parts = vec![None; count];
            self.partial.push_back(Partial { name, parts, missing: count, len: 0 });
        }
        let found = self.partial.iter().position(|partial| partial.name == name);
        let Some((at, partial)) = found.and_then(|at| Some((at, self.partial.get_mut(at)?))) else {
            return Err(Malformed);
        };
        let room = partial.parts.get_mut(place).ok_or(Malformed)?;
        if room.is_none() {
            partial.len += part.len();
            partial.missing -= 1;
            *room = Some(part);
        }
        if partial.len > message_len_max {
            self.partial.remove(at);
            return Err(Malformed);
        }
        if partial.missing > 0 {
            return Ok(None);
        }
        let partial = self.partial.remove(at).ok_or(Malformed)?;
        let parts: Vec<Bytes> = partial.parts.into_iter().flatten().collect();
        let message = parts.concat();
        if name_of(&message) == name { Ok(Some(message.into())) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fragments, Malformed, split};
    use bytes::Bytes;
    use proptest::prelude::*;

    const BOUNDS: (usize, usize) = (64, 4096);

    proptest! {
        /// However its parts come, doubled and in any order, a message is put together once.
        #[test]
        fn parts_make_the_message(
            message in prop::collection::vec(any::<u8>(), 0..2000),
            order in any::<prop::sample::Index>(),
        ) {
            let mut frames = split(&message, BOUNDS.0);
            prop_assert!(frames.iter().all(|frame| frame.len() <= BOUNDS.0));
            let at = order.index(frames.len());
            frames.rotate_left(at);
            let mut fragments = Fragments::default();
            let (mut whole, last) = (None, frames.len() - 1);
            for (n, frame) in frames.iter().enumerate() {
                prop_assert!(whole.is_none());
                if n < last {
                    prop_assert_eq!(fragments.take(frame, BOUNDS), Ok(None));
                }
                whole = fragments.take(frame, BOUNDS).unwrap();
            }
            prop_assert_eq!(whole, Some(Bytes::from(message)));
        }

        #[test]
        fn any_bytes_are_survived(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut fragments = Fragments::default();
            drop(fragments.take(&Bytes::from(frame), BOUNDS));
        }
    }

    #[test]
    fn what_would_be_too_long_is_refused_before_it_is_kept() {
        let message = vec![7; 5000];
        let frames = split(&message, BOUNDS.0);
        assert_eq!(Fragments::default().take(&frames[0], BOUNDS), Err(Malformed));
        assert_eq!(Fragments::default().take(&Bytes::new(), BOUNDS), Err(Malformed));
    }
}
