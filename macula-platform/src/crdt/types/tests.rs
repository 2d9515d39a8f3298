//! What the laws do not say of the types: limits, clocks, and what is tidied up.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use macula_core::replica::ReplicaId;

use super::{GCounter, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, PnCounter};
use crate::crdt::bucket::{Bucket, KeyDelta};
use crate::crdt::codec::{Decoder, Encoder};
use crate::crdt::context::Context;
use crate::crdt::contract::{Delta, Tidy};
use crate::crdt::limits::{Limits, Refused};
use crate::crdt::state::Kinds;
use crate::crdt::write::Write;
use crate::crdt::{Changes, Crdt};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn replica(node: u64) -> ReplicaId {
    ReplicaId { node, incarnation: 1 }
}

fn bucket(node: u64) -> Bucket {
    Bucket::new(replica(node), Limits::default()).unwrap()
}

fn set(bucket: &mut Bucket, value: &[u8], now: Duration) -> KeyDelta {
    bucket.update("key", now, |register: &LwwRegister, write| register.set(value, write)).unwrap()
}

fn read(bucket: &Bucket) -> Vec<u8> {
    bucket.read::<LwwRegister>("key").unwrap().unwrap().get().unwrap().to_vec()
}

fn equal(one: &Bucket, other: &Bucket) -> bool {
    let digests = |bucket: &Bucket| -> Vec<_> {
        let entries = bucket.entries(Bound::Unbounded);
        entries.map(|(key, entry)| (key.clone(), entry.digest())).collect()
    };
    digests(one) == digests(other) && one.context() == other.context()
}

#[test]
fn a_clock_that_is_an_hour_ahead_wins_ties_and_nothing_else() {
    let (mut ahead, mut right) = (bucket(1), bucket(2));
    let one = set(&mut ahead, b"ahead", NOW + HOUR);
    let other = set(&mut right, b"right", NOW);
    right.join(&one, NOW).unwrap();
    ahead.join(&other, NOW + HOUR).unwrap();
    assert!(equal(&ahead, &right));
    assert_eq!(read(&right), b"ahead");
    // The clock that is right does not follow, says so, and replaces what it has seen.
    assert_eq!((right.stamps().refused(), ahead.stamps().refused()), (1, 0));
    let later = set(&mut right, b"later", NOW);
    ahead.join(&later, NOW + HOUR).unwrap();
    assert_eq!((read(&ahead), read(&right)), (b"later".to_vec(), b"later".to_vec()));
    assert!(equal(&ahead, &right));
    let stamp = right.read::<LwwRegister>("key").unwrap().unwrap().stamp().unwrap();
    assert!(Duration::from_millis(stamp.at.wall_ms) < NOW + HOUR);
}

#[test]
fn a_clock_that_jumps_to_and_fro_writes_on_and_converges() {
    let (mut jumps, mut right) = (bucket(1), bucket(2));
    let mut told = Vec::new();
    for (count, now) in (0..).zip([NOW, NOW + HOUR, NOW, NOW - HOUR, NOW + HOUR, NOW]) {
        told.push(set(&mut jumps, &[count], now));
        assert_eq!(read(&jumps), [count]);
        told.push(set(&mut right, &[100 + count], NOW));
    }
    assert_eq!(jumps.stamps().set_back(), 3);
    for delta in told.iter().rev() {
        jumps.join(delta, NOW).unwrap();
        right.join(delta, NOW).unwrap();
    }
    assert!(equal(&jumps, &right));
    // Back in its time, its writes are no later than those of others: the greater replica's stands.
    assert_eq!(read(&jumps), read(&right));
}

#[test]
fn equal_stamps_are_decided_by_the_node() {
    let (mut one, mut two) = (bucket(1), bucket(2));
    let (of_one, of_two) = (set(&mut one, b"one", NOW), set(&mut two, b"two", NOW));
    one.join(&of_two, NOW).unwrap();
    two.join(&of_one, NOW).unwrap();
    assert_eq!((read(&one), read(&two)), (b"two".to_vec(), b"two".to_vec()));
}

