//! The reserver against relays that come, go, and say no.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::machine::Machine as _;

use super::{ANSWER_WITHIN, AVOIDED_MAX, AVOIDED_MIN, Input, Output, RENEW_MAX, Reserver};

const LIFETIME: Duration = Duration::from_secs(600);

fn node(number: u8) -> NodeId {
    Keypair::from_seed([number; 32]).node_id()
}

fn outputs(reserver: &mut Reserver) -> Vec<Output> {
    std::iter::from_fn(|| reserver.poll_output()).collect()
}

fn asked(outputs: &[Output]) -> Vec<NodeId> {
    let asked = outputs.iter().filter_map(|output| match output {
        Output::Reserve(relay) => Some(*relay),
        _ => None,
    });
    asked.collect()
}

/// One that has found its three places among five relays.
fn settled(now: Instant) -> (Reserver, Vec<NodeId>) {
    let mut reserver = Reserver::new(now, 3, Entropy::from_seed(1));
    reserver.handle_timeout(now);
    assert_eq!(outputs(&mut reserver), [Output::Search]);
    reserver.handle(now, Input::Found((1..=5).map(node).collect()));
    let relays = asked(&outputs(&mut reserver));
    assert_eq!(relays.len(), 3);
    for relay in &relays {
        reserver.handle(now, Input::Reserved { relay: *relay, lifetime: LIFETIME });
    }
    (reserver, relays)
}

#[test]
fn places_are_sought_published_and_kept() {
    let now = TokioClock.now();
    let (mut reserver, relays) = settled(now);
    let said = outputs(&mut reserver);
    let held: BTreeSet<NodeId> = relays.iter().copied().collect();
    assert!(said.contains(&Output::Publish(held.iter().copied().collect())), "{said:?}");
    assert!(held.iter().all(|relay| said.contains(&Output::Keep(*relay))));
    let (at, _) = reserver.poll_timeout().unwrap();
    assert_eq!(at, now + RENEW_MAX.min(LIFETIME / 2));
    reserver.handle_timeout(at);
    let again = outputs(&mut reserver);
    assert_eq!(asked(&again).into_iter().collect::<BTreeSet<_>>(), held);
    assert_eq!(again.len(), 3, "nothing else changes: {again:?}");
    for relay in relays {
        reserver.handle(at, Input::Reserved { relay, lifetime: LIFETIME });
    }
    assert_eq!(outputs(&mut reserver), []);
}

#[test]
fn a_place_that_is_lost_is_replaced_at_once() {
    let now = TokioClock.now();
    let (mut reserver, relays) = settled(now);
    outputs(&mut reserver);
    let lost = relays[0];
    reserver.handle(now, Input::Lost { relay: lost });
    let said = outputs(&mut reserver);
    assert!(said.contains(&Output::LetGo(lost)), "{said:?}");
    let next = asked(&said);
    assert!(next.len() == 1 && !relays.contains(&next[0]), "{said:?}");
    let left: Vec<NodeId> = reserver.held();
    assert!(said.contains(&Output::Publish(left.clone())) && left.len() == 2, "{said:?}");
    reserver.handle(now, Input::Denied { relay: next[0] });
    assert_eq!(asked(&outputs(&mut reserver)).len(), 1, "the fifth");
}

#[test]
fn a_relay_that_does_not_answer_is_left_alone_for_a_while() {
    let now = TokioClock.now();
    let mut reserver = Reserver::new(now, 2, Entropy::from_seed(1));
    reserver.handle_timeout(now);
    reserver.handle(now, Input::Found(vec![node(1)]));
    assert_eq!(asked(&outputs(&mut reserver)), [node(1)]);
    reserver.handle_timeout(now + ANSWER_WITHIN);
    reserver.handle(now + ANSWER_WITHIN, Input::Found(vec![node(1)]));
    assert_eq!(asked(&outputs(&mut reserver)), []);
    // An answer that comes too late is none.
    let late = Input::Reserved { relay: node(1), lifetime: LIFETIME };
    reserver.handle(now + ANSWER_WITHIN, late);
    assert_eq!(reserver.held(), []);
    let mut now = now + ANSWER_WITHIN + AVOIDED_MIN;
    // Twice as long each time, up to a bound.
    for wait in [2, 4, 8, 16, 30, 30] {
        reserver.handle_timeout(now);
        assert_eq!(asked(&outputs(&mut reserver)), [node(1)]);
        reserver.handle(now, Input::Denied { relay: node(1) });
        now += Duration::from_secs(wait) - Duration::from_millis(1);
        reserver.handle_timeout(now);
        assert_eq!(asked(&outputs(&mut reserver)), []);
        now += Duration::from_millis(1);
    }
    assert_eq!(AVOIDED_MAX, Duration::from_secs(30));
}

