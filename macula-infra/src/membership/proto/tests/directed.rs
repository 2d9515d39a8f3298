//! One rule after the other, with explicit times.

use std::sync::Arc;
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;
use macula_core::sim::Address;

use super::super::super::event::{Event, Parting};
use super::super::super::update::{Claim, Stamp, Status, Update, Verdict};
use super::super::{BUCKETS, Body, Brief, Message, Page};
use super::{Config, Input, Offence, Output, Swim, acquaint, contact, machine, ms, node, seen};

const ME: Address = Address(0);

/// A node that knows so many others.
fn swim(others: u32, config: Config) -> (Swim, Instant) {
    let mut swim = machine(ME, 5, config, Entropy::from_seed(1));
    let known: Vec<_> = (1..=others).map(|number| seen(Address(number), 1, 0)).collect();
    acquaint(&mut swim, &known);
    let now = TokioClock.now();
    tell(&mut swim, now, Input::Join { seeds: Vec::new() });
    wake(&mut swim, now);
    (swim, now)
}

fn tell(swim: &mut Swim, now: Instant, input: Input) -> Vec<Output> {
    swim.handle(now, input);
    std::iter::from_fn(|| swim.poll_output()).collect()
}

fn wake(swim: &mut Swim, now: Instant) -> Vec<Output> {
    swim.handle_timeout(now);
    std::iter::from_fn(|| swim.poll_output()).collect()
}

fn says(from: u32, updates: Vec<Update>, body: Body) -> Input {
    Input::Message { from: node(Address(from)), message: Message { updates, body } }
}

fn claim(of: u32, version: u64, verdict: Verdict, by: u32) -> Update {
    let stamp = Stamp { life: 1, version };
    Update::Claim(Claim { node: node(Address(of)), stamp, verdict, by: node(Address(by)) })
}

fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| match output {
        Output::Event(event) => Some(*event),
        _ => None,
    };
    outputs.iter().filter_map(event).collect()
}

fn sent<'a>(outputs: &'a [Output], to: u32) -> Vec<&'a Message> {
    let sent = |output: &'a Output| match output {
        Output::Send { to: contact, message } if contact.node == node(Address(to)) => Some(message),
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

fn offences(outputs: &[Output]) -> Vec<Offence> {
    let offence = |output: &Output| match output {
        Output::Misbehaved { why, .. } => Some(*why),
        _ => None,
    };
    outputs.iter().filter_map(offence).collect()
}

#[test]
fn a_ping_is_answered() {
    let (mut swim, now) = swim(3, Config::default());
    let told = tell(&mut swim, now, says(1, Vec::new(), Body::Ping { nonce: 9 }));
    assert_eq!(sent(&told, 1)[0].body, Body::Ack { nonce: 9 });
}

#[test]
fn a_stranger_is_asked_who_it_is() {
    let (mut swim, now) = swim(3, Config::default());
    let told = tell(&mut swim, now, says(8, Vec::new(), Body::Ping { nonce: 9 }));
    let bodies: Vec<&Body> = sent(&told, 8).iter().map(|message| &message.body).collect();
    let ask = Body::Ask { nodes: vec![node(Address(8))] };
    assert_eq!(bodies, [&Body::Ack { nonce: 9 }, &ask]);
    let updates = vec![Update::Presence(seen(Address(8), 1, 0))];
    let told = tell(&mut swim, now, says(8, Vec::new(), Body::Tell { updates }));
    assert_eq!(events(&told), [Event::Joined { node: node(Address(8)), life: 1 }]);
}

#[test]
fn who_does_not_answer_is_asked_through_others_and_then_suspected() {
    let (mut swim, mut now) = swim(4, Config::default());
    let begin = now;
    let mut told = Vec::new();
    let mut target = None;
    while events(&told).is_empty() {
        now = swim.poll_timeout().unwrap().0;
        assert!(now < begin + ms(2_000), "nobody is suspected");
        told = wake(&mut swim, now);
        for number in 1..=4 {
            for message in sent(&told, number) {
                match message.body {
                    Body::Ping { .. } if target.is_none() => target = Some(number),
                    Body::Ping { nonce } if target != Some(number) => {
                        told.extend(tell(
                            &mut swim,
                            now,
                            says(number, vec![], Body::Ack { nonce }),
                        ));
                        break;
                    }
                    Body::PingReq { nonce, target: asked, .. } => {
                        assert_eq!(asked, node(Address(target.unwrap())));
                        told.extend(tell(
                            &mut swim,
                            now,
                            says(number, vec![], Body::Nack { nonce }),
                        ));
                        break;
                    }
                    _ => continue,
                }
            }
        }
    }
    let suspect = node(Address(target.unwrap()));
    assert_eq!(events(&told), [Event::Suspected { node: suspect, life: 1 }]);
    assert_eq!(swim.stats().health, 0, "all nacks came, so the fault is not here");
    assert_eq!(swim.stats().indirect, 1);
}

