//! What is answered about procedures.

use std::time::Duration;

use macula_core::topic::Topic;
use macula_infra::mesh::Mesh;
use macula_infra::rpc::CallOptions;
use serde_json::{Value, json};

use super::in_words;

fn parse(procedure: &str) -> Result<Topic, String> {
    procedure.parse().map_err(|error| format!("{procedure:?} is no procedure: {error}"))
}

pub(super) fn list(mesh: &Mesh) -> Value {
    json!({ "node": mesh.node().to_string(), "procedures": mesh.rpc().procedures() })
}

pub(super) async fn providers(mesh: &Mesh, procedure: &str) -> Result<Value, String> {
    let found = mesh.rpc().providers(&parse(procedure)?).await.map_err(in_words)?;
    let providers = found.iter().map(|provider| {
        json!({
            "node": provider.node.to_string(),
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
) -> Result<Value, String> {
    let options = CallOptions { within, ..CallOptions::default() };
    let answer = mesh.rpc().call_with(&parse(procedure)?, question, &options).await;
    answer.map_err(in_words)
}
