//! The bytes of what the ends of sessions say.
//!
//! A batch names each of its topics once, messages of one topic whose numbers are consecutive are one
//! entry, and all lengths and all payloads are each in one piece behind the entries. So many small
//! messages cost little more than their bytes. What comes from a peer is held to the bounds of
//! [`proto`](super::proto) while it is read.

mod lens;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::topic::{InvalidTopic, Pattern, Topic};
use macula_core::wire::{BodyError, EncodeError, Limits, from_body, to_body};
use serde::{Deserialize, Serialize};

use super::message::{Missed, PAYLOAD_LEN_MAX};
use super::proto::grove::CONTACTS_MAX;
use super::proto::tree::{SAID_MAX, Said};
use super::proto::word::{
    BATCH_ENTRIES_MAX, Batch, Carried, Decline, ENTRIES_MAX, Entry, FAILURES_MAX, FLOWS, Failure,
    FlowId, FlowReport, GROUP_LEN_MAX, GROUPS_MAX, Interest, Life, Missing, PREFIXES_MAX, Plant,
    Replay, Route, Standing, SubId, TreeId, Wanted, Window, Word,
};

/// The longest message of all, in bytes: one with a payload as long as may be, or a long list of
/// patterns.
pub(super) const LEN_MAX: usize = PAYLOAD_LEN_MAX + (256 << 10);

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Invalid {
    /// It is no message.
    #[error("a message that cannot be read: {0}")]
    Body(#[from] BodyError),
    /// A topic in it is none.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    /// A list or a text in it is too long.
    #[error("a message with {found} {what}, at most {max} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// It says something that cannot be.
    #[error("a message with a wrong {0}")]
    Wrong(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireWord {
    Hello {
        realm: serde_bytes::ByteArray<32>,
        life: Life,
        is_new: bool,
    },
    Ask {
        prefixes: Vec<Arc<str>>,
    },
    Bye,
    Forbidden {
        patterns: Vec<Pattern>,
    },
    Welcome {
        life: Life,
        window: Window,
        version: u64,
        received: Vec<u64>,
    },
    Interest {
        version: u64,
        anew: Vec<Arc<str>>,
        entries: Vec<WireWanted>,
    },
    Replay {
        sub: u64,
        pattern: Pattern,
        last: Option<u32>,
        within_ms: Option<u64>,
        retained: bool,
        max: u32,
    },
    Report {
        life: Life,
        flows: Vec<WireReport>,
    },
    Reset,
    Refused {
        why: String,
    },
    News {
        prefixes: Vec<Arc<str>>,
    },
    Plant(Plant),
    Branch {
        tree: TreeId,
        said: Said,
    },
    Fell {
        tree: TreeId,
    },
    Declined {
        tree: TreeId,
        why: Decline,
    },
}

#[derive(Serialize, Deserialize)]
struct WireWanted {
    pattern: Pattern,
    group: Option<Arc<str>>,
    standing: Standing,
}

#[derive(Serialize, Deserialize)]
struct WireReport {
    flow: u8,
    received: u64,
    done: u64,
    failures: Vec<(u64, Failure)>,
    again: bool,
}

#[derive(Serialize, Deserialize)]
struct WireBatch<'a> {
    flow: u8,
    first: u64,
    known: u64,
    #[serde(borrow)]
    topics: Vec<Cow<'a, str>>,
    entries: Vec<WireEntry>,
    /// How long each message is: see [`lens`].
    lens: &'a serde_bytes::Bytes,
    payloads: &'a serde_bytes::Bytes,
}

/// What, of which topic, with which number, how many, and what else: for messages the number is that
/// of the first, and each has the next one; for what is missing it is that of the first; and for a
/// cut the subscription's.
#[derive(Serialize, Deserialize)]
struct WireEntry(What, u32, u64, u32, Option<Box<WireExtra>>);

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
enum What {
    Message,
    Missing,
    Void,
    Cut,
}

impl From<What> for u8 {
    fn from(what: What) -> Self {
        match what {
            What::Message => 0,
            What::Missing => 1,
            What::Void => 2,
            What::Cut => 3,
        }
    }
}

impl TryFrom<u8> for What {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, &'static str> {
        match number {
            0 => Ok(Self::Message),
            1 => Ok(Self::Missing),
            2 => Ok(Self::Void),
            3 => Ok(Self::Cut),
            _ => Err("no kind of entry"),
        }
    }
}

/// What most entries do not need. A message without it is for all who are in no group.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireExtra {
    Route { plain: bool, groups: Vec<Arc<str>>, only: Option<u64> },
    Missing { to: u64, count: u64, why: Missed },
}

