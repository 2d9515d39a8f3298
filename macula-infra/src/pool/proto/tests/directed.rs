//! One rule after the other, with explicit times.

use std::time::Instant;

use super::super::dialling::DIAL_MAX;
use super::super::{AttemptId, Class, ConnId, Denial, Fault, Input, Output, Policy, Ticket, Why};
use super::{address, begin, ms, nodes, policy, tell, wake};
use crate::pool::config::Config;
use crate::transport::overlay::Overlay;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;

fn want(ticket: u64, peer: NodeId, addresses: &[u16]) -> Input {
    let addresses = addresses.iter().map(|port| address(*port)).collect();
    Input::Want { ticket: Ticket(ticket), peer, addresses }
}

fn dialed(attempt: u64, conn: u64, peer: NodeId) -> Input {
    let (attempt, conn) = (AttemptId(attempt), ConnId(conn));
    Input::Dialed { attempt, conn, peer, incarnation: 1, relayed: false }
}

fn accepted(conn: u64, peer: NodeId, incarnation: u64) -> Input {
    Input::Accepted { peer, conn: ConnId(conn), incarnation, relayed: false }
}

fn dial(attempt: u64, peer: NodeId, port: u16) -> Output {
    Output::Dial { attempt: AttemptId(attempt), peer, address: address(port) }
}

fn grant(ticket: u64, conn: u64) -> Output {
    Output::Grant { ticket: Ticket(ticket), conn: ConnId(conn) }
}

fn use_it(peer: NodeId, conn: u64) -> Output {
    Output::Use { peer, conn: ConnId(conn) }
}

fn unuse(peer: NodeId, conn: u64) -> Output {
    Output::Unuse { peer, conn: ConnId(conn) }
}

fn retire(conn: u64, unused_since: Instant) -> Output {
    Output::Retire { conn: ConnId(conn), unused_since }
}

fn close(conn: u64, why: Why) -> Output {
    Output::Close { conn: ConnId(conn), why }
}

fn closed(conn: u64, clean: bool) -> Input {
    Input::Closed { conn: ConnId(conn), clean }
}

#[test]
fn all_who_want_a_peer_share_one_dial() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    assert_eq!(tell(&mut policy, now, want(1, peer, &[1])), [dial(1, peer, 1)]);
    assert_eq!(tell(&mut policy, now, want(2, peer, &[1])), []);
    let told = tell(&mut policy, now, dialed(1, 7, peer));
    assert_eq!(told, [use_it(peer, 7), grant(1, 7), grant(2, 7)]);
    assert_eq!(tell(&mut policy, now, want(3, peer, &[])), [grant(3, 7)]);
}

#[test]
fn addresses_race_a_quarter_of_a_second_apart() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    assert_eq!(tell(&mut policy, now, want(1, peer, &[1, 2, 3])), [dial(1, peer, 1)]);
    assert_eq!(policy.poll_timeout(), Some((now + ms(250), "race")));
    assert_eq!(wake(&mut policy, now + ms(249)), []);
    assert_eq!(wake(&mut policy, now + ms(250)), [dial(2, peer, 2)]);
    assert_eq!(wake(&mut policy, now + ms(500)), [dial(3, peer, 3)]);
    let told = tell(&mut policy, now + ms(510), dialed(2, 7, peer));
    let aborts = [1, 3].map(|attempt| Output::Abort { attempt: AttemptId(attempt) });
    assert_eq!(told[..2], aborts);
    assert_eq!(told[2..], [use_it(peer, 7), grant(1, 7)]);
    // The loser of the race that wins too late is one too many.
    let late = tell(&mut policy, now + ms(520), dialed(1, 8, peer));
    assert_eq!(late, [Output::Drain { conn: ConnId(8), why: Why::Duplicate }]);
}

