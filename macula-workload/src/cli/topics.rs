//! `macula pub` and `macula sub`: publishing and subscribing through a node that runs.

use std::io::Write as _;

use macula_workload::admin::Request;
use macula_workload::pubsub::PAYLOAD_LEN_MAX;
use serde_json::Value;

use super::ask::{Whom, ask, fields, tell};
use super::follow::{Told, follow};
use super::{Failure, input};

#[derive(Debug, clap::Args)]
pub(super) struct PubArgs {
    /// The topic: segments with dots between them, like game.room7.chat.
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// What it says. Without it, all of standard input, as text.
    #[arg(value_name = "VALUE")]
    value: Option<String>,
    /// Wait until each subscriber has got it, and fail if one does not.
    #[arg(long)]
    at_least_once: bool,
    /// It is the value of its topic, for those who subscribe later; an empty one means none.
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
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
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
        None => input(PAYLOAD_LEN_MAX)?,
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
    follow(whom, &asked, *count, |told| {
        if let Some(publisher) = told.get("refused_by").and_then(Value::as_str) {
            let text = format!("what {publisher} publishes does not come: its rules forbid it");
            // Standard error may be closed; what comes is told all the same.
            drop(writeln!(std::io::stderr(), "macula: {text}"));
        }
        match (told.get("topic"), told.get("missed")) {
            (None, _) => Told::Silent,
            (Some(_), Some(_)) => Told::Aside(line(told)),
            (Some(_), None) => Told::Counts(line(told)),
        }
    })
}

fn line(told: &Value) -> String {
    let text = |name| told.get(name).and_then(Value::as_str);
    let topic = text("topic").unwrap_or_default();
    match told.get("missed") {
        Some(missed) => format!("{topic} missed {missed}"),
        None => {
            format!("{topic} {}", text("value").or_else(|| text("value_hex")).unwrap_or_default())
        }
    }
}
