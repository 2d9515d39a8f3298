//! Random calls of providers that fail, are slow, are overloaded and come back, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

use super::super::breaker::Breaker;
use super::super::bug::Bug;
use super::super::chooser::{Candidate, Chooser};
use super::super::course::{Course, Plan, Step, Verdict};
use super::{chooser, node, plan, procedure};

/// How a provider is now.
#[derive(Debug, Clone, Copy)]
struct Mood {
    /// Of a thousand questions, how many it fails.
    fails: u64,
    /// Of a thousand, how many it does not take.
    refuses: u64,
    latency_ms: u64,
}

/// One call, and what was seen of it.
struct Call {
    course: Course,
    is_idempotent: bool,
    /// Who answers when, and how.
    answers: BTreeMap<NodeId, (Instant, Verdict)>,
    asked: BTreeSet<NodeId>,
    may_have_run: bool,
}

/// What is counted of a provider.
#[derive(Default)]
struct Count {
    first: u32,
    more: u32,
}

struct World {
    chooser: Chooser,
    entropy: Entropy,
    now: Instant,
    moods: BTreeMap<NodeId, Mood>,
    counts: BTreeMap<NodeId, Count>,
    calls: Vec<Call>,
    wrong: Option<String>,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let (mut chooser, mut entropy) = (chooser(seed), Entropy::from_seed(seed));
        chooser.bug = bug;
        let moods = (1..=5).map(|number| (node(number), mood(&mut entropy))).collect();
        let now = TokioClock.now();
        let (counts, calls) = (BTreeMap::new(), Vec::new());
        Self { chooser, entropy, now, moods, counts, calls, wrong: None }
    }

    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong.get_or_insert_with(|| what.to_owned());
        }
    }

    fn call(&mut self) {
        let is_idempotent = self.entropy.chance(0.5);
        let candidate = |node: &NodeId| Candidate { node: *node, is_idempotent };
        let candidates = self.moods.keys().map(candidate).collect();
        let mut course = Course::new(Plan { attempts_max: 4, ..plan(candidates) });
        let before = self.circuits();
        let step = course.start(self.now, &mut self.chooser);
        let (answers, asked) = (BTreeMap::new(), BTreeSet::new());
        let call = Call { course, is_idempotent, answers, asked, may_have_run: false };
        self.calls.push(call);
        self.take(self.calls.len() - 1, step, &before);
    }

    fn circuits(&self) -> BTreeMap<NodeId, Option<Breaker>> {
        let circuit = |node: &NodeId| (*node, self.chooser.breaker(&procedure(), *node));
        self.moods.keys().map(circuit).collect()
    }

    /// Does what a course says; true if its call is over.
    fn take(
        &mut self,
        index: usize,
        step: Step,
        before: &BTreeMap<NodeId, Option<Breaker>>,
    ) -> bool {
        let asked = match step {
            Step::Ask(node) => node,
            Step::Wait => return false,
            Step::Return | Step::Refuse(_) => {
                // Whoever lets go of a call says so.
                let mut call = self.calls.swap_remove(index);
                call.course.abandon(self.now, &mut self.chooser);
                return true;
            }
        };
        let now = self.now;
        let is_closed = match before[&asked] {
            Some(Breaker::Open { until, .. }) => until > now,
            Some(Breaker::HalfOpen { is_probing, .. }) => is_probing,
            Some(Breaker::Closed { .. }) | None => false,
        };
        self.check(!is_closed, "an open circuit was asked");
        let mood = self.moods[&asked];
        let roll = self.entropy.below(1000);
        let verdict = if roll < mood.fails {
            let may_have_run = self.entropy.chance(0.5);
            Verdict::Failed { may_have_run, is_fault: true }
        } else if roll < mood.fails + mood.refuses {
            Verdict::Failed { may_have_run: false, is_fault: false }
        } else {
            Verdict::Answered
        };
        let at = now + Duration::from_millis(1 + self.entropy.below(mood.latency_ms * 2));
        let call = &mut self.calls[index];
        let (is_first, is_new) = (call.asked.is_empty(), call.asked.insert(asked));
        let (count, under_way) = (call.asked.len(), call.answers.len());
        let repeats = call.may_have_run && !call.is_idempotent;
        let twice = under_way > 0 && !call.is_idempotent;
        call.answers.insert(asked, (at, verdict));
        self.check(is_new, "one was asked twice");
        self.check(count <= 4, "more were asked than may be");
        self.check(under_way < 2, "more than one hedge is under way");
        self.check(!repeats, "a question that may have run was asked again");
        self.check(!twice, "a question that does harm was asked of two at once");
        let counted = self.counts.entry(asked).or_default();
        if is_first {
            counted.first += 1;
        } else {
            counted.more += 1;
        }
        let is_within = counted.more <= 10 + counted.first.div_ceil(10);
        self.check(is_within, "a target was asked more often than its budget allows");
        false
    }

    /// The next thing that happens to a call under way.
    fn next(&self) -> Option<(Instant, usize, Option<NodeId>)> {
        let mut next: Option<(Instant, usize, Option<NodeId>)> = None;
        for (index, call) in self.calls.iter().enumerate() {
            let answers = call.answers.iter().map(|(node, (at, _))| (*at, index, Some(*node)));
            let hedge = call.course.poll_timeout().map(|at| (at, index, None));
            next = next.into_iter().chain(answers).chain(hedge).min();
        }
        next
    }

    fn happen(&mut self, (at, index, who): (Instant, usize, Option<NodeId>)) {
        self.now = self.now.max(at);
        let before = self.circuits();
        let call = &mut self.calls[index];
        let step = match who {
            Some(node) => {
                let (_, verdict) = call.answers.remove(&node).unwrap();
                if let Verdict::Failed { may_have_run: true, .. } = verdict {
                    call.may_have_run = true;
                }
                call.course.ended(self.now, &mut self.chooser, node, verdict)
            }
            None => call.course.handle_timeout(self.now, &mut self.chooser),
        };
        self.take(index, step, &before);
    }
}

