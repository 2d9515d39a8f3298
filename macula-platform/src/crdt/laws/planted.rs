//! A bug that is put in on purpose, which the laws have to find.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::history::{Bug, History};
use super::{Subject, lawful};
use crate::crdt::types::{EwFlag, LwwElementSet, LwwRegister, OrMap, OrSet};

/// In how many histories a bug is looked for at most.
const TRIES_MAX: usize = 20_000;

/// The first law that a history with a bug breaks.
fn broken<C: Subject>(bug: Bug) -> Option<String> {
    let mut runner = TestRunner::deterministic();
    let histories = History::<C::Op>::any(C::op());
    (0..TRIES_MAX).find_map(|_| {
        let history = histories.new_tree(&mut runner).unwrap().current();
        lawful::<C>(&history, Some(bug)).err()
    })
}

fn finds<C: Subject>(bug: Bug) {
    let broken = broken::<C>(bug);
    assert!(broken.is_some(), "{bug:?} goes unnoticed");
}

#[test]
fn ties_that_are_broken_in_another_way_are_found() {
    finds::<LwwRegister>(Bug::OtherTies);
    finds::<LwwElementSet>(Bug::OtherTies);
}

#[test]
fn a_reused_dot_is_found() {
    finds::<EwFlag>(Bug::ReusedDot);
    finds::<LwwRegister>(Bug::ReusedDot);
    finds::<OrSet>(Bug::ReusedDot);
    finds::<OrMap<OrSet>>(Bug::ReusedDot);
}
