//! Procedures whose providers fail: one crashes again and again, one panics at every question, and
//! one is well. Who asks and may be asked again never notices; what is not to be asked again is
//! handled once at most.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use macula_infra::remote::Context;
use macula_infra::rpc::{CallOptions, Options, Rpc};
use macula_tests::seeds::{Case, FailedSeed};
use macula_tests::world::{self, Faults, Life, Log, Look, Scenario, What, World};

use super::{LOOK_EVERY, topic};

/// How many seeds are run if nothing else is said.
const SEEDS: u64 = 5;

/// The node that crashes, if any does.
const CRASHES: usize = 0;

/// The node whose handlers panic.
const PANICS: usize = 1;

/// The node that is well.
const WELL: usize = 2;

/// How many of the first nodes provide both procedures; the others call.
const PROVIDERS: usize = 3;

/// How long a call may take.
const WITHIN: Duration = Duration::from_secs(4);

/// The procedure that may be asked again.
const AGAIN: &str = "work.again";

/// The one that may not.
const ONCE: &str = "work.once";

/// How many calls in a row have to be answered for a caller to count as well.
const ANSWERED: usize = 5;

/// How many calls are answered at the very least, or the world proves nothing.
const CALLS_MIN: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Seen {
    /// A procedure is called.
    Asked { name: &'static str, call: u64 },
    /// A handler has begun with it.
    Handled { call: u64 },
    /// It is answered.
    Answered { call: u64 },
    /// It is not.
    Failed { call: u64, may_have_run: bool, why: String },
}

/// The scenario.
#[derive(Debug, Clone, Copy)]
struct Failing {
    /// Whether nothing is wrong but with the providers: then no call that may be asked again fails.
    is_gentle: bool,
    /// How many providers a call may ask.
    attempts_max: usize,
}

impl Failing {
    const GENTLE: Self = Self { is_gentle: true, ..Self::STORMY };
    const STORMY: Self = Self { is_gentle: false, attempts_max: 3 };
    /// Whoever asks one provider alone fails with it.
    const STUBBORN: Self = Self { attempts_max: 1, ..Self::GENTLE };
}

fn provide(life: &Life<Seen>, name: &str, idempotent: bool) {
    let options = Options { idempotent, ..Options::default() };
    let (seen, index) = (life.clone(), life.index);
    let handler = move |call: u64, _: Context| {
        let seen = seen.clone();
        async move {
            seen.saw(Seen::Handled { call });
            assert!(index != PANICS || !idempotent, "as always");
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, Infallible>(!call)
        }
    };
    life.node.rpc().advertise(&topic(name), &options, handler).unwrap().keep();
}

async fn call(life: &Life<Seen>, rpc: &Rpc, attempts_max: usize, name: &'static str, call: u64) {
    life.saw(Seen::Asked { name, call });
    let options = CallOptions { within: WITHIN, attempts_max, ..CallOptions::default() };
    let answer = rpc.call_with::<u64, u64>(&topic(name), &call, &options).await;
    life.saw(match answer {
        Ok(answer) if answer == !call => Seen::Answered { call },
        Ok(answer) => panic!("{answer} is no answer to {call}"),
        Err(error) => {
            Seen::Failed { call, may_have_run: error.may_have_run(), why: error.to_string() }
        }
    });
}

impl Scenario for Failing {
    type Seen = Seen;

    async fn live(&self, life: Life<Seen>) {
        if life.index < PROVIDERS {
            provide(&life, AGAIN, true);
            provide(&life, ONCE, false);
            return std::future::pending().await;
        }
        let rpc = life.node.rpc().clone();
        // Until the one that is well is known.
        let knows_all = || async {
            let found = rpc.providers(&topic(AGAIN)).await.unwrap_or_default();
            found.iter().any(|found| Some(&found.node) == life.ids.get(WELL))
        };
        while !knows_all().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let first = u64::try_from(life.index).unwrap() << 48 | life.number << 32;
        for number in (first..).step_by(2) {
            call(&life, &rpc, self.attempts_max, AGAIN, number).await;
            call(&life, &rpc, self.attempts_max, ONCE, number + 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        look.log().read(|log| {
            let names = asked(log.iter().map(|entry| &entry.what));
            (PROVIDERS..look.nodes().len()).all(|caller| {
                let ends = log.iter().rev().filter(|entry| entry.node == caller);
                let mut ends = ends.filter_map(|entry| match &entry.what {
                    What::Seen(Seen::Answered { call }) => Some((*call, true)),
                    What::Seen(Seen::Failed { call, .. }) => Some((*call, false)),
                    _ => None,
                });
                let mut again = ends.by_ref().filter(|(call, _)| names.get(call) == Some(&AGAIN));
                again.by_ref().take(ANSWERED).filter(|(_, is_answered)| *is_answered).count()
                    == ANSWERED
            })
        })
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(|log| {
            let names = asked(log.iter().map(|entry| &entry.what));
            let (mut handled, mut ended) = (BTreeMap::<u64, u32>::new(), BTreeMap::new());
            for entry in log {
                let What::Seen(seen) = &entry.what else { continue };
                match seen {
                    Seen::Asked { .. } => {}
                    Seen::Handled { call } => *handled.entry(*call).or_default() += 1,
                    Seen::Answered { call } | Seen::Failed { call, .. } => {
                        if ended.insert(*call, seen).is_some() {
                            return Err(format!("call {call:#x} has ended twice"));
                        }
                    }
                }
            }
            for (call, end) in &ended {
                let (name, times) = (names.get(call), handled.get(call).copied().unwrap_or(0));
                let once = name == Some(&ONCE);
                match end {
                    Seen::Answered { .. } if times == 0 => {
                        return Err(format!("{call:#x} was answered and not handled"));
                    }
                    Seen::Failed { may_have_run: false, why, .. } if times > 0 => {
                        return Err(format!("{call:#x} was handled, and that is denied: {why}"));
                    }
                    Seen::Failed { why, .. } if self.is_gentle && !once => {
                        return Err(format!(
                            "{call:#x} has failed, and one provider is well: {why}"
                        ));
                    }
                    _ => {}
                }
            }
            let panicked = log.iter().any(|entry| {
                entry.node == PANICS && matches!(entry.what, What::Seen(Seen::Handled { .. }))
            });
            let answered =
                ended.values().filter(|end| matches!(end, Seen::Answered { .. })).count();
            if !panicked || answered < CALLS_MIN {
                return Err(format!("{answered} calls were answered, one panicked: {panicked}"));
            }
            let more =
                handled.iter().find(|(call, times)| names.get(call) == Some(&ONCE) && **times > 1);
            match more {
                Some((call, times)) => Err(format!("{call:#x} was handled {times} times")),
                None => Ok(()),
            }
        })
    }
}

/// Which procedure each call is for.
fn asked<'a>(log: impl Iterator<Item = &'a What<Seen>>) -> BTreeMap<u64, &'static str> {
    log.filter_map(|what| match what {
        What::Seen(Seen::Asked { name, call }) => Some((*call, *name)),
        _ => None,
    })
    .collect()
}

fn world(seed: u64, faults: Faults, crashing: usize) -> World {
    let world = World::builder(seed).nodes(PROVIDERS + 2).joins().crashing(crashing);
    world.faults(faults).healing_max(Duration::from_secs(40))
}

/// The node crashes that is to, again and again, and nothing else is wrong.
const CRASHING: Faults = Faults {
    crash_every: Some(Duration::from_secs(3)),
    down_max: Duration::from_secs(2),
    ..Faults::NONE
};

#[test]
fn a_caller_that_asks_one_provider_alone_is_found() {
    let failed = world(0, CRASHING, CRASHES + 1).run(&Failing::STUBBORN).unwrap_err();
    assert!(failed.why.contains("one provider is well"), "{failed}");
}

#[test]
fn whoever_asks_does_not_notice_that_providers_fail() -> Result<(), FailedSeed> {
    let case = Case { target: "rpc", test: "failover::whoever_asks" };
    world::check_all(case, 0..SEEDS, |seed| {
        let run = world(seed, CRASHING, CRASHES + 1).run(&Failing::GENTLE);
        run.map(drop).map_err(|broken| broken.to_string())
    })
}

#[test]
fn calls_end_once_and_fail_over_in_any_weather() -> Result<(), FailedSeed> {
    let case = Case { target: "rpc", test: "failover::calls_end_once" };
    world::check_all(case, 0..SEEDS, |seed| {
        let run = world(seed, Faults::STORM, PROVIDERS).run(&Failing::STORMY);
        run.map(drop).map_err(|broken| broken.to_string())
    })
}
