//! Children that start, fail, hang and end as a list of random numbers says, and the checks of
//! everything that the plan orders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::script::{Make, Op};
use crate::clock::{Clock, TokioClock};
use crate::entropy::Entropy;
use crate::machine::Machine;
use crate::path::ChildId;
use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{ChildPolicy, Flags, Restart, Strategy};
use crate::supervision::proto::child::{StartCause, State};
use crate::supervision::proto::{
    Change, Input, Key, Output, Plan, Reply, Request, Spec, Target, Ticket,
};

#[derive(Debug, Clone, Copy)]
struct Alive {
    incarnation: u64,
    /// It was asked to stop, or killed.
    called: bool,
    /// A handler of it never comes back.
    hung: bool,
}

#[derive(Debug, Clone, Copy)]
struct Birth {
    incarnation: u64,
    /// Its end was told before its start.
    ended: bool,
    /// The order to start it was given up.
    aborted: bool,
}

/// The world, with what it knows about what the plan should know.
#[derive(Debug)]
pub(super) struct World {
    plan: Plan<u32>,
    dynamic: bool,
    now: Instant,
    births: BTreeMap<Key, Birth>,
    alive: BTreeMap<Key, Alive>,
    last_life: BTreeMap<Key, u64>,
    open: BTreeSet<Ticket>,
    next: u64,
    /// Children that may be down for good, because of a request or because they chose so.
    excused: BTreeSet<Key>,
    stuck: BTreeSet<ChildId>,
    /// Requests to terminate, and the children that such a request has taken down.
    wishes: BTreeMap<Ticket, Key>,
    terminated: BTreeSet<Key>,
    starts: Vec<Key>,
    stops: Vec<Key>,
    ending: bool,
    finished: bool,
}

impl World {
    pub(super) fn new(make: &Make, intensity: u32) -> Self {
        let flags = Flags { strategy: make.strategy, intensity, ..Flags::default() };
        let specs: Vec<Spec<u32>> =
            make.policies.iter().enumerate().map(|(at, &policy)| spec(at as u64, policy)).collect();
        let entropy = Entropy::from_seed(7);
        let plan = if make.dynamic {
            Plan::dynamic(flags, 20, specs, entropy)
        } else {
            Plan::with_list(flags, specs, entropy)
        };
        let mut world = Self {
            plan: plan.unwrap(),
            dynamic: make.dynamic,
            now: TokioClock.now(),
            births: BTreeMap::new(),
            alive: BTreeMap::new(),
            last_life: BTreeMap::new(),
            open: BTreeSet::new(),
            next: 100,
            excused: BTreeSet::new(),
            stuck: BTreeSet::new(),
            wishes: BTreeMap::new(),
            terminated: BTreeSet::new(),
            starts: Vec::new(),
            stops: Vec::new(),
            ending: false,
            finished: false,
        };
        world.tell(Input::Boot);
        world
    }

    pub(super) fn starts(&self) -> &[Key] {
        &self.starts
    }

    /// Whom the end stopped, in order.
    pub(super) fn stops(&self) -> &[Key] {
        &self.stops
    }

    /// Does one random thing.
    pub(super) fn step(&mut self, Op(what, whom): Op) {
        match what {
            0..=39 => self.bear(whom, 0),
            40..=59 => self.bear(whom, 1),
            60..=66 => self.bear(whom, 2),
            67..=75 => self.end_early(whom),
            76..=119 => self.end_one(whom),
            120..=179 => self.ask(what % 10, whom),
            180..=224 => self.next_deadline(),
            225..=239 => self.idle(u64::from(whom)),
            240..=254 => {
                if let Some(key) = pick(self.alive.keys(), whom) {
                    self.alive.entry(key).and_modify(|alive| alive.hung = true);
                }
            }
            255 => self.tell(Input::Stop(ExitReason::Shutdown)),
        }
    }

    /// Answers an order to start: up, failed, or ignored.
    pub(super) fn bear(&mut self, whom: u8, how: u8) {
        let Some(key) = pick(self.births.keys(), whom) else { return };
        let Birth { incarnation, ended, aborted } = self.births[&key];
        self.births.remove(&key);
        match how {
            1 if !ended => {
                if self.admin_start(key) {
                    self.excused.insert(key);
                }
                let reason = ExitReason::panic("no", None);
                self.tell(Input::StartFailed { key, incarnation, reason });
            }
            2 if !ended => {
                self.excused.insert(key);
                self.tell(Input::Ignored { key, incarnation });
            }
            _ => {
                if !ended {
                    self.alive.insert(key, Alive { incarnation, called: aborted, hung: false });
                }
                self.tell(Input::Started { key, incarnation, info: None });
            }
        }
    }

