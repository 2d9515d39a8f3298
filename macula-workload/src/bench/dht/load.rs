//! Load: many who ask the table at one time, each in its own name.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::dht::Dht;
use macula_workload::dht::proto::node::Quorum;
use macula_workload::dht::proto::records::Condition;
use macula_workload::dht::rules::space;
use macula_workload::remote::RemoteHandle;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

/// How long a value is, in bytes.
const VALUE_LEN: usize = 128;

/// How long records and providers live: longer than any run.
pub(super) const TTL: Duration = Duration::from_secs(3_600);

/// What a caller asks for, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// It replaces its own record, whose sequence number it knows. The first time, it makes it.
    Put {
        /// How often it has put before.
        before: u64,
    },
    /// It gets its own record, from the nodes that keep it.
    Get,
    /// It gets it, and what was found lately will do.
    GetCached,
    /// It looks for a provider of what has its name.
    Find,
    /// It looks for the nodes that are closest to its name.
    Lookup,
}

/// The name under which a caller's record is, and its providers.
pub(super) fn name(caller: usize) -> [u8; 8] {
    (caller as u64).to_be_bytes()
}

/// So many callers ask so often each; says how long that took, and what each single one took.
pub(super) async fn ask(
    dht: &Dht,
    what: What,
    callers: usize,
    each: usize,
) -> anyhow::Result<Times> {
    all(callers, |caller| {
        let dht = dht.clone();
        async move {
            let mut times = Vec::with_capacity(each);
            for turn in 0..each as u64 {
                let begin = TokioClock.now();
                once(&dht, what, &name(caller), turn).await?;
                times.push(TokioClock.now() - begin);
            }
            Ok(times)
        }
    })
    .await
}

/// Plain calls instead, to each of the nodes in turn.
pub(super) async fn call(
    handles: &[RemoteHandle<ByteBuf, ByteBuf>],
    len: usize,
    callers: usize,
    each: usize,
) -> anyhow::Result<Times> {
    all(callers, |caller| {
        let handles = handles.to_vec();
        async move {
            let question = ByteBuf::from(vec![7; len]);
            let mut times = Vec::with_capacity(each);
            for handle in handles.iter().cycle().skip(caller % handles.len()).take(each) {
                let begin = TokioClock.now();
                handle.call(&question).await?;
                times.push(TokioClock.now() - begin);
            }
            Ok(times)
        }
    })
    .await
}

/// What some asking took.
pub(super) struct Times {
    /// From the first question to the last answer.
    whole: Duration,
    /// Each single one.
    pub(super) each: Vec<Duration>,
}

impl Times {
    /// How many a second.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn rate(&self) -> f64 {
        self.each.len() as f64 / self.whole.as_secs_f64()
    }
}

async fn all<F>(callers: usize, caller: impl Fn(usize) -> F) -> anyhow::Result<Times>
where
    F: Future<Output = anyhow::Result<Vec<Duration>>> + Send + 'static,
{
    let begin = TokioClock.now();
    let mut tasks: JoinSet<_> = (0..callers).map(caller).collect();
    let mut each = Vec::new();
    while let Some(done) = tasks.join_next().await {
        each.extend(done??);
    }
    Ok(Times { whole: TokioClock.now() - begin, each })
}

async fn once(dht: &Dht, what: What, name: &[u8], turn: u64) -> anyhow::Result<()> {
    match what {
        What::Put { before } => {
            let condition = match before + turn {
                0 => Condition::Absent,
                sequence => Condition::Sequence(sequence),
            };
            let value = Bytes::from(vec![7; VALUE_LEN]);
            let put = dht.put((space::ANY, name), value, TTL, condition, Quorum::Majority);
            let (_, stored) = put.await?;
            anyhow::ensure!(stored.is_reached(), "a put that did not reach its quorum");
        }
        What::Get | What::GetCached => {
            let got = dht.get(space::ANY, name, what == What::Get).await?;
            anyhow::ensure!(got.record.is_some(), "a record that was put is not there");
        }
        What::Lookup => {
            let found = dht.lookup(dht.key(space::ANY, name)).await?;
            anyhow::ensure!(!found.closest.is_empty(), "a lookup that found nobody");
        }
        What::Find => {
            let found = dht.find(space::ANY, name, 1).await?;
            anyhow::ensure!(!found.providers.is_empty(), "nobody provides what is provided");
        }
    }
    Ok(())
}
