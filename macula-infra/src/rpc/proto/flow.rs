//! One side of a stream: what it may send, what it has got, and how it ended.
//!
//! Each side lets the other send so many items and so many bytes ahead of what it has read, and
//! grants as much again as it reads. An item may begin while there is a byte left, so at most one
//! goes beyond the bytes that were granted.

use std::collections::VecDeque;

use bytes::Bytes;

/// How many items may be sent ahead of what is read.
pub(crate) const ITEMS_AHEAD_MAX: u32 = 64;

/// How many bytes may be.
pub(crate) const BYTES_AHEAD_MAX: u32 = 256 * 1024;

/// What one side lets the other send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) items: u32,
    pub(crate) bytes: u32,
}

/// What is granted at first.
pub(crate) const WINDOW: Grant = Grant { items: ITEMS_AHEAD_MAX, bytes: BYTES_AHEAD_MAX };

/// Why an item cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsent<E> {
    /// Not now: the other side has not read enough.
    NotNow,
    /// Not any more: the stream has ended so, or this side has finished.
    Over(Result<(), E>),
}

/// What is next to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<E> {
    /// An item, and what may be granted for it.
    Item(Bytes, Option<Grant>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over(Result<(), E>),
}

/// The other side has sent more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun;

/// One side of a stream; `E` is why one fails.
#[derive(Debug)]
pub(crate) struct Side<E> {
    /// What may still be sent.
    items: u64,
    bytes: i64,
    /// Whether this side has said that it sends no more.
    has_finished: bool,
    /// What the other side may still send.
    items_ahead: u32,
    bytes_ahead: i64,
    /// What was read since the last grant.
    items_read: u32,
    bytes_read: u32,
    inbox: VecDeque<Bytes>,
    /// Whether the other side has said that it sends no more.
    is_finished: bool,
    /// Whether the other side has taken the stream.
    is_accepted: bool,
    end: Option<Result<(), E>>,
}

impl<E: Clone> Side<E> {
    /// A side whose other has granted so much.
    pub(crate) fn new(granted: Option<Grant>) -> Self {
        let mut side = Self {
            items: 0,
            bytes: 0,
            has_finished: false,
            items_ahead: WINDOW.items,
            bytes_ahead: i64::from(WINDOW.bytes),
            items_read: 0,
            bytes_read: 0,
            inbox: VecDeque::new(),
            is_finished: false,
            is_accepted: false,
            end: None,
        };
        if let Some(granted) = granted {
            side.granted(granted);
        }
        side
    }

    /// The other side grants more.
    pub(crate) fn granted(&mut self, more: Grant) {
        self.is_accepted = true;
        self.items = self.items.saturating_add(u64::from(more.items));
        self.bytes = self.bytes.saturating_add(i64::from(more.bytes));
    }

