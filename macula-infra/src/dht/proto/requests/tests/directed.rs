//! Directed scenarios.

use super::*;

/// A machine, its peer, and the time.
struct Bench {
    requests: Requests,
    peer: NodeId,
    now: Instant,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self { requests: Requests::new(config), peer: node(1), now: begin() }
    }

    fn submit(&mut self, number: u64, within: Duration) -> Ticket {
        let to = contact(self.peer);
        self.requests.submit(self.now, &to, op(number), self.now + within)
    }

    /// The requests that were sent, and what else there was to do.
    fn drain(&mut self) -> (Vec<(RequestId, Vec<Op>)>, Vec<Output>) {
        let (mut sent, mut rest) = (Vec::new(), Vec::new());
        for output in outputs(&mut self.requests) {
            match output {
                Output::Send { id, ops, .. } => sent.push((id, ops)),
                other => rest.push(other),
            }
        }
        (sent, rest)
    }

    fn sent(&mut self) -> Vec<(RequestId, Vec<Op>)> {
        let (sent, rest) = self.drain();
        assert_eq!(rest, []);
        sent
    }

    fn answer(&mut self, id: RequestId, ops: &[Op]) {
        let results = ops.iter().map(answer).collect();
        self.requests.answered(self.now, self.peer, id, Some(results));
    }

    fn wait(&mut self, wait: Duration) {
        self.now += wait;
        self.requests.handle_timeout(self.now);
    }

    /// How operations have ended.
    fn ended(&mut self) -> Vec<(Ticket, Outcome)> {
        let (_, rest) = self.drain();
        rest.into_iter()
            .filter_map(|output| match output {
                Output::Done { ticket, outcome, .. } => Some((ticket, outcome)),
                _ => None,
            })
            .collect()
    }
}

fn with_window(window: usize) -> Config {
    Config { window, ..Config::default() }
}

#[test]
fn the_first_goes_at_once_and_the_others_together_when_it_is_answered() {
    let mut bench = Bench::new(with_window(1));
    bench.submit(0, ms(5000));
    let first = bench.sent();
    assert_eq!(first.len(), 1, "it does not wait");
    for number in 1..=100 {
        bench.submit(number, ms(5000));
    }
    assert_eq!(bench.sent(), []);
    bench.wait(ms(10));
    bench.answer(first[0].0, &first[0].1);
    let (sent, done) = bench.drain();
    let sizes: Vec<usize> = sent.iter().map(|(_, ops)| ops.len()).collect();
    assert_eq!((sizes.as_slice(), done.len()), (&[64][..], 1));
    bench.answer(sent[0].0, &sent[0].1);
    let (sent, done) = bench.drain();
    let sizes: Vec<usize> = sent.iter().map(|(_, ops)| ops.len()).collect();
    assert_eq!((sizes.as_slice(), done.len()), (&[36][..], 64));
    assert_eq!(bench.requests.stats().requests, 3, "for 101 operations");
}

#[test]
fn as_many_requests_are_under_way_as_the_window_has_room_for() {
    let mut bench = Bench::new(with_window(2));
    for number in 0..5 {
        bench.submit(number, ms(5000));
    }
    let sizes: Vec<usize> = bench.sent().iter().map(|(_, ops)| ops.len()).collect();
    assert_eq!(sizes, [1, 1]);
}

#[test]
fn each_answer_goes_to_who_asked() {
    let mut bench = Bench::new(with_window(1));
    let tickets: Vec<Ticket> = (0..20).map(|number| bench.submit(number, ms(5000))).collect();
    let mut ended = Vec::new();
    let mut sent = bench.sent();
    while !sent.is_empty() {
        for (id, ops) in sent {
            bench.answer(id, &ops);
        }
        let rest;
        (sent, rest) = bench.drain();
        ended.extend(rest.into_iter().map(|output| match output {
            Output::Done { ticket, outcome, .. } => (ticket, outcome),
            other => panic!("{other:?}"),
        }));
    }
    let right = |(n, ticket): (usize, &Ticket)| {
        (*ticket, Outcome::Answered(answer(&op(u64::try_from(n).unwrap()))))
    };
    assert_eq!(ended, tickets.iter().enumerate().map(right).collect::<Vec<_>>());
}

