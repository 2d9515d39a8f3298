//! `macula pub` and `macula sub`: publishing and subscribing through a node that runs.

use std::io::Read as _;

use anyhow::Context as _;
use macula_workload::admin::{self, Request};
use macula_workload::pubsub::PAYLOAD_LEN_MAX;
use serde_json::Value;

use super::ask::{Whom, ask, fields, socket, tell};
use super::{Failure, print};

#[derive(Debug, clap::Args)]
pub(super) struct PubArgs {
    /// The topic: segments with dots between them, like game.room7.chat.
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// What it says. Without it, all of standard input, as text.
    #[arg(value_name = "VALUE")]
    value: Option<String>,
    /// Wait for subscribers that are slow, so that each gets it.
    #[arg(long)]
    at_least_once: bool,
    /// It is the value of its topic, for those who subscribe later.
    #[arg(long)]
    retain: bool,
    /// It is kept for those who subscribe later and ask for what was before.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
pub(super) struct SubArgs {
    /// The pattern: a topic, where `*` is any segment, and `**` at the end any number of them.
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// End after so many messages.
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,
    /// Be a member of this queue group: each message goes to one member.
    #[arg(long)]
    group: Option<String>,
    /// Begin with the last so many messages of each topic that were kept.
    #[arg(long, value_name = "MESSAGES")]
    last: Option<u32>,
    /// Begin with the retained message of each topic.
    #[arg(long)]
    retained: bool,
    #[command(flatten)]
    whom: Whom,
}

pub(super) fn publish(args: &PubArgs) -> Result<(), Failure> {
    let value = match &args.value {
        Some(value) => value.clone(),
        None => {
            let mut text = String::new();
            let max = u64::try_from(PAYLOAD_LEN_MAX).unwrap_or(u64::MAX).saturating_add(1);
            std::io::stdin().take(max).read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    let PubArgs { topic, at_least_once, retain, keep, whom, .. } = args;
    let (topic, at_least_once, retain, keep) = (topic.clone(), *at_least_once, *retain, *keep);
    let asked = Request::Publish { topic, value, at_least_once, retain, keep };
    let published = ask(whom, &asked)?;
    tell(whom, &published, || fields(&published))
}

/// Prints a message a line, until there are as many as were asked for.
pub(super) fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let SubArgs { pattern, count, group, last, retained, whom } = args;
    let (pattern, group) = (pattern.clone(), group.clone());
    let asked = Request::Subscribe { pattern, group, last: *last, retained: *retained };
    let mut left = count.unwrap_or(u64::MAX);
    let mut printed = Ok(());
    let each = |told: Value| {
        if told.get("topic").is_some() {
            printed = print(&line(&told, whom.json));
            let is_message = told.get("missed").is_none();
            left -= u64::from(is_message);
        }
        left > 0 && printed.is_ok()
    };
    let followed = admin::follow(&socket(whom)?, &asked, each);
    followed.map_err(super::ask::unanswered)?;
    Ok(printed?)
}

fn line(told: &Value, json: bool) -> String {
    let text = |name| told.get(name).and_then(Value::as_str);
    let topic = text("topic").unwrap_or_default();
    match told.get("missed") {
        _ if json => told.to_string(),
        Some(missed) => format!("{topic} missed {missed}"),
        None => {
            format!("{topic} {}", text("value").or_else(|| text("value_hex")).unwrap_or_default())
        }
    }
}
