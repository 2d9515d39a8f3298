//! The table: who enters, who stays, who is told of, and what is asked when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use proptest::prelude::*;

use super::super::diversity::{Limits, Prefix};
use super::super::peer::Peer;
use super::super::table::{Config, OUTPUTS_MAX, Output, Standing, Table};
use super::{Bug, begin, peer, peers};
use crate::dht::key::{BITS, Key};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The key of a table that has some peers in its farthest bucket.
fn own() -> Key {
    Key::from_bytes([0; 32])
}

fn table(now: Instant, config: Config) -> Table {
    Table::new(now, own(), config, Entropy::from_seed(1))
}

fn small(k: usize) -> Config {
    Config { k, ..Config::default() }
}

fn enter(table: &mut Table, now: Instant, peers: &[Peer]) {
    for peer in peers {
        table.seen(now, peer);
    }
}

fn outputs(table: &mut Table) -> Vec<Output> {
    std::iter::from_fn(|| table.poll_output()).collect()
}

/// Peers of the farthest bucket, each in a network of its own.
fn far(count: u32) -> Vec<Peer> {
    let far = peers(count * 3).into_iter().filter(|peer| bucket(peer) == 0);
    far.take(usize::try_from(count).unwrap()).collect()
}

fn bucket(peer: &Peer) -> usize {
    own().common_prefix(&peer.key())
}

fn question(peer: &Peer) -> Output {
    Output::Question { peer: peer.clone() }
}

#[test]
fn the_oldest_is_questioned_before_a_newcomer_takes_its_place() {
    let (now, peers) = (begin(), far(3));
    let mut table = table(now, small(2));
    assert_eq!(table.seen(now, &peers[0]), Standing::Entered);
    assert_eq!(table.seen(now, &peers[1]), Standing::Entered);
    let later = now + MINUTE;
    assert_eq!(table.seen(later, &peers[2]), Standing::Cached);
    assert_eq!(outputs(&mut table), [question(&peers[0])]);
    // It answers, and stays: the newcomer goes on waiting.
    assert_eq!(table.seen(later, &peers[0]), Standing::Known);
    assert!(!table.contains(&peers[2]));
    // Now the other is the oldest. It fails once, is asked again, and fails for good.
    assert_eq!(table.seen(later, &peers[2]), Standing::Cached);
    assert_eq!(outputs(&mut table), [question(&peers[1])]);
    table.failed(later, &peers[1]);
    assert!(table.contains(&peers[1]));
    assert_eq!(outputs(&mut table), [question(&peers[1])]);
    table.failed(later, &peers[1]);
    assert!(!table.contains(&peers[1]) && table.contains(&peers[2]));
    assert_eq!(table.stats().replaced, 1);
}

#[test]
fn who_was_just_seen_is_not_questioned() {
    let (now, peers) = (begin(), far(3));
    let mut table = table(now, small(2));
    enter(&mut table, now, &peers);
    assert_eq!(outputs(&mut table), []);
}

#[test]
fn one_question_at_a_time_for_each_bucket() {
    let (now, peers) = (begin(), far(9));
    let mut table = table(now, small(2));
    enter(&mut table, now, &peers[..2]);
    enter(&mut table, now + MINUTE, &peers[2..]);
    assert_eq!(outputs(&mut table), [question(&peers[0])]);
    // An answer that never came is not waited for for ever.
    table.seen(now + 3 * MINUTE, &peers[8]);
    assert_eq!(outputs(&mut table), [question(&peers[0])]);
}

#[test]
fn who_failed_and_has_nobody_to_follow_stays_and_is_not_told_of() {
    let (now, peers) = (begin(), far(3));
    let mut table = table(now, small(2));
    table.seen(now, &peers[0]);
    table.failed(now, &peers[0]);
    assert_eq!(table.closest(own(), 20), [peers[0].clone()]);
    assert_eq!(outputs(&mut table), [question(&peers[0])]);
    table.failed(now, &peers[0]);
    assert_eq!(table.closest(own(), 20), []);
    assert_eq!(table.closest_known(own(), 20), [peers[0].clone()]);
    assert_eq!(table.stats().questionable, 1);
    // The next newcomers take its place without a question.
    assert_eq!(table.seen(now, &peers[1]), Standing::Entered);
    assert_eq!(table.seen(now, &peers[2]), Standing::Entered);
    assert!(!table.contains(&peers[0]));
    assert_eq!(outputs(&mut table), []);
}