#[test]
fn a_fixed_delay_is_emulated() {
    let delay = ms(100);
    let mut bench = Bench::new(Config { fixed_delay: Some(delay), ..Config::default() });
    bench.submit(0, ms(5000));
    bench.wait(ms(50));
    bench.submit(1, ms(5000));
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.requests.poll_timeout(), Some((bench.now + ms(50), "flush")));
    bench.wait(ms(50));
    let sent = bench.sent();
    assert_eq!((sent.len(), sent[0].1.len()), (1, 2));
}

#[test]
fn what_is_lost_is_sent_anew_and_a_late_answer_counts() {
    let mut bench = Bench::new(with_window(1));
    let ticket = bench.submit(0, ms(10_000));
    let first = bench.sent();
    bench.wait(ms(999));
    assert_eq!(bench.drain().1, [Output::Slow { ticket }]);
    bench.wait(ms(1));
    let second = bench.sent();
    assert_eq!(second.len(), 1, "after a second");
    assert_eq!(second[0].1, first[0].1);
    bench.wait(ms(1999));
    assert_eq!(bench.sent(), [], "the second one has twice as long");
    bench.answer(first[0].0, &first[0].1);
    let expected = Outcome::Answered(answer(&op(0)));
    assert_eq!(bench.ended(), [(ticket, expected)]);
    bench.answer(second[0].0, &second[0].1);
    assert_eq!(outputs(&mut bench.requests), [], "no harm, and no end twice");
    assert_eq!(bench.requests.stats().misbehaved, 0);
}

#[test]
fn retries_have_a_budget_and_attempts_are_counted() {
    let config = Config { retry_burst: 2, window: 100, ..Config::default() };
    let mut bench = Bench::new(config);
    for number in 0..10 {
        bench.submit(number, ms(3500));
    }
    assert_eq!(bench.sent().len(), 10);
    bench.wait(ms(1000));
    let stats = bench.requests.stats();
    assert_eq!((stats.retries, stats.retries_denied), (2, 8), "two of ten");
    bench.wait(ms(3000));
    assert_eq!(bench.ended().len(), 10);
    let mut bench = Bench::new(Config { attempts_max: 2, ..Config::default() });
    let ticket = bench.submit(0, ms(60_000));
    bench.wait(ms(59_000));
    bench.wait(ms(1000));
    assert_eq!(bench.requests.stats().sent, 2);
    assert_eq!(bench.ended(), [(ticket, Outcome::TimedOut)]);
}

#[test]
fn timeouts_follow_the_round_trip_of_the_peer() {
    let mut bench = Bench::new(with_window(1));
    for number in 0..50 {
        bench.submit(number, ms(5000));
        let sent = bench.sent();
        bench.wait(ms(20));
        bench.answer(sent[0].0, &sent[0].1);
        drop(bench.ended());
    }
    assert_eq!(bench.requests.rtt(bench.peer), Some(ms(20)));
    let ticket = bench.submit(50, ms(5000));
    assert_eq!(bench.sent().len(), 1);
    bench.wait(ms(21));
    assert_eq!(bench.drain().1, [Output::Slow { ticket }], "much later than most");
    bench.wait(ms(178));
    assert_eq!(bench.sent().len(), 0);
    bench.wait(ms(1));
    assert_eq!(bench.sent().len(), 1, "the least timeout is 200 ms");
    let other = contact(node(2));
    bench.requests.submit(bench.now, &other, op(51), bench.now + ms(5000));
    let slow_at = bench.requests.poll_timeout();
    assert!(slow_at.is_some_and(|(at, why)| why == "slow" && at < bench.now + ms(25)));
}

#[test]
fn what_cannot_be_delivered_ends_at_once() {
    let mut bench = Bench::new(with_window(1));
    let (first, second) = (bench.submit(0, ms(5000)), bench.submit(1, ms(5000)));
    let sent = bench.sent();
    bench.requests.undelivered(bench.now, sent[0].0, Fault::Unreachable);
    let (sent, done) = bench.drain();
    assert!(
        matches!(done.as_slice(), [Output::Done { ticket, outcome, .. }]
            if *ticket == first && *outcome == Outcome::Undelivered(Fault::Unreachable)),
        "{done:?}"
    );
    assert_eq!(sent.len(), 1, "the next has its own try");
    bench.requests.undelivered(bench.now, sent[0].0, Fault::Lost);
    assert_eq!(bench.ended(), [(second, Outcome::Undelivered(Fault::Lost))]);
    bench.requests.undelivered(bench.now, sent[0].0, Fault::Lost);
    assert_eq!(outputs(&mut bench.requests), []);
}

