//! `macula peers`, `macula audit` and `macula dht`: questions to a node that runs, through its admin socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use macula_workload::admin::{self, Request, WITHIN_MAX};
use serde_json::Value;

use super::{Failure, home, load, print, some_time};

/// Which node is asked, and how the answer is told.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Whom {
    /// The configuration of the node. Without it, of the one that is run without one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's admin socket, if it is not where the configuration says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct PeersArgs {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    whom: Whom,
}

/// A name in a key space.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// The name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The key space: `any` and `name` are for everybody.
    #[arg(long, default_value = "any")]
    space: String,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum DhtCommand {
    /// Find the value under a name, and how many nodes agree on it.
    Get {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
    },
    /// Put a value under a name, signed by the node. Fails if too few nodes keep it.
    Put {
        #[command(flatten)]
        place: Place,
        /// The value.
        #[arg(value_name = "VALUE")]
        value: String,
        /// For how long.
        #[arg(long, value_name = "DURATION", default_value = "24h",
              value_parser = seconds)]
        ttl: Duration,
        /// Only if the value there has this sequence number; 0 if there may be none.
        #[arg(long, value_name = "SEQUENCE")]
        expected: Option<u64>,
        /// How many nodes have to keep it: one, majority, all, or a number.
        #[arg(long, default_value = "majority")]
        quorum: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Find the nodes that provide what has a name.
    Providers {
        #[command(flatten)]
        place: Place,
        /// How many are enough.
        #[arg(long, default_value_t = 20)]
        max: usize,
        #[command(flatten)]
        whom: Whom,
    },
    /// Find the nodes that are closest to a name's key.
    Lookup {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
    },
    /// Show the node's routing table.
    Table {
        #[command(flatten)]
        whom: Whom,
    },
}

/// A span of time of a second at least.
fn seconds(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span.as_secs() > 0 { Ok(span) } else { Err("it has to last a second at least".to_owned()) }
}

/// A span of time for which the node is to wait for others.
pub(super) fn within(text: &str) -> Result<Duration, String> {
    let span = some_time(text)?;
    let max = || humantime::format_duration(WITHIN_MAX);
    if span <= WITHIN_MAX { Ok(span) } else { Err(format!("it is at most {}", max())) }
}

/// A span of time as it is said to a node.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn peers(args: &PeersArgs) -> Result<(), Failure> {
    let found = ask(&args.whom, &Request::Peers {})?;
    tell(&args.whom, &found, || {
        let columns = ["node", "status", "role", "connected", "via", "addresses"];
        let relays = word(found.get("relays").filter(|relays| !is_empty(relays)));
        let others = table(&columns, list(&found, "peers"));
        format!("{others}\n{}\nrelays {relays}", fields(&found))
    })
}

pub(super) fn audit(args: &AuditArgs) -> Result<(), Failure> {
    let found = ask(&args.whom, &Request::Audit {})?;
    tell(&args.whom, &found, || {
        let mut refused = list(&found, "refused").to_vec();
        for entry in &mut refused {
            let at_s = entry.get("at_s").and_then(Value::as_u64).unwrap_or(0);
            let at = std::time::UNIX_EPOCH + Duration::from_secs(at_s);
            entry["at"] = humantime::format_rfc3339_seconds(at).to_string().into();
        }
        table(&["at", "node", "action", "name", "why"], &refused)
    })
}

