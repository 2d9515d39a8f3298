//! Calls between two tiers in one process, over real QUIC on the loopback interface.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use macula_core::identity::{Authority, NodeId};
use macula_core::supervision::{Handle, Mailbox, Worker};
use macula_core::wire::{Flags, Frame, Kind, Limits, from_body, to_body};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::wire::{BULK, CALL, Call, FAILURE, Failure, REPLY, code};
use super::{CallError, Refusal, ReplyTo, Unavailability};
use crate::tier::tests::{Node, authority, credentials, node_with, pair};
use crate::transport::kind::{PING, PONG};
use crate::transport::lane::{
    BULK as BULK_STREAM, BULKS_MAX, Bulks, Incoming, Lane, Reader, Sender,
};
use crate::transport::{self, Endpoint, Me, Pulse, Sockets, Streams, UNSUPPORTED, Unsupported};

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

/// A peer that speaks as it likes.
struct Peer {
    node: NodeId,
    _endpoint: Endpoint,
    rpc: Sender,
    bulks: Bulks,
    control: Reader,
    control_out: Sender,
    streams: Streams,
}

impl Peer {
    async fn dial(authority: &Authority, node: &Node) -> Self {
        let config = transport::Config {
            listen: Vec::new(),
            stream_window: 64 * 1024,
            ..transport::Config::default()
        };
        let credentials = credentials(authority, 77);
        let node_id = credentials.node();
        let me = Me { credentials, incarnation: 1, listen: Vec::new(), seed: None };
        let sockets = Arc::new(Sockets::bind(&config).unwrap());
        let (endpoint, _) = Endpoint::start(config, sockets, me).await.unwrap();
        let to = node.infra.mesh.listening()[0];
        let connection = endpoint.dial(to, None).await.unwrap();
        let (opener, streams, control, control_stream) = connection.into_parts();
        let bulks = Bulks::new(Arc::clone(&opener));
        let control_out = (Limits::default(), MIB);
        let control_out =
            Sender::opened(Arc::clone(&opener), Lane::Control, control_out, control_stream);
        let rpc = Sender::new(opener, Lane::Rpc, Limits::default(), 64 * MIB);
        Self { node: node_id, _endpoint: endpoint, rpc, bulks, control, control_out, streams }
    }

    fn ask<Q: Serialize>(&self, id: u64, to: &str, question: &Q) {
        let body = to_body(question, 1024).unwrap();
        let body = serde_bytes::Bytes::new(&body);
        let call = Call { to, within_ms: 60_000, body, bulk_len: None };
        self.rpc.send((CALL, Flags::default(), id), &call).unwrap();
    }