#[test]
fn an_address_that_fails_makes_way_for_the_next_at_once() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, want(1, peer, &[1, 2]));
    let failed = |attempt, fault| Input::DialFailed { attempt: AttemptId(attempt), fault };
    let told = tell(&mut policy, now + ms(5), failed(1, Fault::Refused));
    assert_eq!(told, [dial(2, peer, 2)]);
    let told = tell(&mut policy, now + ms(9), failed(2, Fault::Unreachable));
    let why = Denial::Failed(Fault::Refused);
    assert_eq!(told, [Output::Deny { ticket: Ticket(1), why }]);
}

#[test]
fn a_dial_that_somebody_else_answers_has_failed() {
    let (mut policy, now, nodes) = (policy(Config::default()), begin(), nodes(8));
    tell(&mut policy, now, want(1, nodes[1], &[1]));
    let told = tell(&mut policy, now + ms(5), dialed(1, 7, nodes[2]));
    let why = Denial::Failed(Fault::Refused);
    // Whoever has answered is a peer like any other.
    assert_eq!(told, [Output::Deny { ticket: Ticket(1), why }, use_it(nodes[2], 7)]);
    assert_eq!(policy.stats().dialling, 0);
    let told = tell(&mut policy, now + ms(100), want(2, nodes[1], &[1]));
    assert_eq!(told, [dial(2, nodes[1], 1)]);
    // With another address to try, the dial goes on there.
    tell(&mut policy, now + ms(200), want(3, nodes[3], &[2, 3]));
    let told = tell(&mut policy, now + ms(210), dialed(3, 8, nodes[4]));
    assert_eq!(told, [dial(4, nodes[3], 3), use_it(nodes[4], 8)]);
}

