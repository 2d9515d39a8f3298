//! Publishing and subscribing for a client of the socket.

use std::time::Duration;

use macula_core::topic::{Pattern, Topic};
use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{
    Event, Gap, Message, PublishOptions, Published, Qos, SubscribeOptions, Subscription,
};
use serde_json::{Value, json};

use super::Declined;

/// How long a message may wait for room on its way.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);

/// Publishes a message, and says to how many it is on its way.
pub(super) async fn publish(
    mesh: &Mesh,
    topic: &str,
    value: String,
    options: PublishOptions,
) -> Result<Value, Declined> {
    let topic: Topic = topic.parse().map_err(Declined::wrong)?;
    let published = mesh.pubsub().publish(&topic, value, options);
    let published = tokio::time::timeout(PUBLISH_WITHIN, published).await;
    let published = published.map_err(|_elapsed| {
        let within = PUBLISH_WITHIN.as_secs();
        Declined::Failed(format!("there was no room for it within {within} s"))
    })?;
    match published.map_err(Declined::failed)? {
        Published::Accepted { subscribers } => Ok(json!({ "subscribers": subscribers })),
        Published::NoSubscribers => Ok(json!({ "subscribers": 0 })),
        Published::WouldBlock => Err(Declined::failed("there is no room for it now")),
    }
}

/// Subscribes, and says to what.
pub(super) fn subscribe(
    mesh: &Mesh,
    pattern: &str,
    options: &SubscribeOptions,
) -> Result<(Value, Subscription), Declined> {
    let pattern: Pattern = pattern.parse().map_err(Declined::wrong)?;
    let subscription = mesh.pubsub().subscribe(&pattern, options).map_err(Declined::failed)?;
    Ok((json!({ "subscribed": pattern.as_str() }), subscription))
}

/// An event, as a client is told of it. A payload that is no text is told in hexadecimal.
pub(super) fn told(event: Event) -> Value {
    match event {
        Event::Message(message) => {
            let Message { topic, payload, publisher, sequence, qos, is_replayed, .. } = message;
            let text = std::str::from_utf8(&payload);
            let (name, text) = match text {
                Ok(text) => ("value", text.to_owned()),
                Err(_no_text) => ("value_hex", data_encoding::HEXLOWER.encode(&payload)),
            };
            json!({
                "topic": topic.as_str(),
                name: text,
                "publisher": publisher.to_string(),
                "sequence": sequence,
                "at_least_once": qos == Qos::AtLeastOnce,
                "replayed": is_replayed,
            })
        }
        Event::Gap(Gap { topic, publisher, count, .. }) => json!({
            "topic": topic.as_str(), "publisher": publisher.to_string(), "missed": count,
        }),
        // What later versions tell of is not shown.
        _ => json!({}),
    }
}
