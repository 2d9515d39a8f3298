//! Names in segments, such as `game.room7.chat`, and patterns that match many of them.
//!
//! Topics and procedures have such names. In a pattern `*` stands for exactly one segment, and `**`
//! at the end for all the rest, be it nothing: `game.*.chat` matches the chats of all rooms, and
//! `game.**` matches `game` and everything below it.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest topic or pattern, in bytes.
pub const TOPIC_LEN_MAX: usize = 255;

/// The most segments of a topic or pattern.
pub const SEGMENTS_MAX: usize = 16;

/// What stands between segments.
const SEPARATOR: char = '.';

/// One segment, whatever it is.
const ANY: &str = "*";

/// All the rest.
const REST: &str = "**";

/// Why a text is no topic or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum InvalidTopic {
    /// Nothing was given.
    #[error("a topic must not be empty")]
    Empty,
    /// Too many bytes.
    #[error("a topic has at most {TOPIC_LEN_MAX} bytes, and this one has {0}")]
    TooLong(usize),
    /// Too many segments.
    #[error("a topic has at most {SEGMENTS_MAX} segments, and {0:?} has {1}")]
    TooDeep(String, usize),
    /// Nothing stands before, between or after separators.
    #[error("{0:?} has an empty segment")]
    EmptySegment(String),
    /// A character outside the alphabet.
    #[error(
        "a topic has only letters, digits and `_ - : # @ /` between its dots, and {0:?} holds {1:?}"
    )]
    Character(String, char),
    /// A wildcard in what is to be one topic.
    #[error("{0:?} is a pattern, and not one topic")]
    Wildcard(String),
    /// A wildcard that is only a part of a segment.
    #[error("in {0:?} a wildcard is only a part of its segment")]
    PartialWildcard(String),
    /// `**` before the end.
    #[error("in {0:?} something follows after `**`")]
    RestNotLast(String),
}

/// The name of one thing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

/// A pattern of topics. Each topic is the pattern that matches only itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

/// A segment of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment<'a> {
    /// This one.
    Exact(&'a str),
    /// Any one.
    Any,
    /// All the rest, be it nothing.
    Rest,
}

impl<'a> From<&'a str> for Segment<'a> {
    fn from(text: &'a str) -> Self {
        match text {
            ANY => Self::Any,
            REST => Self::Rest,
            text => Self::Exact(text),
        }
    }
}

impl Topic {
    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR)
    }

    /// The topics above it and it itself, the shortest first: `a`, `a.b`, `a.b.c`.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let ends = self.0.match_indices(SEPARATOR).map(|(at, _)| at);
        ends.chain([self.0.len()]).filter_map(|end| self.0.get(..end))
    }
}

impl Pattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.0.split(SEPARATOR).map(Segment::from)
    }

    /// What all topics that it matches begin with: the segments before its first wildcard.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.0.find('*') {
            Some(at) => self.0.get(..at.saturating_sub(1)).unwrap_or_default(),
            None => &self.0,
        }
    }

    /// Whether it is one topic.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.covers_all(topic.segments().map(Segment::Exact))
    }

    /// Whether it matches each topic that another one matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.covers_all(other.segments())
    }

    /// Likewise, for a pattern or a name that is given by its segments.
    pub fn covers_all<'a>(&self, mut others: impl Iterator<Item = Segment<'a>>) -> bool {
        for segment in self.segments() {
            match (segment, others.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Any, Some(Segment::Exact(_) | Segment::Any)) => {}
                (Segment::Exact(wanted), Some(Segment::Exact(found))) if wanted == found => {}
                _ => return false,
            }
        }
        others.next().is_none()
    }

    /// Whether there is a topic that both it and a pattern match which is given by its segments.
    pub fn meets<'a>(&self, mut others: impl Iterator<Item = Segment<'a>>) -> bool {
        for segment in self.segments() {
            match (segment, others.next()) {
                (Segment::Rest, _) | (_, Some(Segment::Rest)) => return true,
                (Segment::Exact(one), Some(Segment::Exact(other))) if one != other => return false,
                (_, Some(_)) => {}
                (_, None) => return false,
            }
        }
        matches!(others.next(), None | Some(Segment::Rest))
    }
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self(topic.0)
    }
}

/// Checks what topics and patterns have in common.
fn check(text: &str, has_wildcards: bool) -> Result<(), InvalidTopic> {
    let owned = || text.to_owned();
    if text.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if text.len() > TOPIC_LEN_MAX {
        return Err(InvalidTopic::TooLong(text.len()));
    }
    let count = text.split(SEPARATOR).count();
    if count > SEGMENTS_MAX {
        return Err(InvalidTopic::TooDeep(owned(), count));
    }
    let legal = |c: char| c.is_alphanumeric() || "_-:#@/".contains(c);
    for (place, segment) in text.split(SEPARATOR).enumerate() {
        match Segment::from(segment) {
            Segment::Any | Segment::Rest if !has_wildcards => {
                return Err(InvalidTopic::Wildcard(owned()));
            }
            Segment::Rest if place + 1 < count => return Err(InvalidTopic::RestNotLast(owned())),
            Segment::Any | Segment::Rest => {}
            Segment::Exact("") => return Err(InvalidTopic::EmptySegment(owned())),
            Segment::Exact(exact) => match exact.chars().find(|c| !legal(*c)) {
                Some('*') => return Err(InvalidTopic::PartialWildcard(owned())),
                Some(c) => return Err(InvalidTopic::Character(owned(), c)),
                None => {}
            },
        }
    }
    Ok(())
}