    /// Whether a start was asked for, so that its failure is only answered.
    fn admin_start(&self, key: Key) -> bool {
        self.plan.children.get(&key).is_some_and(|child| {
            matches!(
                child.state,
                State::Starting { cause: StartCause::Admin { .. }, .. }
                    | State::Aborting { cause: StartCause::Admin { .. }, .. }
            )
        })
    }

    fn end_early(&mut self, whom: u8) {
        let Some(key) = pick(self.births.keys(), whom) else { return };
        let birth = self.births[&key];
        if !birth.ended {
            self.births.insert(key, Birth { ended: true, ..birth });
            let reason = ExitReason::panic("at once", None);
            self.tell(Input::Exited { key, incarnation: birth.incarnation, reason });
        }
    }

    fn end_one(&mut self, whom: u8) {
        let Some(key) = pick(self.alive.keys(), whom) else { return };
        let reason = match whom % 4 {
            0 => ExitReason::Normal,
            1 => ExitReason::Shutdown,
            2 => ExitReason::Killed,
            _ => ExitReason::panic("x", None),
        };
        self.exit(key, reason);
    }

    pub(super) fn exit(&mut self, key: Key, reason: ExitReason) {
        let Some(Alive { incarnation, .. }) = self.alive.remove(&key) else { return };
        self.tell(Input::Exited { key, incarnation, reason });
    }

    fn ask(&mut self, what: u8, whom: u8) {
        let ticket = Ticket(self.next);
        self.next += 1;
        let listed = pick(self.plan.children.keys(), whom);
        let target = Target::Key(listed.unwrap_or(Key(0)));
        let request = match what {
            0 | 1 => Request::Start(spec(self.next, ChildPolicy::worker())),
            2 | 3 => {
                self.excuse(listed);
                self.wishes.extend(listed.map(|key| (ticket, key)));
                Request::Terminate(target)
            }
            4 | 5 => Request::Restart(target),
            6 => Request::Delete(target),
            7 => Request::Retry(target),
            8 => Request::Reconfigure {
                flags: Flags {
                    strategy: if self.dynamic {
                        Strategy::OneForOne
                    } else {
                        [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]
                            [usize::from(whom % 3)]
                    },
                    intensity: self.plan.flags.intensity,
                    ..Flags::default()
                },
                specs: Vec::new(),
            },
            _ => [Request::Which, Request::Count, Request::WhichOne(target)][usize::from(whom % 3)]
                .clone(),
        };
        self.submit(ticket, request);
    }

    pub(super) fn request(&mut self, request: Request<u32>) {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.submit(ticket, request);
    }

    fn submit(&mut self, ticket: Ticket, request: Request<u32>) {
        self.open.insert(ticket);
        self.tell(Input::Request { ticket, request });
    }

    /// A child that is terminated may stay down; one whose back-off a group waits out takes the
    /// group's other members with it.
    fn excuse(&mut self, key: Option<Key>) {
        let waits = key
            .and_then(|key| self.plan.children.get(&key))
            .is_some_and(|child| child.state == State::Waiting);
        self.excused.extend(key);
        if waits && self.plan.group.is_some() {
            self.excused.extend(self.plan.children.keys());
        }
    }

    fn next_deadline(&mut self) {
        if let Some((at, _)) = self.plan.poll_timeout() {
            self.now = self.now.max(at);
            self.plan.handle_timeout(self.now);
            self.drain(0);
        }
    }

    /// Time passes, and nothing is due.
    fn idle(&mut self, millis: u64) {
        let due = self.plan.poll_timeout();
        let then = self.now + Duration::from_millis(millis);
        if due.is_none_or(|(at, _)| at > then) {
            self.now = then;
            let before = format!("{:?}", self.plan);
            self.plan.handle_timeout(then);
            assert_eq!(before, format!("{:?}", self.plan), "an early timeout did something");
        }
    }

    fn tell(&mut self, input: Input<u32>) {
        let held = self.plan.held.len();
        self.plan.handle(self.now, input);
        self.drain(held);
    }

    fn drain(&mut self, held: usize) {
        let max = 32 + 8 * (self.plan.children.len() + self.open.len() + held);
        let mut probes = Vec::new();
        let mut count = 0;
        while let Some(output) = self.plan.poll_output() {
            count += 1;
            self.check(output, &mut probes);
        }
        assert!(count <= max, "{count} outputs for one input");
        self.check_books();
        for (key, incarnation) in probes {
            let beats = self.alive.get(&key).map_or(0, |alive| u64::from(alive.hung));
            self.tell(Input::Pulse { key, incarnation, beats });
        }
    }

