//! What is answered about procedures.

use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::topic::Topic;
use macula_infra::mesh::Mesh;
use macula_infra::rpc::CallOptions;
use serde_json::{Value, json};

use super::{Declined, SHOWN_MAX};

fn parse(procedure: &str) -> Result<Topic, Declined> {
    procedure.parse().map_err(|error| {
        let shown: String = procedure.chars().take(SHOWN_MAX).collect();
        Declined::Wrong(format!("{shown:?} is no procedure: {error}"))
    })
}

pub(super) fn list(mesh: &Mesh) -> Value {
    json!({ "node": mesh.node().to_string(), "procedures": mesh.rpc().procedures() })
}

pub(super) async fn providers(mesh: &Mesh, procedure: &str) -> Result<Value, Declined> {
    let found = mesh.rpc().providers(&parse(procedure)?).await.map_err(Declined::failed)?;
    let members = mesh.membership().members();
    let status = |node: NodeId| match members.iter().find(|member| member.contact.node == node) {
        Some(member) => format!("{:?}", member.status).to_lowercase(),
        None if node == mesh.node() => "here".to_owned(),
        None => "unknown".to_owned(),
    };
    let providers = found.iter().map(|provider| {
        json!({
            "node": provider.node.to_string(),
            "status": status(provider.node),
            "metadata": String::from_utf8_lossy(&provider.metadata),
        })
    });
    Ok(json!({ "procedure": procedure, "providers": providers.collect::<Vec<_>>() }))
}

pub(super) async fn call(
    mesh: &Mesh,
    procedure: &str,
    question: &Value,
    within: Duration,
) -> Result<Value, Declined> {
    let options = CallOptions { within, ..CallOptions::default() };
    let answer = mesh.rpc().call_with(&parse(procedure)?, question, &options).await;
    answer.map_err(Declined::failed)
}
