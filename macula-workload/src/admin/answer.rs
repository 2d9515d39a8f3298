//! What a node answers.

mod dht;
mod rpc;

use std::time::Duration;

use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{PublishOptions, Qos};
use serde_json::{Value, json};

use super::{Declined, Request, topics};

/// How much of a wrong text is said again, in characters.
const SHOWN_MAX: usize = 64;

/// Answers a request, in words if there is no answer.
pub(super) async fn answer(mesh: &Mesh, request: Request) -> Result<Value, Declined> {
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
            rpc::call(mesh, &procedure, &question, Duration::from_millis(within_ms)).await
        }
        Request::Publish { topic, value, at_least_once, retain, keep } => {
            let qos = if at_least_once { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            let options = PublishOptions { qos, retain, keep, ..PublishOptions::default() };
            topics::publish(mesh, &topic, value, options).await
        }
        Request::Subscribe { .. } => Err(Declined::wrong("it is no question with one answer")),
    }
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
