//! What is left of a node that has ended: nothing, though its parts know of each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Weak};
use std::time::Duration;

use macula_workload::prelude::*;
use macula_workload::rpc::Options;

/// Far longer than anything takes.
const WITHIN: Duration = Duration::from_secs(30);

/// A node, and something that lives as long as the procedure that it provides.
async fn started() -> (Node, Weak<()>) {
    let node = Node::builder().start().await.unwrap();
    let served = Arc::new(());
    let left = Arc::downgrade(&served);
    let echo = move |number: u64, _| {
        let _lives_on: &Arc<()> = &served;
        std::future::ready(Ok::<_, String>(number))
    };
    node.rpc()
        .advertise(&"ending.echo".parse().unwrap(), &Options::default(), echo)
        .unwrap()
        .keep();
    assert!(left.upgrade().is_some());
    (node, left)
}

#[tokio::test]
async fn nothing_is_left_of_a_node_that_was_stopped() {
    let (node, left) = started().await;
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
    let (node, left) = runtime.block_on(started());
    drop(node);
    assert!(left.upgrade().is_some(), "a node that is dropped goes on");
    drop(runtime);
    assert!(left.upgrade().is_none());
}
