//! Random inputs, nonsense among them, against a model of what the actor and the network do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;
use proptest::prelude::*;

use super::super::{AttemptId, Class, ConnId, Fault, Input, Output, Policy, Ticket, Why};
use super::{Bug, address, begin, nodes};
use crate::pool::config::Config;
use crate::transport::overlay::Overlay;

#[derive(Debug, Clone)]
enum Op {
    Want(u8),
    Forget(u64),
    Protect(u8, bool),
    Dialed(usize, u64),
    /// Somebody else answers a dial.
    Foreign(usize, u8, u64),
    Failed(usize),
    Accepted(u8, u64),
    Closed(usize, bool),
    TakeUp(usize, bool),
    Leaving(usize),
    Wait(u64),
    Nonsense(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..6_u8).prop_map(Op::Want),
        1 => (0..60_u64).prop_map(Op::Forget),
        1 => (0..6_u8, any::<bool>()).prop_map(|(peer, on)| Op::Protect(peer, on)),
        5 => (any::<usize>(), 0..3_u64).prop_map(|(at, life)| Op::Dialed(at, life)),
        1 => (any::<usize>(), 0..6_u8, 0..3_u64)
            .prop_map(|(at, peer, life)| Op::Foreign(at, peer, life)),
        2 => any::<usize>().prop_map(Op::Failed),
        4 => (0..6_u8, 0..3_u64).prop_map(|(peer, life)| Op::Accepted(peer, life)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, clean)| Op::Closed(at, clean)),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(at, on)| Op::TakeUp(at, on)),
        1 => any::<usize>().prop_map(Op::Leaving),
        4 => (0..200_000_u64).prop_map(Op::Wait),
        1 => any::<u64>().prop_map(Op::Nonsense),
    ]
}

struct Held {
    busy: bool,
    last_used: Instant,
}

/// What stands around the policy, and what it has promised.
struct Model {
    policy: Policy,
    now: Instant,
    peers: Vec<NodeId>,
    conns: BTreeMap<ConnId, Held>,
    dials: BTreeMap<AttemptId, (NodeId, SocketAddr)>,
    aborted: Vec<(AttemptId, NodeId)>,
    open: BTreeSet<Ticket>,
    numbers: u64,
}