#[test]
fn who_comes_back_is_as_good_as_before() {
    let (now, peers) = (begin(), far(1));
    let mut table = table(now, small(2));
    table.seen(now, &peers[0]);
    table.failed(now, &peers[0]);
    table.failed(now, &peers[0]);
    table.seen(now, &peers[0]);
    table.failed(now, &peers[0]);
    assert_eq!(table.stats().questionable, 0);
}

#[test]
fn hearsay_leads_to_one_question_and_no_more() {
    let (now, peers) = (begin(), peers(200));
    let mut table = table(now, Config { candidates_max: 3, ..Config::default() });
    table.heard(now, &peers[0]);
    table.heard(now, &peers[0]);
    assert_eq!(outputs(&mut table), [question(&peers[0])]);
    assert!(!table.contains(&peers[0]));
    // A liar's crowd: three at a time, and nobody again within a minute.
    peers.iter().for_each(|peer| table.heard(now, peer));
    assert_eq!(outputs(&mut table).len(), 2);
    table.heard(now + 2 * MINUTE, &peers[0]);
    assert_eq!(outputs(&mut table).len(), 1);
    table.seen(now, &peers[0]);
    assert!(table.contains(&peers[0]));
}

#[test]
fn what_nobody_takes_out_is_bounded() {
    let (now, peers) = (begin(), peers(200));
    let mut table = table(now, Config { candidates_max: 1_000, ..Config::default() });
    peers.iter().for_each(|peer| table.heard(now, peer));
    assert_eq!(outputs(&mut table).len(), OUTPUTS_MAX);
}

#[test]
fn one_network_gets_two_places_of_a_bucket_and_ten_of_the_table() {
    let now = begin();
    let mut table = table(now, Config::default());
    let net = 0x0808_0800;
    let standings: Vec<(usize, Standing)> = (0..200)
        .map(|number| peer(number, net | number))
        .map(|peer| (bucket(&peer), table.seen(now, &peer)))
        .collect();
    let entered = |index: usize| {
        standings.iter().filter(|standing| **standing == (index, Standing::Entered)).count()
    };
    assert_eq!((entered(0), entered(1)), (2, 2));
    assert_eq!(table.stats().entries, (0..BITS).map(entered).sum::<usize>());
    assert_eq!(table.stats().entries, 10);
    assert_eq!(table.stats().crowded, 190);
    assert_eq!(table.stats().cached, 0);
    // A loopback or private network has no share.
    let lan = |number| table.seen(now, &peer(number, 0x7f00_0000 | number)) == Standing::Entered;
    assert!((300..310).all(lan));
}

#[test]
fn the_replacement_cache_is_diverse_too() {
    let now = begin();
    let mut table = table(now, small(2));
    let far = far(6);
    enter(&mut table, now, &far[..2]);
    let crowd = (1_000..1_040).map(|number| peer(number, 0x0909_0900 | (number - 999)));
    let crowd: Vec<Peer> = crowd.filter(|peer| bucket(peer) == 0).collect();
    assert!(crowd.len() > 8);
    let cached = crowd.iter().filter(|peer| table.seen(now, peer) == Standing::Cached).count();
    assert_eq!((cached, table.stats().cached), (2, 2));
}

