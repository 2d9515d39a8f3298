//! Ten thousand calls while transport, pool and connections are killed under them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::supervision::{Mailbox, Worker};
use macula_workload::identity::EphemeralRealm;
use macula_workload::remote::{CallError, RemoteHandle, ReplyTo};
use macula_workload::{Config, Node};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

const CALLERS: u64 = 64;
const CALLS: u64 = 10_000;

/// After so many calls something is killed.
const KILL_EVERY: u64 = 150;

/// How long a call may take; one that is under way when something dies ends earlier.
const WITHIN: Duration = Duration::from_secs(5);

/// How much later than that it may end, on a machine that is busy with other things.
const GRACE: Duration = Duration::from_secs(5);

/// How soon service has to be back in the median of all that was killed. It is about recovery; how
/// fast a machine is has little to do with it.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// How long it may take at most.
const BACK_WITHIN_MAX: Duration = Duration::from_secs(30);

struct Ask(u64, ReplyTo<u64>);

/// Notes how often it was asked each question.
struct Clerk(Arc<Vec<AtomicU32>>);

impl Actor for Clerk {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(number, reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Some(times) = self.0.get(usize::try_from(number)?) {
            times.fetch_add(1, Ordering::Relaxed);
        }
        drop(reply.send(number));
        Ok(())
    }
}

/// A node whose supervisors never tire.
async fn node(realm: &EphemeralRealm) -> Node {
    let sets: Vec<String> = ["root", "infrastructure", "infrastructure/transport"]
        .into_iter()
        .chain(["infrastructure/pool", "infrastructure/peers"])
        .map(|path| format!("supervision.\"{path}\".intensity=10000"))
        .collect();
    let config = Config::load(None, [], &sets).unwrap();
    Node::builder().config(config).credentials(realm.member().unwrap()).start().await.unwrap()
}

/// Kills a part of a node that the dice choose.
fn kill(node: &Node, dice: &mut Entropy) -> &'static str {
    let parts = node.infrastructure();
    let link = node.mesh().links().first().cloned();
    let supervisor = |handle: &macula_core::supervision::SupervisorHandle| {
        if let Some(cell) = handle.cell() {
            cell.kill();
        }
    };
    match dice.below(6) {
        0 => {
            if let Some(actor) = parts.endpoint.actor_ref() {
                actor.kill();
            }
            "endpoint"
        }
        1 => {
            if let Some(actor) = parts.policy.actor_ref() {
                actor.kill();
            }
            "policy"
        }
        2 => {
            supervisor(&parts.transport);
            "transport and all after it"
        }
        3 => {
            supervisor(&parts.pool);
            "pool and all after it"
        }
        _ => {
            if let Some(link) = link {
                link.kill();
            }
            "link"
        }
    }
}

/// How one call ended.
struct Outcome {
    number: u64,
    answer: Result<u64, CallError>,
    took: Duration,
}

async fn caller(
    echo: RemoteHandle<u64, u64>,
    first: u64,
    done: Arc<AtomicU64>,
    bell: Arc<tokio::sync::Notify>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in (first..CALLS).step_by(usize::try_from(CALLERS).unwrap()) {
        let begin = TokioClock.now();
        let call = echo.call_within(WITHIN, &number);
        // A call that does not end by itself is lost; the wait for it ends all the same.
        if let Ok(answer) = tokio::time::timeout(WITHIN + GRACE, call).await {
            outcomes.push(Outcome { number, answer, took: TokioClock.now() - begin });
        }
        done.fetch_add(1, Ordering::Relaxed);
        bell.notify_one();
    }
    outcomes
}

