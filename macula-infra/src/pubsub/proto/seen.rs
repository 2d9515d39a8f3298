//! Which messages a subscription has had: none comes twice.
//!
//! A message is sent again to a node whose actor was restarted, if it is promised, because nobody
//! knows whether the last life has handed it on; and it may come by a broadcast and be replayed. A
//! subscription outlives the actor, and remembers the numbers that it has had last of each publisher,
//! priority and promise: at least as many as its node lets a publisher have under way. A message whose
//! number is older than all of those is taken for a new one.
//!
//! One that is not promised is never sent again, so this sees it twice only where it is replayed. But it
//! can be late: a part of a broadcast that begins anew, because its actor was restarted, may be given what
//! the last one had given up. Such a one is passed over, so that the order of each publisher holds.

use std::collections::{BTreeMap, VecDeque};

use macula_core::identity::NodeId;
use macula_core::topic::Topic;

use super::super::message::{Message, Qos};
use super::word::FlowId;

/// How many numbers of one publisher, priority and promise are remembered at least.
const NUMBERS_MIN: usize = 4_096;

/// How many times as many are in all.
const FACTOR: usize = 16;

/// Of how many publishers, priorities and promises they are.
const FLOWS_MAX: usize = 4_096;

/// What a subscription has had.
#[derive(Debug)]
pub(crate) struct Seen {
    flows: BTreeMap<(NodeId, FlowId), Numbers>,
    /// The last number, and the life that it is of, of each topic whose messages are not promised.
    newest: BTreeMap<(NodeId, FlowId, Topic), (u64, u64)>,
    /// How many numbers each has at most.
    numbers_max: usize,
    /// How many there are.
    count: usize,
    /// How many messages were looked at.
    turns: u64,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Which life of its node.
    life: u64,
    /// Ascending.
    last: VecDeque<u64>,
    /// When it was looked at last.
    turn: u64,
}

impl Seen {
    /// Of a node that lets each publisher have so many messages under way.
    pub(crate) fn new(credit_messages: u32) -> Self {
        let credit = usize::try_from(credit_messages).unwrap_or(usize::MAX);
        let numbers_max = credit.saturating_mul(2).max(NUMBERS_MIN);
        Self { flows: BTreeMap::new(), newest: BTreeMap::new(), numbers_max, count: 0, turns: 0 }
    }

    /// Whether a message comes for the first time, as far as that is remembered.
    pub(crate) fn is_new(&mut self, message: &Message) -> bool {
        let Message { publisher, life, sequence, qos, priority, .. } = message;
        if *qos == Qos::AtMostOnce && !message.is_replayed && self.is_late(message) {
            return false;
        }
        self.turns += 1;
        let of = (*publisher, FlowId::of(*priority, *qos));
        let numbers = self.flows.entry(of).or_default();
        numbers.turn = self.turns;
        if numbers.life != *life {
            self.count -= numbers.last.len();
            (numbers.life, numbers.last) = (*life, VecDeque::new());
        }
        if numbers.last.back().is_none_or(|last| last < sequence) {
            numbers.last.push_back(*sequence);
        } else {
            match numbers.last.binary_search(sequence) {
                Ok(_there) => return false,
                Err(place) => numbers.last.insert(place, *sequence),
            }
        }
        self.count += 1;
        if numbers.last.len() > self.numbers_max {
            numbers.last.pop_front();
            self.count -= 1;
        }
        self.forget(of);
        true
    }

    /// Whether a later message of its topic was had already.
    fn is_late(&mut self, message: &Message) -> bool {
        let Message { publisher, life, sequence, qos, priority, topic, .. } = message;
        let of = (*publisher, FlowId::of(*priority, *qos), topic.clone());
        let now = (*life, *sequence);
        if self.newest.len() >= FLOWS_MAX && !self.newest.contains_key(&of) {
            // Whichever it is, its next message is taken for a new one.
            self.newest.pop_first();
        }
        let newest = self.newest.entry(of).or_insert(now);
        let is_late = *newest > now;
        *newest = now.max(*newest);
        is_late
    }