#[test]
fn prefixes_are_of_24_and_48_bits() {
    let of = |ip: &str| Prefix::of(ip.parse().unwrap());
    assert_eq!(of("1.2.3.4"), of("1.2.3.200"));
    assert_ne!(of("1.2.3.4"), of("1.2.4.4"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:ffff::2"));
    assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    let limits = Limits::default();
    let is_limited = |ip: [u8; 4]| limits.prefix(&peer(1, u32::from_be_bytes(ip))).is_some();
    assert!(is_limited([100, 63, 0, 1]) && is_limited([172, 32, 0, 1]));
    assert!(![10, 127].iter().any(|first| is_limited([*first, 0, 0, 1])));
    assert!(!is_limited([100, 64, 0, 1]) && !is_limited([192, 168, 3, 4]));
}

#[test]
fn an_untouched_bucket_is_refreshed_after_an_hour_and_a_touched_one_later() {
    let now = begin();
    let mut table = table(now, small(1));
    let one = |index: usize| peers(600).into_iter().find(|peer| bucket(peer) == index).unwrap();
    enter(&mut table, now, &[one(0), one(1), one(2)]);
    table.looked_up(now + HOUR / 2, own().with_flipped(1));
    let (mut at, mut refreshed) = (now, Vec::new());
    while at < now + HOUR + 7 * MINUTE {
        at = table.poll_timeout().unwrap().0;
        table.handle_timeout(at);
        let keys = outputs(&mut table).into_iter().map(|output| match output {
            Output::Refresh { key } => own().common_prefix(&key),
            Output::Question { .. } => panic!("nobody is in doubt"),
        });
        refreshed.extend(keys.map(|bucket| (bucket, (at - now).as_secs() / 60)));
    }
    let mut early: Vec<usize> =
        refreshed.iter().filter(|(_, at)| (54..=66).contains(at)).map(|(b, _)| *b).collect();
    early.sort_unstable();
    // The second one had a lookup meanwhile; the own key is beyond all buckets.
    early.retain(|index| *index != BITS);
    assert_eq!(early, [0, 2], "{refreshed:?}");
    let own = refreshed.iter().filter(|(index, _)| *index == BITS).count();
    assert!((5..=8).contains(&own), "the neighbourhood is looked at every ten minutes: {own}");
}

#[test]
fn refreshes_after_a_join_come_one_after_the_other() {
    let now = begin();
    let mut table = table(now, small(1));
    enter(&mut table, now, &peers(50));
    table.refresh_all(now);
    let mut at = now;
    for index in 0..4 {
        assert_eq!(table.poll_timeout(), Some((at, "refresh")));
        table.handle_timeout(at);
        let refreshed = outputs(&mut table);
        assert!(
            matches!(refreshed[..], [Output::Refresh { key }] if own().common_prefix(&key) == index)
        );
        table.handle_timeout(at);
        assert_eq!(outputs(&mut table), []);
        at += Duration::from_secs(1);
    }
}

#[test]
fn those_in_doubt_are_tried_anew_with_a_refresh() {
    let (now, peers) = (begin(), far(2));
    let mut table = table(now, small(2));
    enter(&mut table, now, &peers);
    (0..2).for_each(|_| table.failed(now, &peers[1]));
    assert_eq!(outputs(&mut table), [question(&peers[1])]);
    table.refresh_all(now);
    table.handle_timeout(now);
    assert_eq!(outputs(&mut table)[1..], [question(&peers[1])]);
}

#[test]
fn a_table_is_saved_and_restored() {
    let now = begin() + HOUR;
    let mut table = table(now, small(2));
    let peers = peers(60);
    for (at, peer) in (0..).zip(&peers) {
        table.seen(now + Duration::from_secs(at), peer);
    }
    let later = now + 2 * MINUTE;
    let saved = table.save(later);
    assert!(saved.entries.iter().all(|saved| (60..=120).contains(&saved.seen_ago_s)));
    let mut again = self::table(later, small(2));
    again.restore(later, &saved);
    assert_eq!(again.save(later), saved);
    assert_eq!(again.closest(peers[7].key(), 2), table.closest(peers[7].key(), 2));
    // One failure is enough to be in doubt now.
    again.failed(later, &again.closest(own(), 1)[0].clone());
    assert_eq!(again.stats().questionable, 1);
    // Whatever a file says, the table keeps to its limits.
    let mut tiny = self::table(later, Config { k: 1, ..Config::default() });
    tiny.restore(later, &saved);
    assert_eq!(tiny.stats().entries, tiny.stats().buckets);
}

#[test]
fn who_was_caught_lying_is_followed_by_another() {
    let (now, peers) = (begin(), far(3));
    let mut table = table(now, small(2));
    enter(&mut table, now, &peers);
    table.forget(&peers[0]);
    assert!(!table.contains(&peers[0]) && table.contains(&peers[2]));
}

#[derive(Debug, Clone)]
enum Op {
    Seen(usize),
    Heard(usize),
    Failed(usize),
    Forget(usize),
    Wait(u64),
    LookedUp(usize),
    SaveAndRestore,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..80_usize).prop_map(Op::Seen),
        2 => (0..80_usize).prop_map(Op::Heard),
        4 => (0..80_usize).prop_map(Op::Failed),
        1 => (0..80_usize).prop_map(Op::Forget),
        3 => (0..5_000_u64).prop_map(Op::Wait),
        1 => (0..80_usize).prop_map(Op::LookedUp),
        1 => Just(Op::SaveAndRestore),
    ]
}