/// Writes a message, and says whether it is a batch.
///
/// # Errors
///
/// [`EncodeError`], if it is longer than messages may be.
pub(super) fn encode(word: &Word) -> Result<Bytes, EncodeError> {
    let wire = match word {
        Word::Batch(batch) => return batch_out(batch),
        Word::Hello { realm, life, is_new } => {
            WireWord::Hello { realm: (*realm).into(), life: *life, is_new: *is_new }
        }
        Word::Ask { prefixes } => WireWord::Ask { prefixes: prefixes.clone() },
        Word::Bye => WireWord::Bye,
        Word::Forbidden { patterns } => WireWord::Forbidden { patterns: patterns.clone() },
        Word::Welcome { life, window, version, received } => {
            let (life, window, version) = (*life, *window, *version);
            WireWord::Welcome { life, window, version, received: received.clone() }
        }
        Word::Interest(interest) => interest_out(interest),
        Word::Replay { sub, pattern, replay, max } => WireWord::Replay {
            sub: sub.0,
            pattern: pattern.clone(),
            last: replay.last,
            within_ms: replay
                .within
                .map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
            retained: replay.retained,
            max: *max,
        },
        Word::Report { life, flows } => {
            let flow = |report: &FlowReport| WireReport {
                flow: report.flow.number(),
                received: report.received,
                done: report.done,
                failures: report.failures.clone(),
                again: report.again,
            };
            WireWord::Report { life: *life, flows: flows.iter().map(flow).collect() }
        }
        Word::Reset => WireWord::Reset,
        Word::Refused { why } => WireWord::Refused { why: why.clone() },
        Word::News { prefixes } => WireWord::News { prefixes: prefixes.clone() },
        Word::Plant(plant) => WireWord::Plant(plant.clone()),
        Word::Branch { tree, said, .. } => WireWord::Branch { tree: *tree, said: said.clone() },
        Word::Fell { tree } => WireWord::Fell { tree: *tree },
        Word::Declined { tree, why } => WireWord::Declined { tree: *tree, why: *why },
    };
    to_body(&wire, LEN_MAX)
}

fn interest_out(interest: &Interest) -> WireWord {
    let entry = |(wanted, standing): &(Wanted, Standing)| WireWanted {
        pattern: wanted.pattern.clone(),
        group: wanted.group.clone(),
        standing: *standing,
    };
    WireWord::Interest {
        version: interest.version,
        anew: interest.anew.clone(),
        entries: interest.entries.iter().map(entry).collect(),
    }
}

fn batch_out(batch: &Batch) -> Result<Bytes, EncodeError> {
    let mut topics = Topics::default();
    let len = batch.entries.iter().map(|entry| match entry {
        Entry::Message(carried) => carried.payload.len(),
        _ => 0,
    });
    let mut payloads = Vec::with_capacity(len.sum());
    let mut lens = Vec::with_capacity(batch.entries.len() * 2);
    let mut entries: Vec<WireEntry> = Vec::new();
    for entry in &batch.entries {
        let entry = match entry {
            Entry::Message(carried) => {
                payloads.extend_from_slice(&carried.payload);
                lens::write(&mut lens, carried.payload.len());
                let topic = topics.place(carried.topic.as_str());
                let extra = route_out(&carried.route);
                if let Some(WireEntry(What::Message, of, first, count, None)) = entries.last_mut()
                    && extra.is_none()
                    && *of == topic
                    && first.checked_add((*count).into()) == Some(carried.sequence)
                {
                    *count += 1;
                    continue;
                }
                WireEntry(What::Message, topic, carried.sequence, 1, extra)
            }
            Entry::Missing(of) => missing_out(What::Missing, of, &mut topics),
            Entry::Void(of) => missing_out(What::Void, of, &mut topics),
            Entry::Cut(sub) => WireEntry(What::Cut, 0, sub.0, 1, None),
        };
        entries.push(entry);
    }
    let wire = WireBatch {
        flow: batch.flow.number(),
        first: batch.first,
        known: batch.known,
        topics: topics.named,
        entries,
        lens: serde_bytes::Bytes::new(&lens),
        payloads: serde_bytes::Bytes::new(&payloads),
    };
    to_body(&wire, LEN_MAX)
}

