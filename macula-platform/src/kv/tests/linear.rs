//! Whether a history of one register is linearizable (Herlihy and Wing, *Linearizability: A
//! Correctness Condition for Concurrent Objects*, 1990).
//!
//! The search is that of Wing and Gong (*Testing and Verifying Concurrent Objects*, 1993): of the
//! operations that no other one precedes it takes one, and goes on with the rest; what was tried once
//! is not tried again (Lowe, *Testing for Linearizability*, 2017).

use std::collections::HashSet;

/// What was asked of a register, and what it answered; none if that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Read(Option<Option<u64>>),
    Write(u64),
    /// If it was the first it is the second; and whether it was.
    Swap(Option<u64>, u64, Option<bool>),
}

/// One call: when it began, and when it had its answer.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) call: Call,
    pub(super) began: u64,
    /// None if it never had one: then it may be done at any time since it began, or never.
    pub(super) ended: Option<u64>,
}

/// What a register has after a call, if the answer fits what it had.
fn after(value: Option<u64>, call: &Call) -> Option<Option<u64>> {
    match call {
        Call::Read(None) => Some(value),
        Call::Read(Some(read)) => (*read == value).then_some(value),
        Call::Write(new) => Some(Some(*new)),
        Call::Swap(old, new, told) => {
            let held = *old == value;
            let fits = told.is_none_or(|told| told == held);
            fits.then_some(if held { Some(*new) } else { value })
        }
    }
}

/// Whether there is an order of the calls, in which none comes before one that had ended when it
/// began, that explains all answers.
pub(super) fn is_linearizable(ops: &[Op]) -> bool {
    let words = ops.len().div_ceil(64);
    let (mut tried, mut ahead) = (HashSet::new(), vec![(vec![0_u64; words], None)]);
    while let Some((done, value)) = ahead.pop() {
        let is_done = |at: usize| done[at / 64] & (1 << (at % 64)) != 0;
        let left = || (0..ops.len()).filter(|at| !is_done(*at));
        if left().all(|at| ops[at].ended.is_none()) {
            return true;
        }
        // None may be taken that began after another one had ended that is left.
        let first_end = left().filter_map(|at| ops[at].ended).min().unwrap_or(u64::MAX);
        for at in left().filter(|at| ops[*at].began <= first_end) {
            if let Some(value) = after(value, &ops[at].call) {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                if tried.insert((done.clone(), value)) {
                    ahead.push((done, value));
                }
            }
        }
    }
    false
}

#[test]
fn the_judge_tells_a_stale_read_from_one_that_overlaps() {
    let op = |call, began, ended| Op { call, began, ended };
    let write = |value, began, ended| op(Call::Write(value), began, Some(ended));
    let read = |value, began, ended| op(Call::Read(Some(value)), began, Some(ended));
    assert!(is_linearizable(&[write(1, 0, 10), read(None, 2, 3), read(Some(1), 4, 12)]));
    assert!(!is_linearizable(&[write(1, 0, 1), read(None, 2, 3)]));
    assert!(!is_linearizable(&[write(1, 0, 10), read(Some(1), 1, 2), read(None, 3, 4)]));
    // One whose answer never came may be seen at any time, or never.
    let lost = op(Call::Write(2), 0, None);
    assert!(is_linearizable(&[write(1, 0, 1), lost.clone(), read(Some(1), 2, 3)]));
    let seen = [write(1, 0, 1), lost, read(Some(1), 2, 3), read(Some(2), 4, 5)];
    assert!(is_linearizable(&seen));
    assert!(!is_linearizable(&[&seen[..], &[read(Some(1), 6, 7)]].concat()));
    let swap = |old, new, told, at| op(Call::Swap(old, new, Some(told)), at, Some(at + 1));
    assert!(is_linearizable(&[swap(None, 1, true, 0), swap(None, 2, false, 2)]));
    assert!(!is_linearizable(&[swap(None, 1, true, 0), swap(None, 2, true, 2)]));
}
