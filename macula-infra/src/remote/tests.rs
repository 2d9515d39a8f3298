//! Calls between two tiers in one process, over real QUIC on the loopback interface.

mod bodies;
mod peers;

use std::time::Duration;

use futures_util::FutureExt as _;
use macula_core::supervision::{Handle, Mailbox, Worker};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{CallError, ReplyTo, Unavailability};
use crate::tier::tests::{Node, authority, credentials, node_with, pair};
use crate::transport;

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

/// Serves zeros, as many as are asked for.
async fn serve_zeros(node: &Node) {
    let make =
        |len: usize, reply: ReplyTo<ByteBuf>| Box::new(move || drop(reply.send(zeros(len)))) as Job;
    node.infra.mesh.serve("make", &hands(node).await, make).unwrap().keep();
}

/// Waits until something is so.
async fn until(mut so: impl FnMut() -> bool) {
    let becomes = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, becomes).await.expect("it has to become so");
}

fn zeros(len: usize) -> ByteBuf {
    ByteBuf::from(vec![0; len])
}

async fn stop(nodes: [Node; 2]) {
    for node in nodes {
        node.root.stop().await;
    }
}

/// An answer that panics while it is encoded.
struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_panics_while_it_is_encoded_ends_its_question() {
    let (one, two) = pair().await;
    let hands = hands(&two).await;
    let speak = |(): (), reply: ReplyTo<Unspeakable>| {
        Box::new(move || drop(reply.send(Unspeakable))) as Job
    };
    two.infra.mesh.serve("speak", &hands, speak).unwrap().keep();
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let answer = remote.handle::<(), ()>("speak").call_within(LONG, &()).await;
    assert_eq!(answer, Err(CallError::RemotePanic));
    let link = two.infra.mesh.links().pop().unwrap();
    until(|| link.in_flight() == 0).await;
    stop([one, two]).await;
}

/// A question that panics while it is read.
#[derive(Debug)]
struct Trap;

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_a_question_is_read_ends_that_question_alone() {
    let (one, two) = pair().await;
    let hands = hands(&two).await;
    let mesh = &two.infra.mesh;
    let trap = |_: Trap, _: ReplyTo<()>| Box::new(|| {}) as Job;
    mesh.serve("trap", &hands, trap).unwrap().keep();
    let make = |(): (), _: ReplyTo<()>| -> Job { panic!("on purpose") };
    mesh.serve("make", &hands, make).unwrap().keep();
    let remote = one.infra.mesh.remote(mesh.node());
    assert_eq!(remote.handle::<u64, u64>("counter").call_within(LONG, &1).await, Ok(1));
    let link = one.infra.mesh.links().pop().unwrap();
    for name in ["trap", "make"] {
        let answer = remote.handle::<(), ()>(name).call_within(LONG, &()).await;
        assert_eq!(answer, Err(CallError::RemotePanic));
    }
    assert_eq!(remote.handle::<u64, u64>("counter").call_within(LONG, &1).await, Ok(2));
    assert_eq!(link.ended(), None);
    stop([one, two]).await;
}

/// Notes what is counted, with its labels.
#[derive(Default)]
struct Counted(Mutex<Vec<String>>);

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        self.0.lock().push(format!("{}{}", key.name(), labels.collect::<String>()));
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn each_question_is_counted_as_taken_or_by_why_it_was_not() {
    let node = node_with(&authority(), 1, transport::Config::default()).await;
    let itself = node.infra.mesh.remote(node.infra.mesh.node());
    let counted = Counted::default();
    metrics::with_local_recorder(&counted, || {
        // Asked in the first step already.
        drop(itself.handle::<u64, u64>("counter").call(&1).now_or_never());
        drop(itself.handle::<(), u64>("counter").call(&()).now_or_never());
        drop(itself.handle::<u64, u64>("nothing").call(&1).now_or_never());
    });
    let mut counted = counted.0.into_inner();
    counted.retain(|counted| counted.starts_with(super::metrics::QUESTIONS));
    let outcomes = ["taken", "unsupported", "unavailable"];
    assert_eq!(counted, outcomes.map(|of| format!("{} {of}", super::metrics::QUESTIONS)));
    node.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_reached_in_time_is_the_one_to_blame() {
    let node = node_with(&authority(), 1, transport::Config::default()).await;
    // It hears everything and answers nothing.
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (other, at) = (credentials(&authority(), 2).node(), deaf.local_addr().unwrap());
    node.infra.mesh.introduce(other, [at]);
    let handle = node.infra.mesh.remote(other).handle::<u64, u64>("counter");
    for handle in [handle.clone(), handle.wait_for_ready()] {
        let told = handle.call_within(Duration::from_millis(200), &1).await.unwrap_err();
        let Unavailability::Unreachable(why) = (match &told {
            CallError::Unavailable(why) => why,
            other => panic!("{other:?}"),
        }) else {
            panic!("{told:?}")
        };
        for part in [other.short().to_string(), at.to_string(), "200ms".to_owned()] {
            assert!(why.contains(&part), "{part} in {why}");
        }
    }
    node.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_of_a_node_that_has_stopped_says_so() {
    let (one, two) = pair().await;
    let counter = one.infra.mesh.remote(two.infra.mesh.node()).handle::<u64, u64>("counter");
    assert_eq!(counter.call_within(LONG, &1).await, Ok(1));
    let (held, stopped) = (counter.clone(), CallError::Unavailable(Unavailability::Stopped));
    one.root.stop().await;
    for counter in [counter, held.wait_for_ready()] {
        assert_eq!(counter.call_within(LONG, &1).await, Err(stopped.clone()));
        assert_eq!(counter.monitor().await.unwrap_err(), stopped);
    }
    two.root.stop().await;
}
