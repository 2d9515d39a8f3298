//! Publishing and subscribing for a client of the socket.

use std::time::Duration;

use macula_core::topic::{Pattern, Topic};
use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{
    Event, Gap, Message, PublishError, PublishOptions, Published, Qos, Reason, Report,
    SubscribeError, SubscribeOptions, Subscription,
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
    let before = mesh.pubsub().delivery_report(&topic);
    let published = mesh.pubsub().publish(&topic, value, options);
    let published = tokio::time::timeout(PUBLISH_WITHIN, published).await;
    let published = published.map_err(|_elapsed| {
        let within = PUBLISH_WITHIN.as_secs();
        Declined::Failed(format!("there was no room for it within {within} s"))
    })?;
    let published = published.map_err(|error| match error {
        PublishError::TooLarge { .. } => Declined::wrong(error),
        _ => Declined::failed(error),
    });
    match published? {
        Published::Accepted { subscribers } if options.qos == Qos::AtLeastOnce => {
            let settled = mesh.pubsub().settled(&topic);
            let settled = tokio::time::timeout(PUBLISH_WITHIN, settled).await;
            let now = settled.unwrap_or_else(|_elapsed| mesh.pubsub().delivery_report(&topic));
            outcome(subscribers, &since(now, &before))
        }
        Published::Accepted { subscribers } => Ok(json!({ "subscribers": subscribers })),
        Published::NoSubscribers => Ok(json!({ "subscribers": 0 })),
        Published::WouldBlock => Err(Declined::failed("there is no room for it now")),
    }
}

/// What has become of what was published after a report.
fn since(now: Report, before: &Report) -> Report {
    let earlier = |reason| before.dropped.get(reason).copied().unwrap_or_default();
    let dropped =
        now.dropped.iter().map(|(reason, count)| (*reason, count.saturating_sub(earlier(reason))));
    Report {
        accepted: now.accepted.saturating_sub(before.accepted),
        delivered: now.delivered.saturating_sub(before.delivered),
        expired: now.expired.saturating_sub(before.expired),
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
    }
}

/// What has become of a message that was promised, and of what else the node has published to its
/// topic meanwhile: an answer if all who still want it have it.
fn outcome(subscribers: usize, report: &Report) -> Result<Value, Declined> {
    let (accepted, delivered, pending) = (report.accepted, report.delivered, report.pending());
    let ends = [("pending", pending), ("expired", report.expired)].into_iter();
    let ends = ends.chain(report.dropped.iter().map(|(reason, count)| (reason.word(), *count)));
    let ends = ends.filter(|(_, count)| *count > 0);
    let words: Vec<String> = ends.clone().map(|(word, count)| format!("{count} {word}")).collect();
    let is_unwanted = |word: &str| word == Reason::Unsubscribed.word();
    if ends.clone().all(|(word, _)| is_unwanted(word)) {
        return Ok(json!({ "subscribers": subscribers, "delivered": delivered }));
    }
    let why = match report.dropped.contains_key(&Reason::Forbidden) {
        true => ": the rules of a subscriber's node forbid it",
        false => "",
    };
    let words = words.join(", ");
    Err(Declined::Failed(format!("{delivered} of {accepted} were delivered, {words}{why}")))
}

/// Subscribes, and says to what.
pub(super) fn subscribe(
    mesh: &Mesh,
    pattern: &str,
    options: &SubscribeOptions,
) -> Result<(Value, Subscription), Declined> {
    let pattern: Pattern = pattern.parse().map_err(Declined::wrong)?;
    let subscription = mesh.pubsub().subscribe(&pattern, options).map_err(|error| match error {
        SubscribeError::Group { .. } | SubscribeError::Queue { .. } => Declined::wrong(error),
        _ => Declined::failed(error),
    })?;
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
        Event::Refused { publisher } => json!({ "refused_by": publisher.to_string() }),
        // What later versions tell of is not shown.
        _ => json!({}),
    }
}
