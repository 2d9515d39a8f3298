//! Calls that are made for calls, through three whole nodes in virtual time: when the first caller
//! has given up, or its time is over, the last handler stops at once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "rpc/failover.rs"]
mod failover;

use std::convert::Infallible;
use std::time::Duration;

use macula_core::topic::Topic;
use macula_infra::remote::{CallError, Context};
use macula_infra::rpc::{CallOptions, Options, Rpc};
use macula_tests::world::{Faults, Life, Log, Look, Scenario, What, World};
use tokio::sync::mpsc;

/// How long a handler may go on in vain.
const STOPPED_WITHIN: Duration = Duration::from_millis(50);

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a procedure that nobody provides yet is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Seen {
    /// The innermost handler has begun.
    Begun,
    /// It has stopped.
    Stopped,
    /// The first caller has given up.
    GivenUp,
    /// Its time is over.
    TimedOut,
}

/// The first node calls the second, which calls the third, which never answers.
#[derive(Clone)]
struct Nested;

fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

/// Says when it is dropped.
struct Guard(mpsc::Sender<Seen>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _told = self.0.try_send(Seen::Stopped);
    }
}

async fn inner(life: &Life<Seen>, rpc: &Rpc) {
    let (tell, mut told) = mpsc::channel(16);
    let handler = move |(): (), _: Context| {
        let tell = tell.clone();
        async move {
            tell.try_send(Seen::Begun).unwrap();
            let guard = Guard(tell);
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, Infallible>(())
        }
    };
    rpc.advertise(&topic("inner"), &Options::default(), handler).unwrap().keep();
    while let Some(seen) = told.recv().await {
        life.saw(seen);
    }
}

fn outer(rpc: &Rpc) {
    let calls = rpc.clone();
    let handler = move |(): (), _: Context| {
        let rpc = calls.clone();
        async move {
            let long = Duration::from_secs(3_600);
            let options = CallOptions { within: long, ..CallOptions::default() };
            rpc.call_with::<_, ()>(&topic("inner"), &(), &options).await
        }
    };
    rpc.advertise(&topic("outer"), &Options::default(), handler).unwrap().keep();
}

/// Calls once both procedures are found; gives up after a while, or lets the time of the call pass.
async fn call(rpc: &Rpc, gives_up: bool) -> Seen {
    let within = if gives_up { PATIENCE * 2 } else { PATIENCE };
    let (outer, options) = (topic("outer"), CallOptions { within, ..CallOptions::default() });
    loop {
        let called = rpc.call_with::<_, ()>(&outer, &(), &options);
        match tokio::time::timeout(PATIENCE + PATIENCE / 2, called).await {
            Err(_elapsed) => return Seen::GivenUp,
            Ok(Err(CallError::TimedOut { .. })) => return Seen::TimedOut,
            Ok(Err(CallError::Unavailable(_) | CallError::Failed(_))) => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(other) => panic!("{other:?}"),
        }
    }
}

impl Scenario for Nested {
    type Seen = Seen;

    async fn live(&self, life: Life<Seen>) {
        for (_, id) in life.others() {
            while life.node.mesh().connect(id).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        let rpc = life.node.mesh().rpc().clone();
        match life.index {
            0 => {
                for gives_up in [true, false, true, false] {
                    life.saw(call(&rpc, gives_up).await);
                }
            }
            1 => outer(&rpc),
            _ => inner(&life, &rpc).await,
        }
    }

    fn healed(&self, look: &Look<'_, Seen>) -> bool {
        look.log().read(|log| log.iter().filter(|entry| ends(&entry.what)).count() >= 4)
    }

    fn check(&self, log: &Log<Seen>) -> Result<(), String> {
        log.read(|log| {
            let mut running = false;
            for (place, entry) in log.iter().enumerate() {
                match entry.what {
                    What::Seen(Seen::Begun) => running = true,
                    What::Seen(Seen::Stopped) => running = false,
                    _ => {}
                }
                if !ends(&entry.what) {
                    continue;
                }
                let until = entry.at + STOPPED_WITHIN;
                let after = log.iter().skip(place).take_while(|after| after.at <= until);
                let mut after = after.filter(|after| after.what == What::Seen(Seen::Stopped));
                // Both sides know when the time of a call is over, and either may be first.
                if running && after.next().is_none() {
                    return Err(format!("it goes on after {:?}", entry.at));
                }
            }
            let begun = log.iter().filter(|entry| entry.what == What::Seen(Seen::Begun)).count();
            if begun == 4 { Ok(()) } else { Err(format!("{begun} handlers have begun")) }
        })
    }
}

fn ends(what: &What<Seen>) -> bool {
    matches!(what, What::Seen(Seen::GivenUp | Seen::TimedOut))
}

#[test]
fn a_handler_behind_two_calls_stops_within_50_ms_of_the_end_of_the_first() {
    for seed in 0..10 {
        let world = World::builder(seed).nodes(3).storm(Duration::ZERO).faults(Faults::NONE);
        let world = world.joins().config(macula_tests::world::meet_quickly);
        let run = world.healing_max(Duration::from_secs(60)).run(&Nested);
        assert!(run.unwrap().healed_after > PATIENCE, "seed {seed}");
    }
}
