//! The judgement never panics, whatever it is shown.

use std::sync::LazyLock;
use std::time::Duration;

use macula_infra::transport::Side;
use macula_infra::transport::tls::{Trust, judge};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::{prop_assert, proptest};

use crate::cases;
use crate::pki::{self, BAD, NOW};

/// One thing that happens to a chain.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, Index, u8),
    Cut(Index, Index),
    Insert(Index, Index, Vec<u8>),
    Remove(Index),
    Double(Index),
    Swap(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        8 => (index(), index(), any::<u8>()).prop_map(|(which, at, to)| Change::Set(which, at, to)),
        2 => (index(), index()).prop_map(|(which, at)| Change::Cut(which, at)),
        2 => (index(), index(), vec(any::<u8>(), 0..40))
            .prop_map(|(which, at, bytes)| Change::Insert(which, at, bytes)),
        1 => index().prop_map(Change::Remove),
        1 => index().prop_map(Change::Double),
        1 => (index(), index()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn apply(chain: &mut Vec<Vec<u8>>, change: Change) {
    if chain.is_empty() {
        return;
    }
    let len = chain.len();
    let one = |which: &Index| which.index(len);
    match change {
        Change::Set(which, at, to) => {
            let der = chain.get_mut(one(&which)).unwrap();
            let at = at.index(der.len().max(1));
            der.get_mut(at).into_iter().for_each(|byte| *byte = to);
        }
        Change::Cut(which, at) => {
            let der = chain.get_mut(one(&which)).unwrap();
            der.truncate(at.index(der.len() + 1));
        }
        Change::Insert(which, at, bytes) => {
            let der = chain.get_mut(one(&which)).unwrap();
            let at = at.index(der.len() + 1);
            der.splice(at..at, bytes);
        }
        Change::Remove(which) => drop(chain.remove(one(&which))),
        Change::Double(which) => chain.push(chain.get(one(&which)).cloned().unwrap()),
        Change::Swap(a, b) => chain.swap(one(&a), one(&b)),
    }
}

/// The chains of all cases, with the trust that judges them.
static SEEDS: LazyLock<Vec<(Vec<Vec<u8>>, Trust)>> = LazyLock::new(|| {
    let cases = cases::all().into_iter();
    cases
        .filter_map(|case| {
            let role = case.dialler.or(case.acceptor)?;
            Some((role.bad.chain?, case.trust))
        })
        .collect()
});

fn seconds() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(NOW), any::<u64>().prop_map(Duration::from_secs), Just(Duration::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_chain_is_judged_without_a_panic(
        which in any::<Index>(),
        changes in vec(change(), 1..6),
        now in seconds(),
        dials in any::<bool>(),
    ) {
        let (mut chain, trust) = SEEDS.get(which.index(SEEDS.len())).cloned().unwrap();
        changes.into_iter().for_each(|change| apply(&mut chain, change));
        let side = if dials { Side::Dialler } else { Side::Acceptor };
        let judged = judge(&trust, side, Some(pki::node(BAD)), &chain, now);
        // A dialler never takes one node for another.
        prop_assert!(judged.is_err() || judged.is_ok_and(|judged| judged.node == pki::node(BAD)));
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(chain in vec(vec(any::<u8>(), 0..300), 0..6)) {
        let judged = judge(&pki::trust(), Side::Acceptor, None, &chain, NOW);
        prop_assert!(judged.is_err());
    }
}
