//! What publishers have left for the actor, of all topics, in the order in which they did.
//!
//! The actor is told once that something is there, and takes many messages in one step: so a wake, a
//! lock and an input are paid for all that came meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::proto::{Input, Posted};
use crate::desk::Desk;

/// How many messages are left here at most. Publishers wait then.
const POSTED_MAX: usize = 65_536;

/// How many the actor takes in one step.
const TAKEN_MAX: usize = 1_024;

/// What was left, and is not taken.
#[derive(Debug)]
pub(super) struct Posts {
    desk: Desk<Input>,
    /// As long as there is something in it, the actor knows that.
    left: Mutex<VecDeque<Posted>>,
    /// How many messages were ever left.
    posted: AtomicU64,
    /// How many of those were taken.
    taken: AtomicU64,
}

impl Posts {
    pub(super) fn new(desk: Desk<Input>) -> Self {
        Self { desk, left: <_>::default(), posted: <_>::default(), taken: <_>::default() }
    }

    /// Leaves a message, and gives its place among all; none if nobody takes it, and then it was not
    /// made.
    pub(super) fn leave(&self, message: impl FnOnce() -> Posted) -> Option<u64> {
        let mut left = self.left.lock();
        let is_known = match left.len() {
            0 => self.desk.offer(Input::Waiting),
            len => len < POSTED_MAX,
        };
        is_known.then(|| {
            left.push_back(message());
            self.posted.fetch_add(1, Ordering::Relaxed) + 1
        })
    }

    /// Gives the first of what was left to the actor's inbox, in the order of other inputs. Says
    /// whether there is more.
    pub(super) fn take(&self, give: impl FnOnce(Vec<Posted>)) -> bool {
        let mut left = self.left.lock();
        let count = left.len().min(TAKEN_MAX);
        give(left.drain(..count).collect());
        self.taken.fetch_add(u64::try_from(count).unwrap_or_default(), Ordering::Release);
        !left.is_empty()
    }

    /// Whether the message with a place was taken.
    pub(super) fn is_taken(&self, place: u64) -> bool {
        self.taken.load(Ordering::Acquire) >= place
    }

    /// What is left was for a life of the actor that is over.
    pub(super) fn clear(&self) {
        let mut left = self.left.lock();
        let count = u64::try_from(left.len()).unwrap_or_default();
        left.clear();
        self.taken.fetch_add(count, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use macula_core::shell::Inbox;

    use super::{POSTED_MAX, Posts, TAKEN_MAX};
    use crate::desk::Desk;
    use crate::pubsub::proto::{Posted, TopicId, Weight};

    fn message(topic: u64) -> Posted {
        let (payload, options, weight) = (Bytes::new(), <_>::default(), Weight::default());
        Posted { topic: TopicId(topic), payload, options, weight }
    }

    #[test]
    fn messages_of_all_topics_are_taken_in_their_order_and_told_of_once() {
        let (desk, inbox) = (Desk::default(), Inbox::new(8));
        let posts = Posts::new(desk.clone());
        assert_eq!(posts.leave(|| unreachable!("nobody is there")), None);
        let _seat = desk.begin(&inbox);
        let all: Vec<u64> = (0..1_500).map(|number| number % 3).collect();
        let places: Vec<_> = all.iter().map(|topic| posts.leave(|| message(*topic))).collect();
        assert_eq!((places.last(), inbox.len()), (Some(&Some(1_500)), 1));
        let mut taken = Vec::new();
        assert!(posts.take(|some| taken.extend(some)), "there is more");
        assert_eq!(taken.len(), TAKEN_MAX);
        assert!(posts.is_taken(1_024) && !posts.is_taken(1_025));
        assert!(!posts.take(|some| taken.extend(some)));
        let topics: Vec<u64> = taken.iter().map(|posted| posted.topic.0).collect();
        assert_eq!(topics, all);
        posts.leave(|| message(1)).unwrap();
        assert_eq!(inbox.len(), 2, "the actor is told anew");
    }

    #[test]
    fn what_is_too_much_is_not_taken_and_what_is_over_is_forgotten() {
        let (desk, inbox) = (Desk::default(), Inbox::new(1));
        let posts = Posts::new(desk.clone());
        let _seat = desk.begin(&inbox);
        let left = (0..=POSTED_MAX).filter_map(|_| posts.leave(|| message(1))).count();
        assert_eq!(left, POSTED_MAX);
        posts.clear();
        assert!(posts.is_taken(u64::try_from(left).unwrap()));
        assert!(!posts.take(|some| assert!(some.is_empty())));
        assert_eq!(posts.leave(|| message(1)), None, "the inbox is full");
    }
}
