//! How much of what other nodes say waits for the actor, in bytes.
//!
//! The actor's inbox counts inputs, and one of them may be a message of a mebibyte. So each word that
//! comes in takes room here until the actor has it: of its connection's, and of all. What finds no room
//! is lost, as the network might lose it; sessions and broadcasts find that out and say it again.

use std::mem::size_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::proto::word::{Entry, Word};

/// How many bytes of all nodes' words wait: 64 MiB.
const LEN_MAX: usize = 64 << 20;

/// How many bytes wait that came over one connection: 16 MiB. A node has less than that under way within
/// the usual credit.
const LINK_LEN_MAX: usize = 16 << 20;

/// How many times as long as its bytes a word may be in memory, other than a batch.
const SPREAD: usize = 4;

/// The room for all words. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Space(Arc<AtomicUsize>);

/// The room for what comes over one connection.
#[derive(Debug, Default)]
pub(super) struct LinkSpace {
    all: Space,
    of_link: Space,
}

/// The room that one word takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    all: Space,
    of_link: Space,
    len: usize,
}

impl Space {
    fn take(&self, len: usize, max: usize) -> bool {
        let taken = |before: usize| before.checked_add(len).filter(|now| *now <= max);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn free(&self, len: usize) {
        self.0.fetch_sub(len, Ordering::Relaxed);
    }

    /// That of one connection.
    pub(super) fn of_link(&self) -> LinkSpace {
        LinkSpace { all: self.clone(), of_link: Self::default() }
    }
}

impl LinkSpace {
    /// Takes room for a word that came as so many bytes, if there is some.
    pub(super) fn take(&self, word: &Word, bytes: usize) -> Option<Ticket> {
        let len = weight(word, bytes);
        if !self.of_link.take(len, LINK_LEN_MAX) {
            return None;
        }
        if !self.all.take(len, LEN_MAX) {
            self.of_link.free(len);
            return None;
        }
        Some(Ticket { all: self.all.clone(), of_link: self.of_link.clone(), len })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.all.free(self.len);
        self.of_link.free(self.len);
    }
}

/// How many bytes a word takes in memory, more or less.
fn weight(word: &Word, bytes: usize) -> usize {
    match word {
        // Many short messages are written in fewer bytes than they have here.
        Word::Batch(batch) => bytes + batch.entries.len() * size_of::<Entry>(),
        _ => bytes.saturating_mul(SPREAD),
    }
}

#[cfg(test)]
mod tests {
    use super::{LEN_MAX, LINK_LEN_MAX, Space};
    use crate::pubsub::message::{Priority, Qos};
    use crate::pubsub::proto::word::{Batch, Entry, FlowId, SubId, Word};

    fn batch(entries: usize) -> Word {
        let flow = FlowId::of(Priority::Normal, Qos::AtMostOnce);
        let entries = vec![Entry::Cut(SubId(1)); entries];
        Word::Batch(Batch { flow, first: 0, known: 0, entries })
    }

    #[test]
    fn words_take_room_in_bytes_until_the_actor_has_them() {
        let all = Space::default();
        let link = all.of_link();
        let tickets: Vec<_> = std::iter::from_fn(|| link.take(&batch(1), 1 << 20)).collect();
        assert_eq!(tickets.len(), (LINK_LEN_MAX >> 20) - 1);
        // Others still have room, up to what all may have.
        let others: Vec<_> = (0..10).map(|_| all.of_link()).collect();
        let of = |link: &super::LinkSpace| {
            std::iter::from_fn(|| link.take(&batch(1), 1 << 20)).collect::<Vec<_>>()
        };
        let more: Vec<_> = others.iter().flat_map(of).collect();
        assert_eq!(tickets.len() + more.len(), (LEN_MAX >> 20) - 1);
        drop(tickets);
        assert!(others[9].take(&batch(1), 1 << 20).is_some());
        assert!(link.take(&batch(1), 1 << 20).is_some());
    }

    #[test]
    fn many_short_messages_in_few_bytes_take_room_for_each() {
        let link = Space::default().of_link();
        let taken: Vec<_> = std::iter::from_fn(|| link.take(&batch(512), 600)).collect();
        assert!(taken.len() < 1_000, "{}", taken.len());
        drop(taken);
        assert!(link.take(&Word::Bye, LINK_LEN_MAX / 4).is_some());
        assert!(link.take(&Word::Bye, usize::MAX).is_none());
    }
}