#[test]
fn a_dial_of_which_nothing_is_heard_ends_by_itself() {
    let config = Config { dials_max: 1, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    tell(&mut policy, now, want(1, nodes[1], &[1]));
    assert_eq!(tell(&mut policy, now + ms(10), want(2, nodes[2], &[2])), []);
    let end = now + DIAL_MAX;
    assert_eq!(wake(&mut policy, end - ms(1)), []);
    let told = wake(&mut policy, end);
    let (deny, why) = (Ticket(1), Denial::Failed(Fault::TimedOut));
    let over = [Output::Abort { attempt: AttemptId(1) }, Output::Deny { ticket: deny, why }];
    assert_eq!(told[..2], over);
    assert_eq!(told[2..], [dial(2, nodes[2], 2)]);
    assert_eq!(policy.stats().dial_failures, 1);
}

#[test]
fn a_peer_that_fails_is_left_alone_for_longer_each_time() {
    let (mut policy, mut now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    for (attempt, wait) in [(1, 50), (2, 100), (3, 200), (4, 400)] {
        assert_eq!(tell(&mut policy, now, want(attempt, peer, &[1])), [dial(attempt, peer, 1)]);
        let fault = Fault::Unreachable;
        tell(&mut policy, now, Input::DialFailed { attempt: AttemptId(attempt), fault });
        let until = now + ms(wait);
        let why = Denial::BackingOff { until };
        let told = tell(&mut policy, until - ms(1), want(100 + attempt, peer, &[1]));
        assert_eq!(told, [Output::Deny { ticket: Ticket(100 + attempt), why }]);
        now = until;
    }
    assert!(policy.health(peer).unwrap() < 0.5);
    tell(&mut policy, now, accepted(9, peer, 1));
    assert_eq!(tell(&mut policy, now, want(50, peer, &[])), [grant(50, 9)]);
}

#[test]
fn those_that_were_used_longest_ago_give_way() {
    let config = Config { live_high: 3, live_low: 2, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    for (number, peer) in (1..=3).zip(&nodes[1..]) {
        tell(&mut policy, now + ms(number), accepted(number, *peer, 1));
    }
    // The first is believed to be the oldest, but was in use.
    let told = tell(&mut policy, now + ms(10), want(1, nodes[4], &[1]));
    assert_eq!(told, [retire(1, now + ms(1))]);
    let busy = Input::Busy { conn: ConnId(1), last_used: now + ms(9) };
    assert_eq!(tell(&mut policy, now + ms(10), busy), [retire(2, now + ms(2))]);
    let told = tell(&mut policy, now + ms(11), Input::Retired { conn: ConnId(2) });
    assert_eq!(told, [unuse(nodes[2], 2)]);
    assert_eq!(tell(&mut policy, now + ms(20), closed(2, true)), [dial(1, nodes[4], 1)]);
    assert_eq!(policy.stats().evicted, 1);
}

#[test]
fn those_whose_peers_do_badly_give_way_first() {
    let config = Config { live_high: 3, live_low: 2, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    // The last of the three is lost young again and again.
    for number in 0..4 {
        tell(&mut policy, now + ms(number), accepted(10 + number, nodes[3], 1));
        tell(&mut policy, now + ms(number), closed(10 + number, false));
    }
    assert!(policy.health(nodes[3]).unwrap() < 0.5);
    assert_eq!(policy.stats().unhealthy, 1);
    assert!(policy.health(nodes[2]).is_none());
    for (number, peer) in (1..=3).zip(&nodes[1..]) {
        tell(&mut policy, now + ms(10 + number), accepted(number, *peer, 1));
    }
    let told = tell(&mut policy, now + ms(20), want(1, nodes[4], &[1]));
    assert_eq!(told, [retire(3, now + ms(13))]);
    // It was in use, so the one that was used longest ago is next.
    let busy = Input::Busy { conn: ConnId(3), last_used: now + ms(19) };
    assert_eq!(tell(&mut policy, now + ms(20), busy), [retire(1, now + ms(11))]);
}

#[test]
fn who_finds_no_room_is_told_how_many_there_are() {
    let config = Config { live_high: 1, live_low: 0, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    tell(&mut policy, now, accepted(1, nodes[1], 1));
    assert_eq!(tell(&mut policy, now, want(1, nodes[2], &[1])), [retire(1, now)]);
    let busy = Input::Busy { conn: ConnId(1), last_used: now };
    let why = Denial::Full { live: 1, high: 1 };
    let told = tell(&mut policy, now, busy);
    assert_eq!(told, [Output::Deny { ticket: Ticket(1), why }]);
    // A newcomer is told by being closed.
    assert_eq!(tell(&mut policy, now, accepted(2, nodes[3], 1)), [close(2, Why::Overloaded)]);
}

#[test]
fn what_is_protected_needs_no_room_and_is_dialled_anew() {
    let config = Config { live_high: 1, live_low: 0, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    tell(&mut policy, now, accepted(1, nodes[1], 1));
    let protect = |class| Input::Protect { peer: nodes[2], class, addresses: vec![address(1)] };
    assert_eq!(tell(&mut policy, now, protect(Class::Voter)), [dial(1, nodes[2], 1)]);
    tell(&mut policy, now, dialed(1, 2, nodes[2]));
    let later = now + ms(600_000);
    assert!(!wake(&mut policy, later).contains(&retire(2, now)), "idle, and kept");
    let told = tell(&mut policy, later, closed(2, false));
    assert_eq!(told, [unuse(nodes[2], 2), dial(2, nodes[2], 1)]);
    let fault = Fault::Unreachable;
    tell(&mut policy, later, Input::DialFailed { attempt: AttemptId(2), fault });
    assert_eq!(wake(&mut policy, later + ms(50)), [dial(3, nodes[2], 1)]);
    tell(&mut policy, later, Input::Release { peer: nodes[2], class: Class::Voter });
    tell(&mut policy, later, Input::DialFailed { attempt: AttemptId(3), fault });
    assert_eq!(wake(&mut policy, later + ms(60_000)), []);
}

#[test]
fn what_nobody_uses_is_let_go() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, accepted(1, peer, 1));
    assert_eq!(wake(&mut policy, now + ms(89_999)), []);
    assert_eq!(wake(&mut policy, now + ms(90_000)), [retire(1, now)]);
    let used = now + ms(80_000);
    tell(&mut policy, now + ms(90_000), Input::Busy { conn: ConnId(1), last_used: used });
    assert_eq!(wake(&mut policy, used + ms(90_000)), [retire(1, used)]);
    tell(&mut policy, used + ms(90_000), Input::Retired { conn: ConnId(1) });
    // Its peer may have begun something in that moment, for which it has a lifetime.
    let slow = used + ms(90_000 + 3_600_000);
    assert_eq!(wake(&mut policy, slow - ms(1)), []);
    assert_eq!(wake(&mut policy, slow), [close(1, Why::Slow)]);
}

#[test]
fn what_is_in_flight_on_a_connection_that_is_replaced_may_go_on() {
    let config = Config { idle_ttl: ms(86_400_000), ..Config::default() };
    let (mut policy, now, peer) = (policy(config), begin(), nodes(8)[1]);
    tell(&mut policy, now, want(1, peer, &[1]));
    tell(&mut policy, now, dialed(1, 1, peer));
    let expires = policy.poll_timeout().unwrap().0;
    let drain = |conn, why| Output::Drain { conn: ConnId(conn), why };
    assert_eq!(wake(&mut policy, expires), [drain(1, Why::Lifetime), unuse(peer, 1)]);
    // A duplicate has as long.
    tell(&mut policy, expires, accepted(2, peer, 1));
    tell(&mut policy, expires, accepted(3, peer, 1));
    assert_eq!(wake(&mut policy, expires + ms(3_599_999)), []);
    let closed = wake(&mut policy, expires + ms(3_600_000));
    assert_eq!(closed, [close(1, Why::Slow), close(2, Why::Slow)]);
}

#[test]
fn a_stop_and_a_need_of_room_do_not_wait_for_long() {
    let config = Config { live_high: 2, live_low: 2, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    tell(&mut policy, now, accepted(1, nodes[1], 1));
    tell(&mut policy, now, accepted(2, nodes[2], 1));
    // The first gives way, and the second leaves by itself.
    tell(&mut policy, now + ms(1), want(1, nodes[3], &[1]));
    tell(&mut policy, now + ms(1), Input::Retired { conn: ConnId(1) });
    tell(&mut policy, now + ms(2), Input::Leaving { conn: ConnId(2) });
    let due = now + ms(10_001);
    assert!(!wake(&mut policy, due - ms(1)).contains(&close(1, Why::Slow)));
    assert_eq!(wake(&mut policy, due), [close(1, Why::Slow)]);
    tell(&mut policy, due, Input::Stop);
    assert_eq!(wake(&mut policy, due + ms(9_999)), []);
    assert_eq!(wake(&mut policy, due + ms(10_000)), [close(2, Why::Slow)]);
}

#[test]
fn a_peer_has_few_connections_that_are_let_go_without_haste() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    for conn in 1..=7 {
        tell(&mut policy, now, accepted(conn, peer, 1));
    }
    let closed = wake(&mut policy, now + ms(10_000));
    assert_eq!(closed, [close(5, Why::Slow), close(6, Why::Slow)]);
}

#[test]
fn what_is_old_is_replaced_and_never_missed_if_it_is_protected() {
    let config = Config { idle_ttl: ms(86_400_000), ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    let class = Class::Pinned;
    let addresses = vec![address(1)];
    tell(&mut policy, now, Input::Protect { peer: nodes[1], class, addresses });
    tell(&mut policy, now, dialed(1, 1, nodes[1]));
    let old = now + ms(3_960_000);
    assert_eq!(wake(&mut policy, old), [dial(2, nodes[1], 1)]);
    let told = tell(&mut policy, old, dialed(2, 2, nodes[1]));
    let drain = Output::Drain { conn: ConnId(1), why: Why::Lifetime };
    assert_eq!(told, [drain, unuse(nodes[1], 1), use_it(nodes[1], 2)]);
}

#[test]
fn of_two_that_crossed_the_greater_node_lets_its_own_go() {
    let (now, nodes) = (begin(), nodes(8));
    let config = Config::default();
    let mut smaller = Policy::new(nodes[0], config.clone(), Entropy::from_seed(1));
    let mut greater = Policy::new(nodes[1], config, Entropy::from_seed(1));
    tell(&mut smaller, now, want(1, nodes[1], &[1]));
    tell(&mut greater, now, want(1, nodes[0], &[1]));
    tell(&mut smaller, now, dialed(1, 1, nodes[1]));
    // The smaller one goes on with its own.
    assert_eq!(tell(&mut smaller, now, accepted(2, nodes[1], 1)), []);
    tell(&mut greater, now, dialed(1, 1, nodes[0]));
    let told = tell(&mut greater, now, accepted(2, nodes[0], 1));
    let drain = Output::Drain { conn: ConnId(1), why: Why::Duplicate };
    assert_eq!(told, [drain, unuse(nodes[0], 1), use_it(nodes[0], 2)]);
}

#[test]
fn a_peer_that_dials_again_has_lost_what_it_had() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, accepted(1, peer, 1));
    let told = tell(&mut policy, now + ms(1), accepted(2, peer, 1));
    let drain = Output::Drain { conn: ConnId(1), why: Why::Duplicate };
    assert_eq!(told, [unuse(peer, 1), drain, use_it(peer, 2)]);
    tell(&mut policy, now + ms(2), closed(1, true));
    let told = tell(&mut policy, now + ms(2), accepted(3, peer, 2));
    assert_eq!(told, [close(2, Why::Stale), unuse(peer, 2), use_it(peer, 3)]);
    assert_eq!(tell(&mut policy, now + ms(3), accepted(4, peer, 1)), [close(4, Why::Stale)]);
}

#[test]
fn a_peer_that_leaves_is_used_no_more() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, accepted(1, peer, 1));
    assert_eq!(tell(&mut policy, now, Input::Leaving { conn: ConnId(1) }), [unuse(peer, 1)]);
    assert_eq!(tell(&mut policy, now, want(1, peer, &[1])), [dial(1, peer, 1)]);
}

#[test]
fn a_wish_that_is_forgotten_is_not_answered() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, want(1, peer, &[1]));
    tell(&mut policy, now, Input::Forget { ticket: Ticket(1) });
    assert_eq!(tell(&mut policy, now, dialed(1, 1, peer)), [use_it(peer, 1)]);
}

