//! The store of providers.

use std::collections::BTreeSet;
use std::time::Duration;

use macula_core::entropy::Entropy;

use super::{Bound, Config, ProvideOutcome, Providers, TTL};
use crate::dht::proto::time::Moment;
use crate::dht::provider::tests::provider;
use crate::dht::provider::{Provider, Verified};
use crate::dht::record::tests::{NOW, begin, keypair, later, own, rules};

const SECOND: Duration = Duration::from_secs(1);

fn store(config: Config) -> Providers {
    Providers::new(own(), config, Entropy::from_seed(1))
}

fn verified_at(seed: u8, at: Moment, provider: &Provider) -> Verified {
    provider.sign(&keypair(seed)).unwrap().verify(at.since_epoch, None, &rules()).unwrap()
}

fn put(store: &mut Providers, seed: u8, name: &str) -> ProvideOutcome {
    let at = begin();
    store.put(at, &verified_at(seed, at, &provider(seed, name)))
}

/// The same provider, issued anew.
fn anew(provider: &Provider, wait: Duration) -> Provider {
    Provider { issued_at: NOW + wait, expires_at: NOW + wait + TTL, ..provider.clone() }
}

#[test]
fn a_provider_lives_for_its_time_unless_it_is_issued_anew() {
    let (mut store, at) = (store(Config::default()), begin());
    let first = provider(1, "name");
    let key = first.key();
    assert_eq!(store.put(at, &verified_at(1, at, &first)), ProvideOutcome::Stored);
    assert_eq!(store.put(at, &verified_at(1, at, &first)), ProvideOutcome::Same);
    let half = later(at, TTL / 2);
    let again = verified_at(1, half, &anew(&first, TTL / 2));
    assert_eq!(store.put(half, &again), ProvideOutcome::Stored);
    let older = verified_at(1, half, &first);
    let stored = NOW + TTL / 2;
    assert_eq!(store.put(half, &older), ProvideOutcome::Older { stored });
    let twin = Provider { metadata: "other".into(), ..anew(&first, TTL / 2) };
    let twin = verified_at(1, half, &twin);
    assert_eq!(store.put(half, &twin), ProvideOutcome::Older { stored });
    let end = later(at, TTL);
    store.handle_timeout(end.now);
    assert_eq!(store.find(end.now, &key, 5), [again.signed().clone()]);
    let end = later(half, TTL);
    assert_eq!(store.count(end.now, &key), 0, "before the deadline was seen to");
    assert_eq!(store.poll_timeout(), Some((end.now, "expire")));
    store.handle_timeout(end.now);
    assert_eq!((store.len(), store.bytes(), store.poll_timeout()), (0, 0, None));
    assert_eq!(store.put(end, &again), ProvideOutcome::Expired);
}

#[test]
fn what_was_withdrawn_does_not_come_back() {
    let (mut store, at) = (store(Config::default()), begin());
    let first = provider(1, "name");
    let shown = verified_at(1, at, &first);
    assert_eq!(store.put(at, &shown), ProvideOutcome::Stored);
    let at = later(at, SECOND);
    let gone = verified_at(1, at, &first.withdrawal(at.since_epoch));
    assert_eq!(store.put(at, &gone), ProvideOutcome::Withdrawn);
    assert_eq!(store.put(at, &gone), ProvideOutcome::Same);
    assert_eq!((store.count(at.now, &first.key()), store.len()), (0, 1));
    assert_eq!(store.put(at, &shown), ProvideOutcome::Older { stored: at.since_epoch });
    let back = verified_at(1, at, &anew(&first, 2 * SECOND));
    assert_eq!(store.put(at, &back), ProvideOutcome::Stored);
    assert_eq!(store.count(at.now, &first.key()), 1);
}

#[test]
fn a_withdrawal_that_comes_first_counts() {
    let (mut store, at) = (store(Config::default()), begin());
    let first = provider(1, "name");
    let gone = verified_at(1, at, &first.withdrawal(NOW + SECOND));
    assert_eq!(store.put(at, &gone), ProvideOutcome::Withdrawn);
    let shown = verified_at(1, at, &first);
    assert_eq!(store.put(at, &shown), ProvideOutcome::Older { stored: NOW + SECOND });
}

#[test]
fn a_key_a_node_and_the_store_have_their_bounds() {
    use ProvideOutcome::{Full, Stored};
    let mut crowded = store(Config { key_count_max: 2, ..Config::default() });
    let outcomes = [1, 2, 3].map(|seed| put(&mut crowded, seed, "name"));
    assert_eq!(outcomes, [Stored, Stored, Full(Bound::Key)]);
    assert_eq!(put(&mut crowded, 3, "other"), Stored);
    let mut greedy = store(Config { node_count_max: 1, ..Config::default() });
    assert_eq!(put(&mut greedy, 1, "a"), Stored);
    assert_eq!(put(&mut greedy, 1, "b"), Full(Bound::Author));
    assert_eq!(put(&mut greedy, 2, "b"), Stored);
}

#[test]
fn a_full_store_keeps_what_is_near() {
    let (mut store, at) = (store(Config { count_max: 4, ..Config::default() }), begin());
    let names: Vec<String> = (0..24).map(|n: u8| n.to_string()).collect();
    for name in &names {
        assert_ne!(put(&mut store, 1, name), ProvideOutcome::Same);
        assert!(store.len() <= 4);
    }
    let near = |name: &String| own().common_prefix(&provider(1, name).key());
    let kept: Vec<usize> = names
        .iter()
        .filter(|name| store.count(at.now, &provider(1, name).key()) > 0)
        .map(near)
        .collect();
    let mut all: Vec<usize> = names.iter().map(near).collect();
    all.sort_unstable();
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|prefix| *prefix >= all[20]), "{kept:?} of {all:?}");
    let refused = names.iter().find(|name| near(name) == 0).unwrap();
    assert_eq!(put(&mut store, 2, refused), ProvideOutcome::Full(Bound::All));
    let bytes: usize = store.providers.values().map(|stored| stored.len).sum();
    assert_eq!(store.bytes(), bytes);
}

#[test]
fn a_query_gives_some_by_chance_and_each_once() {
    let (mut store, at) = (store(Config::default()), begin());
    for seed in 1..=10 {
        assert_eq!(put(&mut store, seed, "name"), ProvideOutcome::Stored);
        assert_eq!(put(&mut store, seed, "other"), ProvideOutcome::Stored);
    }
    let key = provider(1, "name").key();
    let mut seen = [0_u32; 10];
    for _ in 0..200 {
        let found = store.find(at.now, &key, 3);
        let nodes: BTreeSet<_> = found.iter().map(super::Signed::author).collect();
        assert_eq!((found.len(), nodes.len()), (3, 3));
        for seed in 1..=10_u8 {
            seen[usize::from(seed) - 1] += u32::from(nodes.contains(&keypair(seed).node_id()));
        }
    }
    assert!(seen.iter().all(|n| (30..=90).contains(n)), "{seen:?}");
    assert_eq!(store.find(at.now, &key, 100).len(), 10);
    assert_eq!(store.count(at.now, &provider(1, "nobody").key()), 0);
}
