//! Procedures are called in a mesh of three nodes, wherever they are provided.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use macula_core::supervision::{ExitReason, What};
use macula_core::topic::Topic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use super::discovery::WITHIN;
use super::names::{stop, stop_in_sight_of, three};
use super::{Ask, Node, authority, node};
use crate::remote::{CallError, Context, Headers, Refusal, ReplyTo, TRACEPARENT, Unavailability};
use crate::rpc::{Advertised, Balance, CallOptions, Options};

pub(super) fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

/// Waits until the directory knows what a node advertises.
pub(super) async fn announced(node: &Node) {
    let announced = tokio::time::timeout(WITHIN, node.infra.mesh.rpc().announced());
    announced.await.expect("a procedure is announced");
}

/// Provides a procedure, and waits until the others can find it.
async fn advertise<Q, R, E, F>(
    node: &Node,
    name: &str,
    options: Options,
    handler: impl Fn(Q, Context) -> F + Send + Sync + 'static,
) -> Advertised
where
    Q: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: std::fmt::Display + Send + 'static,
    F: Future<Output = Result<R, E>> + Send + 'static,
{
    let advertised = node.infra.mesh.rpc().advertise(&topic(name), &options, handler).unwrap();
    announced(node).await;
    advertised
}

/// Provides a procedure that says which node this is.
async fn advertise_name(node: &Node, name: &str, says: u64) -> Advertised {
    let options = Options { idempotent: true, ..Options::default() };
    advertise(node, name, options, move |(): (), _| async move { Ok::<_, Infallible>(says) }).await
}

async fn call<Q: Serialize + Sync, R: DeserializeOwned>(
    node: &Node,
    name: &str,
    question: &Q,
) -> Result<R, CallError> {
    node.infra.mesh.rpc().call(&topic(name), question).await
}