macro_rules! text {
    ($type:ident, $has_wildcards:expr) => {
        impl FromStr for $type {
            type Err = InvalidTopic;

            fn from_str(text: &str) -> Result<Self, InvalidTopic> {
                check(text, $has_wildcards)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidTopic;

            fn try_from(text: String) -> Result<Self, InvalidTopic> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(named: $type) -> Self {
                named.0.as_ref().to_owned()
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                Debug::fmt(&self.0, f)
            }
        }
    };
}

text!(Topic, false);
text!(Pattern, true);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{InvalidTopic, Pattern, SEGMENTS_MAX, TOPIC_LEN_MAX, Topic};

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(&topic.parse().unwrap())
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        for (pattern, topic, expected) in [
            ("sensor.temp.room1", "sensor.temp.room1", true),
            ("sensor.temp.room1", "sensor.temp.room2", false),
            ("sensor.*.room1", "sensor.humidity.room1", true),
            ("sensor.*.room1", "sensor.room1", false),
            ("sensor.*.room1", "sensor.a.b.room1", false),
            ("sensor.*", "sensor", false),
            ("sensor.**", "sensor", true),
            ("sensor.**", "sensor.temp.room1.extra", true),
            ("sensor.**", "sensors.temp", false),
            ("**", "anything.at.all", true),
            ("*", "anything", true),
            ("*", "anything.more", false),
            ("*.b.**", "a.b", true),
            ("*.b.**", "a.c.b", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_no_topic_or_no_pattern_is_told_why() {
        let error = |text: &str| text.parse::<Pattern>().unwrap_err();
        assert_eq!(error(""), InvalidTopic::Empty);
        assert_eq!(error(&"a".repeat(TOPIC_LEN_MAX + 1)), InvalidTopic::TooLong(256));
        let deep = vec!["a"; SEGMENTS_MAX + 1].join(".");
        assert_eq!(error(&deep), InvalidTopic::TooDeep(deep.clone(), 17));
        for text in [".a", "a.", "a..b", "."] {
            assert_eq!(error(text), InvalidTopic::EmptySegment(text.to_owned()));
        }
        assert_eq!(error("a b"), InvalidTopic::Character("a b".to_owned(), ' '));
        assert_eq!(error("a.b*"), InvalidTopic::PartialWildcard("a.b*".to_owned()));
        assert_eq!(error("a.***"), InvalidTopic::PartialWildcard("a.***".to_owned()));
        assert_eq!(error("a.**.b"), InvalidTopic::RestNotLast("a.**.b".to_owned()));
        let wildcard = "a.*".parse::<Topic>().unwrap_err();
        assert_eq!(wildcard, InvalidTopic::Wildcard("a.*".to_owned()));
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let topic: Topic = "a.bc.d".parse().unwrap();
        assert_eq!(topic.prefixes().collect::<Vec<_>>(), ["a", "a.bc", "a.bc.d"]);
        let prefix = |text: &str| text.parse::<Pattern>().unwrap().prefix().to_owned();
        assert_eq!(prefix("a.bc.d"), "a.bc.d");
        assert_eq!(prefix("a.bc.*"), "a.bc");
        assert_eq!(prefix("a.*.d"), "a");
        assert_eq!(prefix("**"), "");
    }

    proptest! {
        #[test]
        fn whatever_a_pattern_matches_begins_with_its_prefix(
            pattern in "(a|b|\\*)(\\.(a|b|\\*)){0,3}(\\.\\*\\*)?",
            topic in "(a|b)(\\.(a|b)){0,4}",
        ) {
            let pattern: Pattern = pattern.parse().unwrap();
            let topic: Topic = topic.parse().unwrap();
            let prefix = pattern.prefix();
            if pattern.matches(&topic) {
                prop_assert!(prefix.is_empty() || topic.prefixes().any(|of| of == prefix));
            }
            prop_assert!(Pattern::from(topic.clone()).matches(&topic));
        }

        #[test]
        fn patterns_cover_and_meet_as_their_topics_say(
            one in "(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.\\*\\*)?",
            other in "(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.\\*\\*)?",
        ) {
            let (one, other): (Pattern, Pattern) = (one.parse().unwrap(), other.parse().unwrap());
            // With a third letter, and one segment more than any of them, these are all that differ.
            let mut topics = vec![String::new()];
            let mut both = 0;
            let mut only_other = 0;
            for _ in 0..4 {
                let longer = topics.iter().flat_map(|topic| {
                    ["a", "b", "c"].map(|last| format!("{topic}.{last}"))
                });
                topics = longer.collect();
                for topic in &topics {
                    let topic: Topic = topic.trim_start_matches('.').parse().unwrap();
                    let (one, other) = (one.matches(&topic), other.matches(&topic));
                    both += u32::from(one && other);
                    only_other += u32::from(!one && other);
                }
            }
            prop_assert_eq!(one.covers(&other), only_other == 0, "{} covers {}", &one, &other);
            prop_assert_eq!(one.meets(other.segments()), both > 0, "{} meets {}", &one, &other);
        }

        #[test]
        fn no_text_does_any_harm(text in ".{0,300}") {
            drop(text.parse::<Pattern>());
            drop(text.parse::<Topic>());
        }
    }
}