fn missing_out<'a>(what: What, missing: &'a Missing, topics: &mut Topics<'a>) -> WireEntry {
    let Missing { topic, from, to, count, why } = missing;
    let extra = WireExtra::Missing { to: *to, count: *count, why: *why };
    WireEntry(what, topics.place(topic.as_str()), *from, 1, Some(Box::new(extra)))
}

/// The topics of a batch that is written, and where each stands.
#[derive(Default)]
struct Topics<'a> {
    named: Vec<Cow<'a, str>>,
    places: BTreeMap<&'a str, u32>,
    last: Option<(&'a str, u32)>,
}

impl<'a> Topics<'a> {
    fn place(&mut self, topic: &'a str) -> u32 {
        if let Some((of, place)) = self.last
            && of == topic
        {
            return place;
        }
        let next = u32::try_from(self.named.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(topic).or_insert_with(|| {
            self.named.push(Cow::Borrowed(topic));
            next
        });
        self.last = Some((topic, place));
        place
    }
}

fn route_out(route: &Route) -> Option<Box<WireExtra>> {
    let Route { plain, groups, only } = route;
    if *plain && groups.is_empty() && only.is_none() {
        return None;
    }
    let only = only.map(|sub| sub.0);
    Some(Box::new(WireExtra::Route { plain: *plain, groups: groups.clone(), only }))
}

/// Reads a message.
///
/// # Errors
///
/// [`Invalid`]; a message of which one part is bad is refused as a whole.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Word, Invalid> {
    Ok(match from_body(bytes, limits)? {
        WireWord::Hello { realm, life, is_new } => {
            Word::Hello { realm: realm.into_array(), life, is_new }
        }
        WireWord::Ask { prefixes } => Word::Ask { prefixes: prefixes_in(prefixes)? },
        WireWord::Bye => Word::Bye,
        WireWord::Forbidden { patterns } => {
            few("patterns", patterns.len(), ENTRIES_MAX)?;
            Word::Forbidden { patterns }
        }
        WireWord::Welcome { life, window, version, received } => {
            few("flows", received.len(), FLOWS)?;
            Word::Welcome { life, window, version, received }
        }
        WireWord::Interest { version, anew, entries } => {
            few("patterns", entries.len(), ENTRIES_MAX)?;
            let entries: Result<_, Invalid> = entries.into_iter().map(wanted_in).collect();
            let (anew, entries) = (prefixes_in(anew)?, entries?);
            Word::Interest(Interest { version, anew, entries, forbidden: Vec::new() })
        }
        WireWord::Replay { sub, pattern, last, within_ms, retained, max } => {
            let within = within_ms.map(Duration::from_millis);
            Word::Replay {
                sub: SubId(sub),
                pattern,
                replay: Replay { last, within, retained },
                max,
            }
        }
        WireWord::Report { life, flows } => {
            few("flows", flows.len(), FLOWS)?;
            let flows: Result<_, Invalid> = flows.into_iter().map(report_in).collect();
            Word::Report { life, flows: flows? }
        }
        WireWord::Reset => Word::Reset,
        WireWord::Refused { why } => Word::Refused { why: why.chars().take(256).collect() },
        WireWord::News { prefixes } => Word::News { prefixes: prefixes_in(prefixes)? },
        WireWord::Plant(plant) => {
            few("contacts", plant.contacts.len(), CONTACTS_MAX)?;
            Word::Plant(plant)
        }
        WireWord::Branch { tree, said } => {
            few("parts", said.len(), SAID_MAX)?;
            Word::Branch { tree, said, is_allowed: true }
        }
        WireWord::Fell { tree } => Word::Fell { tree },
        WireWord::Declined { tree, why } => Word::Declined { tree, why },
    })
}

fn few(what: &'static str, found: usize, max: usize) -> Result<(), Invalid> {
    if found <= max { Ok(()) } else { Err(Invalid::TooMany { what, found, max }) }
}

/// A prefix is a topic, or nothing.
fn prefixes_in(prefixes: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, Invalid> {
    few("prefixes", prefixes.len(), PREFIXES_MAX)?;
    for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty()) {
        prefix.parse::<Topic>()?;
    }
    Ok(prefixes)
}

