//! Typed messages to a platform actor: the node's last-writer-wins registers.

use macula_workload::prelude::*;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let registers = node.registers();

    // Whoever wants to hear of changes subscribes first.
    let mut changes = registers.subscribe("rooms/").await?;
    registers.put("rooms/7/topic", &"weather").await?;
    registers.put("rooms/7/topic", &"cheese").await?;
    registers.put("elsewhere", &1_u8).await?;
    let topic = registers.get::<String>("rooms/7/topic").await?;
    anyhow::ensure!(topic.as_deref() == Some("cheese"), "an odd topic: {topic:?}");
    for _ in 0..2 {
        let change = changes.next().await;
        macula_examples::say(&format!("heard of {change:?}"));
    }

    // The registers are an actor like any other: killed, it is restarted with all that it knew.
    let handle = registers.handle();
    let life = handle.incarnation();
    if let Some(actor) = handle.actor_ref() {
        actor.kill();
    }
    handle.next_life(life).await;
    let topic = registers.get::<String>("rooms/7/topic").await?;
    anyhow::ensure!(topic.as_deref() == Some("cheese"), "forgotten: {topic:?}");
    macula_examples::say("the registers were killed, and forgot nothing");
    node.stop().await?;
    Ok(())
}
