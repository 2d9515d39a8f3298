//! A scoreboard that every node writes, also while it is cut off from the others: points are counters, so
//! that those of both sides count in the end. A majority says no to nobody here, for there is nothing to say
//! no to.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::Node;
use macula_workload::crdt::{Error, Failed, Level};
use macula_workload::identity::EphemeralRealm;

/// How long a write waits here for those that are cut off.
const SHORT: Duration = Duration::from_millis(300);

async fn count(node: &Node, player: &str, points: i64) -> anyhow::Result<()> {
    node.crdt().counter(&format!("scores/{player}")).count(points).await?;
    Ok(())
}

async fn points(node: &Node, player: &str) -> anyhow::Result<i128> {
    Ok(node.crdt().counter(&format!("scores/{player}")).value().await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let realm = EphemeralRealm::new()?;
    let nodes = macula_examples::replicas(&realm, "scores").await?;
    let [one, two, three] = &nodes;

    // All count at one time, and each keeps what it has counted.
    count(one, "ada", 3).await?;
    count(two, "ada", 4).await?;
    count(three, "ben", 5).await?;
    for node in &nodes {
        macula_examples::until("all points are everywhere", async || {
            Ok(points(node, "ada").await? == 7 && points(node, "ben").await? == 5)
        })
        .await?;
    }

    // The third one is cut off. It counts on, and so do the others.
    macula_examples::part(three, [one, two])?;
    count(three, "ada", 10).await?;
    count(one, "ada", 20).await?;
    let mistake = two.crdt().counter("scores/ben").at(Level::Majority);
    mistake.count(-1).await.context("two of three are a majority")?;
    anyhow::ensure!(points(three, "ada").await? == 17 && points(three, "ben").await? == 5);
    anyhow::ensure!(points(one, "ada").await? == 27);
    // Whoever wants all to have it is told how far it has come. What was counted stays.
    let all = one.crdt().counter("scores/eve").at(Level::All).within(SHORT).count(1).await;
    let Err(Error::Failed(Failed::NotReached { reached, wanted, .. })) = all else {
        anyhow::bail!("one cannot have reached {all:?}")
    };
    macula_examples::say(&format!("{reached} of {wanted} have it while one is cut off"));

    // They hear one another again.
    macula_examples::mend(&nodes);
    for node in &nodes {
        macula_examples::until("the points of both sides are everywhere", async || {
            let all = (points(node, "ada").await?, points(node, "ben").await?);
            Ok(all == (37, 4) && points(node, "eve").await? == 1)
        })
        .await?;
    }
    macula_examples::say("ada has 37, ben has 4, eve has 1: on all nodes, and no point is lost");
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
