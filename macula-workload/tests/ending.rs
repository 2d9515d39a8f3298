//! What is left of a node that has ended: nothing, though its parts know of each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use macula_workload::prelude::*;
use macula_workload::remote::{ReplyTo, Serving};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Far longer than anything takes.
const WITHIN: Duration = Duration::from_secs(30);

struct Echo;

struct Said(u64, ReplyTo<u64>);

impl Actor for Echo {
    type Msg = Said;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Said>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Said>,
        Said(number, reply): Said,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        drop(reply.send(number));
        Ok(())
    }
}

/// A node, and something that lives as long as what it serves.
async fn started() -> (Node, Serving, Weak<()>) {
    let node = Node::builder().start().await.unwrap();
    let echo = node.spawn(Worker::new("echo", || (Echo, ())).unwrap()).await.unwrap();
    let served = Arc::new(());
    let left = Arc::downgrade(&served);
    let said = move |number, reply| {
        let _lives_on: &Arc<()> = &served;
        Said(number, reply)
    };
    let serving = node.serve("echo", &echo, said).unwrap();
    assert!(left.upgrade().is_some());
    (node, serving, left)
}

#[tokio::test]
async fn nothing_is_left_of_a_node_that_was_stopped() {
    let (node, _serving, left) = started().await;
    node.stop().await.unwrap();
    let gone = async {
        while left.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, gone).await.unwrap();
}

#[test]
fn nothing_is_left_of_a_node_whose_runtime_has_ended() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (node, _serving, left) = runtime.block_on(started());
    drop(node);
    assert!(left.upgrade().is_some(), "a node that is dropped goes on");
    drop(runtime);
    assert!(left.upgrade().is_none());
}