#[test]
fn who_speaks_while_others_are_asked_about_it_is_not_suspected() {
    for they_speak in [false, true] {
        let (mut swim, mut now) = swim(4, Config::default());
        let until = now + ms(10_000);
        let mut suspected = 0;
        // Nobody answers this node. Each says something else, or nothing.
        while now < until {
            now = swim.poll_timeout().unwrap().0;
            suspected += events(&wake(&mut swim, now)).len();
            for number in (1..=4).filter(|_| they_speak) {
                drop(tell(&mut swim, now, says(number, vec![], Body::Gossip)));
            }
        }
        assert!(swim.stats().indirect > 0);
        assert_eq!((suspected, swim.stats().failed) == (0, 0), they_speak);
    }
}

#[test]
fn a_suspect_is_gone_in_time_and_sooner_if_others_agree() {
    for (accusers, wait) in [(vec![1], 4_000), (vec![1, 2], 2_600), (vec![1, 2, 3, 4], 1_200)] {
        let (mut swim, now) = swim(9, Config::default());
        let updates = accusers.iter().map(|by| claim(9, 0, Verdict::Suspect, *by)).collect();
        let told = tell(&mut swim, now, says(1, updates, Body::Gossip));
        assert_eq!(events(&told), [Event::Suspected { node: node(Address(9)), life: 1 }]);
        // Four times what an answer is thought to take before one was measured is 1.2 s.
        let at = swim.timers_at(node(Address(9)));
        assert_eq!(at - now, ms(wait));
    }
}

#[test]
fn a_member_that_is_said_to_be_down_is_suspected_and_told() {
    let (mut swim, now) = swim(9, Config::default());
    let told = tell(&mut swim, now, says(1, vec![claim(9, 0, Verdict::Down, 2)], Body::Gossip));
    assert_eq!(events(&told), [Event::Suspected { node: node(Address(9)), life: 1 }]);
    let Update::Claim(accusation) = &sent(&told, 9)[0].updates[0] else { panic!() };
    assert_eq!((accusation.node, accusation.verdict), (node(Address(9)), Verdict::Suspect));
    // It refutes, and all is well.
    let refuted = vec![Update::Presence(seen(Address(9), 1, 1))];
    let told = tell(&mut swim, now + ms(100), says(9, refuted, Body::Gossip));
    assert_eq!(events(&told), [Event::Cleared { node: node(Address(9)), life: 1 }]);
    // The same lie counts no more.
    let told =
        tell(&mut swim, now + ms(200), says(1, vec![claim(9, 0, Verdict::Down, 2)], Body::Gossip));
    assert_eq!(events(&told), []);
}

#[test]
fn a_claim_about_what_nobody_has_signed_is_not_believed() {
    let (mut swim, now) = swim(9, Config::default());
    let lie = claim(9, u64::MAX, Verdict::Down, 2);
    let told = tell(&mut swim, now, says(1, vec![lie], Body::Gossip));
    assert_eq!(events(&told), []);
    assert_eq!(sent(&told, 1)[0].body, Body::Ask { nodes: vec![node(Address(9))] });
    let stranger = claim(33, 0, Verdict::Down, 2);
    assert_eq!(tell(&mut swim, now, says(1, vec![stranger], Body::Gossip)), []);
}

