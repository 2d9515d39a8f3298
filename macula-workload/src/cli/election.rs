//! `macula election`: who leads in what, through a node that runs.

use std::time::Duration;

use anyhow::anyhow;
use macula_workload::admin::Request;
use serde_json::Value;

use super::Failure;
use super::ask::{Whom, ask, fields, list, millis, table, tell, within};
use super::follow::{Told, follow};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ElectionCommand {
    /// Print the elections in which somebody leads, in the order of their names.
    List {
        /// Only those after this name: the next page, if there are more.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Print who leads an election, and each change of that, as it happens.
    ///
    /// It goes on until it is ended, or has told so often as --count says, through whatever happens to the
    /// voters. What it prints may be over already.
    Observe {
        /// The election.
        #[arg(value_name = "NAME")]
        name: String,
        /// End after so many lines.
        #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Ask whoever leads an election to resign, on whatever node it is. Fails if nobody leads.
    ///
    /// It stops what it does first, in its own time; one that is gone does not answer, and loses its lease
    /// in the end.
    Resign {
        /// The election.
        #[arg(value_name = "NAME")]
        name: String,
        /// Wait for so long until it leads no more, 50 s at most, and fail if it still does.
        #[arg(long, value_name = "DURATION", value_parser = within)]
        wait: Option<Duration>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Take part in an election as long as this command runs, and print when it is won and lost.
    ///
    /// Whoever acts upon that gives the token to what it changes, so that an older one can be refused: a
    /// line that is read late is late.
    Campaign {
        /// The election.
        #[arg(value_name = "NAME")]
        name: String,
        /// For how long it is led without a word from the group: 1 s to 1 h.
        #[arg(long, value_name = "DURATION", default_value = "5s",
              value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// End after so many lines.
        #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        whom: Whom,
    },
}

pub(super) fn run(command: &ElectionCommand) -> Result<(), Failure> {
    match command {
        ElectionCommand::List { after, whom } => {
            let found = ask(whom, &Request::ElectionList { after: after.clone() })?;
            tell(whom, &found, || {
                let columns = ["election", "node", "token", "asked_to_resign"];
                format!("{}\n{}", table(&columns, list(&found, "elections")), fields(&found))
            })
        }
        ElectionCommand::Observe { name, count, whom } => {
            let asked = Request::ElectionObserve { name: name.clone() };
            follow(whom, &asked, *count, |told| Told::Counts(observed(told)))
        }
        ElectionCommand::Resign { name, wait, whom } => resign(whom, name, *wait),
        ElectionCommand::Campaign { name, ttl, count, whom } => {
            let asked = Request::ElectionCampaign { name: name.clone(), ttl_ms: millis(*ttl) };
            follow(whom, &asked, *count, |told| Told::Counts(happened(told)))
        }
    }
}

fn resign(whom: &Whom, name: &str, wait: Option<Duration>) -> Result<(), Failure> {
    let within_ms = wait.map(millis);
    let told = ask(whom, &Request::ElectionResign { name: name.to_owned(), within_ms })?;
    if told.get("token").is_none_or(Value::is_null) {
        return Err(Failure::Ran(anyhow!("nobody leads {name:?}")));
    }
    tell(whom, &told, || fields(&told))?;
    match (wait, told.get("resigned").and_then(Value::as_bool)) {
        (Some(_), Some(false)) => {
            Err(Failure::Ran(anyhow!("it still leads; it has been asked, and resigns when it can")))
        }
        _ => Ok(()),
    }
}

fn number(told: &Value, name: &str) -> u64 {
    told.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn observed(told: &Value) -> String {
    let gap = told.get("gap").and_then(Value::as_bool).unwrap_or(false);
    let gap = if gap { " (others may have led meanwhile)" } else { "" };
    let Some(leader) = told.get("leader").filter(|leader| !leader.is_null()) else {
        return format!("{} nobody{gap}", number(told, "revision"));
    };
    let asked = leader.get("asked_to_resign").and_then(Value::as_bool).unwrap_or(false);
    let asked = if asked { " is asked to resign" } else { "" };
    let node = leader.get("node").and_then(Value::as_str).unwrap_or_default();
    format!("{} token {} {node}{asked}{gap}", number(told, "revision"), number(leader, "token"))
}

fn happened(told: &Value) -> String {
    let text = |name| told.get(name).and_then(Value::as_str);
    let (event, token) = (text("event").unwrap_or_default(), number(told, "token"));
    text("why").map_or_else(|| format!("{event} {token}"), |why| format!("{event} {token} {why}"))
}

#[cfg(test)]
mod tests {
    use super::{happened, observed};
    use macula_workload::election::Options;
    use serde_json::json;

    #[test]
    fn lines_say_who_leads_and_under_which_token() {
        let leader = json!({ "node": "ada", "token": 7, "asked_to_resign": true });
        let told = json!({ "revision": 9, "leader": leader, "gap": false });
        assert_eq!(observed(&told), "9 token 7 ada is asked to resign");
        let told = json!({ "revision": 11, "leader": null, "gap": true });
        assert_eq!(observed(&told), "11 nobody (others may have led meanwhile)");
        assert_eq!(happened(&json!({ "event": "elected", "token": 7 })), "elected 7");
        let told = json!({ "event": "deposed", "token": 7, "why": "asked" });
        assert_eq!(happened(&told), "deposed 7 asked");
    }

    #[test]
    fn the_usual_ttl_is_the_one_of_the_library() {
        assert_eq!(Options::default().ttl_ms, 5_000);
    }
}
