//! Calls between two tiers in one process, over real QUIC on the loopback interface.

use std::time::Duration;

use macula_core::supervision::{Handle, Mailbox, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use super::ReplyTo;
use crate::tier::tests::{Node, pair};

/// Longer than any test takes: where it passes, something hangs.
const LONG: Duration = Duration::from_secs(60);

const MIB: usize = 1024 * 1024;

/// Does what it is told.
struct Hands;

type Job = Box<dyn FnOnce() + Send>;

impl Actor for Hands {
    type Msg = Job;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Job>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Job>,
        job: Job,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        job();
        Ok(())
    }
}

/// An actor of a node that does what it is told.
async fn hands(node: &Node) -> Handle<Job> {
    let worker = Worker::new("hands", || (Hands, ())).unwrap();
    let worker = worker.mailbox(Mailbox { capacity: 100_000, ..Mailbox::default() });
    let (worker, hands) = worker.split();
    node.root.handle().start_child(worker).await.unwrap();
    hands
}

/// Serves the length of what is asked, and what is asked itself.
async fn serve_lengths(node: &Node) {
    let hands = hands(node).await;
    let mesh = &node.infra.mesh;
    let len = |asked: ByteBuf, reply: ReplyTo<usize>| {
        Box::new(move || drop(reply.send(asked.len()))) as Job
    };
    mesh.serve("len", &hands, len).unwrap().keep();
    let echo =
        |asked: ByteBuf, reply: ReplyTo<ByteBuf>| Box::new(move || drop(reply.send(asked))) as Job;
    mesh.serve("echo", &hands, echo).unwrap().keep();
}

fn zeros(len: usize) -> ByteBuf {
    ByteBuf::from(vec![0; len])
}

async fn stop(nodes: [Node; 2]) {
    for node in nodes {
        node.root.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_bodies_at_once_are_answered_and_hold_up_no_small_one() {
    let (one, two) = pair().await;
    serve_lengths(&two).await;
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let echo = remote.handle::<ByteBuf, ByteBuf>("echo");
    let mut long = JoinSet::new();
    for _ in 0..32 {
        let echo = echo.clone();
        long.spawn(async move { echo.call_within(LONG, &zeros(4 * MIB)).await });
    }
    let small = remote.handle::<ByteBuf, usize>("len");
    for len in 0..200 {
        assert_eq!(small.call_within(LONG, &zeros(len)).await, Ok(len));
    }
    while let Some(answer) = long.join_next().await {
        assert_eq!(answer.unwrap().unwrap().len(), 4 * MIB);
    }
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_that_are_given_up_leave_a_connection_that_serves() {
    let (one, two) = pair().await;
    serve_lengths(&two).await;
    let len = one.infra.mesh.remote(two.infra.mesh.node()).handle::<ByteBuf, usize>("len");
    assert_eq!(len.call_within(LONG, &zeros(1)).await, Ok(1));
    for _ in 0..2 {
        let mut long = JoinSet::new();
        for _ in 0..32 {
            let len = len.clone();
            long.spawn(async move { len.call_within(LONG, &zeros(8 * MIB)).await });
        }
        // The others are under way, or wait for their turn.
        assert_eq!(long.join_next().await.unwrap().unwrap(), Ok(8 * MIB));
        long.shutdown().await;
    }
    assert_eq!(len.call_within(LONG, &zeros(1)).await, Ok(1));
    assert_eq!(len.call_within(LONG, &zeros(32 * MIB)).await, Ok(32 * MIB));
    assert_eq!(one.infra.mesh.links().len(), 1);
    stop([one, two]).await;
}