#[test]
fn what_is_said_of_oneself_is_refuted_ten_times_a_second_at_most() {
    let (mut swim, now) = swim(9, Config::default());
    let about_me = |version| {
        let stamp = Stamp { life: 5, version };
        let (node, by) = (node(ME), node(Address(2)));
        Update::Claim(Claim { node, stamp, verdict: Verdict::Suspect, by })
    };
    let told = tell(&mut swim, now, says(1, vec![about_me(0)], Body::Gossip));
    assert_eq!(swim.me().stamp(), Stamp { life: 5, version: 1 });
    let me = Update::Presence(Arc::clone(swim.me()));
    assert!(sent(&told, 1)[0].updates.contains(&me), "the accuser is told first");
    for _ in 0..100 {
        tell(&mut swim, now, says(1, vec![about_me(1)], Body::Gossip));
    }
    assert_eq!(swim.me().stamp().version, 1);
    wake(&mut swim, now + ms(100));
    assert_eq!(swim.me().stamp().version, 2);
    // What is past is answered, and not refuted again.
    let told = tell(&mut swim, now + ms(300), says(1, vec![about_me(0); 32], Body::Gossip));
    assert_eq!((swim.me().stamp().version, sent(&told, 1).len()), (2, 1));
    // A version that was never signed cannot be used up.
    tell(&mut swim, now + ms(300), says(1, vec![about_me(u64::MAX)], Body::Gossip));
    assert_eq!(swim.me().stamp().version, 2);
}

#[test]
fn a_later_life_ends_the_earlier_one() {
    let (mut swim, now) = swim(9, Config::default());
    let updates = vec![Update::Presence(seen(Address(9), 2, 0))];
    let told = tell(&mut swim, now, says(9, updates, Body::Gossip));
    let node_9 = node(Address(9));
    let gone = Event::Gone { node: node_9, life: 1, how: Parting::Crashed };
    assert_eq!(events(&told), [gone, Event::Returned { node: node_9, life: 2 }]);
    let updates = vec![Update::Presence(seen(Address(9), 1, 7))];
    assert_eq!(events(&tell(&mut swim, now, says(1, updates, Body::Gossip))), []);
    let updates = vec![Update::Presence(seen(ME, 6, 0))];
    let told = tell(&mut swim, now, says(1, updates.clone(), Body::Gossip));
    assert!(told.contains(&Output::Superseded { life: 6 }));
    assert_eq!(tell(&mut swim, now, says(1, updates, Body::Gossip)), []);
}

#[test]
fn nonsense_is_an_offence() {
    let (mut swim, now) = swim(9, Config::default());
    let mut offends = |body| offences(&tell(&mut swim, now, says(1, Vec::new(), body)));
    assert_eq!(offends(Body::Digest { sums: vec![0; BUCKETS + 1] }), [Offence::Digest]);
    let brief = Brief { node: node(Address(3)), stamp: Stamp::default(), gone: false };
    let bucket = super::super::table::bucket(brief.node);
    let page = |bucket, entries| Body::Page(Page { bucket, after: None, upto: None, entries });
    assert_eq!(offends(page(bucket, vec![brief, brief])), [Offence::Page]);
    assert_eq!(offends(page(bucket ^ 1, vec![brief])), [Offence::Page]);
    let wait = ms(1);
    let ping_me = Body::PingReq { nonce: 1, target: node(ME), wait };
    assert_eq!(offends(ping_me), [Offence::PingReq]);
    let updates = vec![claim(9, 0, Verdict::Down, 2); 65];
    assert_eq!(offends(Body::Tell { updates }), [Offence::TooMany]);
    assert_eq!(offends(Body::Ack { nonce: 1 }), []);
}

#[test]
fn the_departed_are_bounded_and_those_that_left_give_way_first() {
    let config = Config { departed_max: 8, ..Config::default() };
    let (mut swim, now) = swim(12, config);
    for number in 1..=12 {
        let farewell = {
            let mut presence = super::presence(Address(number), 1, 1);
            presence.leaving = number % 2 == 0;
            Arc::new(super::unsigned(presence))
        };
        tell(&mut swim, now, says(number, vec![Update::Presence(farewell)], Body::Gossip));
        let down = claim(number, 1, Verdict::Down, 12);
        tell(&mut swim, now, says(12, vec![down], Body::Gossip));
    }
    wake(&mut swim, now + ms(10_000));
    let down = swim.departed().filter(|(_, status)| *status == Status::Down).count();
    assert_eq!((swim.departed().count(), down), (8, 6));
    assert_eq!(swim.stats().members, 0);
    assert!(swim.stats().rumours <= 9, "of who is forgotten nothing is said");
}