#[test]
fn an_answer_that_is_none_is_held_against_the_peer() {
    let mut bench = Bench::new(with_window(8));
    let mut bad = |results: fn(&[Op]) -> Option<Vec<OpResult>>, what| {
        let ticket = bench.submit(0, ms(5000));
        let sent = bench.sent();
        let results = results(&sent[0].1);
        bench.requests.answered(bench.now, bench.peer, sent[0].0, results);
        let [told, done] = <[Output; 2]>::try_from(bench.drain().1).unwrap();
        assert_eq!(told, Output::Misbehaved { peer: bench.peer, what });
        let outcome = Outcome::Misbehaved(what);
        let took = Duration::ZERO;
        assert_eq!(done, Output::Done { ticket, peer: bench.peer, outcome, took });
    };
    bad(|_| None, Misbehaviour::Malformed);
    bad(|_| Some(Vec::new()), Misbehaviour::WrongCount { asked: 1, got: 0 });
    let twice = |ops: &[Op]| Some(vec![answer(&ops[0]); 2]);
    bad(twice, Misbehaviour::WrongCount { asked: 1, got: 2 });
    bad(|_| Some(vec![OpResult::Pong]), Misbehaviour::WrongKind);
    let stranger = node(2);
    let ticket = bench.submit(0, ms(5000));
    let sent = bench.sent();
    let results = || Some(vec![answer(&op(9))]);
    bench.requests.answered(bench.now, stranger, sent[0].0, results());
    let what = Misbehaviour::WrongPeer;
    assert_eq!(outputs(&mut bench.requests), [Output::Misbehaved { peer: stranger, what }]);
    bench.answer(sent[0].0, &sent[0].1);
    assert_eq!(bench.ended(), [(ticket, Outcome::Answered(answer(&op(0))))]);
    bench.requests.answered(bench.now, bench.peer, sent[0].0, results());
    let what = Misbehaviour::UnknownRequest;
    assert_eq!(outputs(&mut bench.requests), [Output::Misbehaved { peer: bench.peer, what }]);
}

#[test]
fn a_result_that_had_no_room_is_asked_for_anew_but_not_for_ever() {
    let mut bench = Bench::new(Config { attempts_max: 3, ..with_window(1) });
    let ticket = bench.submit(0, ms(5000));
    let no_room = OpResult::Refused(Refusal::NoRoom);
    for _ in 0..2 {
        let sent = bench.sent();
        let results = Some(vec![no_room.clone()]);
        bench.requests.answered(bench.now, bench.peer, sent[0].0, results);
    }
    let sent = bench.sent();
    bench.requests.answered(bench.now, bench.peer, sent[0].0, Some(vec![no_room.clone()]));
    assert_eq!(bench.ended(), [(ticket, Outcome::Answered(no_room))]);
}

#[test]
fn results_that_have_no_room_all_together_come_one_after_another() {
    let mut bench = Bench::new(with_window(1));
    for number in 0..65 {
        bench.submit(number, ms(5000));
    }
    let (mut ended, mut sent) = (0, bench.sent());
    while let Some((id, ops)) = sent.pop() {
        let room_for = |(n, op)| {
            if n < 7 { answer(op) } else { OpResult::Refused(Refusal::NoRoom) }
        };
        let results = ops.iter().enumerate().map(room_for).collect();
        bench.requests.answered(bench.now, bench.peer, id, Some(results));
        let rest;
        (sent, rest) = bench.drain();
        ended += rest.len();
        let no_room = |output: &Output| format!("{output:?}").contains("NoRoom");
        assert!(!rest.iter().any(no_room), "{rest:?}");
    }
    assert_eq!((ended, bench.requests.stats().requests), (65, 11));
}

#[test]
fn queues_are_bounded_and_the_caller_is_told() {
    let config = Config { queue_len_max: 3, ops_max: 6, ..with_window(1) };
    let mut bench = Bench::new(config);
    for number in 0..4 {
        bench.submit(number, ms(5000));
    }
    assert_eq!(bench.sent().len(), 1);
    let ticket = bench.submit(4, ms(5000));
    assert_eq!(bench.ended(), [(ticket, Outcome::Busy(Full::Peer))]);
    bench.peer = node(2);
    bench.submit(5, ms(5000));
    bench.submit(6, ms(5000));
    drop(bench.sent());
    let ticket = bench.submit(7, ms(5000));
    assert_eq!(bench.ended(), [(ticket, Outcome::Busy(Full::All))]);
    bench.requests.cancel(Ticket(1));
    bench.submit(8, ms(5000));
    assert_eq!(bench.ended(), [], "there is room again");
    let mut bench = Bench::new(Config { request_len_max: 10, ..Config::default() });
    let ticket = bench.submit(0, ms(5000));
    let len = op(0).encoded_len();
    assert_eq!(bench.ended(), [(ticket, Outcome::TooLong { len })]);
    let ticket = Bench::new(Config::default()).submit(0, ms(0));
    assert_eq!(ticket, Ticket(0));
}