    fn check(&mut self, output: Output<u32>, probes: &mut Vec<(Key, u64)>) {
        assert!(!self.finished || matches!(output, Output::Reply { .. }), "late: {output:?}");
        match output {
            Output::Start { key, incarnation, .. } => self.check_start(key, incarnation),
            Output::AbortStart { key } => {
                let birth = self.births.get_mut(&key).expect("a start to give up");
                birth.aborted = true;
                // One that is given up because it hangs has not been asked to stop.
                if self.plan.children.get(&key).is_some_and(|child| child.hung.is_none()) {
                    self.note_stop(key);
                }
            }
            // One that is killed because it hung has not been asked to stop.
            Output::Kill { key } if self.plan.children.get(&key).is_some_and(|c| c.is_up()) => {
                self.alive.entry(key).and_modify(|alive| alive.called = true);
            }
            Output::Stop { key } | Output::Kill { key } => {
                if let Some(alive) = self.alive.get_mut(&key) {
                    let first = !std::mem::replace(&mut alive.called, true);
                    if first {
                        self.note_stop(key);
                    }
                }
            }
            Output::Probe { key, incarnation } => probes.push((key, incarnation)),
            Output::Reply { ticket, reply } => {
                assert!(self.open.remove(&ticket), "{ticket:?} is answered twice: {reply:?}");
                if let (Some(key), Reply::Done) = (self.wishes.remove(&ticket), &reply) {
                    self.terminated.insert(key);
                }
                if let Reply::Started { key, .. } = reply
                    && self.plan.children.get(&key).is_some_and(|child| child.is_up())
                {
                    self.excused.remove(&key);
                }
            }
            Output::Event { id: Some(id), change: Change::Stuck, .. } => {
                self.stuck.insert(id);
            }
            Output::Ending => self.ending = true,
            Output::Finish(_) => self.check_finish(),
            Output::Settle { .. } | Output::Report { .. } | Output::Event { .. } => {}
            Output::Booted => assert!(!self.ending, "booted while ending"),
        }
    }

    fn check_start(&mut self, key: Key, incarnation: u64) {
        assert!(!self.ending, "{key:?} is started by a supervisor that ends");
        assert!(!self.alive.contains_key(&key), "two lives of {key:?} at once");
        let cause = self.plan.children.get(&key).map(|child| child.state.clone());
        let alone = matches!(cause, Some(State::Starting { cause: StartCause::Restart, .. }));
        assert!(!self.terminated.remove(&key) || !alone, "{key:?} comes back by itself");
        let birth = Birth { incarnation, ended: false, aborted: false };
        assert!(self.births.insert(key, birth).is_none(), "{key:?} is started twice");
        let last = self.last_life.insert(key, incarnation);
        assert!(last.is_none_or(|last| last < incarnation), "a life counted twice");
        self.starts.push(key);
    }

    /// The end of a list goes from the last to the first, one at a time.
    fn note_stop(&mut self, key: Key) {
        if !self.ending {
            return;
        }
        self.stops.push(key);
        if !self.dynamic {
            let later = self.alive.keys().chain(self.births.keys()).filter(|other| **other > key);
            for other in later {
                let id = self.plan.children.get(other).map(|child| &child.id);
                assert!(id.is_some_and(|id| self.stuck.contains(id)), "{key:?} before {other:?}");
            }
        }
    }

    fn check_finish(&mut self) {
        self.finished = true;
        for key in self.alive.keys().chain(self.births.keys()) {
            let id = self.plan.children.get(key).map(|child| &child.id);
            let abandoned = id.is_none_or(|id| self.stuck.contains(id));
            assert!(abandoned, "{key:?} is left behind");
        }
    }

    /// The plan's own counts and deadlines agree with its children.
    fn check_books(&self) {
        let children = &self.plan.children;
        let live = children.values().filter(|child| child.is_live()).count();
        assert_eq!(live, self.plan.live);
        assert_eq!(children.len(), self.plan.ids.len());
        for (key, child) in children {
            let timed = child.timer.is_some();
            match child.state {
                State::Down => assert!(!timed, "a timer of {key:?}, which is down"),
                State::Waiting => assert!(timed, "{key:?} waits for ever"),
                State::Starting { .. }
                | State::Aborting { .. }
                | State::Up { .. }
                | State::Stopping { .. } => {}
            }
            let ours = self.alive.contains_key(key) || self.births.contains_key(key);
            assert!(ours || !child.is_live(), "{key:?} is taken for alive: {:?}", child.state);
        }
        if self.finished {
            assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        }
    }

