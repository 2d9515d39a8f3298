//! A subscriber's end of a session: what comes from one node, and what it was told is wanted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::intake::Intake;
use super::word::{
    FLOWS, FlowId, Interest, Life, Replay, SessionId, Standing, SubId, Wanted, Word,
};
use macula_core::topic::Pattern;

/// Of how many prefixes a publisher may ask.
const ASKED_MAX: usize = 65_536;

/// How many bytes of patterns are told in one message, more or less: they have to come in their
/// order, and so within frames.
const PORTION_LEN: usize = 24 * 1024;

/// How many such messages go at one time: fewer than a lane has room for.
const PORTIONS_MAX: usize = 16;

/// What a pattern costs beside itself there.
const ENTRY_LEN: usize = 48;

/// The subscriber's end.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) session: SessionId,
    /// The publisher's end.
    pub(crate) life: Life,
    intakes: [Intake; FLOWS],
    /// The prefixes of which it was asked.
    asked: BTreeSet<Arc<str>>,
    /// The number of the last thing that was said of what is wanted.
    pub(crate) version: u64,
    /// What stands otherwise than was told.
    untold: BTreeMap<Wanted, Standing>,
    /// What is to be said in its order, a portion at a time.
    unsaid: VecDeque<Word>,
    /// The subscriptions to which was asked to replay.
    pub(crate) replaying: BTreeSet<SubId>,
}

impl Inlet {
    pub(crate) fn new(session: SessionId, life: Life) -> Self {
        let mut ids = FlowId::all();
        // There are as many flows as ids.
        let intake = |_| {
            Intake::new(ids.next().unwrap_or_else(|| FlowId::of(<_>::default(), <_>::default())))
        };
        Self {
            session,
            life,
            intakes: std::array::from_fn(intake),
            asked: BTreeSet::new(),
            version: 0,
            untold: BTreeMap::new(),
            unsaid: VecDeque::new(),
            replaying: BTreeSet::new(),
        }
    }

    pub(crate) fn intake(&mut self, flow: FlowId) -> Option<&mut Intake> {
        self.intakes.get_mut(flow.index())
    }

    pub(crate) fn received(&self) -> Vec<u64> {
        self.intakes.iter().map(Intake::received).collect()
    }

    /// How many entries were handed on since the last report, in the flow that has most.
    pub(crate) fn unreported(&self) -> usize {
        self.intakes.iter().map(Intake::unreported).max().unwrap_or_default()
    }

    /// How many entries wait to be handed on.
    #[cfg(test)]
    pub(crate) fn buffered(&self) -> usize {
        self.intakes.iter().map(Intake::buffered).sum()
    }

    /// It is asked of a prefix. Says whether there is room for that.
    pub(crate) fn ask(&mut self, prefix: &Arc<str>) -> bool {
        if self.asked.len() >= ASKED_MAX && !self.asked.contains(prefix) {
            return false;
        }
        self.asked.insert(Arc::clone(prefix));
        true
    }

    pub(crate) fn is_asked(&self, prefix: &str) -> bool {
        self.asked.contains(prefix)
    }

    /// Something stands otherwise.
    pub(crate) fn changed(&mut self, wanted: &Wanted, standing: Standing) {
        self.untold.insert(wanted.clone(), standing);
    }

    /// Says what stands otherwise than was told, and whatever else waits to be said: so much that a
    /// lane has room for it.
    pub(crate) fn news(&mut self) -> Vec<Word> {
        self.tell_changes();
        self.unsaid.drain(..self.unsaid.len().min(PORTIONS_MAX)).collect()
    }

    /// Has it said what stands otherwise.
    pub(crate) fn tell_changes(&mut self) {
        if !self.untold.is_empty() {
            let untold = std::mem::take(&mut self.untold).into_iter().collect();
            self.interests(Vec::new(), untold);
        }
    }

    /// Whether more waits to be said.
    pub(crate) fn has_more(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// Asks for what was before a subscription, once all is said that waits.
    pub(crate) fn replay(&mut self, sub: SubId, of: (Pattern, Replay), max: usize) {
        let (pattern, replay) = of;
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        self.unsaid.push_back(Word::Replay { sub, pattern, replay, max });
    }

    /// Has it said what is wanted, in portions.
    pub(crate) fn interests(&mut self, mut anew: Vec<Arc<str>>, entries: Vec<(Wanted, Standing)>) {
        let mut interest = |entries: Vec<_>| {
            self.version += 1;
            let (version, anew) = (self.version, std::mem::take(&mut anew));
            Word::Interest(Interest { version, anew, entries })
        };
        let (mut words, mut portion, mut len) = (VecDeque::new(), Vec::new(), 0);
        for (wanted, standing) in entries {
            let group = wanted.group.as_ref().map_or(0, |group| group.len());
            len += wanted.pattern.as_str().len() + group + ENTRY_LEN;
            portion.push((wanted, standing));
            if len >= PORTION_LEN {
                words.push_back(interest(std::mem::take(&mut portion)));
                len = 0;
            }
        }
        if words.is_empty() || !portion.is_empty() {
            words.push_back(interest(portion));
        }
        self.unsaid.append(&mut words);
    }

    /// Says what has been received and handed on since it was last said.
    pub(crate) fn report(&mut self, life: Life) -> Option<Word> {
        let flows: Vec<_> = self.intakes.iter_mut().filter_map(Intake::report).collect();
        (!flows.is_empty()).then_some(Word::Report { life, flows })
    }

    /// Whatever was reported may be lost.
    pub(crate) fn report_again(&mut self) {
        self.intakes.iter_mut().for_each(Intake::report_again);
    }
}