/// Kills again and again, whenever enough calls have ended, and then sees to it that service is
/// back before the next.
async fn killer(
    nodes: [&Node; 2],
    echo: RemoteHandle<u64, u64>,
    done: Arc<AtomicU64>,
    bell: Arc<tokio::sync::Notify>,
) -> Vec<(&'static str, Duration)> {
    let (mut dice, mut next, mut gaps) = (Entropy::from_seed(7), KILL_EVERY, Vec::new());
    while next < CALLS - KILL_EVERY {
        while done.load(Ordering::Relaxed) < next {
            bell.notified().await;
        }
        let [one, two] = nodes;
        let victim = if dice.chance(0.5) { one } else { two };
        let what = kill(victim, &mut dice);
        let begin = TokioClock.now();
        let back = async {
            // A number that nobody else asks.
            while echo.call_within(WITHIN, &u64::MAX).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(BACK_WITHIN_MAX, back).await.unwrap();
        gaps.push((what, TokioClock.now() - begin));
        next = done.load(Ordering::Relaxed) + KILL_EVERY;
    }
    gaps
}

/// Holds what has ended to what was promised. Gives how many were answered, and the errors of each
/// kind.
fn judge(ended: &[Outcome], asked: &[AtomicU32]) -> (u64, BTreeMap<&'static str, u32>) {
    let numbers: BTreeSet<u64> = ended.iter().map(|outcome| outcome.number).collect();
    assert_eq!(numbers.len(), ended.len(), "a call ended twice");
    let lost: Vec<u64> = (0..CALLS).filter(|number| !numbers.contains(number)).collect();
    assert!(lost.is_empty(), "calls that did not end within {WITHIN:?} and {GRACE:?}: {lost:?}");
    let (mut answered, mut kinds) = (0, BTreeMap::new());
    for Outcome { number, answer, took } in ended {
        let times = asked.get(usize::try_from(*number).unwrap()).unwrap().load(Ordering::Relaxed);
        assert!(times <= 1, "question {number} was handled {times} times");
        assert!(*took <= WITHIN + GRACE, "{number} ended after {took:?}");
        match answer {
            Ok(answer) => {
                assert_eq!((answer, times), (number, 1), "an answer to nothing that was handled");
                answered += 1;
            }
            Err(error) => {
                assert!(times == 0 || error.may_have_run(), "{number} was handled: {error}");
                *kinds.entry(error.kind()).or_insert(0_u32) += 1;
            }
        }
    }
    (answered, kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_once_while_everything_is_killed() {
    let realm = EphemeralRealm::new().unwrap();
    let (one, two) = (node(&realm).await, node(&realm).await);
    one.mesh().introduce(two.id(), two.mesh().listening());
    two.mesh().introduce(one.id(), one.mesh().listening());
    let asked: Arc<Vec<AtomicU32>> = Arc::new((0..CALLS).map(|_| AtomicU32::new(0)).collect());
    let notes = Arc::clone(&asked);
    let worker = Worker::new("clerk", move || (Clerk(Arc::clone(&notes)), ())).unwrap();
    let worker = worker.mailbox(Mailbox { capacity: 100_000, ..Mailbox::default() });
    let clerk = two.spawn(worker).await.unwrap();
    two.serve("workload/clerk", &clerk, Ask).unwrap().keep();
    let echo = one.remote(two.id()).handle::<u64, u64>("workload/clerk").wait_for_ready();

    let (done, bell) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        callers.spawn(caller(echo.clone(), first, Arc::clone(&done), Arc::clone(&bell)));
    }
    let gaps = killer([&one, &two], echo.clone(), Arc::clone(&done), Arc::clone(&bell)).await;
    let mut ended = Vec::new();
    while let Some(outcomes) = callers.join_next().await {
        ended.extend(outcomes.unwrap());
    }
    let (answered, kinds) = judge(&ended, &asked);
    let mut waits: Vec<Duration> = gaps.iter().map(|(_, gap)| *gap).collect();
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    println!(
        "{} kills, {answered} answers, errors {kinds:?}; back after {median:?} in the median, {:?} at most",
        gaps.len(),
        waits.last().unwrap()
    );
    println!("{gaps:?}");
    assert!(median <= BACK_WITHIN, "service was back after {median:?} in the median");
    assert!(gaps.len() >= 10, "only {} things were killed", gaps.len());
    assert!(answered > CALLS / 2, "only {answered} calls were answered");
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}
