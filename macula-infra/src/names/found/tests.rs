//! What is believed, for how long, and what is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::{Keypair, NodeId};
use macula_core::port::Provider;
use tokio::sync::Notify;

use super::{Found, NAMES_MAX, NEGATIVE_TTL, RENEW_BEFORE, RENEW_WITHIN, TTL};

fn id(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

fn node(number: u8) -> Provider {
    Provider { node: id(number), metadata: Bytes::new() }
}

/// What is known of a name, and whether it had to be looked for.
async fn ask(found: &Found, now: Instant, name: &str, truth: &[Provider]) -> (Vec<Provider>, bool) {
    let mut searched = false;
    let find = || {
        searched = true;
        std::future::ready(Ok::<_, ()>(truth.to_vec()))
    };
    let nodes = found.get(now, name, find).await.unwrap();
    (nodes, searched)
}

#[tokio::test]
async fn what_was_found_is_believed_for_a_while() {
    let (found, now) = (Found::default(), TokioClock.now());
    let (one, two) = (vec![node(1)], vec![node(2)]);
    assert_eq!(ask(&found, now, "a", &one).await, (one.clone(), true));
    assert_eq!(ask(&found, now, "a", &two).await, (one.clone(), false));
    assert_eq!(ask(&found, now, "b", &two).await, (two.clone(), true), "names are apart");
    let later = now + TTL;
    assert_eq!(ask(&found, later, "a", &two).await, (two, true));
    assert_eq!(ask(&found, now, "nobody", &[]).await, (vec![], true));
    assert_eq!(ask(&found, now, "nobody", &one).await, (vec![], false));
    assert_eq!(ask(&found, now + NEGATIVE_TTL, "nobody", &one).await, (one, true));
}

#[tokio::test]
async fn a_node_that_proved_wrong_is_forgotten_and_the_last_one_means_a_new_search() {
    let (found, now) = (Found::default(), TokioClock.now());
    let both = vec![node(1), node(2)];
    ask(&found, now, "a", &both).await;
    ask(&found, now, "b", &both).await;
    found.forget("a", id(1));
    found.forget("a", id(9));
    assert_eq!(ask(&found, now, "a", &both).await, (vec![node(2)], false));
    assert_eq!(ask(&found, now, "b", &both).await, (both.clone(), false));
    found.gone(id(2));
    assert_eq!(ask(&found, now, "a", &both).await, (both.clone(), true));
    assert_eq!(ask(&found, now, "b", &both).await, (vec![node(1)], false));
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_search_and_a_failed_one_is_nobodys() {
    let (found, searches) = (Arc::new(Found::default()), Arc::new(AtomicUsize::new(0)));
    let (now, go) = (TokioClock.now(), Arc::new(Notify::new()));
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let (found, searches, go) =
                (Arc::clone(&found), Arc::clone(&searches), Arc::clone(&go));
            tokio::spawn(async move {
                let find = || async {
                    go.notified().await;
                    // The first search fails: it fails for whoever began it, and for nobody else.
                    if searches.fetch_add(1, Ordering::Relaxed) == 0 {
                        Err(())
                    } else {
                        Ok(vec![node(1)])
                    }
                };
                found.get(now, "a", find).await
            })
        })
        .collect();
    go.notify_one();
    let mut failed = 0;
    for asked in asking {
        go.notify_one();
        match asked.await.unwrap() {
            Ok(nodes) => assert_eq!(nodes, [node(1)]),
            Err(()) => failed += 1,
        }
    }
    assert_eq!((failed, searches.load(Ordering::Relaxed)), (1, 2));
}

#[tokio::test]
async fn no_more_names_are_remembered_than_may_be() {
    let (found, now) = (Found::default(), TokioClock.now());
    for number in 0..NAMES_MAX + 100 {
        let later = now + Duration::from_millis(u64::try_from(number).unwrap());
        ask(&found, later, &number.to_string(), &[node(1)]).await;
    }
    assert_eq!(found.0.lock().len(), NAMES_MAX);
    assert!(found.0.lock().contains_key("4195") && !found.0.lock().contains_key("0"));
}

#[tokio::test]
async fn what_is_asked_for_is_looked_for_again_before_it_ends() {
    let (found, mut now) = (Found::default(), TokioClock.now());
    let (one, two) = (vec![node(1)], vec![node(2)]);
    assert_eq!(ask(&found, now, "a", &one).await, (one.clone(), true));
    for _ in 0..10 {
        assert!(!found.is_due(now, "a"), "it is young");
        now += TTL - RENEW_BEFORE;
        assert!(found.is_due(now, "a"));
        assert!(!found.is_due(now, "a"), "somebody looks already");
        found.renewed(now, "a", one.clone());
        assert_eq!(ask(&found, now, "a", &two).await, (one.clone(), false), "nobody waits");
    }
    // If whoever looks does not come back another does, and in the end it is not believed.
    now += TTL - RENEW_BEFORE;
    assert!(found.is_due(now, "a") && found.is_due(now + RENEW_WITHIN, "a"));
    now += RENEW_BEFORE;
    assert!(!found.is_due(now, "a"));
    assert_eq!(ask(&found, now, "a", &two).await, (two.clone(), true));
    // What was forgotten while somebody looked is not believed again.
    found.gone(id(2));
    found.renewed(now, "a", two);
    assert_eq!(ask(&found, now, "a", &one).await, (one, true));
    assert!(!found.is_due(now, "b"), "nobody has asked for it");
}
