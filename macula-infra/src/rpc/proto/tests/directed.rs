//! Single steps, and how calls are spread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;

use super::super::balance::Balance;
use super::super::breaker::Breaker;
use super::super::chooser::{Candidate, Chooser, Ended, NoPick, Why};
use super::super::course::{Course, Plan, Step, Verdict};
use super::{candidates, chooser, node, plan, procedure};

const FAULT: Verdict = Verdict::Failed { may_have_run: true, is_fault: true };
const REFUSED: Verdict = Verdict::Failed { may_have_run: false, is_fault: false };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Calls one after the other, each of which is answered as fast as `latency` says; how often each
/// was asked.
fn spread(
    chooser: &mut Chooser,
    balance: &Balance,
    candidates: &[Candidate],
    latency: impl Fn(NodeId) -> Duration,
) -> BTreeMap<NodeId, u32> {
    let (mut now, mut asked) = (TokioClock.now(), BTreeMap::new());
    let procedure = procedure();
    for _ in 0..1000 {
        let pick = chooser.choose(now, (&procedure, balance), candidates, Why::First).unwrap();
        *asked.entry(pick.node).or_default() += 1;
        now += latency(pick.node);
        chooser.ended(now, &procedure, &pick, Ended::Well);
    }
    asked
}

#[test]
fn round_robin_is_even_and_goes_on_when_one_goes() {
    let mut chooser = chooser(1);
    let all = candidates(4, false);
    let asked = spread(&mut chooser, &Balance::RoundRobin, &all, |_| ms(1));
    assert!(asked.len() == 4 && asked.values().all(|count| *count == 250), "{asked:?}");
    let asked = spread(&mut chooser, &Balance::RoundRobin, &all[..3], |_| ms(1));
    assert!(asked.len() == 3 && asked.values().all(|count| count.abs_diff(333) <= 1), "{asked:?}");
}

#[test]
fn the_nearest_is_asked_once_all_are_known_and_this_node_is_nearer_than_all() {
    let mut chooser = chooser(1);
    let mut all = candidates(4, false);
    let near = node(3);
    let latency = |of| if of == near { ms(1) } else { ms(20) };
    let asked = spread(&mut chooser, &Balance::Nearest, &all, latency);
    assert_eq!(asked[&near], 997, "{asked:?}");
    all.push(Candidate { node: node(0), is_idempotent: false });
    let asked = spread(&mut chooser, &Balance::Nearest, &all, latency);
    assert_eq!(asked[&node(0)], 1000);
}

#[test]
fn of_equal_ones_two_choices_ask_all_and_of_unequal_ones_the_fast() {
    let all = candidates(8, false);
    let even = spread(&mut chooser(1), &Balance::PowerOfTwo, &all, |_| ms(5));
    assert!(even.len() == 8 && even.values().all(|count| (60..200).contains(count)), "{even:?}");
    let slow = node(2);
    let latency = |of| if of == slow { ms(5_000) } else { ms(500) };
    let uneven = spread(&mut chooser(1), &Balance::PowerOfTwo, &all, latency);
    assert!(uneven[&slow] < 40, "{uneven:?}");
    // Who is silent for long is tried again: what it was fades.
    assert!(uneven[&slow] > 1, "{uneven:?}");
}

/// The load of the fullest of many, when none has ended: with one choice it would be far more
/// than the mean.
#[test]
fn two_choices_keep_the_fullest_near_the_mean() {
    let (mut chooser, now, procedure) = (chooser(7), TokioClock.now(), procedure());
    let all = candidates(20, false);
    let mut asked: BTreeMap<NodeId, u32> = BTreeMap::new();
    for _ in 0..400 {
        let called = (&procedure, &Balance::PowerOfTwo);
        let pick = chooser.choose(now, called, &all, Why::First).unwrap();
        *asked.entry(pick.node).or_default() += 1;
    }
    let fullest = asked.values().max().unwrap();
    assert!(*fullest <= 23, "20 is the mean: {asked:?}");
    assert_eq!(chooser.outstanding(), 400);
}

#[test]
fn a_key_sticks_and_only_the_keys_of_who_goes_move() {
    let (mut chooser, now, procedure) = (chooser(1), TokioClock.now(), procedure());
    let all = candidates(5, false);
    let mut places = BTreeMap::new();
    let mut ask = |key: u32, among: &[Candidate]| {
        let balance = Balance::Sticky(key.to_string().into());
        chooser.choose(now, (&procedure, &balance), among, Why::First).unwrap().node
    };
    let mut load: BTreeMap<NodeId, u32> = BTreeMap::new();
    for key in 0..1000 {
        let place = ask(key, &all);
        assert_eq!(place, ask(key, &all));
        *load.entry(place).or_default() += 1;
        places.insert(key, place);
    }
    assert!(load.values().all(|count| (140..260).contains(count)), "{load:?}");
    let gone = all[2].node;
    let left: Vec<Candidate> = all.into_iter().filter(|one| one.node != gone).collect();
    for (key, place) in places {
        let now_at = ask(key, &left);
        assert!(place == gone || now_at == place, "key {key} has moved");
    }
}

