//! A coordinator with failover: three nodes hand out jobs, one of them at a time. In the middle of it the
//! one that does goes away, and another one takes over where it was. What each does it does under its
//! token, so that nothing of an older one comes after a newer one.

use std::collections::BTreeMap;

use macula_workload::NodeId;
use macula_workload::election::fence::GuardError;
use macula_workload::election::{Leadership, Options};
use macula_workload::identity::EphemeralRealm;
use macula_workload::kv::command::{Condition, Holds, Op, Txn};
use macula_workload::kv::{Kv, WatchError};
use macula_workload::prelude::*;
use macula_workload::singleton::Singleton;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

/// The name of the election.
const ELECTION: &str = "coordinator";

/// How many jobs come before the coordinator goes away, and as many after.
const JOBS: usize = 10;

/// Hands jobs out, on whichever node leads.
struct Coordinator;

/// The task that does it has ended.
struct Ended(anyhow::Result<()>);

#[derive(Clone)]
struct Parts {
    node: NodeId,
    kv: Kv,
    leadership: Leadership,
}

impl Actor for Coordinator {
    type Msg = Ended;
    /// It ends with the actor.
    type State = JoinSet<()>;
    type Arguments = Parts;

    async fn pre_start(
        &self,
        myself: ActorRef<Ended>,
        parts: Parts,
    ) -> Result<JoinSet<()>, ActorProcessingErr> {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let ended = coordinate(&parts).await;
            // An actor that has ended needs no word.
            drop(myself.cast(Ended(ended)));
        });
        Ok(task)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Ended>,
        Ended(how): Ended,
        _task: &mut JoinSet<()>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(how?)
    }
}

/// Hands out what there is, and what comes.
async fn coordinate(Parts { node, kv, leadership }: &Parts) -> anyhow::Result<()> {
    let guarded = kv.guarded(ELECTION, leadership.token());
    loop {
        let (mut jobs, mut since) = (kv.prefix("jobs/"), None);
        while let Some(page) = jobs.next().await? {
            since = since.or(Some(page.revision));
            for (job, _) in page.items {
                let done = [b"done/".as_slice(), &job].concat();
                let value = format!("{} {node}", leadership.token());
                let condition = Condition { key: done.clone().into(), holds: Holds::Absent };
                let put = Op::Put { key: done.into(), value: value.into(), lease: None };
                let once = Txn { conditions: vec![condition], then: vec![put], ..Txn::default() };
                match guarded.txn(once).await {
                    Ok(_) => {}
                    // It leads no more, and is about to be stopped.
                    Err(GuardError::Stale(_)) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut watch = kv.watch("jobs/", since).await?;
        match watch.next().await {
            Ok(_) | Err(WatchError::Gap { .. } | WatchError::NoAnswer(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has a node take part.
async fn take_part(node: &Node) -> anyhow::Result<()> {
    let (id, kv) = (node.id(), node.kv().clone());
    let coordinator = move |leadership: Leadership| {
        let parts = Parts { node: id, kv: kv.clone(), leadership };
        Worker::new("coordinator", move || (Coordinator, parts.clone()))
    };
    let singleton = Singleton::new("coordinating", node.elections(), ELECTION, coordinator);
    node.spawn_singleton(singleton.options(Options { ttl_ms: 2_000 })).await?;
    Ok(())
}

/// Brings jobs, and waits until all of them are done.
async fn bring(kv: &Kv, jobs: std::ops::Range<usize>) -> anyhow::Result<()> {
    let until = jobs.end;
    for job in jobs {
        kv.put(format!("jobs/{job:03}"), "some work").await?;
    }
    loop {
        // From before the look on, so that nothing is missed between the two.
        let mut watch = kv.watch("done/", None).await?;
        if done(kv).await?.len() >= until {
            return Ok(());
        }
        match watch.next().await {
            Ok(_) | Err(WatchError::Gap { .. } | WatchError::NoAnswer(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The jobs that were done: under which token, and by which node.
async fn done(kv: &Kv) -> anyhow::Result<BTreeMap<String, (u64, String)>> {
    let (mut pages, mut found) = (kv.prefix("done/"), BTreeMap::new());
    while let Some(page) = pages.next().await? {
        for (job, item) in page.items {
            anyhow::ensure!(item.version == 1, "a job was done twice");
            let text = String::from_utf8(item.value.to_vec())?;
            let (token, node) = text.split_once(' ').unwrap_or_default();
            let job = String::from_utf8(job.to_vec())?;
            found.insert(job, (token.parse()?, node.to_owned()));
        }
    }
    Ok(found)
}

fn of_first(nodes: &[Node]) -> anyhow::Result<&Kv> {
    Ok(nodes.first().ok_or_else(|| anyhow::anyhow!("no node runs"))?.kv())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut nodes = Vec::from(macula_examples::voters(&EphemeralRealm::new()?).await?);
    for node in &nodes {
        take_part(node).await?;
    }
    bring(of_first(&nodes)?, 0..JOBS).await?;
    let before = done(of_first(&nodes)?).await?;

    // Whoever has done the last of them goes away.
    let (_, last) = before.last_key_value().map(|(_, by)| by.clone()).unwrap_or_default();
    let at = nodes.iter().position(|node| node.id().to_string() == last);
    let gone = nodes.remove(at.ok_or_else(|| anyhow::anyhow!("nobody has done it"))?);
    gone.stop().await?;
    bring(of_first(&nodes)?, JOBS..2 * JOBS).await?;

    let all = done(of_first(&nodes)?).await?;
    let mut tokens: Vec<u64> = all.values().map(|(token, _)| *token).collect();
    anyhow::ensure!(tokens.is_sorted(), "an older coordinator came after a newer one: {tokens:?}");
    tokens.dedup();
    let after = all.values().skip(JOBS);
    anyhow::ensure!(after.clone().all(|(_, node)| *node != last), "a job on a node that is gone");
    macula_examples::say(&format!("{} jobs, {} coordinators", all.len(), tokens.len()));
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
