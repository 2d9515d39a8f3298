//! The announcer against a directory that sometimes fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;

use super::{Announcer, BUSY_MAX, Change, Input, Output, RETRY_MAX};

fn name(number: usize) -> Arc<str> {
    format!("name/{number}").into()
}

fn served(number: usize) -> Input {
    Input::Change(Change::Served(name(number)))
}

fn ended(number: usize) -> Input {
    Input::Change(Change::Ended(name(number)))
}

fn said(number: usize, reached: bool) -> Input {
    Input::Said { name: name(number), reached }
}

fn outputs(announcer: &mut Announcer) -> Vec<Output> {
    std::iter::from_fn(|| announcer.poll_output()).collect()
}

#[test]
fn a_name_is_announced_while_it_is_served_and_withdrawn_after() {
    let now = TokioClock.now();
    let mut announcer = Announcer::default();
    announcer.handle(now, served(1));
    assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))]);
    assert_eq!(announcer.unannounced(), 1);
    announcer.handle(now, said(1, true));
    assert_eq!((outputs(&mut announcer), announcer.unannounced()), (vec![], 0));
    announcer.handle(now, ended(1));
    assert_eq!(outputs(&mut announcer), [Output::Withdraw(name(1))]);
    announcer.handle(now, said(1, true));
    assert!(announcer.names.is_empty() && announcer.poll_timeout().is_none());
}

#[test]
fn another_thing_of_the_same_name_is_announced_anew() {
    let now = TokioClock.now();
    let mut announcer = Announcer::default();
    announcer.handle(now, served(1));
    announcer.handle(now, ended(1));
    announcer.handle(now, served(1));
    assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))], "one thing at a time");
    announcer.handle(now, said(1, true));
    assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))]);
    announcer.handle(now, said(1, true));
    assert_eq!((outputs(&mut announcer), announcer.unannounced()), (vec![], 0));
}

#[test]
fn what_fails_is_said_again_with_longer_and_longer_waits() {
    let mut now = TokioClock.now();
    let mut announcer = Announcer::default();
    announcer.handle(now, served(1));
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))]);
        announcer.handle(now, said(1, false));
        let (at, _) = announcer.poll_timeout().unwrap();
        waits.push(at - now);
        announcer.handle_timeout(at - Duration::from_millis(1));
        assert_eq!(outputs(&mut announcer), []);
        now = at;
        announcer.handle_timeout(now);
    }
    assert!(waits.is_sorted() && waits[0] == super::RETRY_INITIAL && waits[9] == RETRY_MAX);
}

#[test]
fn the_last_word_counts_whatever_is_under_way() {
    let now = TokioClock.now();
    let mut announcer = Announcer::default();
    announcer.handle(now, served(1));
    announcer.handle(now, ended(1));
    announcer.handle(now, served(1));
    announcer.handle(now, ended(1));
    assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))]);
    announcer.handle(now, said(1, true));
    assert_eq!(outputs(&mut announcer), [Output::Withdraw(name(1))]);
    announcer.handle(now, served(1));
    announcer.handle(now, said(1, true));
    assert_eq!(outputs(&mut announcer), [Output::Announce(name(1))]);
}

#[test]
fn whoever_comes_after_takes_back_what_is_none_any_more() {
    let (served, told) = (BTreeSet::from([name(1)]), BTreeSet::from([name(1), name(2)]));
    let mut announcer = Announcer::new(served, &told, 3);
    let said = outputs(&mut announcer);
    assert_eq!(said, [Output::Withdraw(name(2)), Output::Announce(name(1))]);
}

#[test]
fn a_withdrawal_that_fails_is_given_up_in_the_end() {
    let mut now = TokioClock.now();
    let mut announcer = Announcer::new(BTreeSet::from([name(1)]), &BTreeSet::new(), 1);
    outputs(&mut announcer);
    announcer.handle(now, said(1, true));
    announcer.handle(now, ended(1));
    let mut withdrawn = 0;
    while outputs(&mut announcer) == [Output::Withdraw(name(1))] {
        withdrawn += 1;
        announcer.handle(now, said(1, false));
        now = announcer.poll_timeout().unwrap().0;
        announcer.handle_timeout(now);
    }
    assert_eq!(withdrawn, 3);
    assert!(announcer.names.is_empty());
}

/// Names come and go at random while the directory fails at random. Nothing is said twice at one
/// time, few things are said at one time, and in the end the directory knows exactly what is served.
#[test]
fn the_directory_comes_to_know_what_is_served() {
    for seed in 0..500 {
        let mut entropy = Entropy::from_seed(seed);
        let mut now: Instant = TokioClock.now();
        let mut announcer = Announcer::default();
        let (mut serves, mut knows) = (BTreeSet::new(), BTreeSet::new());
        let mut under_way: Vec<Output> = Vec::new();
        for step in 0..400 {
            let number = usize::try_from(entropy.below(20)).unwrap();
            // In its last part nothing changes and nothing fails.
            let is_wild = step < 200;
            match entropy.below(3) {
                0 if is_wild && serves.insert(name(number)) => {
                    announcer.handle(now, served(number));
                }
                1 if is_wild && serves.remove(&name(number)) => {
                    announcer.handle(now, ended(number));
                }
                _ => {}
            }
            under_way.extend(outputs(&mut announcer));
            let spoken_of: BTreeSet<_> = under_way.iter().map(of).collect();
            assert_eq!(spoken_of.len(), under_way.len(), "seed {seed}: twice at one time");
            assert!(under_way.len() <= BUSY_MAX, "seed {seed}: too many at one time");
            while !under_way.is_empty() && (!is_wild || entropy.below(2) == 0) {
                let reached = !is_wild || entropy.below(2) == 0;
                let output = under_way.remove(0);
                match &output {
                    Output::Announce(name) if reached => drop(knows.insert(Arc::clone(name))),
                    Output::Withdraw(name) if reached => drop(knows.remove(name)),
                    _ => {}
                }
                announcer.handle(now, Input::Said { name: Arc::clone(of(&output)), reached });
                under_way.extend(outputs(&mut announcer));
            }
            if let Some((at, _)) = announcer.poll_timeout() {
                now = at;
                announcer.handle_timeout(now);
            }
        }
        // What was withdrawn in vain three times ends by itself, so the directory may know more.
        assert!(serves.is_subset(&knows), "seed {seed}: {serves:?} {knows:?}");
        assert_eq!((announcer.unannounced(), under_way.len()), (0, 0), "seed {seed}");
    }
}

fn of(output: &Output) -> &Arc<str> {
    let (Output::Announce(name) | Output::Withdraw(name)) = output;
    name
}