#[test]
fn a_loser_is_there_when_the_winner_is_removed_by_one_who_knew_no_other() {
    let (mut one, mut two, mut three) = (bucket(1), bucket(2), bucket(3));
    let (of_one, of_two) = (set(&mut one, b"one", NOW), set(&mut two, b"two", NOW));
    three.join(&of_two, NOW).unwrap();
    let removed = three.remove("key").unwrap();
    for bucket in [&mut one, &mut two, &mut three] {
        for delta in [&of_one, &of_two, &removed[0]] {
            bucket.join(delta, NOW).unwrap();
        }
    }
    assert!(equal(&one, &two) && equal(&two, &three));
    assert_eq!(read(&one), b"one");
}

/// Lets `bucket` tidy up its key as far as `stable` and `departed` allow.
fn tidied(bucket: &mut Bucket, stable: &Context, departed: &[ReplicaId]) -> Vec<KeyDelta> {
    bucket.tidy("key", &Tidy { stable, departed }, NOW)
}

#[test]
fn losers_go_when_all_have_seen_them() {
    let (mut one, mut two) = (bucket(1), bucket(2));
    let (of_one, of_two) = (set(&mut one, b"one", NOW), set(&mut two, b"two", NOW));
    one.join(&of_two, NOW).unwrap();
    two.join(&of_one, NOW).unwrap();
    let live = |bucket: &Bucket| bucket.read::<LwwRegister>("key").unwrap().unwrap().dots();
    assert_eq!(tidied(&mut one, &of_two.delta.context, &[]), []);
    let stable = one.context().clone();
    for delta in tidied(&mut one, &stable, &[]) {
        assert_eq!(two.join(&delta, NOW), Ok(true));
    }
    assert_eq!(live(&one), of_two.delta.context);
    assert!(equal(&one, &two));
    assert_eq!(tidied(&mut two, &stable, &[]), []);
}

#[test]
fn removed_elements_are_forgotten_when_all_have_seen_that_and_not_before() {
    let (mut one, mut two) = (bucket(1), bucket(2));
    let change = |bucket: &mut Bucket, element: u8, adds: bool| {
        let changed = bucket.update("key", NOW, |set: &LwwElementSet, write| match adds {
            true => set.add([element], write),
            false => set.remove([element], write),
        });
        changed.unwrap()
    };
    for (element, adds) in [(1, true), (2, true), (1, false), (3, false)] {
        two.join(&change(&mut one, element, adds), NOW).unwrap();
    }
    let marks = |bucket: &Bucket| bucket.read::<LwwElementSet>("key").unwrap().unwrap().marks_len();
    assert_eq!(marks(&one), 3);
    let early =
        (1..4).map(|counter| crate::crdt::dot::Dot { replica: replica(1), counter }).collect();
    for delta in tidied(&mut one, &early, &[]) {
        two.join(&delta, NOW).unwrap();
    }
    assert_eq!((marks(&one), marks(&two)), (2, 2));
    let stable = one.context().clone();
    for delta in tidied(&mut one, &stable, &[]) {
        two.join(&delta, NOW).unwrap();
    }
    assert_eq!((marks(&one), marks(&two)), (1, 1));
    let left = two.read::<LwwElementSet>("key").unwrap().unwrap();
    assert!(left.contains(&[2]) && !left.contains(&[1]) && left.iter().count() == 1);
    assert!(equal(&one, &two));
}

/// A type that not all nodes know.
#[derive(Debug, Clone, PartialEq, Default)]
struct Scores(OrMap<PnCounter>);
crate::crdt_type!(Scores, OrMap<PnCounter>, "tests.scores/1", {
    fn tidy(&self, tidy: &Tidy<'_>, write: &mut Write<'_>) -> Option<Delta<Self>> {
        Some(self.0.tidy(tidy, write)?.map(Self))
    }
});

