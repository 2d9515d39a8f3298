//! The actor that `macula run` serves: it answers with what it is asked, and who it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use macula_workload::remote::{ReplyTo, ServeError, Serving};
use macula_workload::rpc::{Advertised, Options};
use macula_workload::supervision::{ChildSpec, Handle, Worker};
use macula_workload::{Node, NodeId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;

/// The name under which other nodes find it.
pub(super) const NAME: &str = "node/ping";

/// The procedure that it answers.
const PROCEDURE: &str = "node.ping";

/// A question from another node, and whom it is to.
pub(super) struct Ping {
    node: NodeId,
    question: Value,
    reply: ReplyTo<Value>,
}

struct Pinged;

impl Actor for Pinged {
    type Msg = Ping;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<Ping>, life: u64) -> Result<u64, ActorProcessingErr> {
        Ok(life)
    }

    async fn handle(
        &self,
        _: ActorRef<Ping>,
        ping: Ping,
        life: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let Ping { node, question, reply } = ping;
        let answer = serde_json::json!({
            "node": node.to_string(),
            "incarnation": *life,
            "echo": question,
        });
        // A caller that has gone away is no failure of ours.
        drop(reply.send(answer));
        Ok(())
    }
}

/// The actor as a child of the workload tier, and the handle to it.
pub(super) fn worker() -> anyhow::Result<(ChildSpec, Handle<Ping>)> {
    let lives = Arc::new(AtomicU64::new(0));
    let make = move || (Pinged, lives.fetch_add(1, Ordering::Relaxed) + 1);
    Ok(Worker::new("ping", make)?.split())
}

/// Serves it for as long as the node runs; or says that the rules of access do not allow it.
pub(super) fn serve(node: &Node, handle: &Handle<Ping>) -> anyhow::Result<()> {
    let id = node.id();
    let ping = move |question, reply| Ping { node: id, question, reply };
    let options = Options { idempotent: true, ..Options::default() };
    let advertised = node.rpc().advertise_actor(&PROCEDURE.parse()?, &options, handle, ping);
    let is_refused = [
        kept(node.serve(NAME, handle, ping).map(Serving::keep))?,
        kept(advertised.map(Advertised::keep))?,
    ];
    if is_refused.contains(&true) {
        tracing::warn!(
            "the rules of access do not allow this node to serve {NAME} and {PROCEDURE}"
        );
    }
    Ok(())
}

/// Whether it is the rules that do not allow it.
fn kept(served: Result<(), ServeError>) -> anyhow::Result<bool> {
    match served {
        Ok(()) => Ok(false),
        Err(ServeError::Forbidden(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