impl Model {
    fn new(bug: Option<Bug>) -> Self {
        let config = Config {
            live_high: 3,
            live_low: 2,
            dials_max: 3,
            peers_max: 16,
            lifetime: Duration::from_secs(300),
            ..Config::default()
        };
        let all = nodes(8);
        let mut policy = Policy::new(all[3], config, Entropy::from_seed(7));
        policy.config.bug = bug;
        let peers = all.into_iter().filter(|node| *node != policy.local).collect();
        Self {
            policy,
            now: begin(),
            peers,
            conns: BTreeMap::new(),
            dials: BTreeMap::new(),
            aborted: Vec::new(),
            open: BTreeSet::new(),
            numbers: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn held(&mut self) -> ConnId {
        let conn = ConnId(self.next());
        self.conns.insert(conn, Held { busy: false, last_used: self.now });
        conn
    }

    fn nth_conn(&self, at: usize) -> Option<ConnId> {
        self.conns.keys().nth(at % self.conns.len().max(1)).copied()
    }

    fn input(&mut self, op: Op) -> Option<Input> {
        Some(match op {
            Op::Want(peer) => {
                let ticket = Ticket(self.next());
                self.open.insert(ticket);
                let addresses = (0..u16::from(peer) % 4).map(|port| address(port + 1)).collect();
                Input::Want { ticket, peer: self.peers[usize::from(peer)], addresses }
            }
            Op::Forget(ticket) => {
                self.open.remove(&Ticket(ticket));
                Input::Forget { ticket: Ticket(ticket) }
            }
            Op::Protect(peer, true) => {
                let (peer, addresses) = (self.peers[usize::from(peer)], vec![address(9)]);
                Input::Protect { peer, class: Class::Relay, addresses }
            }
            Op::Protect(peer, false) => {
                Input::Release { peer: self.peers[usize::from(peer)], class: Class::Relay }
            }
            Op::Dialed(at, incarnation) => {
                let late = at % 4 == 0;
                let (attempt, peer) = if late {
                    self.aborted.pop()?
                } else {
                    let attempt = *self.dials.keys().nth(at % self.dials.len().max(1))?;
                    (attempt, self.dials.remove(&attempt)?.0)
                };
                let relayed = at % 3 == 0;
                Input::Dialed { attempt, conn: self.held(), peer, incarnation, relayed }
            }
            Op::Foreign(at, peer, incarnation) => {
                let attempt = *self.dials.keys().nth(at % self.dials.len().max(1))?;
                self.dials.remove(&attempt);
                let peer = self.peers[usize::from(peer)];
                let relayed = at % 3 == 0;
                Input::Dialed { attempt, conn: self.held(), peer, incarnation, relayed }
            }
            Op::Failed(at) => {
                let attempt = *self.dials.keys().nth(at % self.dials.len().max(1))?;
                self.dials.remove(&attempt);
                Input::DialFailed { attempt, fault: Fault::Unreachable }
            }
            Op::Accepted(peer, incarnation) => {
                let peer = self.peers[usize::from(peer)];
                let relayed = incarnation == 2;
                Input::Accepted { peer, conn: self.held(), incarnation, relayed }
            }
            Op::Closed(at, clean) => {
                let conn = self.nth_conn(at)?;
                self.conns.remove(&conn);
                Input::Closed { conn, clean }
            }
            Op::TakeUp(at, busy) => {
                let (conn, now) = (self.nth_conn(at)?, self.now);
                self.conns.insert(conn, Held { busy, last_used: now });
                return None;
            }
            Op::Leaving(at) => Input::Leaving { conn: self.nth_conn(at)? },
            Op::Wait(millis) => {
                self.wait(Duration::from_millis(millis));
                return None;
            }
            Op::Nonsense(number) => match number % 5 {
                0 => Input::Closed { conn: ConnId(number), clean: true },
                1 => Input::Retired { conn: ConnId(number) },
                2 => Input::Busy { conn: ConnId(number), last_used: self.now },
                3 => Input::DialFailed { attempt: AttemptId(number), fault: Fault::Busy },
                _ => Input::Leaving { conn: ConnId(number) },
            },
        })
    }

    /// Time passes, and the policy is woken whenever it wanted to be.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            let Some((at, reason)) = self.policy.poll_timeout().filter(|(at, _)| *at <= end) else {
                self.now = end;
                return;
            };
            if at > self.now {
                // One moment too early is too early.
                self.policy.handle_timeout(at - Duration::from_nanos(1));
                assert_eq!(self.policy.poll_output(), None, "{reason} was done too early");
                self.now = at;
            }
            self.policy.handle_timeout(self.now);
            self.answer();
        }
        panic!("the policy wants to be woken again and again at one time");
    }

    fn tell(&mut self, input: Input) {
        self.policy.handle(self.now, input);
        self.answer();
    }

    /// Does what the policy says, and holds it to its promises.
    fn answer(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.policy.poll_output() {
            outputs += 1;
            assert!(outputs < 10_000, "outputs without end");
            match output {
                Output::Dial { attempt, peer, address } => {
                    let twice = self.dials.values().any(|dial| *dial == (peer, address));
                    assert!(!twice, "{address} is dialled twice at one time");
                    assert!(self.dials.len() < 3, "more dials than may be");
                    self.dials.insert(attempt, (peer, address));
                }
                Output::Abort { attempt } => {
                    if let Some((peer, _)) = self.dials.remove(&attempt) {
                        self.aborted.push((attempt, peer));
                    }
                }
                Output::Grant { ticket, .. } | Output::Deny { ticket, .. } => {
                    assert!(self.open.remove(&ticket), "{ticket:?} is answered twice");
                }
                Output::Use { conn, .. } => assert!(self.conns.contains_key(&conn)),
                Output::Unuse { .. } => {}
                Output::Seek { peer } => {
                    let addresses = vec![address(1), Overlay::address_of(peer)];
                    self.policy.handle(self.now, Input::Found { peer, addresses });
                }
                Output::Retire { conn, unused_since } => {
                    let Some(held) = self.conns.get(&conn) else { continue };
                    let input = if held.busy || held.last_used > unused_since {
                        Input::Busy { conn, last_used: held.last_used }
                    } else {
                        Input::Retired { conn }
                    };
                    self.policy.handle(self.now, input);
                }
                Output::Drain { .. } => {}
                Output::Close { conn, why } => {
                    let busy = self.conns.get(&conn).is_some_and(|held| held.busy);
                    let gives_way = matches!(why, Why::Idle | Why::Evicted | Why::Lifetime);
                    assert!(!(busy && gives_way), "what is in flight is cut off: {why:?}");
                    self.conns.remove(&conn);
                    self.policy.handle(self.now, Input::Closed { conn, clean: true });
                }
            }
        }
        let dials = self.policy.peers.values().filter_map(|peer| peer.dial.as_ref());
        for attempt in dials.flat_map(|dial| &dial.live) {
            assert!(self.dials.contains_key(attempt), "{attempt:?} is over, and waited for");
        }
        let live = self.policy.live();
        assert!(live <= 3, "{live} are live, at most 3 may be");
        assert!(self.policy.peers.len() <= 16 + 8, "too many peers are remembered");
        assert!(self.policy.tickets.len() <= self.open.len(), "a ticket is kept for nothing");
        let due = self.policy.poll_timeout().is_some_and(|(at, _)| at < self.now);
        assert!(!due, "a deadline has passed");
    }

    /// Faults end: whoever waits is answered in time.
    fn end(&mut self) {
        self.wait(Duration::from_secs(120));
        let dials: Vec<AttemptId> = self.dials.keys().copied().collect();
        for attempt in dials {
            self.dials.remove(&attempt);
            self.tell(Input::DialFailed { attempt, fault: Fault::Unreachable });
        }
        for _ in 0..50 {
            self.wait(Duration::from_secs(1));
            let dials: Vec<AttemptId> = self.dials.keys().copied().collect();
            for attempt in dials {
                self.dials.remove(&attempt);
                self.tell(Input::DialFailed { attempt, fault: Fault::Unreachable });
            }
        }
        assert!(self.open.is_empty(), "{:?} were never answered", self.open);
    }
}

fn play(ops: Vec<Op>, bug: Option<Bug>) {
    let mut model = Model::new(bug);
    for op in ops {
        if let Some(input) = model.input(op) {
            model.tell(input);
        }
    }
    model.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_policy_keeps_its_promises(ops in prop::collection::vec(op(), 0..120)) {
        play(ops, None);
    }
}

/// Whether one of many random runs finds a bug.
fn finds(bug: Bug) -> bool {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    (0..512).any(|_| {
        let ops = prop::collection::vec(op(), 0..120).new_tree(&mut runner).unwrap().current();
        std::panic::catch_unwind(|| play(ops, Some(bug))).is_err()
    })
}

#[test]
fn a_second_dial_at_one_time_is_found() {
    assert!(finds(Bug::NoSingleFlight));
}

#[test]
fn an_eviction_in_flight_is_found() {
    assert!(finds(Bug::EvictsTheBusy));
}