fn mood(entropy: &mut Entropy) -> Mood {
    let fails = [0, 0, 100, 1000][usize::try_from(entropy.below(4)).unwrap()];
    Mood { fails, refuses: entropy.below(2) * 200, latency_ms: 1 + entropy.below(40) }
}

/// What is wrong in a run, if anything is.
fn run(seed: u64, bug: Option<Bug>) -> Option<String> {
    let mut world = World::new(seed, bug);
    for _ in 0..400 {
        let gap = world.entropy.below(20);
        let until = world.now + Duration::from_millis(gap);
        while let Some(next) = world.next().filter(|(at, ..)| *at <= until) {
            world.happen(next);
        }
        world.now = world.now.max(until);
        match world.entropy.below(40) {
            0 => {
                let one = node(u8::try_from(1 + world.entropy.below(5)).unwrap());
                let mood = mood(&mut world.entropy);
                world.moods.insert(one, mood);
            }
            // Somebody lets go of a call.
            1 if !world.calls.is_empty() => {
                let mut call = world.calls.swap_remove(0);
                call.course.abandon(world.now, &mut world.chooser);
            }
            _ => world.call(),
        }
        if world.wrong.is_some() {
            return world.wrong;
        }
    }
    while let Some(next) = world.next() {
        world.happen(next);
    }
    let left = world.chooser.outstanding();
    world.check(world.calls.is_empty(), "a call has no end");
    world.check(left == 0, "a call that has ended is counted on");
    world.wrong
}

#[test]
fn calls_keep_to_the_rules_whatever_providers_do() {
    for seed in 0..300 {
        assert_eq!(run(seed, None), None, "seed {seed}");
    }
}

#[test]
fn bugs_that_are_planted_are_found() {
    let finds = |bug| (0..50).any(|seed| run(seed, Some(bug)).is_some());
    for bug in [Bug::RepeatsAll, Bug::SpendsNothing, Bug::ForgetsTheEnd, Bug::AsksTheOpen] {
        assert!(finds(bug), "{bug:?}");
    }
}
