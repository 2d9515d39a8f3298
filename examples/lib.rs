//! Examples of Macula. Each is a program of its own beside this file, and the tests run them all.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use macula_workload::access::{Action, Effect, Rule, Rules};
use macula_workload::bootstrap::Seed;
use macula_workload::consensus::Role;
use macula_workload::identity::EphemeralRealm;
use macula_workload::{Config, Node};

/// Says something on standard output. Nobody need listen.
pub fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// A node of a realm that joins the mesh of three through another, and waits until it knows both.
///
/// # Errors
///
/// If the node cannot be started.
pub async fn join(realm: &EphemeralRealm, through: Option<&Node>) -> anyhow::Result<Node> {
    let mut config = Config::default();
    let addresses = through.into_iter().flat_map(|node| node.mesh().listening());
    config.mesh.bootstrap.seeds = addresses.map(Seed::Address).collect();
    let node = Node::builder().config(config).credentials(realm.member()?).start().await?;
    let mut events = node.mesh().membership().events();
    while through.is_some() && node.mesh().membership().members().len() < 2 {
        events.recv().await?;
    }
    Ok(node)
}

/// Three nodes of a realm, each of which votes in its group. The first one has founded it, and the others
/// were taken in.
///
/// # Errors
///
/// If a node cannot be started, or does not come to vote.
pub async fn voters(realm: &EphemeralRealm) -> anyhow::Result<[Node; 3]> {
    let first = Node::builder().credentials(realm.member()?).start().await?;
    let mut config = Config::default();
    config.mesh.bootstrap.seeds = first.mesh().listening().into_iter().map(Seed::Address).collect();
    config.consensus.group.role = Role::Voter;
    let start = || async {
        let builder = Node::builder().config(config.clone()).credentials(realm.member()?);
        anyhow::Ok(builder.start().await?)
    };
    let (second, third) = (start().await?, start().await?);
    for node in [&second, &third] {
        // One change of the group is made at a time, and asked for again until the nodes have met.
        let mut patience = 100;
        while let Err(error) = first.kv().operator().add_voter(node.id()).await {
            patience -= 1;
            anyhow::ensure!(patience > 0, "a node does not come to vote: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok([first, second, third])
}

/// Three nodes of a realm that hold a bucket of replicated types, and know one another. They look for one
/// another more often than usual, so that nobody waits long here.
///
/// # Errors
///
/// If a node cannot be started, or they do not meet.
pub async fn replicas(realm: &EphemeralRealm, bucket: &str) -> anyhow::Result<[Node; 3]> {
    let mut config = Config::default();
    config.crdt.settings.hold = vec![bucket.to_owned()];
    let replication = &mut config.crdt.settings.bucket;
    (replication.greet_ms, replication.greet_ms_max) = (50, 200);
    let start = async |config: &Config| {
        let builder = Node::builder().config(config.clone()).credentials(realm.member()?);
        anyhow::Ok(builder.start().await?)
    };
    let first = start(&config).await?;
    config.mesh.bootstrap.seeds = first.mesh().listening().into_iter().map(Seed::Address).collect();
    let nodes = [first, start(&config).await?, start(&config).await?];
    for node in &nodes {
        until("the nodes meet", async || Ok(node.crdt().stats(bucket).await?.in_touch == 2))
            .await?;
    }
    Ok(nodes)
}

/// Waits until something is so, for as long as may be on the worst machine.
///
/// # Errors
///
/// If it is not so in time, or cannot be known.
pub async fn until(
    what: &'static str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let so = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), so).await.context(what)?
}

/// Has a node and some others take nothing from each other that concerns replicated types.
///
/// # Errors
///
/// Never: the name that is meant is one.
pub fn part(apart: &Node, others: [&Node; 2]) -> anyhow::Result<()> {
    let deny = |nodes: Vec<_>| {
        let (actions, names) = (vec![Action::Call], vec!["macula.crdt".parse()?]);
        let rule = Rule { effect: Effect::Deny, actions, nodes, names, ..Rule::default() };
        anyhow::Ok(Rules { rules: vec![rule], ..Rules::default() })
    };
    apart.mesh().access().replace(deny(others.iter().map(|node| node.id()).collect())?);
    for other in others {
        other.mesh().access().replace(deny(vec![apart.id()])?);
    }
    Ok(())
}

/// Has them take everything again.
pub fn mend(nodes: &[Node]) {
    for node in nodes {
        node.mesh().access().replace(Rules::default());
    }
}
