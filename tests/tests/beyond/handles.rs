//! Handles outlive what they name, and lose nothing without saying so.

use std::time::Duration;

use macula_core::supervision::event::DeadReason;
use macula_core::supervision::{
    Absence, Backoff, CallError, Handle, Mailbox, Presence, Root, SendError, Supervisor, What,
};

use crate::support::{
    Ask, Log, Step, alone, await_event, calm, id, ms, path, reborn, seen, start, timed, top, worker,
};

/// A worker that is away for 100 ms after its first crash.
async fn absent(absence: Absence) -> (Root, Handle<Ask>) {
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(ms(100), ms(1000)) };
    let mailbox = Mailbox { absence, ..Mailbox::default() };
    let (root, handle) =
        alone(worker("a", &Log::default()).backoff(backoff).mailbox(mailbox)).await;
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    (root, handle)
}

async fn away(absence: Absence) -> (Root, Handle<Ask>) {
    let (root, handle) = absent(absence).await;
    calm().await;
    assert_eq!(handle.presence(), Presence::Restarting);
    (root, handle)
}

#[tokio::test(start_paused = true)]
async fn a_handle_works_after_a_restart() {
    let (_root, handle) = alone(worker("a", &Log::default())).await;
    handle.cast(Ask::Note(1)).unwrap();
    assert_eq!(seen(&handle).await, [1]);
    assert_eq!(reborn(&handle, Ask::Do(Step::Panic)).await, 2);
    handle.cast(Ask::Note(2)).unwrap();
    assert_eq!(seen(&handle).await, [2]);
    assert_eq!(handle.path(), Some(path("a")));
}

#[tokio::test(start_paused = true)]
async fn a_handle_works_after_a_restart_of_the_supervisor() {
    let (spec, handle) = worker("a", &Log::default()).split();
    let (inner, supervisor) = Supervisor::new("inner").unwrap().child(spec).split();
    let _root = start(top().child(inner)).await;
    assert_eq!(seen(&handle).await, []);
    supervisor.cell().unwrap().kill();
    assert_eq!(handle.next_life(1).await, Some(2));
    handle.cast(Ask::Note(2)).unwrap();
    assert_eq!(seen(&handle).await, [2]);
    assert_eq!((supervisor.incarnation(), handle.path()), (2, Some(path("inner/a"))));
}

#[tokio::test(start_paused = true)]
async fn fail_fast_gives_the_message_back_at_once() {
    let (_root, handle) = away(Absence::FailFast).await;
    let (result, took) = timed(handle.send(Ask::Note(7))).await;
    let Err(SendError::Unavailable { message: Ask::Note(7), presence }) = result else {
        panic!("{result:?}")
    };
    assert_eq!((presence, took), (Presence::Restarting, Duration::ZERO));
    assert_eq!(handle.call(Ask::Seen).await, Err(CallError::Unavailable(presence)));
    assert_eq!(handle.stats().unavailable, 2);
}

#[tokio::test(start_paused = true)]
async fn wait_delivers_when_the_actor_is_back() {
    let (_root, handle) = away(Absence::Wait(ms(500))).await;
    let (result, took) = timed(handle.send(Ask::Note(7))).await;
    result.unwrap();
    assert_eq!(took, ms(99));
    assert_eq!(seen(&handle).await, [7]);
}

#[tokio::test(start_paused = true)]
async fn wait_gives_up_after_its_bound_with_the_message() {
    let (_root, handle) = away(Absence::Wait(ms(50))).await;
    let (result, took) = timed(handle.send(Ask::Note(7))).await;
    assert!(matches!(result, Err(SendError::Unavailable { message: Ask::Note(7), .. })));
    assert_eq!(took, ms(50));
}