pub(super) fn dht(command: &DhtCommand) -> Result<(), Failure> {
    match command {
        DhtCommand::Get { place: Place { name, space }, whom } => {
            let (space, name) = (space.clone(), name.clone());
            let found = ask(whom, &Request::DhtGet { space, name: name.clone() })?;
            tell(whom, &found, || fields(&found))?;
            match found.get("found").and_then(Value::as_bool) {
                Some(true) => Ok(()),
                _ => Err(Failure::Ran(anyhow::anyhow!("nothing is kept under {name:?}"))),
            }
        }
        DhtCommand::Put { place, value, ttl, expected, quorum, whom } => {
            let Place { name, space } = place.clone();
            let (value, quorum, ttl_s) = (value.clone(), quorum.clone(), ttl.as_secs());
            let expected = *expected;
            let put = Request::DhtPut { space, name, value, ttl_s, expected, quorum };
            let stored = ask(whom, &put)?;
            tell(whom, &stored, || {
                let rows = table(&["node", "outcome"], list(&stored, "nodes"));
                format!("{rows}\n{}", fields(&stored))
            })?;
            match stored.get("reached").and_then(Value::as_bool) {
                Some(true) => Ok(()),
                _ => Err(Failure::Ran(anyhow::anyhow!("too few nodes keep it"))),
            }
        }
        DhtCommand::Providers { place: Place { name, space }, max, whom } => {
            let (space, name, max) = (space.clone(), name.clone(), *max);
            let found = ask(whom, &Request::DhtProviders { space, name, max })?;
            tell(whom, &found, || {
                table(&["node", "metadata", "addresses"], list(&found, "providers"))
            })
        }
        DhtCommand::Lookup { place: Place { name, space }, whom } => {
            let (space, name) = (space.clone(), name.clone());
            let found = ask(whom, &Request::DhtLookup { space, name })?;
            tell(whom, &found, || table(&["node", "addresses"], list(&found, "nodes")))
        }
        DhtCommand::Table { whom } => {
            let found = ask(whom, &Request::DhtTable {})?;
            tell(whom, &found, || {
                let columns = ["node", "seen_ago_s", "addresses"];
                format!("{}\n{}", table(&columns, list(&found, "entries")), fields(&found))
            })
        }
    }
}

pub(super) fn ask(whom: &Whom, request: &Request) -> Result<Value, Failure> {
    admin::ask(&socket(whom)?, request).map_err(unanswered)
}

/// Why there was no answer, and whether the question could have had one.
pub(super) fn unanswered(error: admin::Error) -> Failure {
    match error {
        admin::Error::Wrong(_) => Failure::Usage(error.into()),
        _ => Failure::Ran(error.into()),
    }
}

/// The socket at which the node is asked.
pub(super) fn socket(whom: &Whom) -> Result<PathBuf, Failure> {
    if let Some(socket) = &whom.socket {
        return Ok(socket.clone());
    }
    let home = if whom.config.is_none() { Some(home::configuration()?) } else { None };
    let config = load(whom.config.as_deref().or(home.as_deref()), &[])?;
    let none = "the configuration has no admin socket: set admin.socket";
    config.admin_socket().context(none).map_err(Failure::Usage)
}

pub(super) fn tell(
    whom: &Whom,
    answer: &Value,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let text = if whom.json { answer.to_string() } else { text() };
    Ok(print(text.trim_end())?)
}

pub(super) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// A value as people read it.
fn word(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| word(Some(item))).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    }
}

/// All that is no list, a line for each.
pub(super) fn fields(answer: &Value) -> String {
    let all = answer.as_object().into_iter().flatten();
    let plain = all.filter(|(_, value)| !value.is_array());
    plain
        .map(|(name, value)| format!("{name} {}", word(Some(value))))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A cell as wide as its column, unless that is too wide to be looked at.
fn padded(cell: &str, width: usize) -> String {
    format!("{cell:<width$}", width = width.min(COLUMN_WIDTH_MAX))
}

/// A text without what would change the terminal or begin a line of its own.
pub(super) fn plain(text: &str) -> String {
    let shown = |of: char| match of.is_control() {
        true => of.escape_default().to_string(),
        false => of.to_string(),
    };
    text.chars().map(shown).collect()
}

/// How wide a column is at most; what is longer stands out.
const COLUMN_WIDTH_MAX: usize = 80;

/// Rows under their columns, each as wide as it has to be.
pub(super) fn table(columns: &[&str], rows: &[Value]) -> String {
    let heads = columns.iter().map(|column| (*column).to_owned()).collect();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|column| plain(&word(row.get(*column)))).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(cells).collect();
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
