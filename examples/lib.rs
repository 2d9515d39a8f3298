//! Examples of Macula. Each is a program of its own beside this file, and the tests run them all.

use std::io::Write as _;

use macula_workload::bootstrap::Seed;
use macula_workload::identity::EphemeralRealm;
use macula_workload::{Config, Node};

/// Says something on standard output. Nobody need listen.
pub fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// A node of a realm that joins the mesh of three through another, and waits until it knows both.
///
/// # Errors
///
/// If the node cannot be started.
pub async fn join(realm: &EphemeralRealm, through: Option<&Node>) -> anyhow::Result<Node> {
    let mut config = Config::default();
    let addresses = through.into_iter().flat_map(|node| node.mesh().listening());
    config.mesh.bootstrap.seeds = addresses.map(Seed::Address).collect();
    let node = Node::builder().config(config).credentials(realm.member()?).start().await?;
    let mut events = node.mesh().membership().events();
    while through.is_some() && node.mesh().membership().members().len() < 2 {
        events.recv().await?;
    }
    Ok(node)
}
