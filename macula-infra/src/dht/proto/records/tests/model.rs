//! Random puts, against a store that is simple and slow.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{
    Bug, Condition, Config, Duration, HOUR, Key, Moment, NOW, PutOutcome, Record, Records,
    Verified, begin, keypair, later, record, store, verified,
};

const SEQUENCES: u64 = 4;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Two authors, four names, four sequence numbers, and three ends.
static RECORDS: LazyLock<Vec<Verified>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for seed in [1, 2] {
        for name in NAMES {
            for sequence in 0..SEQUENCES {
                for hours in [1, 2, 3] {
                    let expires_at = NOW + hours * HOUR;
                    all.push(verified(&Record { expires_at, ..record(seed, name, sequence) }));
                }
            }
        }
    }
    all
});

#[derive(Debug, Clone)]
enum Op {
    Put(prop::sample::Index, Condition),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let condition = prop_oneof![
        4 => Just(Condition::Any),
        1 => Just(Condition::Absent),
        2 => (0..SEQUENCES).prop_map(Condition::Sequence),
    ];
    prop_oneof![
        8 => (any::<prop::sample::Index>(), condition).prop_map(|(n, c)| Op::Put(n, c)),
        1 => (1_u64..90).prop_map(Op::Wait),
    ]
}

/// What should be there.
#[derive(Default)]
struct Model {
    kept: BTreeMap<Key, Verified>,
    /// The newest sequence number there ever was, and until when an older record is valid.
    newest: BTreeMap<Key, (u64, Duration)>,
}

impl Model {
    fn expire(&mut self, at: Moment) {
        self.kept.retain(|_, record| record.record().expires_at > at.since_epoch);
    }

    fn put(&mut self, at: Moment, new: &Verified, condition: Condition) -> PutOutcome {
        let (key, sequence) = (new.key(), new.record().sequence);
        if new.record().expires_at <= at.since_epoch {
            return PutOutcome::Expired;
        }
        self.expire(at);
        let old = self.kept.get(&key);
        if old == Some(new) {
            return PutOutcome::Same;
        }
        let stored = old.map(|old| old.record().sequence);
        match condition {
            Condition::Absent if stored.is_some() => return PutOutcome::ConditionFailed { stored },
            Condition::Sequence(n) if stored != Some(n) => {
                return PutOutcome::ConditionFailed { stored };
            }
            _ => {}
        }
        let before = self.newest.get(&key).copied().filter(|(_, until)| *until > at.since_epoch);
        let newest = stored.or_else(|| before.map(|(sequence, _)| sequence));
        if let Some(stored) = newest {
            if sequence < stored {
                return PutOutcome::Older { stored };
            }
            if sequence == stored {
                return PutOutcome::Conflict { stored };
            }
        }
        let ended = old.map_or(Duration::ZERO, |old| old.record().expires_at);
        let until = self.newest.get(&key).map_or(ended, |(_, until)| ended.max(*until));
        self.newest.insert(key, (sequence, until));
        self.kept.insert(key, new.clone());
        PutOutcome::Stored
    }
}

fn agree(store: &Records, model: &Model, at: Moment) {
    let keys: Vec<Key> = store.keys(at.now).collect();
    assert_eq!(keys, model.kept.keys().copied().collect::<Vec<_>>());
    for (key, record) in &model.kept {
        assert_eq!(store.get(at.now, key), Some(record.signed()));
    }
}

fn play(ops: Vec<Op>, bug: Option<Bug>) {
    let mut at = begin();
    let (mut store, mut model) = (store(Config::default()), Model::default());
    store.bug = bug;
    for op in ops {
        match op {
            Op::Put(index, condition) => {
                let record = index.get(&RECORDS);
                let expected = model.put(at, record, condition);
                assert_eq!(store.put(at, record, condition), expected, "{record:?}");
            }
            Op::Wait(minutes) => {
                at = later(at, Duration::from_secs(60 * minutes));
                model.expire(at);
                if minutes % 2 == 0 {
                    store.handle_timeout(at.now);
                }
            }
        }
        agree(&store, &model, at);
    }
    store.handle_timeout(at.now);
    let bytes = model.kept.values().map(Verified::stored_len).sum::<usize>();
    assert_eq!((store.len(), store.bytes()), (model.kept.len(), bytes));
}

/// The same under narrow bounds, which are never exceeded.
fn squeeze(ops: Vec<Op>, bug: Option<Bug>) {
    let config = Config { count_max: 3, author_count_max: 2, bytes_max: 900, ..Config::default() };
    let (mut at, mut store) = (begin(), store(config));
    let authors = [1, 2].map(|seed| keypair(seed).node_id());
    store.bug = bug;
    for op in ops {
        match op {
            Op::Put(index, condition) => {
                let record = index.get(&RECORDS);
                let outcome = store.put(at, record, condition);
                let kept = store.get(at.now, &record.key()) == Some(record.signed());
                let good = matches!(outcome, PutOutcome::Stored | PutOutcome::Same);
                assert_eq!(good, kept, "{outcome:?}");
            }
            Op::Wait(minutes) => at = later(at, Duration::from_secs(60 * minutes)),
        }
        let authors = authors
            .map(|author| store.records.values().filter(|stored| stored.author == author).count());
        assert!(store.len() <= 3 && store.bytes() <= 900 && authors.iter().all(|n| *n <= 2));
        let bytes: usize = store.records.values().map(|stored| stored.len).sum();
        assert_eq!(store.bytes(), bytes);
        assert_eq!(store.all.order.len(), store.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_simple_one_does(ops in prop::collection::vec(op(), 0..80)) {
        play(ops, None);
    }

    #[test]
    fn the_store_keeps_within_its_bounds(ops in prop::collection::vec(op(), 0..80)) {
        squeeze(ops, None);
    }
}

/// Whether one of many random runs finds a bug.
fn finds(bug: Bug, play: fn(Vec<Op>, Option<Bug>)) -> bool {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..256).any(|_| {
        let ops = prop::collection::vec(op(), 0..80).new_tree(&mut runner).unwrap().current();
        std::panic::catch_unwind(|| play(ops, Some(bug))).is_err()
    })
}

#[test]
fn an_older_record_that_wins_is_found() {
    assert!(finds(Bug::TakesOlder, play));
}

#[test]
fn a_record_that_never_ends_is_found() {
    assert!(finds(Bug::NeverExpires, play));
}

#[test]
fn room_that_is_never_given_back_is_found() {
    assert!(finds(Bug::LeaksRoom, squeeze));
}