    /// Whether the other side has taken the stream.
    pub(crate) const fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// An item of `len` bytes is sent.
    ///
    /// # Errors
    ///
    /// [`Unsent`]; nothing changed.
    pub(crate) fn send(&mut self, len: usize) -> Result<(), Unsent<E>> {
        if let Some(end) = &self.end {
            return Err(Unsent::Over(end.clone()));
        }
        if self.has_finished {
            return Err(Unsent::Over(Ok(())));
        }
        if self.items == 0 || self.bytes <= 0 {
            return Err(Unsent::NotNow);
        }
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX));
        Ok(())
    }

    /// It could not be sent after all.
    pub(crate) fn unsend(&mut self, len: usize) {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(i64::try_from(len).unwrap_or(i64::MAX));
    }

    /// This side sends no more; true if it had not said so, and the stream goes on.
    pub(crate) const fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.has_finished, true) && self.end.is_none()
    }

    /// An item has come.
    ///
    /// # Errors
    ///
    /// [`Overrun`]; it is not taken.
    pub(crate) fn arrived(&mut self, item: Bytes) -> Result<(), Overrun> {
        if self.end.is_some() {
            return Ok(());
        }
        if self.items_ahead == 0 || self.bytes_ahead <= 0 || self.is_finished {
            return Err(Overrun);
        }
        self.items_ahead -= 1;
        self.bytes_ahead -= i64::try_from(item.len()).unwrap_or(i64::MAX);
        self.inbox.push_back(item);
        Ok(())
    }

    /// What is next to be read. What has come is read before the end.
    pub(crate) fn next(&mut self) -> Next<E> {
        let Some(item) = self.inbox.pop_front() else {
            return match &self.end {
                Some(end) => Next::Over(end.clone()),
                None if self.is_finished => Next::Over(Ok(())),
                None => Next::Nothing,
            };
        };
        self.items_read += 1;
        let len = u32::try_from(item.len()).unwrap_or(u32::MAX);
        self.bytes_read = self.bytes_read.saturating_add(len);
        let is_much = self.items_read >= WINDOW.items / 2 || self.bytes_read >= WINDOW.bytes / 2;
        let grant = (is_much && self.end.is_none() && !self.is_finished).then(|| {
            let grant = Grant { items: self.items_read, bytes: self.bytes_read };
            (self.items_read, self.bytes_read) = (0, 0);
            self.items_ahead += grant.items;
            self.bytes_ahead += i64::from(grant.bytes);
            grant
        });
        Next::Item(item, grant)
    }

    /// The other side sends no more.
    pub(crate) const fn finished(&mut self) {
        self.is_finished = true;
    }

    /// The stream has ended; true if it had not before: the first end is the one that counts.
    pub(crate) fn ended(&mut self, end: Result<(), E>) -> bool {
        let is_first = self.end.is_none();
        if is_first {
            self.end = Some(end);
        }
        is_first
    }

    /// How it ended, if it has.
    pub(crate) const fn end(&self) -> Option<&Result<(), E>> {
        self.end.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_AHEAD_MAX, ITEMS_AHEAD_MAX, Next, Overrun, Side, Unsent, WINDOW};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn item(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    fn pair() -> (Side<()>, Side<()>) {
        (Side::new(Some(WINDOW)), Side::new(Some(WINDOW)))
    }

    #[test]
    fn a_sender_waits_for_items_and_for_bytes() {
        let (mut one, mut other) = pair();
        for _ in 0..ITEMS_AHEAD_MAX {
            one.send(1).unwrap();
            other.arrived(item(1)).unwrap();
        }
        assert_eq!(one.send(1), Err(Unsent::NotNow));
        assert_eq!(other.arrived(item(1)), Err(Overrun));
        let mut granted = 0;
        for _ in 0..ITEMS_AHEAD_MAX {
            if let Next::Item(_, Some(grant)) = other.next() {
                granted += grant.items;
                one.granted(grant);
            }
        }
        assert_eq!(granted, ITEMS_AHEAD_MAX);
        let long = usize::try_from(BYTES_AHEAD_MAX).unwrap();
        one.send(long + 5).unwrap();
        other.arrived(item(long + 5)).unwrap();
        assert_eq!(one.send(0), Err(Unsent::NotNow), "one item goes beyond");
        let Next::Item(_, Some(grant)) = other.next() else { panic!("much was read") };
        one.granted(grant);
        one.send(0).unwrap();
        one.unsend(0);
        one.send(0).unwrap();
    }

    #[test]
    fn what_has_come_is_read_before_the_end_and_the_first_end_counts() {
        let (mut one, mut other) = pair();
        other.arrived(item(1)).unwrap();
        assert!(other.ended(Err(())) && !other.ended(Ok(())));
        other.arrived(item(2)).unwrap();
        assert_eq!(other.next(), Next::Item(item(1), None));
        assert_eq!(other.next(), Next::Over(Err(())), "what comes later is not wanted");
        assert_eq!(other.send(1), Err(Unsent::Over(Err(()))));
        assert!(one.finish() && !one.finish());
        assert_eq!(one.send(1), Err(Unsent::Over(Ok(()))));
        assert_eq!(one.next(), Next::Nothing, "the other side may go on");
        one.finished();
        assert_eq!((one.next(), one.arrived(item(1))), (Next::Over(Ok(())), Err(Overrun)));
    }

    proptest! {
        /// Whatever is sent and read, in whichever order: nothing is lost, the order holds, what waits
        /// is bounded, and whoever reads all lets the other send on.
        #[test]
        fn a_stream_keeps_its_order_and_its_bounds(
            steps in proptest::collection::vec((any::<bool>(), 0..40_000_usize), 1..400),
        ) {
            let (mut one, mut other) = pair();
            let (mut sent, mut read, mut waiting) = (0_u32, 0_u32, 0);
            for (sends, len) in steps {
                if sends {
                    let len = len.max(4);
                    if one.send(len).is_ok() {
                        let mut bytes = vec![0; len];
                        bytes[..4].copy_from_slice(&sent.to_be_bytes());
                        other.arrived(Bytes::from(bytes)).unwrap();
                        (sent, waiting) = (sent + 1, waiting + len);
                    }
                } else if let Next::Item(item, grant) = other.next() {
                    prop_assert_eq!(&item[..4], &read.to_be_bytes());
                    (read, waiting) = (read + 1, waiting - item.len());
                    if let Some(grant) = grant {
                        one.granted(grant);
                    }
                }
                prop_assert!(sent - read <= ITEMS_AHEAD_MAX);
                prop_assert!(waiting < usize::try_from(BYTES_AHEAD_MAX).unwrap() + 40_000);
            }
            while let Next::Item(_, grant) = other.next() {
                read += 1;
                grant.into_iter().for_each(|grant| one.granted(grant));
            }
            prop_assert_eq!(sent, read);
            prop_assert!(one.send(1).is_ok());
        }
    }
}
