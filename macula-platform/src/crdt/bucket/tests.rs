//! Buckets that are brought together by deltas and by states.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use macula_core::replica::ReplicaId;
use proptest::prelude::*;

use super::{Bucket, KeyDelta, weight_of};
use crate::crdt::codec::{Decoder, Digest, Encoder};
use crate::crdt::contract::{Piece, Place};
use crate::crdt::dot::Dot;
use crate::crdt::limits::{Limits, Refused};
use crate::crdt::state::{Kinds, State};
use crate::crdt::types::{EwFlag, LwwRegister, OrMap, OrSet};
use crate::crdt::{Changes, Crdt};

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn replica(node: u64) -> ReplicaId {
    ReplicaId { node, incarnation: 1 }
}

fn bucket(node: u64) -> Bucket {
    Bucket::new(replica(node), Limits::default()).unwrap()
}

fn add(bucket: &mut Bucket, key: &str, element: &str) -> Result<KeyDelta, Refused> {
    bucket.update(key, NOW, |set: &OrSet, write| set.add(element.as_bytes(), write))
}

fn elements(bucket: &Bucket, key: &str) -> Vec<String> {
    let set = bucket.read::<OrSet>(key).unwrap();
    let texts = set.into_iter().flat_map(|set| set.iter());
    texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

/// Everything in a bucket that others could tell apart.
fn contents(bucket: &Bucket) -> Vec<(Arc<str>, Digest)> {
    bucket.entries(Bound::Unbounded).map(|(key, entry)| (Arc::clone(key), entry.digest())).collect()
}

fn checked(bucket: &Bucket) {
    let entries = || bucket.entries(Bound::Unbounded);
    let weight: usize = entries().map(|(key, entry)| weight_of(key, entry.state())).sum();
    assert_eq!(bucket.weight(), weight);
    for (_, entry) in entries() {
        assert!(!entry.state().is_bottom());
        assert!(bucket.context().includes(&entry.state().dots()));
        assert_eq!(entry.digest(), entry.state().digest());
    }
}

/// Joins all that differs, and claims what the other had seen.
fn sync(to: &mut Bucket, from: &Bucket) {
    let context = from.context().clone();
    for (key, entry) in from.entries(Bound::Unbounded) {
        let mut place = Some(Place::new());
        while let Some(from) = place {
            let Piece { state, next } = entry.state().piece(&from, 150);
            to.join_state(key, &state, &context, NOW).unwrap();
            place = next;
        }
    }
    let own: Vec<(Arc<str>, State)> = to
        .entries(Bound::Unbounded)
        .map(|(key, entry)| (Arc::clone(key), entry.state().bottom()))
        .collect();
    for (key, bottom) in own {
        let there = from.entries(Bound::Included(&key)).take_while(|(other, _)| **other == key);
        if there.filter(|(_, entry)| entry.state().kind() == bottom.kind()).count() == 0 {
            to.join_state(&key, &bottom, &context, NOW).unwrap();
        }
    }
    to.claim(&context);
}

fn over_the_wire(kinds: &Kinds, delta: &KeyDelta) -> KeyDelta {
    let mut out = Encoder::default();
    delta.encode(&mut out);
    let bytes = out.finish();
    let mut from = Decoder::new(&bytes).unwrap();
    let read = KeyDelta::decode(kinds, &mut from).unwrap();
    from.finish().unwrap();
    read
}

#[test]
fn a_removed_key_leaves_nothing_and_is_used_again_for_another_kind() {
    let (mut here, mut there) = (bucket(1), bucket(2));
    let added = add(&mut here, "lobby", "ada").unwrap();
    there.join(&added, NOW).unwrap();
    let removed = here.remove("lobby").unwrap();
    assert_eq!((here.len(), here.weight(), here.context().spans_len()), (0, 0, 1));
    for delta in &removed {
        assert_eq!(there.join(delta, NOW), Ok(true));
    }
    assert!(there.is_empty());
    // The addition comes once more, late.
    assert_eq!(there.join(&added, NOW), Ok(false));
    assert!(there.is_empty());
    let written = here.update("lobby", NOW, |topic: &LwwRegister, write| topic.set(*b"x", write));
    there.join(&written.unwrap(), NOW).unwrap();
    assert_eq!(contents(&there), contents(&here));
    checked(&there);
}

#[test]
fn what_others_add_while_a_key_is_removed_stays() {
    let (mut here, mut there) = (bucket(1), bucket(2));
    there.join(&add(&mut here, "lobby", "ada").unwrap(), NOW).unwrap();
    let added = add(&mut there, "lobby", "ben").unwrap();
    for delta in here.remove("lobby").unwrap() {
        there.join(&delta, NOW).unwrap();
    }
    here.join(&added, NOW).unwrap();
    assert_eq!(elements(&here, "lobby"), ["ben"]);
    assert_eq!(contents(&there), contents(&here));
}

#[test]
fn a_key_has_one_kind_unless_two_used_it_who_did_not_hear_each_other() {
    let (mut here, mut there) = (bucket(1), bucket(2));
    let set = add(&mut here, "key", "ada").unwrap();
    let refused = here.update("key", NOW, |flag: &EwFlag, write| flag.enable(write)).unwrap_err();
    insta::assert_snapshot!(refused, @r#""key" is of type or-set, and ew-flag was asked for"#);
    assert_eq!(here.read::<EwFlag>("key").unwrap_err(), refused);
    assert_eq!(here.counter().0, 1);

    let flag = there.update("key", NOW, |flag: &EwFlag, write| flag.enable(write)).unwrap();
    here.join(&flag, NOW).unwrap();
    there.join(&set, NOW).unwrap();
    assert_eq!(contents(&here), contents(&there));
    assert_eq!(contents(&here).len(), 2);
    assert!(here.read::<EwFlag>("key").unwrap().unwrap().is_enabled());
    add(&mut there, "key", "ben").unwrap();
    assert_eq!(elements(&there, "key"), ["ada", "ben"]);
    assert_eq!(here.remove("key").unwrap().len(), 2);
    checked(&here);
}

#[test]
fn a_kind_that_is_not_known_is_joined_kept_and_passed_on() {
    type Rooms = OrMap<OrMap<OrSet>>;
    let kinds = Arc::new(Kinds::default().with::<Rooms>());
    let change = |bucket: &mut Bucket, room: &'static [u8], player: &'static [u8], adds: bool| {
        bucket
            .update("rooms", NOW, |rooms: &Rooms, write| {
                rooms.update(*b"north", write, |rooms, write| {
                    rooms.update(room, write, |set, write| match adds {
                        true => set.add(player, write),
                        false => Ok(set.remove(player)),
                    })
                })
            })
            .unwrap()
    };
    let mut knows = bucket(1).with_kinds(Arc::clone(&kinds));
    let mut old = bucket(2);
    let mut knows_too = bucket(3).with_kinds(Arc::clone(&kinds));
    let old_kinds = Arc::clone(old.kinds());

    let first = change(&mut knows, b"7", b"ada", true);
    let second = change(&mut knows_too, b"7", b"ben", true);
    let third = change(&mut knows, b"7", b"ada", false);
    for delta in [&second, &first, &third] {
        old.join(&over_the_wire(&old_kinds, delta), NOW).unwrap();
    }
    knows.join(&second, NOW).unwrap();
    assert_eq!(contents(&old), contents(&knows));
    // What it has is passed on as bytes, and a node that knows the kind reads it.
    let mut out = Encoder::default();
    let (key, entry) = old.entries(Bound::Unbounded).next().unwrap();
    super::put_state(&mut out, key, entry.state());
    let bytes = out.finish();
    let (key, state) = super::take_state(&kinds, &mut Decoder::new(&bytes).unwrap()).unwrap();
    knows_too.join_state(&key, &state, old.context(), NOW).unwrap();
    knows_too.claim(old.context());
    assert_eq!(contents(&knows_too), contents(&knows));

    let refused = old.read::<Rooms>("rooms").unwrap_err();
    assert_eq!(refused, Refused::UnknownKind(Rooms::kind()));
    for delta in old.remove("rooms").unwrap() {
        knows.join(&over_the_wire(&kinds, &delta), NOW).unwrap();
    }
    assert!(knows.is_empty());
}

#[test]
fn limits_refuse_and_change_nothing() {
    let limits = Limits {
        key_len_max: 5,
        keys_max: 1,
        element_len_max: 3,
        elements_max: 2,
        value_len_max: 1,
        ..Limits::default()
    };
    let mut bucket = Bucket::new(replica(1), limits).unwrap();
    add(&mut bucket, "key", "ada").unwrap();
    add(&mut bucket, "key", "ben").unwrap();
    let before = (contents(&bucket), bucket.counter(), bucket.context().clone(), bucket.weight());
    let refusals = [
        add(&mut bucket, "", "x"),
        add(&mut bucket, "longer", "x"),
        add(&mut bucket, "other", "x"),
        add(&mut bucket, "key", "long"),
        add(&mut bucket, "key", "x"),
    ];
    let refusals: Vec<String> =
        refusals.into_iter().map(|refused| refused.unwrap_err().to_string()).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    the key is empty
    the key has 6 bytes, and at most 5 are allowed
    the bucket has 1 keys, and at most 1 are allowed
    the element has 4 bytes, and at most 3 are allowed
    there are 2 elements, and at most 2 are allowed
    ");
    assert_eq!(
        (contents(&bucket), bucket.counter(), bucket.context().clone(), bucket.weight()),
        before
    );
    // One that is there is added again.
    add(&mut bucket, "key", "ada").unwrap();
}

#[test]
fn a_bucket_that_is_full_takes_removals_and_some_more_of_others() {
    let limits = Limits { weight_max: 1, ..Limits::default() };
    let mut here = Bucket::new(replica(1), limits).unwrap();
    let mut there = bucket(2);
    add(&mut here, "key", "ada").unwrap();
    let weight = here.weight();
    let refused = add(&mut here, "key", "ben").unwrap_err();
    assert_eq!(refused, Refused::WeightMax { weight, weight_max: 1 });
    let others = add(&mut there, "other", "ben").unwrap();
    assert_eq!(here.join(&others, NOW), Err(Refused::WeightMax { weight, weight_max: 2 }));
    assert!(!here.context().contains(Dot { replica: replica(2), counter: 1 }));
    here.update("key", NOW, |set: &OrSet, _| Ok(set.remove(b"ada"))).unwrap();
    assert_eq!(here.join(&others, NOW), Ok(true));
}

#[test]
fn a_key_that_is_full_takes_removals_and_others_keys_go_on() {
    let limits = Limits { key_weight_max: 1, ..Limits::default() };
    let mut here = Bucket::new(replica(1), limits).unwrap();
    add(&mut here, "key", "ada").unwrap();
    let refused = add(&mut here, "key", "ben").unwrap_err();
    assert!(matches!(refused, Refused::KeyWeightMax { key_weight_max: 1, .. }), "{refused}");
    assert_eq!((elements(&here, "key"), here.counter().0), (vec!["ada".to_owned()], 1));
    add(&mut here, "other", "ben").unwrap();
    here.update("key", NOW, |set: &OrSet, _| Ok(set.remove(b"ada"))).unwrap();
    add(&mut here, "key", "ben").unwrap();
    assert_eq!(elements(&here, "key"), ["ben"]);
}

#[test]
fn nothing_is_remembered_of_keys_that_have_gone_though_nobody_asks_for_the_number() {
    let mut bucket = bucket(1);
    for n in 0..100 {
        let key = format!("key/{n}");
        add(&mut bucket, &key, "ada").unwrap();
        match n % 2 {
            0 => drop(bucket.remove(&key).unwrap()),
            _ => drop(bucket.update(&key, NOW, |set: &OrSet, _| Ok(set.remove(b"ada"))).unwrap()),
        }
    }
    assert_eq!((bucket.len(), bucket.summary.waiting()), (0, 0));
}

#[test]
fn gaps_are_bounded_and_filled_by_states() {
    let limits = Limits { spans_max: 3, ..Limits::default() };
    let mut here = Bucket::new(replica(1), limits).unwrap();
    let mut there = bucket(2);
    let deltas: Vec<KeyDelta> =
        (0..10).map(|n| add(&mut there, &format!("{n}"), "x").unwrap()).collect();
    for delta in deltas.iter().step_by(2).take(3) {
        here.join(delta, NOW).unwrap();
    }
    let refused = here.join(&deltas[6], NOW).unwrap_err();
    assert_eq!(refused, Refused::SpansMax { spans: 4, spans_max: 3 });
    assert_eq!(here.join(&deltas[4], NOW), Ok(false));
    assert_eq!(here.len(), 3);
}

#[test]
fn one_that_forgot_what_it_wrote_goes_on_after_it() {
    let (mut here, mut there) = (bucket(1), bucket(2));
    there.join(&add(&mut here, "key", "ada").unwrap(), NOW).unwrap();
    let mut again = bucket(1);
    sync(&mut again, &there);
    assert_eq!((again.counter().0, again.lapses()), (1, 1));
    there.join(&add(&mut again, "key", "ben").unwrap(), NOW).unwrap();
    assert_eq!(elements(&there, "key"), ["ada", "ben"]);

    again.write_as(replica(1).next_life(), 0, 1);
    add(&mut again, "key", "cyd").unwrap();
    assert_eq!(add(&mut again, "key", "dan"), Err(Refused::DotsSpent { counter_max: 1 }));
}

#[test]
fn dots_that_are_drawn_in_vain_leave_no_gap() {
    let mut here = bucket(1);
    add(&mut here, "key", "ada").unwrap();
    let empty = here.update("key", NOW, |set: &OrSet, write| {
        write.dot()?;
        Ok(set.remove(b"nobody"))
    });
    assert!(empty.unwrap().delta.is_empty());
    add(&mut here, "key", "ben").unwrap();
    add(&mut here, "other", "cyd").unwrap();
    assert_eq!((here.counter().0, here.context().contiguous(replica(1))), (3, 3));
    checked(&here);
}

/// How many bytes a delta has on its way.
fn len(delta: &KeyDelta) -> usize {
    let mut out = Encoder::default();
    delta.encode(&mut out);
    out.len()
}

#[test]
fn a_large_change_is_split_into_deltas_that_come_to_the_same() {
    const WEIGHT_MAX: usize = 2_000;
    let (mut here, mut there) = (bucket(1), bucket(2));
    let fill = |from: u16| {
        move |map: &OrMap<OrSet>, write: &mut crate::crdt::write::Write<'_>| {
            let mut changes = Changes::of(map);
            for number in (from..from + 300).map(u16::to_be_bytes) {
                let key = [number[1] % 3];
                changes.make(|map| map.update(key, write, |set, write| set.add(number, write)))?;
            }
            Ok(changes.finish())
        }
    };
    let changes = [
        here.update("key", NOW, fill(0)).unwrap(),
        // Half of it is there, and replaced.
        here.update("key", NOW, fill(150)).unwrap(),
        here.update("key", NOW, |map: &OrMap<OrSet>, _| Ok(map.remove(&[1]))).unwrap(),
    ];
    for change in changes {
        let (is_small, parts) = (len(&change) < WEIGHT_MAX, change.split(WEIGHT_MAX));
        assert!(parts.len() > 3 || is_small);
        for part in parts.iter().rev() {
            assert!(len(part) <= WEIGHT_MAX + 64, "{} bytes", len(part));
            there.join(&over_the_wire(there.kinds(), part), NOW).unwrap();
        }
    }
    assert_eq!(contents(&there), contents(&here));
    assert_eq!(there.context(), here.context());
    let removed: Vec<KeyDelta> =
        here.remove("key").unwrap().into_iter().flat_map(|change| change.split(100)).collect();
    assert!(removed.len() > 1);
    for part in &removed {
        there.join(part, NOW).unwrap();
    }
    assert!(there.is_empty());
}

/// What is done to a mesh of buckets.
#[derive(Debug, Clone)]
enum Step {
    Add(usize, u8, u8),
    Take(usize, u8, u8),
    Write(usize, u8, u8),
    Flag(usize, u8, u8),
    Remove(usize, u8),
    Sync(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (at, key, element) = (0..3_usize, 0..3_u8, 0..3_u8);
    let change = (at.clone(), key.clone(), element);
    prop_oneof![
        3 => change.clone().prop_map(|(at, key, element)| Step::Add(at, key, element)),
        2 => change.clone().prop_map(|(at, key, element)| Step::Take(at, key, element)),
        2 => change.clone().prop_map(|(at, key, element)| Step::Write(at, key, element)),
        1 => change.prop_map(|(at, key, element)| Step::Flag(at, key, element)),
        1 => (at.clone(), key).prop_map(|(at, key)| Step::Remove(at, key)),
        1 => (at.clone(), at).prop_map(|(to, from)| Step::Sync(to, from)),
    ]
}

fn perform(buckets: &mut [Bucket], step: &Step) -> Vec<KeyDelta> {
    let text = |key: u8| format!("key/{key}");
    let done = match *step {
        Step::Add(at, key, element) => {
            buckets[at].update(&text(key), NOW, |set: &OrSet, write| set.add([element], write))
        }
        Step::Take(at, key, element) => {
            buckets[at].update(&text(key), NOW, |set: &OrSet, _| Ok(set.remove(&[element])))
        }
        Step::Write(at, key, value) => {
            buckets[at].update(&text(key), NOW, |register: &LwwRegister, write| {
                register.set([value], write)
            })
        }
        Step::Flag(at, key, field) => {
            buckets[at].update(&text(key), NOW, |map: &OrMap<EwFlag>, write| {
                map.update([field], write, EwFlag::enable)
            })
        }
        Step::Remove(at, key) => return buckets[at].remove(&text(key)).unwrap(),
        Step::Sync(to, from) => {
            let theirs = buckets[from].clone();
            sync(&mut buckets[to], &theirs);
            return Vec::new();
        }
    };
    match done {
        Ok(delta) => vec![delta],
        Err(Refused::OtherKind { .. }) => Vec::new(),
        Err(refused) => panic!("{refused}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever is done where, and whichever deltas arrive: once states were compared all are equal,
    /// and equal to one that got all deltas, in another order, in groups, and over the wire.
    #[test]
    fn buckets_converge(
        steps in prop::collection::vec((step(), prop::collection::vec(any::<bool>(), 3)), 0..40),
    ) {
        let mut buckets: Vec<Bucket> = (1..4).map(bucket).collect();
        let mut told: Vec<KeyDelta> = Vec::new();
        for (step, heard) in &steps {
            for delta in perform(&mut buckets, step) {
                for (at, _) in heard.iter().enumerate().filter(|(_, heard)| **heard) {
                    buckets[at].join(&delta, NOW).unwrap();
                }
                told.push(delta);
            }
            buckets.iter().for_each(checked);
        }
        for _ in 0..2 {
            for (to, from) in [(0, 1), (1, 2), (2, 0)] {
                let theirs = buckets[from].clone();
                sync(&mut buckets[to], &theirs);
            }
        }
        let mut newcomer = bucket(4);
        let mut group: Option<KeyDelta> = None;
        for delta in told.iter().rev() {
            let delta = over_the_wire(newcomer.kinds(), delta);
            if group.as_mut().is_some_and(|group| group.join(&delta)) {
                continue;
            }
            if let Some(full) = group.replace(delta) {
                newcomer.join(&full, NOW).unwrap();
            }
        }
        if let Some(last) = group {
            newcomer.join(&last, NOW).unwrap();
        }
        for bucket in &buckets {
            checked(bucket);
            prop_assert_eq!(contents(bucket), contents(&newcomer));
            prop_assert_eq!(bucket.context(), newcomer.context());
        }
    }
}