/// Fails a provider until its circuit opens.
fn open(chooser: &mut Chooser, now: Instant, one: Candidate) {
    let procedure = procedure();
    for _ in 0..5 {
        let pick = chooser.choose(now, (&procedure, &Balance::RoundRobin), &[one], Why::First);
        chooser.ended(now, &procedure, &pick.unwrap(), Ended::Badly);
    }
}

#[test]
fn an_open_circuit_is_passed_over_and_tried_again_with_one_call() {
    let (mut chooser, now, procedure) = (chooser(1), TokioClock.now(), procedure());
    let all = candidates(2, false);
    open(&mut chooser, now, all[0]);
    let balance = Balance::PowerOfTwo;
    for _ in 0..20 {
        let pick = chooser.choose(now, (&procedure, &balance), &all, Why::First).unwrap();
        assert_eq!(pick.node, all[1].node);
        chooser.ended(now, &procedure, &pick, Ended::Well);
    }
    open(&mut chooser, now, all[1]);
    let none = chooser.choose(now, (&procedure, &balance), &all, Why::First).unwrap_err();
    let later = now + Duration::from_secs(1);
    assert_eq!(none, NoPick::Open(Some(later)));
    let mut probes = Vec::new();
    for _ in 0..2 {
        probes.push(chooser.choose(later, (&procedure, &balance), &all, Why::First).unwrap());
    }
    assert_ne!(probes[0].node, probes[1].node);
    let none = chooser.choose(later, (&procedure, &balance), &all, Why::First).unwrap_err();
    assert_eq!(none, NoPick::Open(None));
    chooser.ended(later, &procedure, &probes[0], Ended::Well);
    let second = chooser.choose(later, (&procedure, &balance), &all, Why::First).unwrap();
    chooser.ended(later, &procedure, &second, Ended::Well);
    let circuit = chooser.breaker(&procedure, probes[0].node);
    assert_eq!(circuit, Some(Breaker::Closed { failures: 0 }));
}

#[test]
fn retries_and_hedges_have_a_budget_for_each_target() {
    let (mut chooser, now, procedure) = (chooser(1), TokioClock.now(), procedure());
    let (one, other) = (candidates(1, true), candidates(2, true).split_off(1));
    let balance = Balance::RoundRobin;
    let mut granted = |among: &[Candidate], why| {
        let pick = chooser.choose(now, (&procedure, &balance), among, why);
        pick.map(|pick| chooser.ended(now, &procedure, &pick, Ended::Unknown))
    };
    for _ in 0..10 {
        granted(&one, Why::Retry).unwrap();
    }
    assert_eq!(granted(&one, Why::Hedge), Err(NoPick::NoBudget));
    granted(&other, Why::Hedge).unwrap();
    for _ in 0..100 {
        granted(&one, Why::First).unwrap();
    }
    for _ in 0..10 {
        granted(&one, Why::Retry).unwrap();
    }
    assert_eq!(granted(&one, Why::Retry), Err(NoPick::NoBudget), "10 % of the calls");
}

#[test]
fn hedges_leave_a_part_of_the_budget_to_those_whose_call_has_failed() {
    let (mut chooser, now, procedure) = (chooser(1), TokioClock.now(), procedure());
    let (one, balance) = (candidates(1, true), Balance::RoundRobin);
    let mut granted = |why| {
        let pick = chooser.choose(now, (&procedure, &balance), &one, why);
        pick.map(|pick| chooser.ended(now, &procedure, &pick, Ended::Unknown))
    };
    for _ in 0..5 {
        granted(Why::Hedge).unwrap();
    }
    assert_eq!(granted(Why::Hedge), Err(NoPick::NoBudget));
    for _ in 0..5 {
        granted(Why::Retry).unwrap();
    }
    assert_eq!(granted(Why::Retry), Err(NoPick::NoBudget));
}

#[test]
fn a_question_that_may_have_run_is_asked_again_only_where_that_does_no_harm() {
    let now = TokioClock.now();
    for (is_idempotent, verdict, goes_on) in
        [(false, FAULT, false), (false, REFUSED, true), (true, FAULT, true)]
    {
        let mut chooser = chooser(3);
        let mut course = Course::new(plan(candidates(3, is_idempotent)));
        let Step::Ask(first) = course.start(now, &mut chooser) else { panic!("it begins") };
        let next = course.ended(now, &mut chooser, first, verdict);
        assert_eq!(matches!(next, Step::Ask(node) if node != first), goes_on, "{next:?}");
        assert_eq!(next == Step::Return, !goes_on);
        course.abandon(now, &mut chooser);
        assert_eq!(chooser.outstanding(), 0);
    }
    let mut chooser = chooser(3);
    let mut course = Course::new(plan(candidates(9, true)));
    let Step::Ask(mut node) = course.start(now, &mut chooser) else { panic!("it begins") };
    for _ in 0..2 {
        let Step::Ask(next) = course.ended(now, &mut chooser, node, FAULT) else { panic!("again") };
        node = next;
    }
    assert_eq!(course.ended(now, &mut chooser, node, FAULT), Step::Return, "three at most");
    let nobody = Course::new(plan(Vec::new())).start(now, &mut chooser);
    assert_eq!(nobody, Step::Refuse(NoPick::Nobody));
}

