//! Answers that wait for room on the lane.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use macula_core::wire::{Flags, Kind};
use parking_lot::Mutex;

/// How many frames wait on one connection. The peer of one on which more would is not served on: it
/// goes on asking, and does not read why it is refused.
const FRAMES_MAX: usize = 32_768;

/// A frame that waits.
#[derive(Debug, Clone)]
pub(super) struct Late {
    pub(super) head: (Kind, Flags, u64),
    pub(super) body: Bytes,
    /// Whether it ends the question that has its correlation id.
    pub(super) ends: bool,
}

/// What became of a frame that was put here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits, and somebody carries what waits to the lane.
    Waits,
    /// It waits, and whoever put it has to see to it that it is carried.
    First,
    /// There is no room for it.
    Full,
}

/// The answers of one connection that its lane has not taken.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Bytes of frames and of long bodies together.
    len_max: usize,
    len: AtomicUsize,
    frames: Mutex<Frames>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Frames {
    waiting: VecDeque<Late>,
    carried: bool,
}

impl Outbox {
    /// `len_max` is how many bytes may wait before questions are refused.
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            len_max,
            len: AtomicUsize::new(0),
            frames: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// Whether nothing waits, so that a frame would go before no other.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether so much waits that no question should be taken that would add to it.
    pub(super) fn is_high(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.len_max
    }

    /// Whether there is room for an answer of `len` bytes. One always has room, and those to
    /// questions that were taken have half as much again.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let held = self.len.load(Ordering::Relaxed);
        held == 0 || held.saturating_add(len) <= self.len_max.saturating_add(self.len_max / 2)
    }

    /// Counts the bytes of an answer that waits elsewhere.
    pub(super) fn hold(&self, len: usize) {
        self.len.fetch_add(len, Ordering::Relaxed);
    }

    /// Such an answer does not wait any more.
    pub(super) fn release(&self, len: usize) {
        self.len.fetch_sub(len, Ordering::Relaxed);
    }

    pub(super) fn put(&self, late: Late) -> Put {
        let mut frames = self.frames.lock();
        if frames.waiting.len() >= FRAMES_MAX {
            return Put::Full;
        }
        self.len.fetch_add(late.body.len(), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Release);
        frames.waiting.push_back(late);
        if std::mem::replace(&mut frames.carried, true) { Put::Waits } else { Put::First }
    }

    /// The frame that is to be carried next. If there is none, nobody carries any more.
    pub(super) fn first(&self) -> Option<Late> {
        let mut frames = self.frames.lock();
        let first = frames.waiting.front().cloned();
        frames.carried = first.is_some();
        first
    }

    /// The first frame was taken by the lane.
    pub(super) fn taken(&self) {
        let taken = self.frames.lock().waiting.pop_front();
        if let Some(late) = taken {
            self.len.fetch_sub(late.body.len(), Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FRAMES_MAX, Late, Outbox, Put};
    use bytes::Bytes;
    use macula_core::wire::{Flags, Kind};

    fn late(id: u64, len: usize) -> Late {
        let head = (Kind(0x11), Flags::default(), id);
        Late { head, body: Bytes::from(vec![0; len]), ends: true }
    }

    #[test]
    fn frames_leave_in_their_order_and_one_carries_them() {
        let outbox = Outbox::new(100);
        assert_eq!(outbox.put(late(1, 10)), Put::First);
        assert_eq!(outbox.put(late(2, 10)), Put::Waits);
        for id in [1, 2] {
            assert_eq!(outbox.first().unwrap().head.2, id);
            assert!(!outbox.is_empty(), "a frame waits until the lane has taken it");
            outbox.taken();
        }
        assert!(outbox.is_empty());
        assert!(outbox.first().is_none());
        assert_eq!(outbox.put(late(3, 10)), Put::First, "nobody carried any more");
    }

    #[test]
    fn bytes_and_frames_are_bounded() {
        let outbox = Outbox::new(100);
        assert!(outbox.has_room(1_000), "one answer always has room");
        outbox.hold(1_000);
        assert!(outbox.is_high() && !outbox.has_room(1));
        outbox.release(1_000);
        assert_eq!(outbox.put(late(1, 99)), Put::First);
        assert!(!outbox.is_high() && outbox.has_room(51) && !outbox.has_room(52));
        outbox.hold(1);
        assert!(outbox.is_high());
        outbox.release(1);
        for id in 2..=FRAMES_MAX {
            assert_eq!(outbox.put(late(u64::try_from(id).unwrap(), 0)), Put::Waits);
        }
        assert_eq!(outbox.put(late(0, 0)), Put::Full);
    }
}