    /// Forgets those that were not looked at for longest, if it is too much.
    fn forget(&mut self, but: (NodeId, FlowId)) {
        while self.count > self.numbers_max.saturating_mul(FACTOR) || self.flows.len() > FLOWS_MAX {
            let others = self.flows.iter().filter(|(of, _)| **of != but);
            let oldest = others.min_by_key(|(_, numbers)| numbers.turn).map(|(of, _)| *of);
            let Some(numbers) = oldest.and_then(|oldest| self.flows.remove(&oldest)) else {
                return;
            };
            self.count -= numbers.last.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use macula_core::identity::Keypair;

    use super::super::super::message::{Message, Priority, Qos};
    use super::{FACTOR, FLOWS_MAX, NUMBERS_MIN, Seen};

    fn message(publisher: u32, life: u64, sequence: u64) -> Message {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&publisher.to_be_bytes());
        Message {
            topic: "a".parse().unwrap(),
            payload: Bytes::new(),
            publisher: Keypair::from_seed(seed).node_id(),
            life,
            sequence,
            qos: Qos::AtLeastOnce,
            priority: Priority::Normal,
            is_replayed: false,
        }
    }

    #[test]
    fn a_number_of_one_life_is_new_once() {
        let mut seen = Seen::new(10);
        let mut is_new = |life, sequence| seen.is_new(&message(1, life, sequence));
        assert!([5, 7, 6, 9].into_iter().all(|sequence| is_new(1, sequence)));
        assert!(!(5..=7).chain([9]).any(|sequence| is_new(1, sequence)));
        assert!(is_new(1, 8) && !is_new(1, 8));
        assert!(is_new(2, 5) && !is_new(2, 5), "another life has other messages");
        assert!(seen.is_new(&message(2, 2, 5)), "and so does another node");
        let urgent = Message { priority: Priority::Urgent, ..message(1, 2, 5) };
        assert!(seen.is_new(&urgent));
    }

    #[test]
    fn what_is_late_and_not_promised_is_passed_over() {
        let mut seen = Seen::new(10);
        let mut is_new = |topic: &str, life, sequence, is_replayed| {
            let (qos, topic) = (Qos::AtMostOnce, topic.parse().unwrap());
            seen.is_new(&Message { qos, topic, is_replayed, ..message(1, life, sequence) })
        };
        assert!(is_new("a", 1, 5, false) && is_new("a", 1, 9, false));
        assert!(!is_new("a", 1, 7, false), "the order holds");
        assert!(is_new("b", 1, 7, false), "of each topic");
        assert!(is_new("a", 1, 8, true), "what is replayed is late by its nature");
        assert!(is_new("a", 2, 1, false), "another life counts anew");
        for number in 0..u64::try_from(FLOWS_MAX).unwrap() {
            assert!(is_new(&format!("many.{number}"), 2, 10 + number, false));
        }
        assert_eq!(seen.newest.len(), FLOWS_MAX);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::new(10);
        for sequence in 0..10_000 {
            assert!(seen.is_new(&message(1, 1, sequence)));
        }
        assert_eq!(seen.count, NUMBERS_MIN);
        assert!(!seen.is_new(&message(1, 1, 10_000 - 4_096)));
        let one = message(1, 1, 0);
        for number in 0..40 {
            let publisher = message(number + 2, 1, 0).publisher;
            for sequence in 0..4_096 {
                assert!(seen.is_new(&Message { publisher, sequence, ..one.clone() }));
            }
        }
        assert!(seen.count <= NUMBERS_MIN * FACTOR, "{}", seen.count);
        for number in 100..100 + u32::try_from(FLOWS_MAX).unwrap() {
            assert!(seen.is_new(&message(number, 1, 1)));
        }
        assert!(seen.flows.len() <= FLOWS_MAX && seen.count <= NUMBERS_MIN * FACTOR);
    }
}
