//! What a publisher's node keeps of what it has published: the retained message of each topic, and
//! the last messages of those that are to be kept.
//!
//! The bounds are in bytes, for each topic and in all, and the oldest go first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use macula_core::topic::{Pattern, Topic};

use super::flow::Stored;
use super::word::Replay;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many bytes are kept of one topic, apart from its retained message.
    pub topic_len_max: usize,
    /// How many bytes are kept in all.
    pub len_max: usize,
    /// How many topics have something that is kept.
    pub topics_max: usize,
}

impl Default for Limits {
    /// 1 MiB for a topic, 64 MiB in all, 65,536 topics.
    fn default() -> Self {
        Self { topic_len_max: 1 << 20, len_max: 64 << 20, topics_max: 65_536 }
    }
}

/// What a message costs beside its payload, in bytes.
const MESSAGE_LEN: usize = 128;

fn len(stored: &Stored) -> usize {
    stored.payload.len() + MESSAGE_LEN
}

#[derive(Debug, Default)]
struct Kept {
    retained: Option<Arc<Stored>>,
    last: VecDeque<Arc<Stored>>,
    len: usize,
}

impl Kept {
    fn oldest(&self) -> Option<u64> {
        let retained = self.retained.iter().chain(self.last.front());
        retained.map(|stored| stored.sequence).min()
    }
}

/// What is kept.
#[derive(Debug)]
pub(crate) struct Archive {
    limits: Limits,
    topics: BTreeMap<Topic, Kept>,
    /// The oldest message of each topic, by its number.
    oldest: BTreeMap<u64, Topic>,
    len: usize,
}