/// Does something random, and holds the table to what it has promised.
fn run(ops: Vec<Op>, k: usize, bug: Option<Bug>) -> Result<(), TestCaseError> {
    // Two of three share a network with others.
    let peers: Vec<Peer> = (0..80)
        .map(|n| peer(n, if n % 3 == 0 { n << 8 } else { 0x0101_0100 | ((n % 7) << 8) } | 1))
        .collect();
    let mut now = begin();
    let own = peers[0].key();
    let config = Config { k, ..Config::default() };
    let mut table = Table::new(now, own, config.clone(), Entropy::from_seed(3));
    table.bug = bug;
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut last_refresh = now;
    for op in ops {
        match op {
            Op::Seen(at) => {
                let standing = table.seen(now, &peers[at]);
                seen.insert(at);
                prop_assert_eq!(at == 0, standing == Standing::Refused && peers[at].key() == own);
            }
            Op::Heard(at) => table.heard(now, &peers[at]),
            Op::Failed(at) => table.failed(now, &peers[at]),
            Op::Forget(at) => table.forget(&peers[at]),
            Op::LookedUp(at) => table.looked_up(now, peers[at].key()),
            Op::Wait(secs) => {
                let until = now + Duration::from_secs(secs);
                while let Some((at, _)) = table.poll_timeout().filter(|(at, _)| *at <= until) {
                    now = now.max(at);
                    table.handle_timeout(now);
                    prop_assert!(table.poll_timeout().unwrap().0 > now, "time stands still");
                    for output in outputs(&mut table) {
                        if let Output::Refresh { key } = output {
                            table.looked_up(now, key);
                            last_refresh = now;
                        }
                    }
                }
                now = until;
                let due = table.stats().entries > 0 && secs > 4_500;
                prop_assert!(!due || now - last_refresh < 2 * HOUR, "nothing was refreshed");
            }
            Op::SaveAndRestore => {
                let saved = table.save(now);
                let before: Vec<Peer> = table.entries().cloned().collect();
                table = Table::new(now, own, config.clone(), Entropy::from_seed(3));
                table.bug = bug;
                table.restore(now, &saved);
                prop_assert_eq!(table.entries().count(), before.len());
            }
        }
        for output in outputs(&mut table) {
            let itself = matches!(output, Output::Question { peer } if peer.key() == own);
            prop_assert!(!itself, "it questions itself");
        }
        check(&table, &config, own, &peers, &seen)?;
    }
    Ok(())
}

fn check(
    table: &Table,
    config: &Config,
    own: Key,
    peers: &[Peer],
    seen: &BTreeSet<usize>,
) -> Result<(), TestCaseError> {
    let entries: Vec<Peer> = table.entries().cloned().collect();
    let (mut buckets, mut nets) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
    for entry in &entries {
        let bucket = own.common_prefix(&entry.key());
        *buckets.entry((bucket, None)).or_default() += 1;
        let prefix = config.limits.prefix(entry);
        *buckets.entry((bucket, prefix)).or_default() += usize::from(prefix.is_some());
        *nets.entry(prefix).or_default() += 1;
        prop_assert!(entry.key() != own, "itself");
        let at = peers.iter().position(|peer| peer == entry).unwrap();
        prop_assert!(seen.contains(&at), "hearsay has entered");
    }
    for ((_, prefix), count) in buckets {
        let most = if prefix.is_some() { 2 } else { config.k };
        prop_assert!(count <= most, "{count} in a bucket");
    }
    prop_assert!(nets.iter().all(|(prefix, count)| prefix.is_none() || *count <= 10));
    let ids: BTreeSet<_> = entries.iter().map(Peer::node).collect();
    prop_assert_eq!(ids.len(), entries.len(), "nobody is in it twice");
    for target in peers.iter().step_by(9).map(Peer::key).chain([own]) {
        let mut sorted = entries.clone();
        sorted.sort_by_key(|peer| target.distance(&peer.key()));
        prop_assert_eq!(&table.closest_known(target, 1_000), &sorted, "really the closest");
        sorted.truncate(config.k);
        prop_assert_eq!(&table.closest_known(target, config.k), &sorted, "and as many as asked");
        let good = table.closest(target, 1_000);
        prop_assert!(good.len() <= config.k, "never over k");
        prop_assert!(good.is_sorted_by_key(|peer| target.distance(&peer.key())));
        prop_assert_eq!(&table.closest(target, 1)[..], &good[..good.len().min(1)]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_table_keeps_its_promises(ops in prop::collection::vec(op(), 1..60), k in 1..6_usize) {
        run(ops, k, None)?;
    }
}

#[test]
fn a_refresh_that_never_runs_is_found() {
    let ops = vec![Op::Seen(1), Op::Wait(4_600), Op::Wait(4_600)];
    assert!(run(ops.clone(), 5, None).is_ok());
    assert!(run(ops, 5, Some(Bug::NeverRefreshes)).is_err());
}
