//! `macula rpc`: procedures, through a node that runs.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::admin::Request;
use serde_json::{Value, json};

use super::ask::{Whom, ask, list, table, tell};
use super::{Failure, print, some_time};

#[derive(Debug, clap::Subcommand)]
pub(super) enum RpcCommand {
    /// Call a procedure, whoever provides it, and print its answer as JSON.
    Call {
        /// The procedure, such as `node.ping`.
        #[arg(value_name = "PROCEDURE")]
        procedure: String,
        /// The question, in JSON.
        #[arg(value_name = "JSON")]
        question: String,
        /// How long to wait for the answer: at most 55 seconds.
        #[arg(long, value_name = "DURATION", default_value = "5s",
              value_parser = within)]
        within: Duration,
        #[command(flatten)]
        whom: Whom,
    },
    /// Show the procedures that the node provides; or of one, all that provide it.
    ///
    /// A provider that is not alive is not asked; its announcement ends by itself.
    List {
        /// The procedure.
        #[arg(value_name = "PROCEDURE")]
        procedure: Option<String>,
        #[command(flatten)]
        whom: Whom,
    },
}

/// The longest that a call may wait: whoever asks the node waits a little longer.
const WITHIN_MAX: Duration = Duration::from_secs(55);

fn within(text: &str) -> Result<Duration, String> {
    let within = some_time(text)?;
    if within > WITHIN_MAX {
        let max = humantime::format_duration(WITHIN_MAX);
        return Err(format!("at most {max} are waited for"));
    }
    Ok(within)
}

pub(super) fn run(command: &RpcCommand) -> Result<(), Failure> {
    match command {
        RpcCommand::Call { procedure, question, within, whom } => {
            let question: Value = serde_json::from_str(question)
                .with_context(|| format!("the question is no JSON: {question}"))
                .map_err(Failure::Usage)?;
            let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let call = Request::RpcCall { procedure: procedure.clone(), question, within_ms };
            Ok(print(&ask(whom, &call)?.to_string())?)
        }
        RpcCommand::List { procedure: None, whom } => {
            let found = ask(whom, &Request::RpcList {})?;
            tell(whom, &found, || {
                let names = list(&found, "procedures").iter();
                let rows: Vec<Value> = names.map(|name| json!({ "procedure": name })).collect();
                table(&["procedure"], &rows)
            })
        }
        RpcCommand::List { procedure: Some(procedure), whom } => {
            let found = ask(whom, &Request::RpcProviders { procedure: procedure.clone() })?;
            tell(whom, &found, || table(&["node", "status", "metadata"], list(&found, "providers")))
        }
    }
}
