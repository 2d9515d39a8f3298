//! What proptest makes up: a supervisor, and what happens to it.

use std::time::Duration;

use proptest::arbitrary::Arbitrary;
use proptest::prelude::{BoxedStrategy, any, prop};
use proptest::strategy::Strategy as Generate;

use crate::supervision::policy::{Backoff, ChildPolicy, Restart, Shutdown, Strategy};

/// A supervisor to be.
#[derive(Debug, Clone)]
pub(super) struct Make {
    pub(super) strategy: Strategy,
    pub(super) dynamic: bool,
    pub(super) policies: Vec<ChildPolicy>,
}

impl Make {
    pub(super) fn plain(children: u8, strategy: Strategy) -> Self {
        let policies = vec![ChildPolicy::worker(); usize::from(children)];
        Self { strategy, dynamic: false, policies }
    }
}

fn policies() -> impl Generate<Value = ChildPolicy> {
    let restarts =
        vec![Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary];
    let second = Duration::from_secs(1);
    let bounds = vec![Shutdown::Brutal, Shutdown::Timeout(second), Shutdown::Timeout(second * 5)];
    let waits = vec![Backoff::NONE, Backoff::exponential(second, second * 8)];
    let lives = vec![None, Some(second * 2)];
    let picks = (
        prop::sample::select(restarts),
        prop::sample::select(bounds),
        prop::sample::select(waits),
        prop::sample::select(lives),
    );
    picks.prop_map(|(restart, shutdown, backoff, liveness)| ChildPolicy {
        restart,
        shutdown,
        backoff,
        liveness,
        ..ChildPolicy::worker()
    })
}

impl Arbitrary for Make {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Self> {
        let strategies = vec![
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
            Strategy::RestForOne,
        ];
        let parts = (
            prop::sample::select(strategies),
            prop::bool::weighted(0.2),
            prop::collection::vec(policies(), 0..6),
        );
        let make = parts.prop_map(|(strategy, dynamic, policies)| {
            let strategy = if dynamic { Strategy::OneForOne } else { strategy };
            Self { strategy, dynamic, policies }
        });
        make.boxed()
    }
}

/// One thing that happens: what, and to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Op(pub(super) u8, pub(super) u8);

impl Arbitrary for Op {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Self> {
        (any::<u8>(), any::<u8>()).prop_map(|(what, whom)| Self(what, whom)).boxed()
    }
}

impl Op {
    pub(super) const fn is_stop(self) -> bool {
        self.0 == 255
    }
}
