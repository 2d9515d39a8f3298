//! The cache.

use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use proptest::prelude::*;

use super::{Cache, Config, Found, Lookup, Waiter};
use crate::dht::key::Key;

const SECOND: Duration = Duration::from_secs(1);

fn begin() -> Instant {
    TokioClock.now()
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

fn value(value: u32, secs: u64) -> Found<u32> {
    Found::Value { value, len: 10, ttl: Duration::from_secs(secs) }
}

fn cache() -> Cache<u32> {
    Cache::new(Config::default())
}

#[test]
fn one_looks_and_all_others_wait() {
    let (mut cache, now) = (cache(), begin());
    assert_eq!(cache.get(now, key(1), Waiter(1)), Lookup::Search);
    assert_eq!(cache.get(now, key(1), Waiter(2)), Lookup::Joined);
    assert_eq!(cache.get(now, key(1), Waiter(3)), Lookup::Joined);
    assert_eq!(cache.get(now, key(2), Waiter(4)), Lookup::Search);
    cache.leave(&key(1), Waiter(2));
    assert_eq!(cache.found(now, key(1), value(7, 100)), [Waiter(1), Waiter(3)]);
    assert_eq!(cache.get(now, key(1), Waiter(5)), Lookup::Hit(7));
    assert_eq!(cache.found(now, key(1), value(8, 100)), [], "nobody waits any more");
}

#[test]
fn values_and_their_absence_are_believed_for_their_time() {
    let (mut cache, now) = (cache(), begin());
    assert_eq!(cache.found(now, key(1), value(7, 100)), []);
    assert_eq!(cache.found(now, key(2), value(8, 20)), []);
    assert_eq!(cache.found(now, key(3), Found::Nothing), []);
    assert_eq!(cache.found(now, key(4), Found::Failed), []);
    let mut ask = |secs: u32, n| cache.get(now + secs * SECOND, key(n), Waiter(0));
    assert_eq!(ask(4, 3), Lookup::Absent);
    assert_eq!(ask(4, 4), Lookup::Search);
    assert_eq!(ask(5, 3), Lookup::Search);
    assert_eq!(ask(19, 2), Lookup::Hit(8));
    assert_eq!(ask(20, 2), Lookup::Search);
    assert_eq!(ask(59, 1), Lookup::Hit(7));
    assert_eq!(ask(60, 1), Lookup::Search);
    assert_eq!((cache.len(), cache.bytes(), cache.poll_timeout()), (0, 0, None));
}

#[test]
fn what_proved_wrong_is_forgotten_even_while_it_is_under_way() {
    let (mut cache, now) = (cache(), begin());
    assert_eq!(cache.found(now, key(1), value(7, 100)), []);
    cache.forget(&key(1));
    assert_eq!(cache.get(now, key(1), Waiter(1)), Lookup::Search);
    cache.forget(&key(1));
    assert_eq!(cache.found(now, key(1), value(7, 100)), [Waiter(1)]);
    assert_eq!(cache.get(now, key(1), Waiter(2)), Lookup::Search);
}

#[test]
fn a_search_that_is_lost_does_not_block_its_key() {
    let (mut cache, now) = (cache(), begin());
    assert_eq!(cache.get(now, key(1), Waiter(1)), Lookup::Search);
    assert_eq!(cache.get(now + 29 * SECOND, key(1), Waiter(2)), Lookup::Joined);
    assert_eq!(cache.get(now + 30 * SECOND, key(1), Waiter(3)), Lookup::Search);
    assert_eq!(cache.get(now + 31 * SECOND, key(1), Waiter(4)), Lookup::Joined);
    let found = cache.found(now + 32 * SECOND, key(1), Found::Nothing);
    assert_eq!(found, [1, 2, 3, 4].map(Waiter));
}

#[test]
fn searches_and_waiters_are_bounded() {
    let config = Config { searches_max: 1, waiters_max: 2, ..Config::default() };
    let (mut cache, now) = (Cache::<u32>::new(config), begin());
    assert_eq!(cache.get(now, key(1), Waiter(1)), Lookup::Search);
    assert_eq!(cache.get(now, key(2), Waiter(1)), Lookup::Busy);
    assert_eq!(cache.get(now, key(1), Waiter(2)), Lookup::Joined);
    assert_eq!(cache.get(now, key(1), Waiter(3)), Lookup::Busy);
}

proptest! {
    #[test]
    fn a_cache_is_never_more_than_it_may_be(
        ops in prop::collection::vec((0_u8..12, 0_usize..60, 0_u64..90, any::<bool>()), 0..80),
    ) {
        let config = Config { count_max: 4, bytes_max: 100, ..Config::default() };
        let (mut cache, mut now) = (Cache::new(config), begin());
        for (n, len, secs, nothing) in ops {
            let ttl = Duration::from_secs(secs);
            let found = if nothing { Found::Nothing } else { Found::Value { value: n, len, ttl } };
            cache.keep(now, key(n), found);
            now += SECOND;
            let hit = cache.get(now, key(n), Waiter(0));
            prop_assert!(matches!(hit, Lookup::Search | Lookup::Joined | Lookup::Absent)
                || hit == Lookup::Hit(n));
            prop_assert!(cache.len() <= 4 && cache.bytes() <= 100);
            let bytes: usize = cache.answers.values().map(|answer| answer.len).sum();
            prop_assert_eq!((cache.bytes(), cache.len()), (bytes, cache.order.len()));
        }
    }
}
