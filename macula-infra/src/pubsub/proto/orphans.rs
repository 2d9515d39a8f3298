//! Promised messages for queue groups whose member has gone, while no other member has room.
//!
//! They wait here until one has, until they are over, or until the group has no members. All that is
//! here is accepted and has not ended. There are bounds for all topics together, in messages and in
//! bytes; what goes beyond them is dropped, and counted.

use std::collections::{BTreeMap, VecDeque};

use super::TopicId;
use super::flow::Copy;

/// How many of them wait.
const MESSAGES_MAX: usize = 65_536;

/// How many bytes they have: 64 MiB.
const LEN_MAX: usize = 64 << 20;

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    waiting: BTreeMap<TopicId, VecDeque<Copy>>,
    messages: usize,
    len: usize,
}

impl Orphans {
    /// Whether any of a topic waits.
    pub(crate) fn has(&self, id: TopicId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// The topics of those that wait.
    pub(crate) fn topics(&self) -> Vec<TopicId> {
        self.waiting.keys().copied().collect()
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) const fn count(&self) -> usize {
        self.messages
    }

    /// Lets one wait behind those of its topic.
    ///
    /// # Errors
    ///
    /// It is given back if there is no room.
    pub(crate) fn push(&mut self, copy: Copy) -> Result<(), Copy> {
        let len = copy.len();
        if self.messages >= MESSAGES_MAX || self.len + len > LEN_MAX {
            return Err(copy);
        }
        self.messages += 1;
        self.len += len;
        self.waiting.entry(copy.stored.topic_id).or_default().push_back(copy);
        Ok(())
    }

    /// Gives those of a topic back, the oldest first.
    pub(crate) fn take(&mut self, id: TopicId) -> VecDeque<Copy> {
        let copies = self.waiting.remove(&id).unwrap_or_default();
        self.messages -= copies.len();
        self.len -= copies.iter().map(Copy::len).sum::<usize>();
        copies
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use macula_core::clock::{Clock as _, TokioClock};

    use super::super::super::message::{Priority, Qos};
    use super::super::TopicId;
    use super::super::flow::{Copy, Stored};
    use super::{LEN_MAX, MESSAGES_MAX, Orphans};

    fn copy(topic: u64, len: usize) -> Copy {
        let stored = Stored {
            topic_id: TopicId(topic),
            topic: "a".parse().unwrap(),
            payload: Bytes::from(vec![0; len]),
            sequence: 1,
            qos: Qos::AtLeastOnce,
            priority: Priority::Normal,
            until: None,
            at: TokioClock.now(),
        };
        Copy::new(Arc::new(stored), <_>::default())
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut many = Orphans::default();
        let one = copy(1, 0);
        let taken = (0..=MESSAGES_MAX).filter(|_| many.push(one.clone()).is_ok()).count();
        assert_eq!((taken, many.count()), (MESSAGES_MAX, MESSAGES_MAX));
        assert_eq!((many.take(TopicId(1)).len(), many.count()), (MESSAGES_MAX, 0));
        assert!(many.push(one).is_ok());
        let mut long = Orphans::default();
        let one = copy(2, 1 << 20);
        let taken = (0..100).filter(|_| long.push(one.clone()).is_ok()).count();
        assert_eq!(taken, LEN_MAX / one.len());
        assert!(long.push(copy(3, 0)).is_ok(), "a short one has room");
        assert_eq!(long.topics(), [TopicId(2), TopicId(3)]);
    }
}
