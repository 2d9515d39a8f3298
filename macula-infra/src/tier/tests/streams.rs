//! Streams between nodes.

use std::convert::Infallible;
use std::time::Duration;

use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use super::discovery::WITHIN;
use super::names::{stop, three};
use super::rpc::{Dropped, announced, topic};
use super::{Node, authority, node};
use crate::remote::{CallError, Context, Interruption, Refusal, Unavailability};
use crate::rpc::{CallOptions, Options, StreamReceiver, StreamSender};

fn long() -> CallOptions {
    CallOptions { within: WITHIN, ..CallOptions::default() }
}

/// Sends as many numbers as it is asked for first.
async fn count(
    mut asked: StreamReceiver<u64>,
    mut numbers: StreamSender<u64>,
    _: Context,
) -> Result<(), CallError> {
    let count = asked.next().await?.unwrap_or_default();
    for number in 0..count {
        numbers.send(&number).await?;
    }
    Ok(())
}

/// Answers each number with the sum so far.
async fn sum(
    mut numbers: StreamReceiver<u64>,
    mut sums: StreamSender<u64>,
    _: Context,
) -> Result<(), String> {
    let mut sum = 0;
    while let Some(number) = numbers.next().await.map_err(|error| error.to_string())? {
        match number {
            13 => return Err("unlucky".to_owned()),
            99 => panic!("asked to"),
            number => sum += number,
        }
        sums.send(&sum).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn serve(node: &Node) {
    let rpc = node.infra.mesh.rpc();
    rpc.advertise_stream(&topic("count"), &Options::default(), count).unwrap().keep();
    rpc.advertise_stream(&topic("sum"), &Options::default(), sum).unwrap().keep();
    let echo = |text: String, _: Context| async move { Ok::<_, Infallible>(text) };
    rpc.advertise(&topic("echo"), &Options::default(), echo).unwrap().keep();
    announced(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_long_stream_slows_nothing_but_its_stream() {
    let [one, two, three] = three().await;
    serve(&two).await;
    let rpc = one.infra.mesh.rpc();
    let (mut ask, mut numbers) = rpc.open::<u64, u64>(&topic("count"), &long()).await.unwrap();
    ask.send(&10_000).await.unwrap();
    ask.finish();
    for number in 0..10_000_u64 {
        assert_eq!(numbers.next().await, Ok(Some(number)));
        if number % 1_000 == 0 {
            // Nobody reads meanwhile, and all else goes on: calls, and another stream.
            let echo = rpc.call::<_, String>(&topic("echo"), &"hello").await;
            assert_eq!(echo.as_deref(), Ok("hello"));
            let (mut ask, mut others) = rpc.open(&topic("count"), &long()).await.unwrap();
            ask.send(&100_u64).await.unwrap();
            ask.finish();
            for other in 0..100_u64 {
                assert_eq!(others.next().await, Ok(Some(other)));
            }
            assert_eq!(others.next().await, Ok(None));
        }
    }
    assert_eq!(numbers.next().await, Ok(None));
    assert_eq!(numbers.next().await, Ok(None), "the end stays");
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_go_both_ways_and_the_end_is_the_same_on_both_sides() {
    let [one, two, three] = three().await;
    serve(&two).await;
    // Over a connection, and on the node itself.
    for node in [&one, &two] {
        let rpc = node.infra.mesh.rpc();
        let open = || async { rpc.open::<u64, u64>(&topic("sum"), &long()).await.unwrap() };
        let (mut numbers, mut sums) = open().await;
        let mut expected = 0;
        for number in 1..=10 {
            numbers.send(&number).await.unwrap();
            expected += number;
            assert_eq!(sums.next().await, Ok(Some(expected)));
        }
        numbers.finish();
        assert_eq!(sums.next().await, Ok(None));
        let (mut numbers, mut sums) = open().await;
        numbers.send(&1).await.unwrap();
        numbers.send(&13).await.unwrap();
        assert_eq!(sums.next().await, Ok(Some(1)), "what has come is read first");
        let failed = CallError::Failed("unlucky".to_owned());
        assert_eq!(sums.next().await, Err(failed.clone()));
        assert_eq!(numbers.send(&1).await, Err(failed));
        assert!(numbers.is_over());
        let (mut numbers, mut sums) = open().await;
        numbers.send(&99).await.unwrap();
        assert_eq!(sums.next().await, Err(CallError::RemotePanic));
        drop((numbers, sums));
        let within = Duration::from_millis(300);
        let short = CallOptions { within, ..CallOptions::default() };
        let (_numbers, mut sums) = rpc.open::<u64, u64>(&topic("sum"), &short).await.unwrap();
        assert_eq!(sums.next().await, Err(CallError::TimedOut { within }));
        let none = rpc.open::<u64, u64>(&topic("nothing"), &long()).await.unwrap_err();
        assert_eq!(none, CallError::Unavailable(Unavailability::NoProvider("nothing".to_owned())));
        let question = rpc.call::<_, u64>(&topic("sum"), &1).await.unwrap_err();
        assert!(matches!(question, CallError::Unsupported(_)), "{question:?}");
        let stream = rpc.open::<u64, u64>(&topic("echo"), &long()).await.unwrap_err();
        assert!(matches!(stream, CallError::Unsupported(_)), "{stream:?}");
    }
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_drops_a_stream_stops_its_handler() {
    let [one, two, three] = three().await;
    let (tell, mut told) = mpsc::channel(8);
    let waits = move |_: StreamReceiver<()>, _: StreamSender<()>, _: Context| {
        let tell = tell.clone();
        async move {
            tell.try_send(()).unwrap();
            let guard = Dropped(tell);
            std::future::pending::<()>().await;
            drop(guard);
            Ok::<_, Infallible>(())
        }
    };
    let rpc = two.infra.mesh.rpc();
    rpc.advertise_stream(&topic("waits"), &Options::default(), waits).unwrap().keep();
    announced(&two).await;
    // Each handler tells that it has begun, and that it has stopped.
    let mut tells = async || tokio::time::timeout(WITHIN, told.recv()).await.unwrap().unwrap();
    for node in [&one, &two] {
        let rpc = node.infra.mesh.rpc();
        let open = || async { rpc.open::<(), ()>(&topic("waits"), &long()).await.unwrap() };
        let (_sender, receiver) = open().await;
        tells().await;
        drop(receiver);
        tells().await;
        let (sender, _receiver) = open().await;
        tells().await;
        drop(sender);
        tells().await;
        let (sender, receiver) = open().await;
        tells().await;
        sender.finish();
        drop(receiver);
        tells().await;
    }
    // And so does the end of its node.
    let (_sender, mut receiver) =
        one.infra.mesh.rpc().open::<(), ()>(&topic("waits"), &long()).await.unwrap();
    tells().await;
    one.infra.mesh.links().iter().for_each(|link| link.kill());
    let lost = receiver.next().await.unwrap_err();
    assert!(matches!(lost, CallError::Interrupted(Interruption::ConnectionLost(_))), "{lost:?}");
    tells().await;
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_items_and_many_streams_have_their_bounds() {
    let node = node(&authority(), 1).await;
    let (tell, mut told) = mpsc::channel(8);
    let options = Options { concurrency_max: 1, queue_max: 0, ..Options::default() };
    let reads = move |mut items: StreamReceiver<ByteBuf>, _: StreamSender<()>, _: Context| {
        let tell = tell.clone();
        async move {
            let mut bytes = 0;
            while let Some(item) = items.next().await.map_err(|error| error.to_string())? {
                bytes += item.len();
            }
            tell.try_send(bytes).map_err(|error| error.to_string())
        }
    };
    node.infra.mesh.rpc().advertise_stream(&topic("reads"), &options, reads).unwrap().keep();
    let rpc = node.infra.mesh.rpc();
    let (mut items, mut end) = rpc.open::<_, ()>(&topic("reads"), &long()).await.unwrap();
    for _ in 0..100 {
        items.send(&ByteBuf::from(vec![1; 50_000])).await.unwrap();
    }
    let long_item = items.send(&ByteBuf::from(vec![1; 100_000])).await.unwrap_err();
    assert!(matches!(long_item, CallError::TooLarge { .. }), "{long_item:?}");
    let second = rpc.open::<ByteBuf, ()>(&topic("reads"), &long()).await.unwrap_err();
    assert!(matches!(second, CallError::Refused(Refusal::Overloaded(_))), "{second:?}");
    items.finish();
    assert_eq!(end.next().await, Ok(None));
    assert_eq!(told.recv().await, Some(5_000_000));
    node.root.stop().await;
}
