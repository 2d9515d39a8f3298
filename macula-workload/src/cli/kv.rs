//! `macula kv`: keys and values that the realm agrees upon, through a node that runs.

use std::time::Duration;

use anyhow::anyhow;
use macula_workload::admin::Request;
use macula_workload::kv::limits::VALUE_LEN_MAX;
use serde_json::Value;

use super::ask::{Whom, ask, fields, list, millis, table, tell, within};
use super::follow::{Told, follow};
use super::{Failure, input};

/// Which node is asked, and how long it waits for the group.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Asked {
    /// How long an answer of the group is waited for, 50s at most. Without it, as long as the node is
    /// configured to.
    #[arg(long, value_name = "DURATION", value_parser = within)]
    within: Option<Duration>,
    #[command(flatten)]
    whom: Whom,
}

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
        asked: Asked,
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
        asked: Asked,
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
        asked: Asked,
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
        asked: Asked,
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
        KvCommand::Get { key, level, asked: Asked { within, whom } } => {
            let (level, within_ms) = (level.clone(), within.map(millis));
            let found = ask(whom, &Request::KvGet { key: key.clone(), level, within_ms })?;
            if found.is_null() {
                return Err(Failure::Ran(anyhow!("there is no key {key:?}")));
            }
            tell(whom, &found, || text(&found, "value"))
        }
        KvCommand::Put { key, value, expected, lease, ttl, asked: Asked { within, whom } } => {
            let value = value.clone().map_or_else(|| input(VALUE_LEN_MAX), Ok)?;
            let (ttl_ms, within_ms) = (ttl.map(millis), within.map(millis));
            let (expected, lease) = (*expected, *lease);
            let put =
                Request::KvPut { key: key.clone(), value, expected, lease, ttl_ms, within_ms };
            done(whom, key, expected, &put)
        }
        KvCommand::Delete { key, expected, asked: Asked { within, whom } } => {
            let (expected, within_ms) = (*expected, within.map(millis));
            let delete = Request::KvDelete { key: key.clone(), expected, within_ms };
            done(whom, key, expected, &delete)
        }
        KvCommand::Range { prefix, from, max, level, asked: Asked { within, whom } } => {
            let (prefix, from, level) = (prefix.clone(), from.clone(), level.clone());
            let (max, within_ms) = (*max, within.map(millis));
            let found = ask(whom, &Request::KvRange { prefix, from, max, level, within_ms })?;
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

/// Changes a key, on a condition that may not hold.
fn done(whom: &Whom, key: &str, expected: Option<u64>, asked: &Request) -> Result<(), Failure> {
    let told = ask(whom, asked)?;
    let is = |name: &str| told.get(name).and_then(Value::as_bool);
    let (is_done, was_there) = (is("done"), is("was_there"));
    if whom.json || (is_done == Some(true) && was_there != Some(false)) {
        tell(whom, &told, || fields(&told))?;
    }
    let modified = told.get("modified").and_then(Value::as_u64).unwrap_or(0);
    let why = match (is_done, was_there) {
        (Some(true), Some(false)) => format!("there is no key {key:?}"),
        (Some(true), _) => return Ok(()),
        _ => format!("{}: nothing changed", unexpected(key, expected.unwrap_or(0), modified)),
    };
    Err(Failure::Ran(anyhow!(why)))
}

/// How a key is not as it was expected to be; 0 is the revision of one that is not there.
fn unexpected(key: &str, expected: u64, modified: u64) -> String {
    match (expected, modified) {
        (_, 0) => format!("there is no key {key:?}"),
        (0, modified) => format!("{key:?} is there, and was changed last at revision {modified}"),
        (expected, modified) => {
            format!("{key:?} was changed last at revision {modified}, and not at {expected}")
        }
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
