//! The bounded mailbox of a supervised actor: what it admits, and what becomes of messages that
//! meet a child which is not there.
//!
//! ractor's own mailboxes have no bound, and end with the actor. This one belongs to the child's
//! place in the tree: it has a capacity, it can outlive a crash, and it knows every message that it
//! took and that nobody handled.

use std::collections::VecDeque;
use std::time::Duration;

/// What a full mailbox does with one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// Gives it back.
    #[default]
    Refuse,
    /// Lets a sender that can wait do so; gives it back to one that cannot.
    Wait,
    /// Drops the oldest message, counts it as a dead letter, and takes the new one.
    DropOldest,
}

/// What happens to a message for a child that is being restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absence {
    /// It is given back at once. Messages that waited when the child ended are dead letters.
    #[default]
    FailFast,
    /// A sender that can wait does so, up to this bound.
    Wait(Duration),
    /// Up to this many messages, those that waited when the child ended among them, are kept for
    /// its next life.
    Stash(usize),
}

/// How a mailbox behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox {
    /// How many messages may wait. At least 1; 0 counts as 1.
    pub capacity: usize,
    /// What happens to one more.
    pub overflow: Overflow,
    /// What happens while the child is being restarted.
    pub absence: Absence,
    /// How long a call waits for its answer unless it says otherwise.
    pub call_timeout: Duration,
}

impl Mailbox {
    /// How many messages may wait unless a spec says otherwise.
    pub const CAPACITY_DEFAULT: usize = 4096;
}

impl Default for Mailbox {
    /// 4,096 messages, refusing more; failing fast; five seconds for a call, as in OTP.
    fn default() -> Self {
        Self {
            capacity: Self::CAPACITY_DEFAULT,
            overflow: Overflow::Refuse,
            absence: Absence::FailFast,
            call_timeout: Duration::from_secs(5),
        }
    }
}

/// What the mailbox did with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted<M> {
    /// It waits with the others.
    Taken,
    /// It waits with the others, and this one had to go.
    Displaced(M),
    /// There is no room.
    Full(M),
}

/// The queue, without locks and wakers.
#[derive(Debug)]
pub(super) struct Queue<M>(VecDeque<M>);

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<M> Queue<M> {
    pub(super) fn admit(&mut self, message: M, capacity: usize, overflow: Overflow) -> Admitted<M> {
        if self.0.len() < capacity {
            self.0.push_back(message);
            return Admitted::Taken;
        }
        match (overflow, self.0.pop_front()) {
            (Overflow::DropOldest, Some(oldest)) => {
                self.0.push_back(message);
                Admitted::Displaced(oldest)
            }
            (_, oldest) => {
                if let Some(oldest) = oldest {
                    self.0.push_front(oldest);
                }
                Admitted::Full(message)
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<M> {
        self.0.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps the oldest `keep` messages and gives back the rest.
    pub(super) fn cut(&mut self, keep: usize) -> VecDeque<M> {
        self.0.split_off(keep.min(self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Admitted, Overflow, Queue};
    use proptest::prelude::*;

    proptest! {
        /// Never more than the capacity, nothing lost without being given back, and in order.
        #[test]
        fn bounds_and_accounts(
            steps in prop::collection::vec(any::<bool>(), 0..200),
            capacity in 0_usize..8,
            drop_oldest: bool,
        ) {
            let overflow = if drop_oldest { Overflow::DropOldest } else { Overflow::Refuse };
            let (mut queue, mut next, mut seen) = (Queue::default(), 0_u32, Vec::new());
            let mut returned = 0;
            for push in steps {
                if push {
                    match queue.admit(next, capacity, overflow) {
                        Admitted::Taken => {}
                        Admitted::Displaced(_) | Admitted::Full(_) => returned += 1,
                    }
                    next += 1;
                } else {
                    seen.extend(queue.next());
                }
                prop_assert!(queue.len() <= capacity);
            }
            prop_assert!(seen.is_sorted());
            prop_assert_eq!(seen.len() + returned + queue.len(), next as usize);
        }
    }
}