#[test]
fn one_hedge_is_sent_after_the_slow_twentieth_and_the_first_answer_wins() {
    let mut now = TokioClock.now();
    for is_idempotent in [true, false] {
        let mut chooser = chooser(5);
        spread(&mut chooser, &Balance::RoundRobin, &candidates(3, is_idempotent), |_| ms(10));
        let mut course = Course::new(plan(candidates(3, is_idempotent)));
        let Step::Ask(first) = course.start(now, &mut chooser) else { panic!("it begins") };
        if !is_idempotent {
            assert_eq!(course.poll_timeout(), None);
            continue;
        }
        assert_eq!(course.poll_timeout(), Some(now + ms(10)));
        assert_eq!(course.handle_timeout(now + ms(9), &mut chooser), Step::Wait, "early");
        now += ms(10);
        let Step::Ask(second) = course.handle_timeout(now, &mut chooser) else { panic!("a hedge") };
        assert_ne!(first, second);
        assert_eq!((course.poll_timeout(), chooser.outstanding()), (None, 2));
        assert_eq!(course.ended(now, &mut chooser, first, FAULT), Step::Wait, "one goes on");
        let last = course.ended(now, &mut chooser, second, Verdict::Answered);
        assert_eq!((last, chooser.outstanding()), (Step::Return, 0));
    }
    let mut chooser = chooser(5);
    spread(&mut chooser, &Balance::RoundRobin, &candidates(3, true), |_| ms(10));
    let mut course = Course::new(Plan { hedges: false, ..plan(candidates(3, true)) });
    course.start(now, &mut chooser);
    assert_eq!(course.poll_timeout(), None);
}

#[test]
fn a_call_that_fails_with_all_is_over_once_the_one_under_way_has_spoken() {
    for verdict in [FAULT, REFUSED, Verdict::Late, Verdict::Answered] {
        let (mut chooser, mut now) = (chooser(5), TokioClock.now());
        spread(&mut chooser, &Balance::RoundRobin, &candidates(3, true), |_| ms(10));
        let mut course = Course::new(plan(candidates(3, true)));
        let Step::Ask(first) = course.start(now, &mut chooser) else { panic!("it begins") };
        now += ms(10);
        let Step::Ask(second) = course.handle_timeout(now, &mut chooser) else { panic!("a hedge") };
        let step = course.ended(now, &mut chooser, second, Verdict::Final);
        assert_eq!(step, Step::Wait, "the first may have handled it");
        assert_eq!(course.ended(now, &mut chooser, first, verdict), Step::Return);
        assert_eq!(chooser.outstanding(), 0);
    }
}

#[test]
fn who_has_gone_is_unknown_when_it_comes_back() {
    let (mut chooser, now) = (chooser(1), TokioClock.now());
    let one = candidates(1, false)[0];
    open(&mut chooser, now, one);
    chooser.gone(one.node);
    let called = (&procedure(), &Balance::Nearest);
    assert!(chooser.choose(now, called, &[one], Why::First).is_ok());
}

#[test]
fn whoever_gives_no_time_to_answer_opens_no_circuit() {
    let (mut chooser, procedure, all) = (chooser(1), procedure(), candidates(1, false));
    let mut now = TokioClock.now();
    let mut late_after = |chooser: &mut Chooser, within: Duration| {
        let called = (&procedure, &Balance::RoundRobin);
        let pick = chooser.choose(now, called, &all, Why::First).unwrap();
        now += within;
        chooser.ended(now, &procedure, &pick, Ended::Late);
        chooser.breaker(&procedure, node(1)).unwrap()
    };
    for _ in 0..100 {
        let breaker = late_after(&mut chooser, ms(2));
        assert_eq!(breaker, Breaker::Closed { failures: 0 });
    }
    let mut breaker = Breaker::default();
    for _ in 0..5 {
        breaker = late_after(&mut chooser, ms(100));
    }
    assert!(matches!(breaker, Breaker::Open { .. }), "{breaker:?}");
}

#[test]
fn whoever_answers_later_than_usual_opens_its_circuit_even_for_the_impatient() {
    let (mut chooser, procedure, all) = (chooser(1), procedure(), candidates(1, false));
    spread(&mut chooser, &Balance::RoundRobin, &all, |_| ms(1));
    let mut now = TokioClock.now() + ms(10_000);
    for _ in 0..5 {
        let called = (&procedure, &Balance::RoundRobin);
        let pick = chooser.choose(now, called, &all, Why::First).unwrap();
        now += ms(20);
        chooser.ended(now, &procedure, &pick, Ended::Late);
    }
    let breaker = chooser.breaker(&procedure, node(1)).unwrap();
    assert!(matches!(breaker, Breaker::Open { .. }), "{breaker:?}");
}