#[test]
fn a_stop_answers_everybody() {
    let (mut policy, now, nodes) = (policy(Config::default()), begin(), nodes(8));
    tell(&mut policy, now, accepted(1, nodes[1], 1));
    tell(&mut policy, now, want(1, nodes[2], &[1]));
    let told = tell(&mut policy, now, Input::Stop);
    let deny = |ticket| Output::Deny { ticket: Ticket(ticket), why: Denial::Stopping };
    assert!(told.contains(&deny(1)));
    assert!(told.contains(&Output::Abort { attempt: AttemptId(1) }));
    assert!(told.contains(&Output::Drain { conn: ConnId(1), why: Why::Stopping }));
    assert_eq!(tell(&mut policy, now, want(2, nodes[1], &[1])), [deny(2)]);
}

#[test]
fn only_so_many_addresses_are_dialled_at_one_time() {
    let config = Config { dials_max: 1, ..Config::default() };
    let (mut policy, now, nodes) = (policy(config), begin(), nodes(8));
    assert_eq!(tell(&mut policy, now, want(1, nodes[1], &[1])), [dial(1, nodes[1], 1)]);
    assert_eq!(tell(&mut policy, now, want(2, nodes[2], &[2])), []);
    let told = tell(&mut policy, now, dialed(1, 1, nodes[1]));
    assert_eq!(told.last(), Some(&dial(2, nodes[2], 2)));
}

