//! `macula raft`: the group of voters, through a node that runs.

use macula_workload::admin::Request;

use serde_json::Value;

use super::Failure;
use super::ask::{Whom, ask, fields, list, table, tell};

/// A node, by its id.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Named {
    /// The node.
    #[arg(value_name = "NODE_ID")]
    node: String,
    #[command(flatten)]
    whom: Whom,
}

/// A node, or the usual one.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Maybe {
    /// The node whose member is meant.
    #[arg(long, value_name = "NODE_ID")]
    node: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum RaftCommand {
    /// Show how it stands with the group, as the leader sees it.
    Status(Maybe),
    /// Have a node vote. It is one with `consensus.role = "voter"`, and gets all that there is first.
    AddVoter(Named),
    /// Have a node get all that there is, and not vote.
    AddLearner(Named),
    /// Take a node out of the group. If it leads, another one does first.
    RemoveVoter(Named),
    /// Have one node vote in the place of another. They may be the same: then its files were lost, and it
    /// gets all anew from the others.
    Replace {
        /// Who goes.
        #[arg(value_name = "OLD_NODE_ID")]
        old: String,
        /// Who comes.
        #[arg(value_name = "NEW_NODE_ID")]
        new: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Have this node's member, whose files are damaged, get all anew from the others.
    ///
    /// A node whose files are damaged says so in its log, and does not vote. The others have to be a group
    /// without it, or nothing is done. The files are set aside in their folder.
    Rebuild {
        #[command(flatten)]
        whom: Whom,
    },
    /// Have a node lead.
    Transfer(Named),
    /// Have a member make a snapshot: that of the node that is asked, if none is named.
    Snapshot(Maybe),
}

pub(super) fn run(command: &RaftCommand) -> Result<(), Failure> {
    let (whom, asked) = command.question();
    let status = ask(whom, &asked)?;
    tell(whom, &status, || {
        let columns = ["node", "life", "role", "leads", "answers", "in_touch", "applied"];
        let members = table(&columns, list(&status, "members"));
        let others = list(&status, "other_groups");
        let split = if others.is_empty() {
            String::new()
        } else {
            let others = table(&["node", "group"], others);
            format!(
                "\n\nTHERE IS ANOTHER GROUP IN THIS REALM, whose keys are not those of this one:\n{others}"
            )
        };
        let has_majority = status.get("has_majority").and_then(Value::as_bool);
        let lost = match has_majority {
            Some(true) => "",
            Some(false) => {
                "\n\nTHERE IS NO MAJORITY: too few voters answer, and nothing can be agreed upon until more do."
            }
            None => "\n\nThe member is in no group yet: `macula raft add-voter` takes it in.",
        };
        format!("{members}\n{}{lost}{split}", fields(&status))
    })
}

impl RaftCommand {
    /// Which node is asked, and what.
    fn question(&self) -> (&Whom, Request) {
        match self {
            Self::Status(Maybe { node, whom }) => {
                (whom, Request::RaftStatus { node: node.clone() })
            }
            Self::Snapshot(Maybe { node, whom }) => {
                (whom, Request::RaftSnapshot { node: node.clone() })
            }
            Self::AddVoter(Named { node, whom }) => {
                (whom, Request::RaftAddVoter { node: node.clone() })
            }
            Self::AddLearner(Named { node, whom }) => {
                (whom, Request::RaftAddLearner { node: node.clone() })
            }
            Self::RemoveVoter(Named { node, whom }) => {
                (whom, Request::RaftRemove { node: node.clone() })
            }
            Self::Rebuild { whom } => (whom, Request::RaftRebuild {}),
            Self::Transfer(Named { node, whom }) => {
                (whom, Request::RaftTransfer { node: node.clone() })
            }
            Self::Replace { old, new, whom } => {
                (whom, Request::RaftReplace { old: old.clone(), new: new.clone() })
            }
        }
    }
}
