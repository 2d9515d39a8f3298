//! The table as a machine: limits, order of outputs, and convergence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock, TokioClock};
use macula_core::hlc::{Stamp, Timestamp};
use macula_core::machine::Machine;
use macula_core::replica::ReplicaId;
use proptest::prelude::*;

use super::{Input, Output, Reply, Request, Store, Ticket};
use crate::registers::{Config, Origin, Refused, Register};

const NOW: Duration = Duration::from_secs(1000);

fn store(config: Config, node: u64) -> Store {
    Store::new(config, ReplicaId { node, incarnation: 1 })
}

fn outputs(store: &mut Store, wall: Duration, request: Request) -> Vec<Output> {
    let now: Instant = TokioClock.now();
    store.handle(now, Input { ticket: Ticket(7), wall, request });
    std::iter::from_fn(|| store.poll_output()).collect()
}

fn ask(store: &mut Store, request: Request) -> Result<Reply, Refused> {
    let reply = outputs(store, NOW, request).pop();
    match reply {
        Some(Output::Reply { ticket: Ticket(7), result }) => result,
        other => panic!("no reply: {other:?}"),
    }
}

fn write(key: &str, value: &[u8]) -> Request {
    Request::Write { key: key.into(), value: value.into() }
}

fn remove(key: &str) -> Request {
    Request::Remove { key: key.into() }
}

fn merge(key: &str, register: Register) -> Request {
    Request::Merge { key: key.into(), register }
}

fn keys(store: &mut Store, prefix: &str, after: Option<&str>) -> (Vec<String>, Option<String>) {
    let request = Request::Keys { prefix: prefix.into(), after: after.map(Into::into) };
    let Ok(Reply::Keys(page)) = ask(store, request) else {
        panic!("no keys");
    };
    (page.keys.iter().map(ToString::to_string).collect(), page.next.map(|key| key.to_string()))
}

fn contents(store: &Store) -> Vec<(Arc<str>, Register)> {
    store.iter().map(|(key, register)| (Arc::clone(key), register.clone())).collect()
}

#[test]
fn a_write_is_a_delta_then_told_then_acknowledged() {
    let mut store = store(Config::default(), 1);
    let Ok(Reply::Subscribed(all)) = ask(&mut store, Request::Subscribe { prefix: "".into() })
    else {
        panic!("no subscription");
    };
    ask(&mut store, Request::Subscribe { prefix: "b".into() }).unwrap();
    let made = outputs(&mut store, NOW, write("a", b"1"));
    let [Output::Delta(delta), Output::Tell { subscriber, change }, Output::Reply { .. }] =
        made.as_slice()
    else {
        panic!("{made:?}");
    };
    assert_eq!((*subscriber, change), (all, delta));
    assert_eq!(delta.origin, Origin::Local);
    // A merge that wins is told, and is no delta; one that does not is neither.
    let register = delta.register.clone();
    let mut other = self::store(Config::default(), 2);
    assert_eq!(ask(&mut other, merge("a", register.clone())), Ok(Reply::Merged(true)));
    assert_eq!(ask(&mut other, merge("a", register)), Ok(Reply::Merged(false)));
    let stats = other.stats();
    assert_eq!((stats.merged, stats.outdated, stats.written), (1, 1, 0));
}

#[test]
fn every_limit_is_told_with_its_numbers_and_changes_nothing() {
    let config = Config {
        key_len_max: 4,
        value_len_max: 2,
        keys_max: 2,
        subscribers_max: 1,
        ..Config::default()
    };
    let mut store = store(config, 1);
    for request in [write("a", b"1"), write("b", b"1"), Request::Subscribe { prefix: "a".into() }] {
        ask(&mut store, request).unwrap();
    }
    let ahead = Register {
        stamp: Stamp {
            at: Timestamp { wall_ms: 1_060_001, counter: 0 },
            replica: ReplicaId::default(),
        },
        value: None,
    };
    let before = (contents(&store), store.stats());
    let asked = [
        write("", b"1"),
        write("abcde", b"1"),
        write("a", b"123"),
        write("c", b"1"),
        remove("c"),
        merge("a", ahead),
        Request::Read { key: "abcde".into() },
        Request::Subscribe { prefix: "abcde".into() },
        Request::Subscribe { prefix: "b".into() },
    ];
    let told: Vec<String> = asked
        .into_iter()
        .map(|request| ask(&mut store, request).unwrap_err().to_string())
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(contents(&store), before.0);
    assert_eq!(store.stats().refused, 9);
    assert_eq!(super::Stats { refused: 0, ..store.stats() }, before.1);
    // What is there can still be written.
    ask(&mut store, write("b", b"22")).unwrap();
}