/// The bound is one for all restarts that a message meets.
#[tokio::test(start_paused = true)]
async fn wait_does_not_begin_anew_with_each_restart() {
    let log = Log::default();
    let mailbox = Mailbox { absence: Absence::Wait(ms(250)), ..Mailbox::default() };
    let script = crate::support::Script {
        post_start: |life| if life == 1 { Step::Go } else { Step::Panic },
        ..Default::default()
    };
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(ms(100), ms(100)) };
    let flapping = crate::support::scripted("a", &log, script).backoff(backoff).mailbox(mailbox);
    let (_root, handle) = alone(flapping).await;
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    calm().await;
    let (result, took) = timed(handle.send(Ask::Note(7))).await;
    assert!(result.is_ok() || took <= ms(250), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn wait_ends_when_the_child_is_removed() {
    let (root, handle) = away(Absence::Wait(Duration::from_secs(60))).await;
    let sender = handle.clone();
    let sending = tokio::spawn(async move { sender.send(Ask::Note(7)).await });
    tokio::task::yield_now().await;
    root.handle().terminate_child(id("a")).await.unwrap();
    let (result, took) = timed(sending).await;
    let presence = Presence::Down;
    assert!(
        matches!(result.unwrap(), Err(SendError::Unavailable { presence: p, .. }) if p == presence)
    );
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn stash_keeps_its_number_in_order_and_refuses_one_more() {
    let (_root, handle) = away(Absence::Stash(3)).await;
    for note in 1..=3 {
        handle.cast(Ask::Note(note)).unwrap();
    }
    let refused = handle.cast(Ask::Note(4));
    assert!(matches!(refused, Err(SendError::Full { message: Ask::Note(4), .. })));
    handle.ready().await.unwrap();
    assert_eq!(seen(&handle).await, [1, 2, 3]);
    assert_eq!((handle.stats().refused, handle.stats().dead_letters), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn stash_keeps_what_waited_at_the_crash() {
    let (root, handle) = absent(Absence::Stash(3)).await;
    let mut events = root.events();
    for note in 1..=4 {
        handle.cast(Ask::Note(note)).unwrap();
    }
    calm().await;
    assert_eq!(handle.presence(), Presence::Restarting);
    assert_eq!((handle.stats().waiting, handle.stats().dead_letters), (3, 1));
    handle.ready().await.unwrap();
    assert_eq!(seen(&handle).await, [1, 2, 3]);
    let dead = await_event(&mut events, |event| match event.what {
        What::DeadLetters { count, reason } => Some((count, reason)),
        _ => None,
    });
    assert_eq!(dead.await, (1, DeadReason::Ended));
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_crash_leaves_behind_are_dead_letters() {
    let (root, handle) = absent(Absence::FailFast).await;
    let mut events = root.events();
    for note in 1..=5 {
        handle.cast(Ask::Note(note)).unwrap();
    }
    let dead = await_event(&mut events, |event| match event.what {
        What::DeadLetters { count, reason } => Some((event.path.clone(), count, reason)),
        _ => None,
    });
    assert_eq!(dead.await, (path("a"), 5, DeadReason::Ended));
    assert_eq!((handle.stats().accepted, handle.stats().dead_letters), (6, 5));
}

#[tokio::test(start_paused = true)]
async fn a_call_times_out_after_five_seconds_unless_told_otherwise() {
    let (_root, handle) = alone(worker("a", &Log::default())).await;
    let hang = |port| Ask::Hold(Step::Hang, port);
    let (result, took) = timed(handle.call(hang)).await;
    let five = Duration::from_secs(5);
    assert_eq!((result, took), (Err(CallError::Timeout(five)), five));
    let (result, took) = timed(handle.call_within(ms(30), hang)).await;
    assert_eq!((result, took), (Err(CallError::Timeout(ms(30))), ms(30)));
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_actor_that_dies_is_told_at_once() {
    let (_root, handle) = alone(worker("a", &Log::default())).await;
    let (result, took) = timed(handle.call(|port| Ask::Hold(Step::Panic, port))).await;
    assert_eq!((result, took), (Err(CallError::NoReply), Duration::ZERO));
    handle.ready().await.unwrap();
    handle.cast(Ask::Do(Step::Panic)).unwrap();
    let (result, took) = timed(handle.call(Ask::Seen)).await;
    assert_eq!((result, took), (Err(CallError::NoReply), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_handle_of_a_removed_child_says_gone() {
    let (root, handle) = alone(worker("a", &Log::default())).await;
    root.handle().terminate_child(id("a")).await.unwrap();
    assert_eq!((handle.presence(), handle.ready().await), (Presence::Down, None));
    root.handle().delete_child(id("a")).await.unwrap();
    assert_eq!(handle.presence(), Presence::Gone);
    let presence = Presence::Gone;
    assert_eq!(handle.call(Ask::Seen).await, Err(CallError::Unavailable(presence)));
}

/// What a supervisor forgets when it is restarted is gone and not on its way.
#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_come_back_with_its_supervisor_is_gone() {
    let log = Log::default();
    for kill in [true, false] {
        for inner in [Supervisor::dynamic("inner", 9), Supervisor::new("inner")] {
            let (inner, supervisor) = inner.unwrap().split();
            let root = start(top().child(inner)).await;
            let mailbox = Mailbox { absence: Absence::Stash(8), ..Mailbox::default() };
            let (guest, handle) = worker("guest", &log).mailbox(mailbox).split();
            supervisor.start_child(guest).await.unwrap();
            let cell = supervisor.cell().unwrap();
            if kill {
                cell.kill();
            } else {
                cell.stop(None);
            }
            assert_eq!(handle.next_life(1).await, None);
            assert_eq!(handle.presence(), Presence::Gone);
            assert_eq!(handle.stats().waiting, 0);
            root.stop().await;
        }
    }
}