fn over_others(input: Input) -> Input {
    match input {
        Input::Dialed { attempt, conn, peer, incarnation, .. } => {
            Input::Dialed { attempt, conn, peer, incarnation, relayed: true }
        }
        Input::Accepted { peer, conn, incarnation, .. } => {
            Input::Accepted { peer, conn, incarnation, relayed: true }
        }
        other => other,
    }
}

fn drain(conn: u64) -> Output {
    Output::Drain { conn: ConnId(conn), why: Why::Duplicate }
}

#[test]
fn a_direct_connection_takes_the_place_of_a_relayed_one() {
    let config = Config { idle_ttl: ms(3_600_000), ..Config::default() };
    let (mut policy, now, peer) = (policy(config), begin(), nodes(8)[1]);
    tell(&mut policy, now, want(1, peer, &[1]));
    let told = tell(&mut policy, now, over_others(dialed(1, 7, peer)));
    assert_eq!(told, [use_it(peer, 7), grant(1, 7)]);
    // It is tried less and less often, and only where it is direct.
    let (mut at, mut attempt) = (now, 1);
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        at += ms(wait * 1_000);
        assert_eq!(wake(&mut policy, at - ms(1)), []);
        assert_eq!(wake(&mut policy, at), [Output::Seek { peer }]);
        let nowhere = Input::Found { peer, addresses: vec![Overlay::address_of(peer)] };
        assert_eq!(tell(&mut policy, at, nowhere), []);
        let addresses = vec![Overlay::address_of(peer), address(2)];
        attempt += 1;
        let told = tell(&mut policy, at, Input::Found { peer, addresses });
        assert_eq!(told, [dial(attempt, peer, 2)]);
        let (attempt, fault) = (AttemptId(attempt), Fault::Unreachable);
        assert_eq!(tell(&mut policy, at, Input::DialFailed { attempt, fault }), []);
    }
    assert_eq!(policy.health(peer), Some(1.0), "nobody is to blame");
    at += ms(30_000);
    wake(&mut policy, at);
    tell(&mut policy, at, Input::Found { peer, addresses: vec![address(2)] });
    let told = tell(&mut policy, at, dialed(attempt + 1, 8, peer));
    assert_eq!(told, [drain_as(7, Why::Lifetime), unuse(peer, 7), use_it(peer, 8)]);
}

