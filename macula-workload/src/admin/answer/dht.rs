//! What is answered about the distributed hash table.

use std::time::Duration;

use bytes::Bytes;
use macula_infra::dht::Error;
use macula_infra::dht::proto::node::{Failure, Quorum, Stored};
use macula_infra::dht::proto::records::Condition;
use macula_infra::mesh::Mesh;
use serde_json::{Value, json};

use super::{Declined, SHOWN_MAX};

pub(super) async fn get(mesh: &Mesh, space: &str, name: &str) -> Result<Value, Declined> {
    let got = mesh.dht().get(space, name.as_bytes(), true).await.map_err(declined)?;
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
) -> Result<Value, Declined> {
    let condition = match expected {
        None => Condition::Any,
        Some(0) => Condition::Absent,
        Some(sequence) => Condition::Sequence(sequence),
    };
    let quorum = parse_quorum(quorum)?;
    let put = mesh.dht().put(place, Bytes::from(value), ttl, condition, quorum).await;
    let (sequence, stored) = put.map_err(declined)?;
    Ok(outcome(sequence, &stored))
}

pub(super) async fn providers(
    mesh: &Mesh,
    space: &str,
    name: &str,
    max: usize,
) -> Result<Value, Declined> {
    let found = mesh.dht().find(space, name.as_bytes(), max).await.map_err(declined)?;
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

pub(super) async fn lookup(mesh: &Mesh, space: &str, name: &str) -> Result<Value, Declined> {
    let key = mesh.dht().checked_key(space, name.as_bytes()).map_err(declined)?;
    let found = mesh.dht().lookup(key).await.map_err(declined)?;
    let nodes = found.closest.iter().map(|peer| {
        let contact = peer.contact();
        json!({ "node": contact.node.to_string(), "addresses": contact.addresses })
    });
    let nodes: Vec<Value> = nodes.collect();
    Ok(json!({
        "key": key.to_string(), "nodes": nodes, "asked": found.asked, "hops": found.hops,
    }))
}

/// What was wrong from the start, and what was not done.
fn declined(error: Error) -> Declined {
    match error {
        Error::TooLong(_)
        | Error::UnknownSpace { .. }
        | Error::TooLasting { .. }
        | Error::Sign(_)
        | Error::Failed(Failure::Refused(_)) => Declined::wrong(error),
        _ => Declined::failed(error),
    }
}

fn parse_quorum(text: &str) -> Result<Quorum, Declined> {
    Ok(match text {
        "one" => Quorum::One,
        "majority" => Quorum::Majority,
        "all" => Quorum::All,
        number => match number.parse() {
            Ok(number) if number > 0 => Quorum::N(number),
            _ => {
                let text: String = text.chars().take(SHOWN_MAX).collect();
                let why = format!("{text:?} is no quorum: say one, majority, all or a number");
                return Err(Declined::Wrong(why));
            }
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
