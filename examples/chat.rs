//! A chat with rooms over three nodes. Each guest hears its own room, a moderator hears all of them,
//! and a guest who comes late hears the last words that were said.

use macula_examples::join;
use macula_workload::identity::EphemeralRealm;
use macula_workload::prelude::*;
use macula_workload::pubsub::{Event, PublishOptions, Published, SubscribeOptions, Subscription};

fn listen(node: &Node, pattern: &str, options: &SubscribeOptions) -> anyhow::Result<Subscription> {
    Ok(node.mesh().pubsub().subscribe(&pattern.parse()?, options)?)
}

/// Says something in a room, once so many listen there. Whoever listens gets it, or we are told.
async fn say(node: &Node, room: &str, text: &str, listeners: usize) -> anyhow::Result<()> {
    let (pubsub, topic) = (node.mesh().pubsub(), format!("chat.{room}").parse()?);
    while pubsub.subscribers(&topic).await? < listeners {
        tokio::task::yield_now().await;
    }
    let options = PublishOptions { keep: true, ..PublishOptions::at_least_once() };
    let published = pubsub.publish(&topic, text.to_owned(), options).await?;
    anyhow::ensure!(published == Published::Accepted { subscribers: listeners }, "{published:?}");
    Ok(())
}

/// The next that somebody hears: in which room, and what.
async fn hear(subscription: &mut Subscription) -> anyhow::Result<String> {
    match subscription.next().await {
        Some(Event::Message(message)) => {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            Ok(format!("{}: {text}", message.topic))
        }
        other => anyhow::bail!("no message: {other:?}"),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let realm = EphemeralRealm::new()?;
    let one = join(&realm, None).await?;
    let (two, three) = tokio::try_join!(join(&realm, Some(&one)), join(&realm, Some(&one)))?;
    let plain = SubscribeOptions::default();

    let mut kitchen = listen(&two, "chat.kitchen", &plain)?;
    let mut moderator = listen(&three, "chat.*", &plain)?;
    say(&one, "kitchen", "the soup is ready", 2).await?;
    say(&one, "garden", "it rains", 1).await?;
    anyhow::ensure!(hear(&mut kitchen).await? == "chat.kitchen: the soup is ready");
    macula_examples::say(&format!("the moderator hears {}", hear(&mut moderator).await?));
    macula_examples::say(&format!("the moderator hears {}", hear(&mut moderator).await?));

    // Who comes late gets what was kept, and then what comes.
    let mut late = listen(&two, "chat.garden", &SubscribeOptions::default().with_last(10))?;
    macula_examples::say(&format!("a late guest hears {}", hear(&mut late).await?));
    say(&one, "garden", "the sun is back", 2).await?;
    macula_examples::say(&format!("and then {}", hear(&mut late).await?));

    // All that was said has been heard, and nothing was dropped.
    let pubsub = one.mesh().pubsub();
    while pubsub.delivery_report_of_all().pending() > 0 {
        tokio::task::yield_now().await;
    }
    let report = pubsub.delivery_report_of_all();
    anyhow::ensure!(report.dropped() == 0 && report.expired == 0, "{report:?}");
    macula_examples::say(&format!("{} copies were delivered, none was lost", report.delivered));
    for node in [three, two, one] {
        node.stop().await?;
    }
    Ok(())
}