fn drain_as(conn: u64, why: Why) -> Output {
    Output::Drain { conn: ConnId(conn), why }
}

#[test]
fn whoever_dialled_the_relayed_connection_drains_it_when_the_peer_dials_directly() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, want(1, peer, &[1]));
    tell(&mut policy, now, over_others(dialed(1, 7, peer)));
    let told = tell(&mut policy, now + ms(10), accepted(8, peer, 1));
    assert_eq!(told, [drain(7), unuse(peer, 7), use_it(peer, 8)]);
    // A straggler of the same dial of the peer's changes nothing, and a later one is believed.
    let told = tell(&mut policy, now + ms(20), over_others(accepted(9, peer, 1)));
    assert_eq!(told, []);
    let told = tell(&mut policy, now + ms(9_000), over_others(accepted(10, peer, 1)));
    assert_eq!(told[..3], [unuse(peer, 8), use_it(peer, 9), drain(8)]);
    assert_eq!(told[3..], [unuse(peer, 9), drain(9), use_it(peer, 10)]);
}

#[test]
fn whoever_wants_a_peer_while_only_its_direct_addresses_are_tried_has_all_of_them_tried() {
    let (mut policy, now, peer) = (policy(Config::default()), begin(), nodes(8)[1]);
    tell(&mut policy, now, over_others(accepted(7, peer, 1)));
    wake(&mut policy, now + ms(1_000));
    tell(&mut policy, now + ms(1_000), Input::Found { peer, addresses: vec![address(2)] });
    tell(&mut policy, now + ms(1_100), closed(7, true));
    let told = tell(&mut policy, now + ms(1_200), want(1, peer, &[2, 3]));
    assert_eq!(told, [Output::Abort { attempt: AttemptId(1) }, dial(2, peer, 2)]);
}