    /// Everything goes well for so long that nothing is left to happen.
    pub(super) fn settle(&mut self) {
        for _ in 0..2000 {
            if !self.births.is_empty() {
                self.bear(0, 0);
            } else if let Some((&key, _)) = self.alive.iter().find(|(_, alive)| alive.called) {
                self.exit(key, ExitReason::Shutdown);
            } else if self.timers_matter() {
                self.next_deadline();
            } else {
                return;
            }
        }
        panic!("no rest: {:?}", self.plan);
    }

    /// Whether a deadline is set for anything but the next look at a healthy child.
    fn timers_matter(&self) -> bool {
        self.plan.wave.is_some()
            || self.plan.children.values().any(|child| {
                use crate::supervision::proto::timer::Due;
                child.timer.is_some_and(|(_, due)| due != Due::Probe)
            })
    }

    /// After the faults: everyone is up who should be.
    pub(super) fn heal(&mut self) {
        for alive in self.alive.values_mut() {
            alive.hung = false;
        }
        self.settle();
        if self.ending {
            return;
        }
        assert!(self.plan.group.is_none(), "a group never ends: {:?}", self.plan.group);
        assert!(self.plan.deferred.is_empty(), "never decided: {:?}", self.plan.deferred);
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        for (key, child) in &self.plan.children {
            let wanted = child.policy.restart == Restart::Permanent && !self.excused.contains(key);
            assert!(!wanted || child.is_up(), "{key:?} is lost: {child:?}");
        }
    }

    /// One more failure, of a child that is up: those that it takes along begin a new life or go,
    /// and nobody else does.
    pub(super) fn fail_one(&mut self, whom: u8) {
        let permanent = |key: &&Key| {
            self.plan.children.get(key).is_some_and(|c| c.policy.restart == Restart::Permanent)
        };
        let Some(failed) = pick(self.alive.keys().filter(permanent), whom) else { return };
        let strategy = self.plan.flags.strategy;
        let rank = |world: &Self, key: &Key| world.plan.children.get(key).map(|child| child.rank);
        let before: Vec<(Key, u64, bool)> = self
            .alive
            .iter()
            .map(|(key, alive)| {
                let taken = match strategy {
                    Strategy::OneForOne => *key == failed,
                    Strategy::OneForAll => true,
                    Strategy::RestForOne => rank(self, key) >= rank(self, &failed),
                };
                (*key, alive.incarnation, taken)
            })
            .collect();
        self.exit(failed, ExitReason::panic("x", None));
        self.settle();
        for (key, incarnation, taken) in before {
            let same = self.alive.get(&key).is_some_and(|alive| alive.incarnation == incarnation);
            assert_eq!(same, !taken, "{strategy:?}: {failed:?} failed, and {key:?}");
        }
    }

    /// Stops the supervisor; every child whose bit is set in `stubborn` outlives its kill.
    pub(super) fn stop(&mut self, stubborn: u8) {
        if !self.plan.has_ended() {
            self.tell(Input::Stop(ExitReason::Shutdown));
        }
        let refuses = |key: Key| stubborn >> (key.0 % 8) & 1 == 1;
        for _ in 0..2000 {
            let birth = self.births.keys().copied().find(|&key| !refuses(key));
            let called =
                |(&key, alive): (&Key, &Alive)| (alive.called && !refuses(key)).then_some(key);
            if self.finished {
                break;
            } else if let Some(key) = birth {
                let at = self.births.keys().position(|&other| other == key).unwrap();
                self.bear(u8::try_from(at).unwrap(), u8::from(key.0 % 2 == 0));
            } else if let Some(key) = self.alive.iter().find_map(called) {
                self.exit(key, ExitReason::Shutdown);
            } else {
                assert!(self.plan.poll_timeout().is_some(), "stuck for ever: {:?}", self.plan);
                self.next_deadline();
            }
        }
        assert!(self.finished && self.plan.has_ended(), "no end: {:?}", self.plan);
        self.request(Request::Count);
    }
}

fn spec(number: u64, policy: ChildPolicy) -> Spec<u32> {
    let id = Some(ChildId::new(format!("c{number}")).unwrap());
    Spec { id, policy, lives: 0, payload: 0 }
}

fn pick<'a>(keys: impl Iterator<Item = &'a Key>, whom: u8) -> Option<Key> {
    let keys: Vec<Key> = keys.copied().collect();
    (!keys.is_empty()).then(|| keys[usize::from(whom) % keys.len()])
}
