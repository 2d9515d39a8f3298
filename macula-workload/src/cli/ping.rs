//! The actor that `macula run` serves: it answers with what it is asked, and who it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use macula_workload::remote::ReplyTo;
use macula_workload::rpc::Options;
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

/// Serves it for as long as the node runs.
pub(super) fn serve(node: &Node, handle: &Handle<Ping>) -> anyhow::Result<()> {
    let id = node.id();
    let ping = move |question, reply| Ping { node: id, question, reply };
    node.serve(NAME, handle, ping)?.keep();
    let options = Options { idempotent: true, ..Options::default() };
    node.mesh().rpc().advertise_actor(&PROCEDURE.parse()?, &options, handle, ping)?.keep();
    Ok(())
}
