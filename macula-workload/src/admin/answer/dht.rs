//! What is answered about the distributed hash table.

use std::time::Duration;

use bytes::Bytes;
use macula_infra::dht::proto::node::{Quorum, Stored};
use macula_infra::dht::proto::records::Condition;
use macula_infra::mesh::Mesh;
use serde_json::{Value, json};

use super::in_words;

pub(super) async fn get(mesh: &Mesh, space: &str, name: &str) -> Result<Value, String> {
    let got = mesh.dht().get(space, name.as_bytes(), true).await.map_err(in_words)?;
    let Some(record) = got.record else {
        return Ok(json!({ "found": false, "agreed": 0, "answered": got.answered }));
    };
    let record = record.record();
    Ok(json!({
        "found": true,
        "value": std::str::from_utf8(&record.value).ok(),
        "value_hex": data_encoding::HEXLOWER.encode(&record.value),
        "author": record.author.to_string(),
        "sequence": record.sequence,
        "expires_at_s": record.expires_at.as_secs(),
        "agreed": got.agreed,
        "answered": got.answered,
    }))
}

pub(super) async fn put(
    mesh: &Mesh,
    place: (&str, &[u8]),
    value: String,
    ttl: Duration,
    expected: Option<u64>,
    quorum: &str,
) -> Result<Value, String> {
    let condition = match expected {
        None => Condition::Any,
        Some(0) => Condition::Absent,
        Some(sequence) => Condition::Sequence(sequence),
    };
    let quorum = parse_quorum(quorum)?;
    let put = mesh.dht().put(place, Bytes::from(value), ttl, condition, quorum).await;
    let (sequence, stored) = put.map_err(in_words)?;
    Ok(outcome(sequence, &stored))
}

pub(super) async fn providers(
    mesh: &Mesh,
    space: &str,
    name: &str,
    max: usize,
) -> Result<Value, String> {
    let found = mesh.dht().find(space, name.as_bytes(), max).await.map_err(in_words)?;
    let providers = found.providers.iter().map(|found| {
        let provider = found.provider();
        json!({
            "node": provider.node().to_string(),
            "addresses": provider.contact.addresses,
            "metadata": String::from_utf8_lossy(&provider.metadata),
        })
    });
    Ok(json!({ "providers": providers.collect::<Vec<_>>(), "answered": found.answered }))
}

pub(super) async fn lookup(mesh: &Mesh, space: &str, name: &str) -> Result<Value, String> {
    let key = mesh.dht().key(space, name.as_bytes());
    let found = mesh.dht().lookup(key).await.map_err(in_words)?;
    let nodes = found.closest.iter().map(|peer| {
        let contact = peer.contact();
        json!({ "node": contact.node.to_string(), "addresses": contact.addresses })
    });
    let nodes: Vec<Value> = nodes.collect();
    Ok(json!({
        "key": key.to_string(), "nodes": nodes, "asked": found.asked, "hops": found.hops,
    }))
}

fn parse_quorum(text: &str) -> Result<Quorum, String> {
    Ok(match text {
        "one" => Quorum::One,
        "majority" => Quorum::Majority,
        "all" => Quorum::All,
        number => match number.parse() {
            Ok(number) if number > 0 => Quorum::N(number),
            _ => return Err(format!("{text:?} is no quorum: say one, majority, all or a number")),
        },
    })
}

fn outcome(sequence: u64, stored: &Stored) -> Value {
    let nodes: Vec<Value> = stored
        .nodes
        .iter()
        .map(|(node, told)| json!({ "node": node.to_string(), "outcome": told.to_string() }))
        .collect();
    json!({
        "sequence": sequence,
        "reached": stored.is_reached(),
        "kept": stored.kept,
        "wanted": stored.wanted,
        "nodes": nodes,
    })
}

pub(super) fn table(mesh: &Mesh) -> Value {
    let stats = mesh.dht().stats();
    let entries: Vec<Value> = mesh
        .dht()
        .saved()
        .entries
        .iter()
        .map(|saved| {
            json!({
                "node": saved.contact.node.to_string(),
                "addresses": saved.contact.addresses,
                "seen_ago_s": saved.seen_ago_s,
            })
        })
        .collect();
    json!({
        "entries": entries,
        "buckets": stats.table.buckets,
        "questionable": stats.table.questionable,
        "cached": stats.table.cached,
        "records": stats.records,
        "providers": stats.providers,
        "population": stats.population,
    })
}
