//! What a peer does that is not one of ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use macula_core::identity::{Authority, NodeId};
use macula_core::wire::{Flags, Frame, Kind, Limits, from_body, to_body};
use serde::Serialize;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use super::super::wire::{BULK, CALL, Call, FAILURE, Failure, REPLY, code};
use super::super::{CallError, Interruption, Refusal, ReplyTo, Unavailability};
use super::{Job, LONG, MIB, hands, serve_zeros, until, zeros};
use crate::dht::key::RealmId;
use crate::link::Link;
use crate::tier::Discovery;
use crate::tier::tests::{Node, authority, credentials, node_with};
use crate::transport::kind::{PING, PONG};
use crate::transport::lane::{
    BULK as BULK_STREAM, BULKS_MAX, Bulks, Incoming, Lane, Reader, Sender, Writing,
};
use crate::transport::{
    self, CloseCode, Closed, Endpoint, Me, Pulse, Sockets, Streams, UNSUPPORTED, Unsupported,
};

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
        let realm = *RealmId::named(&Discovery::default().realm).as_bytes();
        let me = Me { credentials, incarnation: 1, listen: Vec::new(), realm, seed: None };
        let sockets = Arc::new(Sockets::bind(&config).unwrap());
        let (endpoint, _) = Endpoint::start(config, sockets, me).await.unwrap();
        let to = node.infra.mesh.listening()[0];
        let connection = endpoint.dial(to, None).await.unwrap();
        // The node has welcomed the peer, and puts the connection to work a moment later.
        until(|| node.infra.mesh.links().iter().any(|link| link.node() == node_id)).await;
        let (opener, streams, control, control_stream) = connection.into_parts();
        let bulks = Bulks::new(Arc::clone(&opener));
        let writing = |len_max| Writing { limits: Limits::default(), len_max, is_apart: false };
        let control_out =
            Sender::opened(Arc::clone(&opener), Lane::Control, writing(MIB), control_stream);
        let rpc = Sender::new(opener, Lane::Rpc, writing(64 * MIB));
        Self { node: node_id, _endpoint: endpoint, rpc, bulks, control, control_out, streams }
    }

    fn ask<Q: Serialize>(&self, id: u64, to: &str, question: &Q) {
        let body = to_body(question, 1024).unwrap();
        let body = serde_bytes::Bytes::new(&body);
        let call = Call { to, within_ms: 60_000, body, bulk_len: None, headers: None };
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

/// What a call of a new peer of `node` says, which drops the connection when it is asked.
async fn unheard(authority: &Authority, node: &Node, seed: u8) -> CallError {
    let config = transport::Config::default();
    let sockets = Arc::new(Sockets::bind(&config).unwrap());
    let (credentials, listen) = (credentials(authority, seed), sockets.listening());
    let peer = credentials.node();
    let realm = *RealmId::named(&Discovery::default().realm).as_bytes();
    let me = Me { credentials, incarnation: 1, listen: listen.clone(), realm, seed: None };
    let (_endpoint, mut arrivals) = Endpoint::start(config, sockets, me).await.unwrap();
    node.infra.mesh.introduce(peer, listen);
    let counter = node.infra.mesh.remote(peer).handle::<u64, u64>("counter");
    let dropped = async {
        let arrival = arrivals.recv().await.unwrap();
        let is_asked = |link: &Arc<Link>| link.node() == peer && link.in_flight() > 0;
        until(|| node.infra.mesh.links().iter().any(is_asked)).await;
        drop(arrival);
    };
    let (answer, ()) = tokio::join!(counter.call(&1), dropped);
    answer.unwrap_err()
}

/// A node that stops accepts for a moment longer than it reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_on_a_connection_that_nobody_takes_was_not_handled() {
    let authority = authority();
    let node = node_with(&authority, 1, transport::Config::default()).await;
    let unread = Closed::There(CloseCode::Unread).to_string();
    let unread = CallError::Unavailable(Unavailability::Unreachable(unread));
    // s2n-quic 1.91 closes without the code if a stream is opened while it is about to close, so
    // that nobody can know.
    let lost = Closed::There(CloseCode::Dropped).to_string();
    let lost = CallError::Interrupted(Interruption::ConnectionLost(lost));
    for seed in 70.. {
        let said = unheard(&authority, &node, seed).await;
        assert!(said == unread || (said == lost && seed < 90), "{seed}: {said}");
        if said == unread {
            break;
        }
    }
    node.root.stop().await;
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
    let call = Call {
        to: "late",
        within_ms: 0,
        body: serde_bytes::Bytes::new(&[]),
        bulk_len: None,
        headers: None,
    };
    let body = to_body(&zeros(10), 1024).unwrap();
    let short = Call { body: serde_bytes::Bytes::new(&body), ..call.clone() };
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
    let call = Call { to: "slow", within_ms: 300, body, bulk_len: None, headers: None };
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
    // The peer may have closed the connection by now: see the head of `lane/bulk.rs`.
    drop(peer.streams.next().await);
    one.root.stop().await;
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