#[test]
fn a_place_is_kept_over_a_replaced_connection() {
    let now = TokioClock.now();
    let (mut reserver, relays) = settled(now);
    outputs(&mut reserver);
    let relay = relays[0];
    reserver.handle(now, Input::Closed { relay });
    assert_eq!(outputs(&mut reserver), [Output::Reserve(relay)], "nothing is given up yet");
    reserver.handle(now, Input::Closed { relay });
    assert_eq!(outputs(&mut reserver), [], "it is being asked");
    reserver.handle(now, Input::Reserved { relay, lifetime: LIFETIME });
    assert_eq!((outputs(&mut reserver), reserver.held().len()), (vec![], 3));
    reserver.handle(now, Input::Closed { relay });
    outputs(&mut reserver);
    reserver.handle_timeout(now + ANSWER_WITHIN);
    let said = outputs(&mut reserver);
    assert!(said.contains(&Output::LetGo(relay)) && asked(&said).len() == 1, "{said:?}");
}

#[test]
fn whoever_has_too_few_places_looks_again_when_the_mesh_changes() {
    let now = TokioClock.now();
    let mut reserver = Reserver::new(now, 2, Entropy::from_seed(1));
    for _ in 0..10 {
        let (at, _) = reserver.poll_timeout().unwrap();
        reserver.handle_timeout(at);
        assert_eq!(outputs(&mut reserver), [Output::Search]);
        reserver.handle(at, Input::Found(Vec::new()));
    }
    let (at, _) = reserver.poll_timeout().unwrap();
    let now = at - Duration::from_secs(20);
    reserver.handle(now, Input::Changed);
    reserver.handle_timeout(now);
    assert_eq!(outputs(&mut reserver), [Output::Search]);
    reserver.handle(now, Input::Changed);
    reserver.handle_timeout(now);
    assert_eq!(outputs(&mut reserver), [], "not as often as it changes");
    let (mut reserver, _) = settled(now);
    outputs(&mut reserver);
    reserver.handle(now, Input::Changed);
    reserver.handle_timeout(now);
    assert_eq!(outputs(&mut reserver), [], "whoever has enough does not look");
}

#[test]
fn whoever_wants_no_place_does_nothing() {
    let reserver = Reserver::new(TokioClock.now(), 0, Entropy::from_seed(1));
    assert_eq!(reserver.poll_timeout(), None);
}

/// Relays come, go and say no by chance. Once they are well and stay, there are three places again,
/// and what was published last is what is held.
#[test]
fn in_the_end_there_are_as_many_places_as_are_wanted() {
    for seed in 0..300 {
        let mut entropy = Entropy::from_seed(seed);
        let mut now = TokioClock.now();
        let mut reserver = Reserver::new(now, 3, Entropy::from_seed(seed + 1_000));
        let (mut published, mut kept) = (Vec::new(), BTreeSet::new());
        for step in 0..400 {
            let is_wild = step < 200;
            if let Some((at, _)) = reserver.poll_timeout() {
                now = now.max(at);
            }
            reserver.handle_timeout(now);
            let mut todo: Vec<Output> = outputs(&mut reserver);
            while let Some(output) = todo.pop() {
                let bad = is_wild && entropy.below(2) == 0;
                match output {
                    Output::Search if bad => reserver.handle(now, Input::Found(Vec::new())),
                    Output::Search => {
                        reserver.handle(now, Input::Found((1..=6).map(node).collect()));
                    }
                    Output::Reserve(relay) => match entropy.below(3) {
                        0 if bad => {}
                        1 if bad => reserver.handle(now, Input::Denied { relay }),
                        _ => reserver.handle(now, Input::Reserved { relay, lifetime: LIFETIME }),
                    },
                    Output::Publish(relays) => published = relays,
                    Output::Keep(relay) => assert!(kept.insert(relay), "seed {seed}"),
                    Output::LetGo(relay) => assert!(kept.remove(&relay), "seed {seed}"),
                }
                todo.splice(0..0, outputs(&mut reserver).into_iter().rev());
            }
            if is_wild {
                let relay = node(u8::try_from(entropy.below(6)).unwrap() + 1);
                match entropy.below(8) {
                    0 => reserver.handle(now, Input::Lost { relay }),
                    1 => reserver.handle(now, Input::Closed { relay }),
                    2 => reserver.handle(now, Input::Changed),
                    _ => {}
                }
            }
        }
        assert_eq!(reserver.held().len(), 3, "seed {seed}");
        assert_eq!(published, reserver.held(), "seed {seed}");
        assert_eq!(kept, reserver.held().into_iter().collect(), "seed {seed}");
    }
}