#[test]
fn a_removed_register_stays_removed_for_older_writes() {
    let mut store = store(Config::default(), 1);
    let mut peer = self::store(Config::default(), 2);
    ask(&mut peer, write("a", b"old")).unwrap();
    let old = peer.get("a").unwrap().clone();
    ask(&mut store, merge("a", old.clone())).unwrap();
    ask(&mut store, remove("a")).unwrap();
    assert_eq!(ask(&mut store, Request::Read { key: "a".into() }), Ok(Reply::Register(None)));
    assert_eq!(ask(&mut store, merge("a", old)), Ok(Reply::Merged(false)));
    assert_eq!((store.stats().keys, store.stats().removed), (1, 1));
    assert_eq!(keys(&mut store, "", None), (vec![], None));
    ask(&mut store, write("a", b"new")).unwrap();
    assert_eq!((store.stats().keys, store.stats().removed), (1, 0));
}

#[test]
fn keys_come_in_pages_and_below_their_prefix_only() {
    let mut store = store(Config { page_len_max: 2, ..Config::default() }, 1);
    for key in ["a", "b/1", "b/2", "b/3", "b0", "c"] {
        ask(&mut store, write(key, b"")).unwrap();
    }
    ask(&mut store, remove("b/2")).unwrap();
    assert_eq!(keys(&mut store, "b/", None), (vec!["b/1".into()], Some("b/2".into())));
    assert_eq!(keys(&mut store, "b/", Some("b/2")), (vec!["b/3".into()], None));
    assert_eq!(keys(&mut store, "b/", Some("a")), (vec!["b/1".into()], Some("b/2".into())));
    assert_eq!(keys(&mut store, "d", None), (vec![], None));
}

#[test]
fn a_new_life_is_a_later_replica_with_everything_but_replies() {
    let mut store = store(Config::default(), 1);
    ask(&mut store, Request::Subscribe { prefix: "".into() }).unwrap();
    let input = Input { ticket: Ticket(1), wall: NOW, request: write("a", b"1") };
    store.handle(TokioClock.now(), input);
    store.begin_life();
    let left: Vec<Output> = std::iter::from_fn(|| store.poll_output()).collect();
    assert!(matches!(left.as_slice(), [Output::Delta(_), Output::Tell { .. }]), "{left:?}");
    let first = store.get("a").unwrap().stamp;
    // The calendar is an hour behind in the new life, and its write wins all the same.
    outputs(&mut store, Duration::ZERO, write("a", b"2"));
    let second = store.get("a").unwrap().stamp;
    assert!(second > first);
    assert_eq!(second.replica, first.replica.next_life());
}

/// A write or a removal at one of three replicas, whose calendars differ.
fn operation() -> impl Strategy<Value = (usize, Request, u64)> {
    let key = prop_oneof![Just("a"), Just("b"), Just("c")];
    let value = prop::option::of(0..4_u8);
    (0..3_usize, key, value, 0..5_u64).prop_map(|(replica, key, value, wall_ms)| {
        let request = value.map_or_else(|| remove(key), |value| write(key, &[value]));
        (replica, request, wall_ms)
    })
}

proptest! {
    /// Replicas that have heard of the same writes hold the same table, in whatever order and
    /// however often they heard, and the last write of each key by stamp is what they hold.
    #[test]
    fn replicas_converge(
        operations in prop::collection::vec(operation(), 0..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
    ) {
        let mut replicas: Vec<Store> =
            (0..3).map(|node| store(Config::default(), node)).collect();
        let mut deltas = Vec::new();
        for (replica, request, wall_ms) in operations {
            let made = outputs(&mut replicas[replica], Duration::from_millis(wall_ms), request);
            deltas.extend(made.into_iter().filter_map(|output| match output {
                Output::Delta(change) => Some(change),
                Output::Reply { .. } | Output::Tell { .. } => None,
            }));
        }
        // Some deltas come early, twice or out of order; then each comes for certain.
        for (n, index) in order.iter().enumerate() {
            if !deltas.is_empty() {
                let change = index.get(&deltas).clone();
                ask(&mut replicas[n % 3], merge(&change.key, change.register)).unwrap();
            }
        }
        for replica in &mut replicas {
            for change in &deltas {
                ask(replica, merge(&change.key, change.register.clone())).unwrap();
            }
        }
        let tables: Vec<_> = replicas.iter().map(contents).collect();
        prop_assert_eq!(&tables[0], &tables[1]);
        prop_assert_eq!(&tables[1], &tables[2]);
        for (key, register) in &tables[0] {
            let written = deltas.iter().filter(|change| change.key == *key);
            prop_assert_eq!(written.map(|change| &change.register).max(), Some(register));
        }
        let removed = tables[0].iter().filter(|(_, register)| register.value.is_none()).count();
        prop_assert!(replicas.iter().all(|replica| replica.stats().removed == removed));
    }
}
