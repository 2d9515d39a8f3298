//! `macula kv`: keys and values that the realm agrees upon, through a node that runs.

use std::time::Duration;

use anyhow::anyhow;
use macula_workload::admin::Request;
use macula_workload::kv::limits::VALUE_LEN_MAX;
use serde_json::Value;

use super::ask::{Whom, ask, fields, list, table, tell};
use super::follow::{Told, follow};
use super::{Failure, input};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KvCommand {
    /// Print the value of a key. Fails if it is not there.
    Get {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// How fresh: all that was acknowledged is seen; the same by the leader's lease alone; or
        /// whatever some voter has.
        #[arg(long, default_value = "linearizable", value_parser = LEVELS)]
        level: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Give a key a value.
    Put {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// The value. Without it, all of standard input, as text.
        #[arg(value_name = "VALUE")]
        value: Option<String>,
        /// Only if the key was changed last at this revision; 0 if it may not be there.
        #[arg(long, value_name = "REVISION")]
        expected: Option<u64>,
        /// The lease on which it hangs.
        #[arg(long, value_name = "LEASE", conflicts_with = "ttl")]
        lease: Option<u64>,
        /// For how long it is there, on a lease of its own that nobody keeps alive.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Delete a key. Fails if it is not there.
    Delete {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// Only if it was changed last at this revision.
        #[arg(long, value_name = "REVISION")]
        expected: Option<u64>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Print the keys that begin with a prefix, in their order, with their values.
    Range {
        /// The prefix; nothing begins all keys.
        #[arg(value_name = "PREFIX", default_value = "")]
        prefix: String,
        /// From which key on.
        #[arg(long, value_name = "KEY")]
        from: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 1_000)]
        max: usize,
        /// How fresh.
        #[arg(long, default_value = "linearizable", value_parser = LEVELS)]
        level: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Print what happens to the keys that begin with a prefix, as it happens.
    ///
    /// It goes on until it is ended, or there are as many events as --count says, through whatever
    /// happens to the voters. It ends with 1 if events were forgotten before they were told.
    Watch {
        /// The prefix; nothing begins all keys.
        #[arg(value_name = "PREFIX", default_value = "")]
        prefix: String,
        /// Begin with what happened after this revision.
        #[arg(long, value_name = "REVISION")]
        after: Option<u64>,
        /// End after so many events.
        #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        whom: Whom,
    },
}

const LEVELS: [&str; 3] = ["linearizable", "lease", "stale"];

pub(super) fn run(command: &KvCommand) -> Result<(), Failure> {
    match command {
        KvCommand::Get { key, level, whom } => {
            let asked = Request::KvGet { key: key.clone(), level: level.clone() };
            let found = ask(whom, &asked)?;
            if found.is_null() {
                return Err(Failure::Ran(anyhow!("there is no key {key:?}")));
            }
            tell(whom, &found, || text(&found, "value"))
        }
        KvCommand::Put { key, value, expected, lease, ttl, whom } => {
            let (key, value) =
                (key.clone(), value.clone().map_or_else(|| input(VALUE_LEN_MAX), Ok)?);
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let (expected, lease) = (*expected, *lease);
            done(whom, &Request::KvPut { key, value, expected, lease, ttl_ms })
        }
        KvCommand::Delete { key, expected, whom } => {
            let asked = Request::KvDelete { key: key.clone(), expected: *expected };
            done(whom, &asked)
        }
        KvCommand::Range { prefix, from, max, level, whom } => {
            let (prefix, from, level) = (prefix.clone(), from.clone(), level.clone());
            let found = ask(whom, &Request::KvRange { prefix, from, max: *max, level })?;
            tell(whom, &found, || {
                let rows: Vec<Value> = list(&found, "items").iter().map(row).collect();
                let columns = ["key", "value", "modified", "version", "lease"];
                format!("{}\n{}", table(&columns, &rows), fields(&found))
            })
        }
        KvCommand::Watch { prefix, after, count, whom } => {
            let asked = Request::KvWatch { prefix: prefix.clone(), after: *after };
            follow(whom, &asked, *count, |event| Told::Counts(line(event)))
        }
    }
}

/// Changes something, on a condition that may not hold.
fn done(whom: &Whom, asked: &Request) -> Result<(), Failure> {
    let told = ask(whom, asked)?;
    let is = |name: &str| told.get(name).and_then(Value::as_bool);
    let (is_done, was_there) = (is("done"), is("was_there"));
    if whom.json || (is_done == Some(true) && was_there != Some(false)) {
        tell(whom, &told, || fields(&told))?;
    }
    match (is_done, was_there) {
        (Some(true), Some(false)) => Err(Failure::Ran(anyhow!("there was no such key"))),
        (Some(true), _) => Ok(()),
        _ => Err(Failure::Ran(anyhow!("the key is not as it was expected to be: nothing changed"))),
    }
}

/// What an item has under a name, if it is text, or else in hexadecimal.
fn text(item: &Value, name: &str) -> String {
    let of = |name: &str| item.get(name).and_then(Value::as_str);
    of(name).or_else(|| of(&format!("{name}_hex"))).unwrap_or_default().to_owned()
}

fn row(item: &Value) -> Value {
    let mut row = item.as_object().cloned().unwrap_or_default();
    for name in ["key", "value"] {
        row.insert(name.to_owned(), text(item, name).into());
    }
    Value::Object(row)
}

fn line(event: &Value) -> String {
    let revision = event.get("revision").and_then(Value::as_u64).unwrap_or(0);
    let key = text(event, "key");
    match event.get("deleted").and_then(Value::as_bool) {
        Some(true) => format!("{revision} delete {key}"),
        _ => format!("{revision} put {key} {}", text(event, "value")),
    }
}
