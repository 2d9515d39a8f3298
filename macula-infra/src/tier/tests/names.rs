//! Actors are found by name in a mesh, on whichever node.

use std::sync::Arc;

use super::discovery::{WITHIN, finds, has_members, joined};
use super::{Ask, Node};
use crate::link::Link;
use crate::remote::{CallError, DownReason, Serving, Unavailability};

/// Three nodes that know one another.
pub(super) async fn three() -> [Node; 3] {
    let one = joined(1, None).await;
    let two = joined(2, Some(&one)).await;
    let three = joined(3, Some(&one)).await;
    for node in [&one, &two, &three] {
        has_members(node, 2).await;
        finds(node, 2).await;
    }
    [one, two, three]
}

pub(super) async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.root.stop().await;
    }
}

/// Stops a node, and waits until another sees that their connections have ended: dials that crossed
/// may have left two. Until then a question over one would be lost, and might have been handled.
pub(super) async fn stop_in_sight_of(other: &Node, node: Node) {
    let id = node.infra.mesh.node();
    node.root.stop().await;
    let is_live = |link: &Arc<Link>| link.node() == id && !link.is_leaving();
    while let Some(link) = other.infra.mesh.links().into_iter().find(is_live) {
        link.left().await;
    }
}

/// Serves a node's counter under a name that the others can find.
async fn serve(node: &Node, name: &str) -> Serving {
    let serving = node.infra.mesh.serve(name, &node.counter, Ask::Add).unwrap();
    let announced = tokio::time::timeout(WITHIN, node.infra.mesh.announced());
    announced.await.expect("a name is announced");
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_is_found_by_its_name_wherever_it_is() {
    let [one, two, three] = three().await;
    let scores = three.infra.mesh.named::<u64, u64>("workload/scoreboard");
    let nobody = Err(CallError::Unavailable(Unavailability::NotServed(scores.name().to_owned())));
    assert_eq!(scores.call(&1).await, nobody);
    let serving = serve(&two, "workload/scoreboard").await;
    let found = one.infra.mesh.locate("workload/scoreboard").await.unwrap();
    assert_eq!(found.node(), two.infra.mesh.node());
    assert_eq!(one.infra.mesh.named::<u64, u64>("workload/scoreboard").call(&3).await, Ok(3));
    let here = two.infra.mesh.locate("workload/scoreboard").await.unwrap();
    assert_eq!(here.node(), two.infra.mesh.node());
    // Whoever believes still that it is there finds out that it is not.
    drop(serving);
    let gone = one.infra.mesh.named::<u64, u64>("workload/scoreboard").call(&3).await;
    assert_eq!(gone, nobody);
    let _elsewhere = serve(&three, "workload/scoreboard").await;
    assert_eq!(scores.call(&4).await, Ok(4), "on the node itself");
    stop([one, two, three]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_is_gone_another_that_serves_the_name_is_asked() {
    let [one, two, three] = three().await;
    let _on_two = serve(&two, "scores").await;
    let _on_three = serve(&three, "scores").await;
    let scores = one.infra.mesh.named::<u64, u64>("scores");
    let first = one.infra.mesh.locate("scores").await.unwrap().node();
    scores.call(&1).await.unwrap();
    let (gone, left) = if first == two.infra.mesh.node() { (two, three) } else { (three, two) };
    stop_in_sight_of(&one, gone).await;
    assert_eq!(scores.call(&5).await, Ok(5));
    assert_eq!(one.infra.mesh.locate("scores").await.unwrap().node(), left.infra.mesh.node());
    stop_in_sight_of(&one, left).await;
    let none = scores.call(&6).await;
    assert!(
        matches!(none, Err(CallError::Unavailable(_) | CallError::TimedOut { .. })),
        "{none:?}"
    );
    one.root.stop().await;
}

/// A monitor ends when the mesh holds a node to be gone, though its connection may seem to live.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_the_mesh_is_down_for_those_who_watch_it() {
    let [one, two, three] = three().await;
    let counter = one.infra.mesh.remote(two.infra.mesh.node()).handle::<u64, u64>("counter");
    let mut monitor = counter.monitor().await.unwrap();
    two.infra.mesh.membership().leave().await;
    // Its farewell may be missed on a busy machine, where a node trusts its own hearing little, and
    // waits eight times as long before it believes that another is gone.
    let down = tokio::time::timeout(WITHIN * 4, monitor.down()).await.unwrap().unwrap();
    assert!(matches!(down.reason, DownReason::NodeGone(_)), "{down:?}");
    assert!(one.infra.mesh.links().iter().any(|link| link.node() == two.infra.mesh.node()));
    stop([one, two, three]).await;
}
