//! What a node answers.

pub(super) mod crdt;
mod dht;
pub(super) mod election;
pub(super) mod kv;
mod rpc;

use std::time::Duration;

use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{PublishOptions, Qos};
use macula_platform::consensus::Consensus;
use serde_json::{Value, json};

use super::{About, Declined, Request, WITHIN_MAX, topics};
use crdt::Terms;
use kv::Deed;

/// How much of a wrong text is said again, in characters.
const SHOWN_MAX: usize = 64;

/// Answers a request, in words if there is no answer.
pub(super) async fn answer(about: &About, request: Request) -> Result<Value, Declined> {
    let About { mesh, agreement, crdts } = about;
    let Consensus { kv, elections, .. } = agreement;
    match request {
        Request::Peers {} => Ok(peers(mesh)),
        Request::DhtGet { space, name } => dht::get(mesh, &space, &name).await,
        Request::DhtPut { space, name, value, ttl_s, expected, quorum } => {
            let (place, ttl) = ((space.as_str(), name.as_bytes()), Duration::from_secs(ttl_s));
            dht::put(mesh, place, value, ttl, expected, &quorum).await
        }
        Request::DhtProviders { space, name, max } => {
            dht::providers(mesh, &space, &name, max).await
        }
        Request::DhtLookup { space, name } => dht::lookup(mesh, &space, &name).await,
        Request::DhtTable {} => Ok(dht::table(mesh)),
        Request::Audit {} => Ok(audit(mesh)),
        Request::RpcList {} => Ok(rpc::list(mesh)),
        Request::RpcProviders { procedure } => rpc::providers(mesh, &procedure).await,
        Request::RpcCall { procedure, question, within_ms } => {
            let within = waited(Some(within_ms))?.unwrap_or(WITHIN_MAX);
            rpc::call(mesh, &procedure, &question, within).await
        }
        Request::Publish { topic, value, at_least_once, retain, keep } => {
            let qos = if at_least_once { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            let options = PublishOptions { qos, retain, keep, ..PublishOptions::default() };
            topics::publish(mesh, &topic, value, options).await
        }
        Request::KvGet { .. }
        | Request::KvPut { .. }
        | Request::KvDelete { .. }
        | Request::KvRange { .. } => kv::answer(kv, request).await,
        Request::CrdtGet { key, level, within_ms } => {
            crdt::get(crdts, &key, Terms::read(&level, within_ms)?).await
        }
        Request::CrdtKeys { bucket, prefix } => crdt::keys(crdts, bucket, &prefix).await,
        Request::CrdtUpdate { key, kind, deed, level, within_ms } => {
            let terms = Terms::read(&level, within_ms)?;
            crdt::update(crdts, (&key, kind.as_deref()), deed, terms).await
        }
        Request::CrdtRelease { bucket, level, within_ms } => {
            crdt::release(crdts, &bucket, Terms::read(&level, within_ms)?).await
        }
        Request::CrdtRetire { bucket, node, even_if_alive } => {
            crdt::retire(about, &bucket, (&node, even_if_alive)).await
        }
        Request::ElectionList { after } => election::list(elections, after.as_deref()).await,
        Request::ElectionResign { name, within_ms } => {
            election::resign(elections, &name, waited(within_ms)?).await
        }
        Request::RaftStatus { node } => kv::status(kv, node).await,
        Request::RaftAddVoter { node } => kv::operate(agreement, Deed::AddVoter(node)).await,
        Request::RaftAddLearner { node } => kv::operate(agreement, Deed::AddLearner(node)).await,
        Request::RaftRemove { node } => kv::operate(agreement, Deed::Remove(node)).await,
        Request::RaftReplace { old, new } => kv::operate(agreement, Deed::Replace(old, new)).await,
        Request::RaftRebuild {} => kv::rebuild(agreement).await,
        Request::RaftTransfer { node } => kv::operate(agreement, Deed::Transfer(node)).await,
        Request::RaftSnapshot { node } => kv::operate(agreement, Deed::Snapshot(node)).await,
        Request::KvWatch { .. }
        | Request::CrdtWatch { .. }
        | Request::Subscribe { .. }
        | Request::ElectionObserve { .. }
        | Request::ElectionCampaign { .. } => Err(no_answer()),
    }
}

/// It is something that is followed.
fn no_answer() -> Declined {
    Declined::wrong("it is no question with one answer")
}

/// An object with one more field, if that has a value.
fn with(mut told: Value, name: &str, value: Option<impl Into<Value>>) -> Value {
    if let (Some(fields), Some(value)) = (told.as_object_mut(), value) {
        fields.insert(name.to_owned(), value.into());
    }
    told
}

/// For how long others are waited for, if it is said.
///
/// # Errors
///
/// [`Declined::Wrong`] if that is longer than who asks waits.
fn waited(within_ms: Option<u64>) -> Result<Option<Duration>, Declined> {
    let within = within_ms.map(Duration::from_millis);
    if within.is_some_and(|within| within > WITHIN_MAX) {
        return Err(Declined::wrong(format!("others are waited for at most {WITHIN_MAX:?}")));
    }
    Ok(within)
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