impl Archive {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self { limits, topics: BTreeMap::new(), oldest: BTreeMap::new(), len: 0 }
    }

    /// How many bytes are kept.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Keeps a message: as the value of its topic, among the last of its topic, or both. An empty
    /// one that is to be retained takes the topic's value away.
    pub(crate) fn keep(&mut self, stored: &Arc<Stored>, retain: bool, keep: bool) {
        let topic = &stored.topic;
        let mut kept = self.take(topic).unwrap_or_default();
        if retain {
            kept.retained = (!stored.payload.is_empty()).then(|| Arc::clone(stored));
        }
        if keep {
            kept.len += len(stored);
            kept.last.push_back(Arc::clone(stored));
            while kept.len > self.limits.topic_len_max
                && let Some(oldest) = kept.last.pop_front()
            {
                kept.len -= len(&oldest);
            }
        }
        self.put(topic.clone(), kept);
        while (self.len > self.limits.len_max || self.topics.len() > self.limits.topics_max)
            && let Some((_, topic)) = self.oldest.first_key_value()
        {
            let topic = topic.clone();
            let Some(mut kept) = self.take(&topic) else { break };
            let oldest = kept.oldest();
            let is_oldest = |stored: &Arc<Stored>| Some(stored.sequence) == oldest;
            if kept.retained.as_ref().is_some_and(is_oldest) {
                kept.retained = None;
            }
            if kept.last.front().is_some_and(is_oldest)
                && let Some(first) = kept.last.pop_front()
            {
                kept.len -= len(&first);
            }
            self.put(topic, kept);
        }
    }

    fn take(&mut self, topic: &Topic) -> Option<Kept> {
        let kept = self.topics.remove(topic)?;
        kept.oldest().and_then(|oldest| self.oldest.remove(&oldest));
        self.len -= kept.len + kept.retained.as_deref().map_or(0, len);
        Some(kept)
    }

    fn put(&mut self, topic: Topic, kept: Kept) {
        let Some(oldest) = kept.oldest() else { return };
        self.len += kept.len + kept.retained.as_deref().map_or(0, len);
        self.oldest.insert(oldest, topic.clone());
        self.topics.insert(topic, kept);
    }

    /// What a subscription wants of it, the oldest first, and no more than `max` of it.
    pub(crate) fn replay(
        &self,
        now: Instant,
        pattern: &Pattern,
        replay: Replay,
        max: usize,
    ) -> Vec<Arc<Stored>> {
        let mut found = BTreeMap::new();
        let prefix = pattern.prefix();
        let begin = prefix.parse::<Topic>().ok();
        let from = begin.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included);
        let topics = self.topics.range((from, std::ops::Bound::Unbounded));
        let below = topics.take_while(|(topic, _)| topic.as_str().starts_with(prefix));
        for (_, kept) in below.filter(|(topic, _)| pattern.matches(topic)) {
            let last = replay.last.map_or(usize::MAX, |last| usize::try_from(last).unwrap_or(0));
            let wants_last = replay.last.is_some() || replay.within.is_some();
            let is_young = |stored: &&Arc<Stored>| {
                let age = now.saturating_duration_since(stored.at);
                replay.within.is_none_or(|within| age <= within)
            };
            let last = kept.last.iter().rev().take(if wants_last { last } else { 0 });
            let retained = kept.retained.iter().filter(|_| replay.retained);
            for stored in last.take_while(is_young).chain(retained) {
                if !stored.is_over(now) {
                    found.insert(stored.sequence, Arc::clone(stored));
                }
            }
        }
        let skip = found.len().saturating_sub(max);
        found.into_values().skip(skip).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use macula_core::clock::{Clock as _, TokioClock};

    use super::super::super::message::{Priority, Qos};
    use super::super::TopicId;
    use super::{Archive, Limits, Replay, Stored};

    fn stored(topic: &str, sequence: u64, len: usize, at: Instant) -> Arc<Stored> {
        Arc::new(Stored {
            topic_id: TopicId(0),
            topic: topic.parse().unwrap(),
            payload: Bytes::from(vec![0; len]),
            sequence,
            qos: Qos::AtMostOnce,
            priority: Priority::Normal,
            until: None,
            at,
        })
    }

    fn replayed(archive: &Archive, now: Instant, pattern: &str, replay: Replay) -> Vec<u64> {
        let found = archive.replay(now, &pattern.parse().unwrap(), replay, 100);
        found.iter().map(|stored| stored.sequence).collect()
    }

    #[test]
    fn the_last_of_each_topic_and_its_value_are_kept() {
        let now = TokioClock.now();
        let mut archive = Archive::new(Limits::default());
        for number in 1..=6 {
            let topic = if number % 2 == 0 { "a.even" } else { "a.odd" };
            let at = now + Duration::from_secs(number);
            archive.keep(&stored(topic, number, 10, at), number == 3, true);
        }
        archive.keep(&stored("b", 7, 10, now), true, false);
        let now = now + Duration::from_secs(6);
        let last = |last| Replay { last: Some(last), ..Replay::default() };
        let retained = Replay { retained: true, ..Replay::default() };
        let within = Replay { within: Some(Duration::from_secs(2)), ..Replay::default() };
        assert_eq!(replayed(&archive, now, "a.*", last(2)), [3, 4, 5, 6]);
        assert_eq!(replayed(&archive, now, "a.even", last(1)), [6]);
        assert_eq!(replayed(&archive, now, "**", retained), [3, 7]);
        assert_eq!(replayed(&archive, now, "a.**", within), [4, 5, 6]);
        assert_eq!(replayed(&archive, now, "**", Replay::default()), [0_u64; 0]);
        let both = Replay { retained: true, ..last(1) };
        assert_eq!(replayed(&archive, now, "a.odd", both), [3, 5]);
        // An empty value takes the value away.
        archive.keep(&stored("b", 8, 0, now), true, false);
        assert_eq!(replayed(&archive, now, "b", retained), [0_u64; 0]);
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_the_oldest_goes_first() {
        let now = TokioClock.now();
        let limits = Limits { topic_len_max: 2_000, len_max: 5_000, topics_max: 3 };
        let mut archive = Archive::new(limits);
        for number in 0..1_000 {
            let topic = format!("t{}", number % 7);
            archive.keep(&stored(&topic, number, 500, now), number % 5 == 0, true);
            assert!(archive.len() <= 5_000 && archive.topics.len() <= 3);
        }
        let all = Replay { last: Some(u32::MAX), ..Replay::default() };
        let kept = replayed(&archive, now, "**", all);
        assert!(kept.contains(&999) && kept.first() > Some(&980), "{kept:?}");
        let counted: usize = archive.topics.values().map(|kept| kept.len).sum();
        let retained = archive.topics.values().filter_map(|kept| kept.retained.as_ref());
        assert_eq!(
            archive.len(),
            counted + retained.map(|stored| super::len(stored)).sum::<usize>()
        );
    }
}
