//! Procedures: called by their names, and streamed to.

use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::Node;
use macula_workload::remote::{CallError, Context};
use macula_workload::rpc::{CallOptions, Options, StreamReceiver, StreamSender};
use serde_bytes::ByteBuf;

use super::BODY_LEN;
use super::nodes::{Ask, Echoes};

const ECHO: &str = "bench.echo";

const COUNT: &str = "bench.count";

/// How long it may take until the procedures are known.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a stream may last.
const STREAM_WITHIN: Duration = Duration::from_secs(600);

/// Says how many items there were.
async fn count(
    mut items: StreamReceiver<ByteBuf>,
    mut told: StreamSender<u64>,
    _: Context,
) -> Result<(), CallError> {
    let mut count = 0;
    while items.next().await?.is_some() {
        count += 1;
    }
    told.send(&count).await
}

/// Provides both procedures, and waits until another node knows of them.
pub(super) async fn provide(on: &Node, echoes: &Echoes, to: &Node) -> anyhow::Result<()> {
    let ask = |question, reply| Ask { question, reply, swallow: false };
    let options = Options::default();
    on.rpc().advertise_actor(&ECHO.parse()?, &options, echoes, ask)?.keep();
    on.rpc().advertise_stream(&COUNT.parse()?, &options, count)?.keep();
    let known = async {
        for name in [ECHO, COUNT] {
            while to.rpc().providers(&name.parse()?).await.is_ok_and(|found| found.is_empty()) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(KNOWN_WITHIN, known).await?
}

/// Calls by name, one after the other; gives the time of each.
pub(super) async fn sequential(from: &Node, calls: usize) -> anyhow::Result<Vec<Duration>> {
    let (rpc, name) = (from.rpc().clone(), ECHO.parse()?);
    tokio::spawn(async move {
        let question = ByteBuf::from(vec![7; BODY_LEN]);
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let begin = TokioClock.now();
            let answer: ByteBuf = rpc.call(&name, &question).await?;
            times.push(TokioClock.now() - begin);
            anyhow::ensure!(answer == question, "a wrong answer");
        }
        Ok(times)
    })
    .await?
}

/// Sends so many items on one stream, until all were counted; gives the time.
pub(super) async fn stream(from: &Node, items: usize) -> anyhow::Result<Duration> {
    let (rpc, name) = (from.rpc().clone(), COUNT.parse()?);
    tokio::spawn(async move {
        let options = CallOptions { within: STREAM_WITHIN, ..CallOptions::default() };
        let (mut sender, mut receiver) = rpc.open::<ByteBuf, u64>(&name, &options).await?;
        let item = ByteBuf::from(vec![7; BODY_LEN]);
        let begin = TokioClock.now();
        for _ in 0..items {
            sender.send(&item).await?;
        }
        sender.finish();
        let counted = receiver.next().await?;
        let took = TokioClock.now() - begin;
        anyhow::ensure!(counted == Some(u64::try_from(items)?), "{counted:?} of {items} items");
        Ok(took)
    })
    .await?
}
