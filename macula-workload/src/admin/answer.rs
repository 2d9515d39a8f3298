//! What a node answers.

use std::time::Duration;

use bytes::Bytes;
use macula_infra::dht::proto::node::{Quorum, Stored};
use macula_infra::dht::proto::records::Condition;
use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{PublishOptions, Qos};
use serde_json::{Value, json};

use super::{Request, topics};

mod rpc;

/// Answers a request, in words if there is no answer.
pub(super) async fn answer(mesh: &Mesh, request: Request) -> Result<Value, String> {
    let dht = mesh.dht();
    match request {
        Request::Peers {} => Ok(peers(mesh)),
        Request::DhtGet { space, name } => get(mesh, &space, &name).await,
        Request::DhtPut { space, name, value, ttl_s, expected, quorum } => {
            let condition = match expected {
                None => Condition::Any,
                Some(0) => Condition::Absent,
                Some(sequence) => Condition::Sequence(sequence),
            };
            let (quorum, ttl) = (parse_quorum(&quorum)?, Duration::from_secs(ttl_s));
            let place = (space.as_str(), name.as_bytes());
            let put = dht.put(place, Bytes::from(value), ttl, condition, quorum).await;
            let (sequence, stored) = put.map_err(in_words)?;
            Ok(outcome(sequence, &stored))
        }
        Request::DhtProviders { space, name, max } => {
            let found = dht.find(&space, name.as_bytes(), max).await.map_err(in_words)?;
            let providers: Vec<Value> = found
                .providers
                .iter()
                .map(|found| {
                    let provider = found.provider();
                    json!({
                        "node": provider.node().to_string(),
                        "addresses": provider.contact.addresses,
                        "metadata": String::from_utf8_lossy(&provider.metadata),
                    })
                })
                .collect();
            Ok(json!({ "providers": providers, "answered": found.answered }))
        }
        Request::DhtLookup { space, name } => {
            let key = dht.key(&space, name.as_bytes());
            let found = dht.lookup(key).await.map_err(in_words)?;
            let nodes: Vec<Value> = found
                .closest
                .iter()
                .map(|peer| {
                    let contact = peer.contact();
                    json!({ "node": contact.node.to_string(), "addresses": contact.addresses })
                })
                .collect();
            Ok(json!({
                "key": key.to_string(), "nodes": nodes, "asked": found.asked, "hops": found.hops,
            }))
        }
        Request::DhtTable {} => Ok(table(mesh)),
        Request::Audit {} => Ok(audit(mesh)),
        Request::RpcList {} => Ok(rpc::list(mesh)),
        Request::RpcProviders { procedure } => rpc::providers(mesh, &procedure).await,
        Request::RpcCall { procedure, question, within_ms } => {
            rpc::call(mesh, &procedure, &question, Duration::from_millis(within_ms)).await
        }
        Request::Publish { topic, value, at_least_once, retain, keep } => {
            let qos = if at_least_once { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            let options = PublishOptions { qos, retain, keep, ..PublishOptions::default() };
            topics::publish(mesh, &topic, value, options).await
        }
        Request::Subscribe { .. } => Err("it is no question with one answer".to_owned()),
    }
}

/// The record under a name.
async fn get(mesh: &Mesh, space: &str, name: &str) -> Result<Value, String> {
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

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
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

fn audit(mesh: &Mesh) -> Value {
    let refused = mesh.access().audit().recent().into_iter().map(|entry| {
        json!({
            "at_s": entry.at.as_secs(),
            "node": entry.node.map(|node| node.to_string()),
            "action": entry.action,
            "name": entry.name,
            "why": entry.why,
        })
    });
    json!({ "refused": refused.collect::<Vec<_>>() })
}

fn peers(mesh: &Mesh) -> Value {
    let links = mesh.links();
    let peers: Vec<Value> = mesh
        .membership()
        .members()
        .into_iter()
        .map(|member| {
            let node = member.contact.node;
            let is_connected = links.iter().any(|link| link.node() == node);
            json!({
                "node": node.to_string(),
                "status": format!("{:?}", member.status).to_lowercase(),
                "role": format!("{:?}", member.role).to_lowercase(),
                "life": member.life,
                "connected": is_connected,
                "via": mesh.via(node).map(|relay| relay.to_string()),
                "addresses": member.contact.addresses,
            })
        })
        .collect();
    let carried = mesh.relay().carried();
    let places: Vec<String> = mesh.relay().places().iter().map(ToString::to_string).collect();
    json!({
        "node": mesh.node().to_string(),
        "peers": peers,
        "relays": places,
        "relayed_nodes": carried.reservations,
        "relayed_circuits": carried.circuits,
    })
}

fn table(mesh: &Mesh) -> Value {
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
