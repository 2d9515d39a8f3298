//! Who is in a lobby: each node says it of the players that are connected to it. When a node is cut off,
//! players come and go on both sides; when it dies, whoever sees that takes its players out, and none of them
//! comes back with what the dead node had said before.

use std::collections::BTreeSet;

use macula_workload::Node;
use macula_workload::crdt::Key;
use macula_workload::crdt::types::OrSet;
use macula_workload::identity::EphemeralRealm;
use serde::{Deserialize, Serialize};

/// A player, and through which node it is here: so that two connections of one player are two elements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Presence {
    player: String,
    through: String,
}

fn lobby(node: &Node) -> Key<OrSet, Presence> {
    node.crdt().or_set("lobby/players")
}

fn presence(node: &Node, player: &str) -> Presence {
    Presence { player: player.to_owned(), through: node.id().to_string() }
}

async fn comes(node: &Node, player: &str) -> anyhow::Result<()> {
    lobby(node).add(&presence(node, player)).await?;
    Ok(())
}

async fn goes(node: &Node, player: &str) -> anyhow::Result<()> {
    lobby(node).take(&presence(node, player)).await?;
    Ok(())
}

/// The names of all who are here, each once.
async fn here(node: &Node) -> anyhow::Result<String> {
    let all = lobby(node).elements().await?;
    let names: BTreeSet<String> = all.into_iter().map(|presence| presence.player).collect();
    Ok(names.into_iter().collect::<Vec<_>>().join(" "))
}

async fn seen(nodes: &[&Node], expected: &'static str) -> anyhow::Result<()> {
    for node in nodes {
        macula_examples::until(expected, async || Ok(here(node).await? == expected)).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let nodes = macula_examples::replicas(&EphemeralRealm::new()?, "lobby").await?;
    let [one, two, three] = &nodes;
    // Whoever wants to hear of it subscribes, and reads what there is.
    let mut changes = two.crdt().subscribe("lobby", "lobby/").await?;
    comes(one, "ada").await?;
    comes(three, "ben").await?;
    seen(&[one, two, three], "ada ben").await?;
    for _ in 0..2 {
        let change = changes.next().await;
        anyhow::ensure!(change.is_some_and(|change| !change.is_local), "a change was not told");
    }

    // The third node is cut off, and still lets players in and out.
    macula_examples::part(three, [one, two])?;
    comes(three, "eve").await?;
    comes(one, "dan").await?;
    goes(one, "ada").await?;
    comes(three, "ada").await?;
    anyhow::ensure!(here(three).await? == "ada ben eve" && here(one).await? == "ben dan");
    macula_examples::mend(&nodes);
    // Ada has left through the one and come through the other: she is here.
    seen(&[one, two, three], "ada ben dan eve").await?;
    macula_examples::say(&format!("in the lobby: {}", here(two).await?));

    // The third node ends, and with it the connections of its players. Another one sees to them.
    let gone = three.id().to_string();
    let [one, two, three] = nodes;
    three.stop().await?;
    for presence in lobby(&one).elements().await? {
        if presence.through == gone {
            lobby(&one).take(&presence).await?;
        }
    }
    seen(&[&one, &two], "dan").await?;
    // They come in again through another node.
    comes(&two, "ben").await?;
    seen(&[&one, &two], "ben dan").await?;
    macula_examples::say(&format!("without that node: {}", here(&one).await?));
    one.stop().await?;
    two.stop().await?;
    Ok(())
}