fn no_provider(name: &str) -> CallError {
    CallError::Unavailable(Unavailability::NoProvider(name.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_is_called_wherever_it_is_provided() {
    let [one, two, three] = three().await;
    let none: Result<u64, _> = call(&three, "game.double", &1_u64).await;
    assert_eq!(none, Err(no_provider("game.double")));
    let options = Options { metadata: "eu".into(), ..Options::default() };
    let double = |number: u64, context: Context| async move {
        match context.headers().get("tenfold") {
            Some(_) => Ok(number * 20),
            None if number > 100 => Err("too much"),
            None => Ok(number * 2),
        }
    };
    let advertised = advertise(&two, "game.double", options, double).await;
    assert_eq!(advertised.procedure(), "game.double");
    assert_eq!(two.infra.mesh.rpc().procedures(), ["game.double"]);
    assert_eq!(call(&one, "game.double", &4_u64).await, Ok(8_u64));
    assert_eq!(call(&two, "game.double", &5_u64).await, Ok(10_u64), "on the node itself");
    let failed: Result<u64, _> = call(&one, "game.double", &101_u64).await;
    assert_eq!(failed, Err(CallError::Failed("too much".to_owned())));
    let headers = Headers::default().with("tenfold", "yes").unwrap();
    let options = CallOptions { headers, ..CallOptions::default() };
    let rpc = one.infra.mesh.rpc();
    assert_eq!(rpc.call_with(&topic("game.double"), &4_u64, &options).await, Ok(80_u64));
    let wrong: Result<u64, _> = call(&one, "game.double", &"four").await;
    assert!(matches!(wrong, Err(CallError::Unsupported(_))), "{wrong:?}");
    let providers = rpc.providers(&topic("game.double")).await.unwrap();
    assert_eq!(providers.len(), 1);
    assert_eq!((&providers[0].metadata[..], providers[0].idempotent), (&b"eu"[..], false));
    // An actor of the same name is another thing.
    let actor = one.infra.mesh.named::<u64, u64>("game.double").call(&1).await;
    assert!(matches!(actor, Err(CallError::Unavailable(Unavailability::NotServed(_)))));
    advertised.unadvertise();
    let gone: Result<u64, _> = call(&one, "game.double", &4_u64).await;
    let not_served = Unavailability::NotServed("!game.double".to_owned());
    assert_eq!(gone, Err(CallError::Unavailable(not_served)), "whoever believed it finds out");
    announced(&two).await;
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_provides_a_procedure_and_is_restarted_when_it_panics() {
    let [one, two, three] = three().await;
    let options = Options::default();
    let rpc = two.infra.mesh.rpc();
    let add = rpc.advertise_actor(&topic("sum.add"), &options, &two.counter, Ask::Add).unwrap();
    let panic = |(): (), reply: ReplyTo<u64>| Ask::Panic(reply);
    let panic = rpc.advertise_actor(&topic("sum.panic"), &options, &two.counter, panic).unwrap();
    announced(&two).await;
    assert_eq!(call(&one, "sum.add", &3_u64).await, Ok(3_u64));
    assert_eq!(call(&three, "sum.add", &4_u64).await, Ok(7_u64));
    assert_eq!(call::<_, u64>(&one, "sum.panic", &()).await, Err(CallError::RemotePanic));
    two.counter.next_life(1).await;
    assert_eq!(call(&one, "sum.add", &3_u64).await, Ok(3_u64), "another life");
    drop((add, panic));
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_provider_is_killed_another_is_asked() {
    let [one, two, three] = three().await;
    let _on_two = advertise_name(&two, "who", 2).await;
    let _on_three = advertise_name(&three, "who", 3).await;
    let round_robin = CallOptions { balance: Balance::RoundRobin, ..CallOptions::default() };
    let mut who = BTreeSet::new();
    for _ in 0..2 {
        let said = one.infra.mesh.rpc().call_with(&topic("who"), &(), &round_robin).await;
        who.insert(said.unwrap());
    }
    assert_eq!(who, BTreeSet::from([2_u64, 3]));
    stop_in_sight_of(&one, two).await;
    for _ in 0..4 {
        assert_eq!(call(&one, "who", &()).await, Ok(3_u64));
    }
    stop_in_sight_of(&one, three).await;
    let none: Result<u64, _> = call(&one, "who", &()).await;
    assert!(matches!(none, Err(CallError::Unavailable(_))), "{none:?}");
    one.root.stop().await;
}

/// Panics whenever it is called, which is counted.
fn panics(
    asked: &Arc<AtomicUsize>,
) -> impl Fn((), Context) -> BoxFuture<'static, Result<u64, String>> + Send + Sync + 'static {
    let asked = Arc::clone(asked);
    move |(), _| {
        asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { panic!("on purpose") })
    }
}

/// The older system's scenario of failing providers: the well ones are found, the failing ones are
/// left alone after a while, and what does harm is asked of nobody twice.
#[tokio::test(flavor = "multi_thread")]
async fn calls_with_failing_providers_are_answered_by_the_well_ones() {
    let [one, two, three] = three().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let idempotent = Options { idempotent: true, ..Options::default() };
    let _bad = advertise(&two, "try", idempotent, panics(&asked)).await;
    let _good = advertise_name(&three, "try", 3).await;
    let _once = advertise(&two, "once", Options::default(), panics(&asked)).await;
    let options = CallOptions {
        balance: Balance::RoundRobin,
        hedges: false,
        within: WITHIN,
        ..CallOptions::default()
    };
    let rpc = one.infra.mesh.rpc();
    for _ in 0..20 {
        assert_eq!(rpc.call_with(&topic("try"), &(), &options).await, Ok(3_u64));
    }
    // It was its turn ten times; its circuit opened after five, and is tried once in a while.
    let tried = asked.swap(0, Ordering::Relaxed);
    assert!((5..10).contains(&tried), "{tried}");
    let once: Result<u64, _> = rpc.call_with(&topic("once"), &(), &options).await;
    assert_eq!(once, Err(CallError::RemotePanic));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_panics_is_reported_and_harms_no_other_call() {
    let node = node(&authority(), 1).await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let handler = move |panics: bool, _: Context| {
        let (begins, goes) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            assert!(!panics, "asked to");
            begins.notify_one();
            goes.notified().await;
            Ok::<_, Infallible>(7_u64)
        }
    };
    let advertise = node.infra.mesh.rpc().advertise(&topic("p"), &Options::default(), handler);
    let _advertised = advertise.unwrap();
    let mut events = node.root.events();
    let rpc = node.infra.mesh.rpc().clone();
    let waits = tokio::spawn(async move { rpc.call::<_, u64>(&topic("p"), &false).await });
    begun.notified().await;
    assert_eq!(call::<_, u64>(&node, "p", &true).await, Err(CallError::RemotePanic));
    let reported = async {
        loop {
            let event = events.recv().await.unwrap();
            if let What::Report(report) = event.what
                && let ExitReason::Panic { message, .. } = report.reason
            {
                return (message, report.supervisor.to_string());
            }
        }
    };
    let (message, supervisor) = tokio::time::timeout(WITHIN, reported).await.unwrap();
    assert_eq!(message, "asked to");
    assert_eq!(supervisor, "infrastructure/services/handlers");
    go.notify_one();
    assert_eq!(waits.await.unwrap(), Ok(7));
    go.notify_one();
    assert_eq!(call(&node, "p", &false).await, Ok(7_u64), "the next one");
    node.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_overloaded_says_so_and_another_is_asked() {
    let [one, two, three] = three().await;
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let options = Options { concurrency_max: 1, queue_max: 1, ..Options::default() };
    let slow = move |(): (), _: Context| {
        let (begins, goes) = (Arc::clone(&begins), Arc::clone(&goes));
        async move {
            begins.notify_one();
            goes.notified().await;
            Ok::<_, Infallible>(2_u64)
        }
    };
    let _on_two = advertise(&two, "slow", options, slow).await;
    let within = CallOptions { within: WITHIN, ..CallOptions::default() };
    let spawn = || {
        let (rpc, within) = (one.infra.mesh.rpc().clone(), within.clone());
        tokio::spawn(async move { rpc.call_with::<_, u64>(&topic("slow"), &(), &within).await })
    };
    let first = spawn();
    begun.notified().await;
    // One more waits; which of the two it is only the gate knows.
    let (second, third) = (spawn(), spawn());
    let (refused, waits) = match select(second, third).await {
        Either::Left((done, other)) | Either::Right((done, other)) => (done.unwrap(), other),
    };
    let error = refused.unwrap_err();
    assert!(matches!(error, CallError::Refused(Refusal::Overloaded(_))), "{error:?}");
    assert_eq!((error.kind(), error.may_have_run()), ("overloaded", false));
    // Where another provides it too, nobody notices.
    let _on_three = advertise_name(&three, "slow", 3).await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(call::<_, u64>(&three, "slow", &()).await);
    }
    assert_eq!(asked, [Ok(3), Ok(3), Ok(3), Ok(3)]);
    go.notify_one();
    assert_eq!(first.await.unwrap(), Ok(2));
    begun.notified().await;
    go.notify_one();
    assert_eq!(waits.await.unwrap(), Ok(2));
    stop([one, two, three]).await;
}

/// Says when it is dropped.
pub(super) struct Dropped(pub(super) mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _told = self.0.try_send(());
    }
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn deadline_and_cancellation_reach_through_two_nested_calls() {
    let [one, two, three] = three().await;
    let (begun, mut begins) = mpsc::channel(8);
    let (dropped, mut drops) = mpsc::channel(8);
    let inner = move |(): (), context: Context| {
        let (begun, dropped) = (begun.clone(), Dropped(dropped.clone()));
        async move {
            let parent = context.headers().get(TRACEPARENT).map(str::to_owned);
            begun.try_send((context.left(), parent)).unwrap();
            std::future::pending::<()>().await;
            drop(dropped);
            Ok::<_, Infallible>(())
        }
    };
    let _inner = advertise(&three, "inner", Options::default(), inner).await;
    let rpc = two.infra.mesh.rpc().clone();
    let outer = move |(): (), _: Context| {
        let rpc = rpc.clone();
        async move {
            let long = CallOptions { within: WITHIN * 10, ..CallOptions::default() };
            rpc.call_with::<_, ()>(&topic("inner"), &(), &long).await
        }
    };
    let _outer = advertise(&two, "outer", Options::default(), outer).await;
    let headers = Headers::default().with(TRACEPARENT, PARENT).unwrap();
    let options =
        |within| CallOptions { within, headers: headers.clone(), ..CallOptions::default() };
    let rpc = one.infra.mesh.rpc().clone();
    // The connections are made by this one, which is dropped.
    let call = tokio::spawn({
        let (rpc, options) = (rpc.clone(), options(WITHIN));
        async move { rpc.call_with::<_, ()>(&topic("outer"), &(), &options).await }
    });
    let (left, parent) = begins.recv().await.unwrap();
    assert!(left <= WITHIN && left > WITHIN / 2, "{left:?}");
    assert_eq!(parent.as_deref(), Some(PARENT));
    assert!(drops.try_recv().is_err());
    call.abort();
    let stopped = tokio::time::timeout(WITHIN, drops.recv());
    assert!(stopped.await.unwrap().is_some(), "the innermost handler stops");
    let within = Duration::from_millis(500);
    let out = rpc.call_with::<_, ()>(&topic("outer"), &(), &options(within)).await;
    assert_eq!(out, Err(CallError::TimedOut { within }));
    let (left, _) = begins.recv().await.unwrap();
    assert!(left <= within, "{left:?}");
    let stopped = tokio::time::timeout(WITHIN, drops.recv());
    assert!(stopped.await.unwrap().is_some(), "the innermost handler stops");
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_does_no_harm_a_second_one_is_asked_when_the_first_is_slow() {
    let [one, two, three] = three().await;
    let (dropped, mut drops) = mpsc::channel(8);
    let hangs = Arc::new(AtomicBool::new(false));
    let handler = || {
        let (hangs, dropped) = (Arc::clone(&hangs), dropped.clone());
        move |(): (), _: Context| {
            let (hangs, dropped) = (hangs.swap(false, Ordering::Relaxed), dropped.clone());
            async move {
                if hangs {
                    let _dropped = Dropped(dropped);
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(7_u64)
            }
        }
    };
    let options = Options { idempotent: true, ..Options::default() };
    let _on_two = advertise(&two, "hedged", options.clone(), handler()).await;
    let _on_three = advertise(&three, "hedged", options, handler()).await;
    let options = CallOptions { within: WITHIN, ..CallOptions::default() };
    let rpc = one.infra.mesh.rpc();
    // Not before it is known how long its calls take.
    for _ in 0..40 {
        assert_eq!(rpc.call_with(&topic("hedged"), &(), &options).await, Ok(7_u64));
    }
    hangs.store(true, Ordering::Relaxed);
    assert_eq!(rpc.call_with(&topic("hedged"), &(), &options).await, Ok(7_u64));
    let stopped = tokio::time::timeout(WITHIN, drops.recv()).await;
    assert!(stopped.unwrap().is_some(), "the one that is slow is told that nobody waits");
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_asks_all_and_each_answers_for_itself() {
    let [one, two, three] = three().await;
    let options = CallOptions { within: WITHIN, ..CallOptions::default() };
    let rpc = one.infra.mesh.rpc();
    let none = rpc.broadcast::<_, u64>(&topic("nobody"), &(), &options).await;
    assert_eq!(none.unwrap_err(), no_provider("nobody"));
    let _on_one = advertise_name(&one, "all", 1).await;
    let _on_two = advertise_name(&two, "all", 2).await;
    let fails = |(): (), _: Context| async { Err::<u64, _>("not today") };
    let _on_three = advertise(&three, "all", Options::default(), fails).await;
    let mut broadcast = rpc.broadcast::<_, u64>(&topic("all"), &(), &options).await.unwrap();
    assert_eq!(broadcast.outstanding(), 3);
    let mut answers = Vec::new();
    while let Some((node, answer)) = broadcast.next().await {
        answers.push((node, answer));
    }
    answers.sort_by_key(|(node, _)| *node);
    let node = |node: &Node| node.infra.mesh.node();
    let failed = CallError::Failed("not today".to_owned());
    let mut expected = vec![(node(&one), Ok(1)), (node(&two), Ok(2)), (node(&three), Err(failed))];
    expected.sort_by_key(|(node, _)| *node);
    assert_eq!(answers, expected);
    stop([one, two, three]).await;
}
