//! `macula rpc`: procedures, through a node that runs.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::admin::Request;
use serde_json::{Value, json};

use super::ask::{Whom, ask, list, millis, table, tell, within};
use super::{Failure, print};

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
        /// How long to wait for the answer: at most 50s.
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

pub(super) fn run(command: &RpcCommand) -> Result<(), Failure> {
    match command {
        RpcCommand::Call { procedure, question, within, whom } => {
            let question: Value = serde_json::from_str(question)
                .with_context(|| format!("the question is no JSON: {question}"))
                .map_err(Failure::Usage)?;
            let within_ms = millis(*within);
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
