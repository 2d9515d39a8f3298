//! A shopping cart that is filled on whichever node a request comes to. How many of a thing are wanted is a
//! counter below the thing's name, so that two who add at one time both count; whoever takes a thing out
//! takes out what it has seen, and not what somebody adds meanwhile. A checkout is one change: what was
//! seen is gone from the cart, and nobody sees a half of that. What one node has counted of a thing is one
//! number: if that same node counts on while another takes the thing out, all that it has counted stays.

use anyhow::Context as _;
use macula_workload::Node;
use macula_workload::crdt::types::{OrMap, PnCounter};
use macula_workload::crdt::{Changes, Key, Level};
use macula_workload::identity::EphemeralRealm;

/// How many there are of each thing.
type Cart = OrMap<PnCounter>;

fn cart(node: &Node) -> Key<Cart, ()> {
    node.crdt().key("carts/7")
}

/// Puts some of a thing in.
async fn put(node: &Node, thing: &'static str, count: u64) -> anyhow::Result<()> {
    let cart = cart(node);
    let change = cart.update(move |cart, write| {
        cart.update(thing.as_bytes(), write, |wanted, write| wanted.increment(count, write))
    });
    change.await?;
    Ok(())
}

/// Takes a thing out, however many there are.
async fn take(node: &Node, thing: &'static str) -> anyhow::Result<()> {
    cart(node).update(move |cart, _| Ok(cart.remove(thing.as_bytes()))).await?;
    Ok(())
}

/// What is in it.
async fn list(node: &Node) -> anyhow::Result<String> {
    let line = |(thing, wanted): (&std::sync::Arc<[u8]>, &PnCounter)| {
        format!("{} {}", wanted.value(), String::from_utf8_lossy(thing))
    };
    let lines = cart(node).read(|cart| cart.iter().map(line).collect::<Vec<_>>()).await?;
    Ok(lines.join(", "))
}

async fn everywhere(nodes: &[Node], expected: &'static str) -> anyhow::Result<()> {
    for node in nodes {
        let same = async || Ok(list(node).await? == expected);
        let all = macula_examples::until(expected, same).await;
        all.with_context(|| format!("it is not so on {}", node.id()))?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let nodes = macula_examples::replicas(&EphemeralRealm::new()?, "carts").await?;
    let [one, two, three] = &nodes;
    put(one, "tea", 2).await?;
    put(two, "jam", 1).await?;
    everywhere(&nodes, "1 jam, 2 tea").await?;

    // The third node is cut off. Its user takes the tea out, while another one wants some more.
    macula_examples::part(three, [one, two])?;
    take(three, "tea").await?;
    put(three, "milk", 1).await?;
    put(two, "tea", 1).await?;
    put(two, "jam", 2).await?;
    anyhow::ensure!(list(three).await? == "1 jam, 1 milk", "{}", list(three).await?);
    macula_examples::mend(&nodes);
    // The two that were taken out are gone, and the one that was added meanwhile is not.
    everywhere(&nodes, "3 jam, 1 milk, 1 tea").await?;
    macula_examples::say(&format!("the cart has {}", list(one).await?));

    // A checkout: two nodes will have the order and the empty cart, or the caller hears that they do not.
    let there = cart(two).at(Level::Majority);
    let paid = there.update(|cart, _| {
        let mut changes = Changes::of(cart);
        for (thing, _) in cart.iter() {
            changes.make(|cart| Ok(cart.remove(thing)))?;
        }
        Ok(changes.finish())
    });
    paid.await?;
    everywhere(&nodes, "").await?;
    // What was removed can come again.
    put(three, "tea", 5).await?;
    everywhere(&nodes, "5 tea").await?;
    macula_examples::say("it was paid for, and has 5 tea again");
    for node in nodes {
        node.stop().await?;
    }
    Ok(())
}
