//! A mailbox holds what it may hold, and not one more.

use macula_core::supervision::event::DeadReason;
use macula_core::supervision::{Handle, Mailbox, Overflow, Root, SendError, What};

use crate::support::{Ask, Log, Step, alone, await_event, calm, ms, path, reborn, seen, worker};

async fn narrow(capacity: usize, overflow: Overflow) -> (Root, Handle<Ask>) {
    let mailbox = Mailbox { capacity, overflow, ..Mailbox::default() };
    alone(worker("a", &Log::default()).mailbox(mailbox)).await
}

/// Keeps the actor busy for 100 ms, so that what follows has to wait.
async fn busy(handle: &Handle<Ask>) {
    handle.cast(Ask::Do(Step::Nap(ms(100)))).unwrap();
    calm().await;
}

#[tokio::test(start_paused = true)]
async fn refuse_gives_back_and_counts() {
    let (_root, handle) = narrow(2, Overflow::Refuse).await;
    busy(&handle).await;
    handle.cast(Ask::Note(1)).unwrap();
    handle.cast(Ask::Note(2)).unwrap();
    for _ in 0..3 {
        let refused = handle.send(Ask::Note(3)).await;
        assert!(matches!(refused, Err(SendError::Full { message: Ask::Note(3), capacity: 2 })));
    }
    assert_eq!((handle.stats().refused, handle.stats().waiting), (3, 2));
    tokio::time::sleep(ms(200)).await;
    assert_eq!(seen(&handle).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn wait_lets_every_sender_in_and_keeps_each_ones_order() {
    let (_root, handle) = narrow(2, Overflow::Wait).await;
    busy(&handle).await;
    let senders = (0..5_u32).map(|sender| {
        let handle = handle.clone();
        tokio::spawn(async move {
            for note in 0..20 {
                handle.send(Ask::Note(sender * 100 + note)).await.unwrap();
                assert!(handle.stats().waiting <= 2);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    calm().await;
    let all = seen(&handle).await;
    assert_eq!(all.len(), 100);
    for sender in 0..5 {
        let own: Vec<u32> = all.iter().copied().filter(|note| note / 100 == sender).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    assert_eq!(handle.stats().dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn wait_survives_senders_that_give_up() {
    let (_root, handle) = narrow(1, Overflow::Wait).await;
    busy(&handle).await;
    handle.cast(Ask::Note(0)).unwrap();
    let (first, second) = (handle.clone(), handle.clone());
    let first = tokio::spawn(async move { first.send(Ask::Note(1)).await });
    tokio::task::yield_now().await;
    let second = tokio::spawn(async move { second.send(Ask::Note(2)).await });
    tokio::task::yield_now().await;
    first.abort();
    second.await.unwrap().unwrap();
    calm().await;
    assert_eq!(seen(&handle).await, [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_drops_and_counts() {
    let (root, handle) = narrow(2, Overflow::DropOldest).await;
    let mut events = root.events();
    busy(&handle).await;
    for note in 1..=5 {
        handle.cast(Ask::Note(note)).unwrap();
        assert!(handle.stats().waiting <= 2);
    }
    let dead = await_event(&mut events, |event| match event.what {
        What::DeadLetters { count, reason } => Some((event.path.clone(), count, reason)),
        _ => None,
    });
    assert_eq!(dead.await, (path("a"), 1, DeadReason::Overflow));
    tokio::time::sleep(ms(200)).await;
    assert_eq!(seen(&handle).await, [4, 5]);
    assert_eq!((handle.stats().dead_letters, handle.stats().refused), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_exact_also_for_an_actor_that_sends_to_itself() {
    let (_root, handle) = narrow(4, Overflow::Refuse).await;
    handle.cast(Ask::Cast(100..150)).unwrap();
    handle.cast(Ask::Do(Step::Nap(ms(100)))).unwrap();
    calm().await;
    let taken = (0..10).filter(|&note| handle.cast(Ask::Note(note)).is_ok()).count();
    assert_eq!(taken, 4);
    tokio::time::sleep(ms(200)).await;
    let all = seen(&handle).await;
    assert_eq!(all.len(), 54);
    assert_eq!(handle.stats().accepted, 4 + 2 + 1);
}

/// Fills the mailbox again and again, and says when the last of `direct` came through.
#[tokio::test(start_paused = true)]
async fn a_flood_does_not_starve_direct_messages() {
    for life in 0..2 {
        let (_root, handle) = narrow(512, Overflow::Refuse).await;
        if life == 1 {
            // After a restart with messages waiting there is still only one chain of wakes.
            reborn(&handle, Ask::Do(Step::Panic)).await;
        }
        for note in 0..500 {
            handle.cast(Ask::Note(note)).unwrap();
        }
        handle.actor_ref().unwrap().cast(Ask::Note(9999)).unwrap();
        calm().await;
        let all = seen(&handle).await;
        let at = all.iter().position(|&note| note == 9999).unwrap();
        assert!(at <= 64, "after {at} messages");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_in_a_handler_no_message_is_handled() {
    for end in [Ask::Stop(None), Ask::Stop(Some("shutdown")), Ask::Do(Step::Fail)] {
        let (_root, handle) = narrow(8, Overflow::Refuse).await;
        let before = handle.incarnation();
        handle.cast(end).unwrap();
        let call = handle.call(Ask::Seen).await;
        assert!(call.is_err(), "{call:?}");
        handle.next_life(before).await.unwrap();
        assert_eq!(handle.stats().dead_letters, 1);
    }
}