#[test]
fn the_number_of_remembered_peers_is_bounded() {
    let mut bench = Bench::new(Config { peers_max: 2, ..with_window(1) });
    for seed in 1..=9 {
        bench.peer = node(seed);
        bench.submit(0, ms(5000));
        for (id, ops) in bench.sent() {
            bench.answer(id, &ops);
        }
        drop(bench.ended());
        bench.now += ms(1);
        assert!(bench.requests.stats().peers <= 2);
    }
    assert!(bench.requests.rtt(node(9)).is_some() && bench.requests.rtt(node(1)).is_none());
}

#[test]
fn what_was_asked_over_a_lost_connection_ends_at_once_and_what_was_not_goes_over_a_new_one() {
    let mut bench = Bench::new(with_window(1));
    let first = bench.submit(0, ms(5000));
    let sent = bench.sent();
    bench.submit(1, ms(5000));
    assert_eq!(bench.sent(), [], "the window is shut");
    bench.requests.lost(bench.now, node(2), false);
    assert_eq!(bench.drain(), (vec![], vec![]), "another's connection");
    bench.requests.lost(bench.now, bench.peer, false);
    let (again, rest) = bench.drain();
    let [Output::Done { ticket, outcome, .. }] = rest.as_slice() else { panic!("{rest:?}") };
    assert_eq!((*ticket, outcome), (first, &Outcome::Undelivered(Fault::Lost)));
    assert_eq!(again.len(), 1, "the other goes now");
    // The answer comes all the same, over another connection: that is no offence, nor is silence.
    bench.answer(sent[0].0, &sent[0].1);
    assert_eq!(bench.ended(), []);
    bench.answer(again[0].0, &again[0].1);
    assert_eq!(bench.ended().len(), 1);
    assert_eq!(bench.requests.stats().misbehaved, 0);
    bench.wait(ms(120_000));
    assert!(bench.requests.requests.is_empty() && bench.requests.late.is_empty());
}

#[test]
fn what_was_asked_over_one_of_two_connections_goes_anew_over_the_other() {
    let mut bench = Bench::new(with_window(1));
    let ticket = bench.submit(0, ms(5000));
    let first = bench.sent();
    bench.requests.lost(bench.now, bench.peer, true);
    let again = bench.sent();
    assert_eq!(again.iter().map(|(_, ops)| ops).collect::<Vec<_>>(), [&first[0].1]);
    // It may have reached the peer after all; that is answered once more, and counts once.
    bench.answer(first[0].0, &first[0].1);
    assert_eq!(bench.ended(), [(ticket, Outcome::Answered(answer(&op(0))))]);
    bench.answer(again[0].0, &again[0].1);
    assert_eq!(bench.drain(), (vec![], vec![]));
    // Without a budget it waits for its timeout.
    let mut bench = Bench::new(Config { retry_per_mille: 0, retry_burst: 0, ..Config::default() });
    bench.submit(0, ms(5000));
    bench.sent();
    bench.requests.lost(bench.now, bench.peer, true);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.requests.stats().retries_denied, 1);
}

#[test]
fn answers_to_an_earlier_life_are_nothing() {
    let mut before = Bench::new(Config::default());
    before.submit(1, ms(60_000));
    let (old, ops) = before.sent().remove(0);
    let mut after = Bench::new(Config::default());
    after.requests.resume(RequestId(old.0 + 1));
    let ticket = after.submit(2, ms(60_000));
    let (new, _) = after.sent().remove(0);
    assert_ne!(new, old);
    after.answer(old, &ops);
    assert_eq!(after.drain().1, [], "neither an answer nor held against the peer");
    assert_eq!(after.requests.stats().misbehaved, 0);
    after.answer(new, &[op(2)]);
    assert!(matches!(after.ended().as_slice(), [(done, Outcome::Answered(_))] if *done == ticket));
}