    /// The frames on the node's lane for calls.
    async fn answers(&mut self) -> Reader {
        let stream = self.streams.next().await.unwrap();
        match stream.named(Limits::default()).await.unwrap() {
            Incoming::Lane(Lane::Rpc, reader) => reader,
            other => panic!("{other:?}"),
        }
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_keep_their_questions_open_and_more_are_refused() {
    let authority = authority();
    let config = transport::Config { body_len_max: 64 * 1024, ..transport::Config::default() };
    let node = node_with(&authority, 1, config).await;
    serve_zeros(&node).await;
    let mut peer = Peer::dial(&authority, &node).await;
    for id in 1..=2_000 {
        peer.ask(id, "make", &(32 * 1024));
    }
    let link = node.infra.mesh.links().pop().unwrap();
    until(|| link.in_flight() > 200).await;
    let (mut answers, mut told) = (peer.answers().await, BTreeMap::new());
    while told.len() < 2_000 {
        let Frame { kind, id, .. } = answers.next().await.unwrap().unwrap();
        assert_eq!(told.insert(id, kind), None, "question {id} was answered twice");
    }
    let count = |wanted| told.values().filter(|kind| **kind == wanted).count();
    assert_eq!(count(REPLY) + count(FAILURE), 2_000);
    assert!(count(REPLY) > 200, "{} answers", count(REPLY));
    assert!(count(FAILURE) > 200, "{} refusals", count(FAILURE));
    until(|| link.in_flight() == 0).await;
    node.root.stop().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_other_node_only_is_said_to_be_and_was_not_handled() {
    let authority = authority();
    let one = node_with(&authority, 1, transport::Config::default()).await;
    let small = transport::Config { body_len_max: MIB, ..transport::Config::default() };
    let two = node_with(&authority, 2, small).await;
    one.infra.mesh.introduce(two.infra.mesh.node(), two.infra.mesh.listening());
    serve_lengths(&two).await;
    serve_zeros(&one).await;
    let len = one.infra.mesh.remote(two.infra.mesh.node()).handle::<ByteBuf, usize>("len");
    for _ in 0..5 {
        let refused = len.call_within(LONG, &zeros(16 * MIB)).await.unwrap_err();
        assert!(
            matches!(refused, CallError::TooLarge { what: "question", max: 1_048_576, .. }),
            "{refused:?}"
        );
        assert!(!refused.may_have_run());
    }
    assert_eq!(len.call_within(LONG, &zeros(MIB / 2)).await, Ok(MIB / 2));
    let make = two.infra.mesh.remote(one.infra.mesh.node()).handle::<usize, ByteBuf>("make");
    let refused = make.call_within(LONG, &(16 * MIB)).await.unwrap_err();
    assert!(matches!(refused, CallError::TooLarge { what: "answer", .. }), "{refused:?}");
    assert_eq!(one.infra.mesh.links().len(), 1);
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_late_is_not_handled() {
    let authority = authority();
    let node = node_with(&authority, 1, transport::Config::default()).await;
    let (hands, asked) = (hands(&node).await, Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&asked);
    let late = move |_: ByteBuf, reply: ReplyTo<()>| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::new(move || drop(reply.send(()))) as Job
    };
    node.infra.mesh.serve("late", &hands, late).unwrap().keep();
    let mut peer = Peer::dial(&authority, &node).await;
    let call =
        Call { to: "late", within_ms: 0, body: serde_bytes::Bytes::new(&[]), bulk_len: None };
    let body = to_body(&zeros(10), 1024).unwrap();
    let short = Call { body: serde_bytes::Bytes::new(&body), ..call };
    peer.rpc.send((CALL, Flags::default(), 1), &short).unwrap();
    let body = to_body(&zeros(MIB), 2 * MIB).unwrap();
    let long = Call { bulk_len: u64::try_from(body.len()).ok(), ..call };
    let stream = peer.bulks.open().await.unwrap();
    // The node need not read it to the end.
    drop(stream.send((CALL, BULK, 2), &long, body, &Limits::default()).await);
    let mut answers = peer.answers().await;
    for _ in 0..2 {
        let frame = answers.next().await.unwrap().unwrap();
        assert_eq!(frame.kind, FAILURE, "{frame:?}");
        let failure: Failure = from_body(&frame.body, &Limits::default()).unwrap();
        assert_eq!(failure.code, code::EXPIRED);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    node.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_hears_that_the_time_of_its_question_is_over() {
    let authority = authority();
    let node = node_with(&authority, 1, transport::Config::default()).await;
    let mut peer = Peer::dial(&authority, &node).await;
    // Long enough to reach the handler, and it waits until it is over.
    let body = to_body(&(), 16).unwrap();
    let body = serde_bytes::Bytes::new(&body);
    let call = Call { to: "slow", within_ms: 300, body, bulk_len: None };
    peer.rpc.send((CALL, Flags::default(), 1), &call).unwrap();
    let frame = peer.answers().await.next().await.unwrap().unwrap();
    let failure: Failure = from_body(&frame.body, &Limits::default()).unwrap();
    assert_eq!((frame.kind, failure.code.as_str()), (FAILURE, code::EXPIRED));
    node.root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_which_there_is_no_room_was_not_sent() {
    let authority = authority();
    let config = || transport::Config {
        lane_len_max: 64 * 1024,
        send_buffer: 64 * 1024,
        ..transport::Config::default()
    };
    let one = node_with(&authority, 1, config()).await;
    let mut peer = Peer::dial(&authority, &one).await;
    let remote = one.infra.mesh.remote(peer.node);
    let deaf = remote.handle::<ByteBuf, ()>("deaf");
    // The peer reads none of its lanes.
    let mut waiting = JoinSet::new();
    let link = one.infra.mesh.links().pop().unwrap();
    for _ in 0..64 {
        let deaf = deaf.clone();
        waiting.spawn(async move { deaf.call_within(LONG, &zeros(32 * 1024)).await });
    }
    // What is under way to the peer may still make room.
    let mut full = 0;
    until(|| {
        full = if link.lane(Lane::Rpc).has_room() { 0 } else { full + 1 };
        full > 100
    })
    .await;
    let busy = |answer: Result<(), CallError>| {
        let error = answer.unwrap_err();
        assert!(matches!(error, CallError::Refused(Refusal::Busy(_))), "{error:?}");
        assert!(!error.may_have_run());
    };
    busy(deaf.try_call_within(LONG, &zeros(1)).await);
    busy(deaf.call_within(Duration::from_millis(50), &zeros(1)).await);
    let mut long = JoinSet::new();
    for _ in 0..BULKS_MAX {
        let deaf = deaf.clone();
        long.spawn(async move { deaf.call_within(LONG, &zeros(4 * MIB)).await });
    }
    until(|| !link.bulks().is_free()).await;
    busy(deaf.try_call_within(LONG, &zeros(4 * MIB)).await);
    busy(deaf.call_within(Duration::from_millis(50), &zeros(4 * MIB)).await);
    drop((waiting, long));
    drop(peer.streams.next().await.unwrap());
    one.root.stop().await;
}

/// Itself in itself, so many times.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

impl Nest {
    fn of(depth: usize) -> Self {
        (0..depth).fold(Self(Vec::new()), |inner, _| Self(vec![inner]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_may_have_many_elements_and_who_writes_one_that_is_too_deep_hears_of_it() {
    let (one, two) = pair().await;
    let hands = hands(&two).await;
    let back = |asked: Vec<u32>, reply: ReplyTo<Vec<u32>>| {
        Box::new(move || drop(reply.send(asked))) as Job
    };
    two.infra.mesh.serve("back", &hands, back).unwrap().keep();
    let (told, mut hears) = mpsc::channel(1);
    let nest = move |depth: usize, reply: ReplyTo<Nest>| {
        let told = told.clone();
        Box::new(move || drop(told.try_send(reply.send(Nest::of(depth))))) as Job
    };
    two.infra.mesh.serve("nest", &hands, nest).unwrap().keep();
    let remote = one.infra.mesh.remote(two.infra.mesh.node());
    let many: Vec<u32> = (0..100_000).collect();
    let back = remote.handle::<Vec<u32>, Vec<u32>>("back");
    assert_eq!(back.call_within(LONG, &many).await, Ok(many));
    let deep = remote.handle::<Nest, u8>("back").call_within(LONG, &Nest::of(40)).await;
    assert!(matches!(deep, Err(CallError::Unsupported(_))), "{deep:?}");
    let deep = remote.handle::<usize, Nest>("nest").call_within(LONG, &40).await;
    assert!(matches!(deep, Err(CallError::NotUnderstood(_))), "{deep:?}");
    let hears = hears.recv().await.unwrap();
    assert!(matches!(hears, Err(CallError::NotUnderstood(_))), "{hears:?}");
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_hears_only_that_its_own_kind_is_not_known() {
    let authority = authority();
    let one = node_with(&authority, 1, transport::Config::default()).await;
    let mut peer = Peer::dial(&authority, &one).await;
    let asked = one.infra.mesh.remote(peer.node).handle::<(), u8>("any");
    let call = || {
        let asked = asked.clone();
        tokio::spawn(async move { asked.call_within(LONG, &()).await })
    };
    let unsupported = |peer: &Peer, kind, id| {
        let head = (UNSUPPORTED, Flags::default(), id);
        peer.control_out.send(head, &Unsupported { kind }).unwrap();
    };
    let first = call();
    let mut asks = peer.answers().await;
    let id = asks.next().await.unwrap().unwrap().id;
    // A frame of another service with the same id, and an answer of the peer's own numbers.
    unsupported(&peer, 0x20, id);
    unsupported(&peer, REPLY.0, id);
    peer.control_out.send((PING, Flags::default(), 9), &Pulse {}).unwrap();
    while peer.control.next().await.unwrap().unwrap().kind != PONG {}
    peer.rpc.send((REPLY, Flags::default(), id), &7_u8).unwrap();
    assert_eq!(first.await.unwrap(), Ok(7));
    let second = call();
    let id = asks.next().await.unwrap().unwrap().id;
    unsupported(&peer, CALL.0, id);
    let answer = second.await.unwrap();
    assert!(matches!(answer, Err(CallError::Unsupported(_))), "{answer:?}");
    // What the node does not know it tells with its kind.
    peer.rpc.send((Kind(0x9f), Flags::default(), 5), &Pulse {}).unwrap();
    let told = peer.control.next().await.unwrap().unwrap();
    let body: Unsupported = from_body(&told.body, &Limits::default()).unwrap();
    assert_eq!((told.kind, told.id, body.kind), (UNSUPPORTED, 5, 0x9f));
    one.root.stop().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_before_its_head_does_costs_nobody_anything() {
    let authority = authority();
    let node = node_with(&authority, 1, transport::Config::default()).await;
    serve_zeros(&node).await;
    let mut peer = Peer::dial(&authority, &node).await;
    for bytes in [&b""[..], &[BULK_STREAM], &[BULK_STREAM, 0, 0, 0]] {
        peer.bulks.send_raw(bytes).await;
    }
    peer.control_out.send((PING, Flags::default(), 9), &Pulse {}).unwrap();
    while peer.control.next().await.unwrap().unwrap().kind != PONG {}
    peer.ask(1, "make", &1);
    assert_eq!(peer.answers().await.next().await.unwrap().unwrap().kind, REPLY);
    assert_eq!(node.infra.mesh.links().pop().unwrap().ended(), None);
    node.root.stop().await;
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
