//! Random questions to peers of whom some lie: answers go to who asked, each operation ends exactly
//! once, and nothing is left after its deadline.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PEERS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Ask a peer, with so many milliseconds.
    Submit(u8, u64),
    /// A request is answered as it should be.
    Answer(prop::sample::Index),
    /// Somebody else answers a request.
    Meddle(prop::sample::Index),
    /// The answer is a result short.
    Short(prop::sample::Index),
    Undelivered(prop::sample::Index),
    Cancel(prop::sample::Index),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        8 => (0..PEERS, 1_u64..4000).prop_map(|(peer, within)| Step::Submit(peer, within)),
        5 => any().prop_map(Step::Answer),
        1 => any().prop_map(Step::Meddle),
        1 => any().prop_map(Step::Short),
        1 => any().prop_map(Step::Undelivered),
        1 => any().prop_map(Step::Cancel),
        4 => (1_u64..700).prop_map(Step::Wait),
    ]
}

#[derive(Debug)]
struct Sent {
    id: RequestId,
    peer: NodeId,
    ops: Vec<Op>,
    /// It was answered, or could not be delivered.
    over: bool,
}

#[derive(Debug)]
struct Asked {
    peer: NodeId,
    deadline: Instant,
    number: u64,
    ended: bool,
}

struct World {
    requests: Requests,
    now: Instant,
    peers: Vec<NodeId>,
    sent: Vec<Sent>,
    asked: BTreeMap<Ticket, Asked>,
    /// How often peers have misbehaved, and how often it was said.
    lies: u64,
    blamed: u64,
}

impl World {
    fn new(bug: Option<Bug>) -> Self {
        let late_for = ms(600_000);
        let config =
            Config { window: 2, batch_max: 4, queue_len_max: 6, late_for, ..Config::default() };
        let mut requests = Requests::new(config);
        requests.bug = bug;
        Self {
            requests,
            now: begin(),
            peers: (1..=PEERS).map(node).collect(),
            sent: Vec::new(),
            asked: BTreeMap::new(),
            lies: 0,
            blamed: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit(peer, within) => self.submit(usize::from(peer), ms(within)),
            Step::Wait(millis) => self.wait(ms(millis)),
            Step::Answer(index) => self.answer(index, 0, 0),
            Step::Meddle(index) => self.answer(index, 1, 0),
            Step::Short(index) => self.answer(index, 0, 1),
            Step::Undelivered(index) => {
                if let Some(sent) = pick(&mut self.sent, index) {
                    sent.over = true;
                    self.requests.undelivered(self.now, sent.id, Fault::Lost);
                }
            }
            Step::Cancel(index) => {
                let open = self.asked.iter_mut().filter(|(_, asked)| !asked.ended);
                let mut open: Vec<_> = open.collect();
                if let Some((ticket, asked)) = pick(&mut open, index) {
                    asked.ended = true;
                    self.requests.cancel(**ticket);
                }
            }
        }
        self.drain();
        self.check();
    }

    fn submit(&mut self, peer: usize, within: Duration) {
        let (peer, deadline) = (self.peers[peer], self.now + within);
        let number = u64::try_from(self.asked.len()).unwrap();
        let ticket = self.requests.submit(self.now, &contact(peer), op(number), deadline);
        let asked = Asked { peer, deadline, number, ended: false };
        assert!(self.asked.insert(ticket, asked).is_none());
    }

    fn answer(&mut self, index: prop::sample::Index, strangers: usize, missing: usize) {
        let Some(sent) = pick(&mut self.sent, index) else { return };
        let results = sent.ops.iter().skip(missing).map(answer).collect();
        let place = self.peers.iter().position(|peer| *peer == sent.peer).unwrap();
        let from = self.peers[(place + strangers) % self.peers.len()];
        self.lies += u64::from(sent.over || strangers > 0 || missing > 0);
        sent.over |= strangers == 0;
        self.requests.answered(self.now, from, sent.id, Some(results));
    }

    /// Lets time pass, from deadline to deadline.
    fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        while let Some((at, _)) = self.requests.poll_timeout() {
            if at > end {
                break;
            }
            assert!(at >= self.now || at + ms(1) > self.now, "a deadline was missed");
            self.now = at.max(self.now);
            self.requests.handle_timeout(self.now);
            self.drain();
            self.check();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        for output in outputs(&mut self.requests) {
            match output {
                Output::Send { id, to, ops, .. } => {
                    assert!(!ops.is_empty() && ops.len() <= 4);
                    self.sent.push(Sent { id, peer: to.node, ops, over: false });
                }
                Output::Done { ticket, peer, outcome, .. } => self.done(ticket, peer, &outcome),
                Output::Slow { ticket } => assert!(!self.asked[&ticket].ended),
                Output::Misbehaved { .. } => self.blamed += 1,
            }
        }
    }

    fn done(&mut self, ticket: Ticket, peer: NodeId, outcome: &Outcome) {
        let asked = self.asked.get_mut(&ticket).unwrap();
        assert!(!asked.ended, "{ticket:?} ends twice");
        asked.ended = true;
        assert_eq!(asked.peer, peer);
        match outcome {
            Outcome::Answered(result) => assert_eq!(*result, answer(&op(asked.number))),
            Outcome::TimedOut => assert_eq!(asked.deadline, self.now),
            _ => {}
        }
    }

    fn check(&self) {
        assert_eq!(self.lies, self.blamed, "each lie is told of, and nothing else is");
        let open = self.asked.values().filter(|asked| !asked.ended);
        assert_eq!(self.requests.stats().pending, open.clone().count());
        assert!(open.clone().all(|asked| asked.deadline > self.now), "{:?} is late", self.now);
        for peer in self.requests.peers.values() {
            assert!(peer.queue.is_empty() || peer.in_flight == 2, "nothing waits without need");
            assert!(peer.queue.len() <= 6 + 8, "a retry comes on top of the queue");
        }
        let open = self.requests.requests.values().filter(|request| request.open).count();
        let places: usize = self.requests.peers.values().map(|peer| peer.in_flight).sum();
        assert_eq!(open, places, "each place in a window belongs to a request");
    }

    fn finish(&mut self) {
        self.wait(ms(700_000));
        assert!(self.asked.values().all(|asked| asked.ended));
        let stats = self.requests.stats();
        assert_eq!((stats.pending, stats.pending_bytes), (0, 0));
        assert!(self.requests.requests.is_empty() && self.requests.late.is_empty());
        assert_eq!(self.requests.poll_timeout(), None);
    }
}

fn pick<T>(all: &mut [T], index: prop::sample::Index) -> Option<&mut T> {
    if all.is_empty() { None } else { Some(index.get_mut(all)) }
}

fn play(steps: Vec<Step>, bug: Option<Bug>) {
    let mut world = World::new(bug);
    for step in steps {
        world.step(step);
    }
    world.finish();
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_question_ends_once_and_with_its_own_answer(steps in steps()) {
        play(steps, None);
    }
}

/// Whether one of many random runs finds a bug.
fn finds(bug: Bug) -> bool {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..256).any(|_| {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        std::panic::catch_unwind(|| play(steps, Some(bug))).is_err()
    })
}

#[test]
fn answers_that_are_mixed_up_are_found() {
    assert!(finds(Bug::MixesUp));
}

#[test]
fn an_operation_that_ends_twice_is_found() {
    assert!(finds(Bug::EndsTwice));
}

#[test]
fn a_window_that_stays_shut_is_found() {
    assert!(finds(Bug::KeepsTheWindowShut));
}

#[test]
fn a_deadline_that_is_forgotten_is_found() {
    assert!(finds(Bug::ForgetsTheQueued));
}
