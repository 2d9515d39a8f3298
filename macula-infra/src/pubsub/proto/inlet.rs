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

/// How many words may wait to be said before the publisher is not answered any more, and has to ask
/// again. All that a node can want of one prefix has room.
const UNSAID_MAX: usize = 4_096;

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
    /// What is to be said in its order, a portion at a time, and the prefixes whose answers end with
    /// it.
    unsaid: VecDeque<(Word, Vec<Arc<str>>)>,
    /// The prefixes whose answers are not said to their end: nobody is answered twice at one time.
    answering: BTreeSet<Arc<str>>,
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
            answering: BTreeSet::new(),
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

    /// The prefixes of some that are to be answered now: the others are being answered. None is while
    /// very much waits to be said; whoever asks will do so again.
    pub(crate) fn to_be_answered(&self, mut prefixes: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let is_much = self.unsaid.len() >= UNSAID_MAX;
        prefixes.retain(|prefix| !is_much && !self.answering.contains(prefix));
        prefixes
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
        // What changes while much waits is told once, as it stands by then.
        if self.unsaid.len() < PORTIONS_MAX {
            self.tell_changes();
        }
        let mut news = Vec::new();
        for (word, answered) in self.unsaid.drain(..self.unsaid.len().min(PORTIONS_MAX)) {
            for prefix in &answered {
                self.answering.remove(prefix);
            }
            news.push(word);
        }
        news
    }

    /// Has it said what stands otherwise.
    pub(crate) fn tell_changes(&mut self) {
        if !self.untold.is_empty() {
            let mut untold: Vec<_> = std::mem::take(&mut self.untold).into_iter().collect();
            // What is over may be wanted under another pattern from now on: that is said first.
            untold.sort_by_key(|(_, standing)| *standing == Standing::Gone);
            self.interests(Vec::new(), untold);
        }
    }

    /// Whether more waits to be said.
    pub(crate) fn has_more(&self) -> bool {
        !self.unsaid.is_empty() || !self.untold.is_empty()
    }

    /// How many words wait to be said.
    #[cfg(test)]
    pub(crate) fn unsaid(&self) -> usize {
        self.unsaid.len()
    }

    /// Asks for what was before a subscription, once all is said that waits.
    pub(crate) fn replay(&mut self, sub: SubId, of: (Pattern, Replay), max: usize) {
        let (pattern, replay) = of;
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        self.unsaid.push_back((Word::Replay { sub, pattern, replay, max }, Vec::new()));
    }

    /// Asks for it again, unless that waits to be said.
    pub(crate) fn replay_again(&mut self, sub: SubId, of: (Pattern, Replay), max: usize) {
        let is_it = |word: &Word| matches!(word, Word::Replay { sub: of, .. } if *of == sub);
        if !self.unsaid.iter().any(|(word, _)| is_it(word)) {
            self.replay(sub, of, max);
        }
    }

    /// Has it said what is wanted, in portions.
    pub(crate) fn interests(&mut self, mut anew: Vec<Arc<str>>, entries: Vec<(Wanted, Standing)>) {
        self.answering.extend(anew.iter().cloned());
        let answered = anew.clone();
        let mut interest = |entries: Vec<_>| {
            self.version += 1;
            let (version, anew) = (self.version, std::mem::take(&mut anew));
            Word::Interest(Interest { version, anew, entries, forbidden: Vec::new() })
        };
        let (mut words, mut portion, mut len) = (Vec::new(), Vec::new(), 0);
        for (wanted, standing) in entries {
            let group = wanted.group.as_ref().map_or(0, |group| group.len());
            len += wanted.pattern.as_str().len() + group + ENTRY_LEN;
            portion.push((wanted, standing));
            if len >= PORTION_LEN {
                words.push(interest(std::mem::take(&mut portion)));
                len = 0;
            }
        }
        if words.is_empty() || !portion.is_empty() {
            words.push(interest(portion));
        }
        self.unsaid.extend(words.into_iter().map(|word| (word, Vec::new())));
        if let Some((_, ends)) = self.unsaid.back_mut() {
            ends.extend(answered);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Inlet, Life, PORTIONS_MAX, SessionId, Standing, UNSAID_MAX, Wanted, Word};

    /// All that is wanted under a prefix: some hundred portions.
    fn much() -> Vec<(Wanted, Standing)> {
        let pattern = |number: usize| format!("a.{}.{number}", "x".repeat(180)).parse().unwrap();
        (0..20_000).map(|number| (Wanted::new(pattern(number), None), Standing::Open)).collect()
    }

    fn ask(inlet: &mut Inlet, prefix: &str, entries: &[(Wanted, Standing)]) {
        let prefixes = inlet.to_be_answered(vec![Arc::from(prefix)]);
        if !prefixes.is_empty() {
            inlet.interests(prefixes, entries.to_vec());
        }
    }

    #[test]
    fn whoever_asks_again_and_again_is_answered_once_at_one_time() {
        let mut inlet = Inlet::new(SessionId(1), Life::default());
        let entries = much();
        ask(&mut inlet, "a", &entries);
        let once = inlet.unsaid();
        assert!(once > 2 * PORTIONS_MAX, "{once}");
        for _ in 0..1_000 {
            ask(&mut inlet, "a", &entries);
        }
        assert_eq!(inlet.unsaid(), once);
        // What has changed meanwhile comes after it.
        inlet.changed(&entries[0].0, Standing::Gone);
        let mut said = Vec::new();
        while inlet.has_more() {
            said.extend(inlet.news());
        }
        assert_eq!(said.len(), once + 1);
        let Some(Word::Interest(last)) = said.last() else { panic!("{said:?}") };
        assert_eq!(last.entries, [(entries[0].0.clone(), Standing::Gone)]);
        ask(&mut inlet, "a", &entries);
        assert_eq!(inlet.unsaid(), once, "it is answered anew once it was answered");
    }

    #[test]
    fn whoever_asks_of_ever_more_is_answered_later() {
        let mut inlet = Inlet::new(SessionId(1), Life::default());
        for number in 0..2 * UNSAID_MAX {
            ask(&mut inlet, &format!("p{number}"), &[]);
        }
        assert_eq!(inlet.unsaid(), UNSAID_MAX);
    }
}