/// A bucket of a node that knows it.
fn knowing(node: u64) -> Bucket {
    bucket(node).with_kinds(Arc::new(Kinds::default().with::<Scores>()))
}

/// The same changes as one that does not know their type reads them.
fn foreign(changes: &[KeyDelta]) -> Vec<KeyDelta> {
    let read = |change: &KeyDelta| {
        let mut out = Encoder::default();
        change.encode(&mut out);
        let bytes = out.finish();
        KeyDelta::decode(&Kinds::default(), &mut Decoder::new(&bytes).unwrap()).unwrap()
    };
    changes.iter().map(read).collect()
}

/// Three lives of node 1 and one of node 2, of which each has counted something.
fn counted() -> (Vec<KeyDelta>, [ReplicaId; 4]) {
    let first = replica(1);
    let lives = [first, first.next_life(), first.next_life().next_life(), replica(2)];
    let mut told = Vec::new();
    for (life, up, down) in [(0, 5, 1), (1, 700, 2), (2, 1, 3), (3, 4, 2)] {
        let kinds = Arc::new(Kinds::default().with::<Scores>());
        let mut bucket = Bucket::new(lives[life], Limits::default()).unwrap().with_kinds(kinds);
        for (key, up, down) in [(b"a", up, 0), (b"b", 0, down)] {
            let change = bucket.update("key", NOW, |scores: &Scores, write| {
                let changed = scores.0.update(*key, write, |score, write| match up {
                    0 => score.decrement(down, write),
                    _ => score.increment(up, write),
                });
                Ok(changed?.map(Scores))
            });
            told.push(change.unwrap());
        }
    }
    (told, lives)
}

fn told_all(mut bucket: Bucket, told: &[KeyDelta]) -> Bucket {
    told.iter().for_each(|delta| assert!(bucket.join(delta, NOW).is_ok()));
    bucket
}

fn values(bucket: &Bucket) -> Vec<i128> {
    let scores = bucket.read::<Scores>("key").unwrap();
    scores.into_iter().flat_map(|scores| scores.0.iter()).map(|(_, score)| score.value()).collect()
}

#[test]
fn what_earlier_lives_counted_is_added_up_and_counts_once_whoever_does_it() {
    let (told, lives) = counted();
    let (mut one, mut two) = (told_all(knowing(3), &told), told_all(knowing(4), &told));
    let third = told_all(bucket(5), &foreign(&told));
    let stable = one.context().clone();
    // One knows of a life more that is over.
    let of_one = tidied(&mut one, &stable, &lives[..2]);
    let of_two = tidied(&mut two, &stable, &lives[..3]);
    assert_eq!((values(&one), values(&two)), (vec![710, -8], vec![710, -8]));
    let mut one = told_all(one, &of_two);
    let two = told_all(two, &of_one);
    assert!(equal(&one, &two));
    assert_eq!(values(&one), [710, -8]);
    let scores = one.read::<Scores>("key").unwrap().unwrap();
    assert!(scores.dots().replicas().eq([lives[2], lives[3]]));
    for (first, then) in [(&of_one, &of_two), (&of_two, &of_one)] {
        let mut third = told_all(third.clone(), &foreign(first));
        third = told_all(third, &foreign(then));
        assert_eq!(third.summary(), one.summary());
    }
    assert_eq!(tidied(&mut one, &stable, &lives[..3]), []);
}