#[test]
fn churn_of_many_thousands_leaves_memory_flat() {
    let config = Config { departed_max: 256, ..Config::default() };
    let (mut swim, mut now) = swim(4, config);
    for number in 10..6_000 {
        // Some come again, for making keys is what takes long.
        let address = 10 + number % 2_000;
        let life = u64::from(number / 2_000) + 1;
        let presence = Update::Presence(seen(Address(address), life, 0));
        let (node, by) = (node(Address(address)), node(Address(1)));
        let stamp = Stamp { life, version: 0 };
        let claim = Update::Claim(Claim { node, stamp, verdict: Verdict::Down, by });
        tell(&mut swim, now, says(1, vec![presence, claim], Body::Gossip));
        now += ms(10);
        wake(&mut swim, now);
        assert!(swim.members.len() <= 200 && swim.departed.len() <= 256);
    }
    wake(&mut swim, now + ms(10_000));
    let stats = swim.stats();
    assert!(stats.departed <= 256 && stats.members <= 4, "{stats:?}");
    assert!(stats.rumours <= 262, "{stats:?}");
    assert!(swim.probes.len() <= 64 && swim.relays.is_empty());
}

#[test]
fn addresses_and_role_are_told() {
    let (mut swim, now) = swim(3, Config::default());
    let addresses = contact(Address(77)).addresses;
    let role = super::Role::Client;
    tell(&mut swim, now, Input::Present { addresses: addresses.clone(), role });
    assert_eq!(swim.me().stamp().version, 1);
    tell(&mut swim, now, Input::Present { addresses, role });
    assert_eq!(swim.me().stamp().version, 1, "it is no news");
    let told = wake(&mut swim, now + ms(50));
    assert!(sent(&told, 1)[0].updates.contains(&Update::Presence(Arc::clone(swim.me()))));
}

#[test]
fn a_machine_that_goes_on_after_another_tells_who_has_gone_meanwhile_and_no_other() {
    let config = Config::default();
    let mut swim = machine(Address(0), 1, config.clone(), Entropy::from_seed(1));
    let mut now = TokioClock.now();
    let status = |number| if number == 4 { Status::Suspect } else { Status::Alive };
    let held = (0..6).map(|number| {
        let seen = seen(Address(number), 1, 0);
        (seen.node(), (seen, status(number)))
    });
    swim.resume(now, held.collect());
    assert_eq!(swim.members().count(), 5);
    let mut told = events(&tell(&mut swim, now, Input::Join { seeds: vec![contact(Address(1))] }));
    let presence = |number, life| Update::Presence(seen(Address(number), life, 0));
    let updates = vec![
        presence(1, 1),
        // It lives anew, one has come, and one is down.
        presence(2, 2),
        presence(6, 1),
        presence(3, 1),
        claim(3, 0, Verdict::Down, 1),
    ];
    told.extend(events(&tell(&mut swim, now, says(1, updates, Body::Gossip))));
    while swim.member(node(Address(3))).is_some() || swim.member(node(Address(4))).is_some() {
        now = swim.poll_timeout().expect("suspects have their time").0.max(now);
        let outputs = wake(&mut swim, now);
        told.extend(events(&outputs));
        // All others answer.
        for number in [1, 2, 5, 6] {
            for message in sent(&outputs, number) {
                if let Body::Ping { nonce } = message.body {
                    let answer = says(number, Vec::new(), Body::Ack { nonce });
                    told.extend(events(&tell(&mut swim, now, answer)));
                }
            }
        }
    }
    let of = |number: u32| {
        let about = told.iter().filter(move |event| event.node() == node(Address(number)));
        about.filter(|event| !matches!(event, Event::Suspected { .. } | Event::Cleared { .. }))
    };
    let crashed =
        |number, life| Event::Gone { node: node(Address(number)), life, how: Parting::Crashed };
    assert_eq!(of(1).count(), 0, "{told:?}");
    let returned = Event::Returned { node: node(Address(2)), life: 2 };
    assert_eq!(of(2).collect::<Vec<_>>(), [&crashed(2, 1), &returned]);
    assert_eq!(of(3).collect::<Vec<_>>(), [&crashed(3, 1)]);
    assert_eq!(of(4).collect::<Vec<_>>(), [&crashed(4, 1)]);
    assert_eq!(of(6).collect::<Vec<_>>(), [&Event::Joined { node: node(Address(6)), life: 1 }]);
}