fn group_in(group: &str) -> Result<(), Invalid> {
    few("bytes in a group's name", group.len(), GROUP_LEN_MAX)
}

fn wanted_in(wanted: WireWanted) -> Result<(Wanted, Standing), Invalid> {
    let WireWanted { pattern, group, standing } = wanted;
    group.as_deref().map_or(Ok(()), group_in)?;
    Ok((Wanted::new(pattern, group), standing))
}

fn flow_in(flow: u8) -> Result<FlowId, Invalid> {
    FlowId::from_number(flow).ok_or(Invalid::Wrong("flow"))
}

fn report_in(report: WireReport) -> Result<FlowReport, Invalid> {
    let WireReport { flow, received, done, failures, again } = report;
    few("failures", failures.len(), FAILURES_MAX)?;
    Ok(FlowReport { flow: flow_in(flow)?, received, done, failures, again })
}

/// Reads a batch.
///
/// # Errors
///
/// [`Invalid`]; a batch of which one part is bad is refused as a whole.
pub(super) fn decode_batch(bytes: &[u8], limits: &Limits) -> Result<Batch, Invalid> {
    let read: WireBatch<'_> = from_body(bytes, limits)?;
    few("topics", read.topics.len(), BATCH_ENTRIES_MAX)?;
    let counts = read.entries.iter().map(|WireEntry(_, _, _, count, _)| number(*count));
    let count = counts.fold(0_usize, usize::saturating_add);
    few("entries", count, BATCH_ENTRIES_MAX)?;
    let topics: Result<Vec<Topic>, InvalidTopic> =
        read.topics.iter().map(|topic| topic.parse()).collect();
    let topics = topics?;
    let mut bodies = Bodies { lens: read.lens, left: Bytes::copy_from_slice(read.payloads) };
    let mut entries = Vec::with_capacity(count);
    for WireEntry(what, topic, number, count, extra) in read.entries {
        let topic = usize::try_from(topic).ok().and_then(|place| topics.get(place));
        let topic = || topic.cloned().ok_or(Invalid::Wrong("topic"));
        match (what, extra.map(|extra| *extra)) {
            (What::Message, extra) => {
                let (topic, route) = (topic()?, route_in(extra)?);
                number.checked_add(count.into()).ok_or(Invalid::Wrong("number"))?;
                for sequence in (number..).take(self::number(count)) {
                    let payload = bodies.next()?;
                    let (topic, route) = (topic.clone(), route.clone());
                    let carried = Carried { topic, sequence, payload, route, is_allowed: true };
                    entries.push(Entry::Message(carried));
                }
            }
            // Of anything else there is one.
            _ if count != 1 => return Err(Invalid::Wrong("count")),
            (What::Cut, _) => entries.push(Entry::Cut(SubId(number))),
            (what, Some(WireExtra::Missing { to, count, why })) => {
                let missing = Missing { topic: topic()?, from: number, to, count, why };
                let is_void = what == What::Void;
                entries.push(if is_void { Entry::Void(missing) } else { Entry::Missing(missing) });
            }
            _ => return Err(Invalid::Wrong("entry")),
        }
    }
    Ok(Batch { flow: flow_in(read.flow)?, first: read.first, known: read.known, entries })
}

fn number(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The payloads of a batch that is read. They share one piece of memory.
struct Bodies<'a> {
    lens: &'a [u8],
    left: Bytes,
}

impl Bodies<'_> {
    fn next(&mut self) -> Result<Bytes, Invalid> {
        let len = lens::read(&mut self.lens).filter(|len| *len <= self.left.len());
        let len = len.filter(|len| *len <= PAYLOAD_LEN_MAX).ok_or(Invalid::Wrong("length"))?;
        Ok(self.left.split_to(len))
    }
}

fn route_in(extra: Option<WireExtra>) -> Result<Route, Invalid> {
    match extra {
        None => Ok(Route { plain: true, ..Route::default() }),
        Some(WireExtra::Route { plain, groups, only }) => {
            few("groups", groups.len(), GROUPS_MAX)?;
            groups.iter().try_for_each(|group| group_in(group))?;
            Ok(Route { plain, groups, only: only.map(SubId) })
        }
        Some(WireExtra::Missing { .. }) => Err(Invalid::Wrong("route")),
    }
}

#[cfg(test)]
mod tests;
