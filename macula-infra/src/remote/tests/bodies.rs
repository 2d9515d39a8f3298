//! Long bodies, and values of many elements.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::{CallError, ReplyTo};
use super::{Job, LONG, MIB, hands, serve_lengths, serve_zeros, stop, zeros};
use crate::tier::tests::{authority, node_with, pair};
use crate::transport;

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