#[test]
fn counts_that_have_no_room_in_one_stay_apart_and_keep_no_other_from_being_added_up() {
    let mut all = bucket(9);
    let mut lives = Vec::new();
    for (node, counts) in [(1, [u64::MAX, 1, 2]), (2, [3, 4, 5])] {
        let mut life = replica(node);
        for count in counts {
            let mut bucket = Bucket::new(life, Limits::default()).unwrap();
            let more = |at: &GCounter, write: &mut Write<'_>| at.increment(count, write);
            all.join(&bucket.update("key", NOW, more).unwrap(), NOW).unwrap();
            lives.push(life);
            life = life.next_life();
        }
    }
    let value = |bucket: &Bucket| bucket.read::<GCounter>("key").unwrap().unwrap().value();
    let (before, stable) = (value(&all), all.context().clone());
    tidied(&mut all, &stable, &lives);
    let left = all.read::<GCounter>("key").unwrap().unwrap().dots();
    assert!(left.replicas().eq([lives[0], lives[2], lives[5]]), "{left:?}");
    assert_eq!((value(&all), tidied(&mut all, &stable, &lives)), (before, vec![]));
}

#[test]
fn a_removal_takes_what_was_added_up_meanwhile() {
    let (told, lives) = counted();
    let (mut one, mut two) = (told_all(knowing(3), &told), told_all(knowing(4), &told));
    let stable = one.context().clone();
    let folded = tidied(&mut one, &stable, &lives[..3]);
    let removed = two.remove("key").unwrap();
    let one = told_all(one, &removed);
    let two = told_all(two, &folded);
    assert!(equal(&one, &two));
    assert_eq!(values(&one), []);
}

#[test]
fn a_total_that_has_no_room_is_refused() {
    let mut bucket = bucket(1);
    let mut add = |by| {
        bucket.update("key", NOW, |count: &GCounter, write| count.increment(by, write)).map(drop)
    };
    add(u64::MAX - 1).unwrap();
    assert_eq!(add(2), Err(Refused::CounterFull { counted: u64::MAX - 1, more: 2 }));
    add(1).unwrap();
    assert_eq!(bucket.counter().0, 2);
    let count = bucket.read::<GCounter>("key").unwrap().unwrap();
    assert_eq!(count.value(), u128::from(u64::MAX));
}

#[test]
fn values_that_are_too_long_are_refused() {
    let limits = Limits { value_len_max: 2, ..Limits::default() };
    let mut bucket = Bucket::new(replica(1), limits).unwrap();
    let refused = Refused::ValueTooLong { len: 3, len_max: 2 };
    let lww = bucket.update("key", NOW, |at: &LwwRegister, write| at.set(*b"abc", write));
    assert_eq!(lww.unwrap_err(), refused);
    let mv = bucket.update("key", NOW, |at: &MvRegister, write| at.set(*b"abc", write));
    assert_eq!(mv.unwrap_err(), refused);
    assert!(bucket.is_empty() && bucket.context().is_empty());
}

#[test]
fn changes_are_made_all_or_none_and_told_as_one() {
    let limits = Limits { elements_max: 2, ..Limits::default() };
    let (mut one, mut two) = (Bucket::new(replica(1), limits).unwrap(), bucket(2));
    let fill = |elements: &'static [u8]| {
        move |set: &OrSet, write: &mut Write<'_>| {
            let mut changes = Changes::of(set);
            changes.make(|set| Ok(set.remove(&[1])))?;
            for element in elements {
                changes.make(|set| set.add([*element], write))?;
            }
            Ok(changes.finish())
        }
    };
    two.join(&one.update("key", NOW, fill(&[1, 2])).unwrap(), NOW).unwrap();
    let before = one.context().clone();
    let refused = one.update("key", NOW, fill(&[3, 4])).unwrap_err();
    assert_eq!(refused, Refused::ElementsMax { elements: 2, elements_max: 2 });
    assert_eq!((one.context(), one.counter().0), (&before, 2));
    two.join(&one.update("key", NOW, fill(&[3])).unwrap(), NOW).unwrap();
    assert!(equal(&one, &two));
    let set = two.read::<OrSet>("key").unwrap().unwrap();
    assert!(set.iter().map(|element| element[0]).eq([2, 3]));
}
