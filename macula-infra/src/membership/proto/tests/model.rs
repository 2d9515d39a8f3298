//! Random inputs, most of them nonsense: the machine keeps its laws and its bounds.

use std::sync::Arc;
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::machine::Machine as _;
use macula_core::sim::Address;
use proptest::prelude::*;

use super::super::super::update::{Claim, Role, Stamp, Update, Verdict};
use super::super::table::bucket;
use super::super::{Body, Brief, Message, Page};
use super::{Config, Input, Output, Swim, contact, machine, ms, node, presence, unsigned};

/// How many others there are.
const OTHERS: u32 = 12;

/// How many outputs one input may have here: the pages of a digest, and what rides besides.
const OUTPUTS_MAX: usize = 256;

fn address() -> impl Strategy<Value = Address> {
    (0..=OTHERS).prop_map(Address)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    let version = prop_oneof![9 => 0..4_u64, 1 => Just(u64::MAX)];
    (1..4_u64, version).prop_map(|(life, version)| Stamp { life, version })
}

fn update() -> impl Strategy<Value = Update> {
    let verdict = prop_oneof![Just(Verdict::Suspect), Just(Verdict::Down)];
    prop_oneof![
        (address(), stamp(), prop::bool::weighted(0.1)).prop_map(|(address, stamp, leaving)| {
            let presence = presence(address, stamp.life, stamp.version);
            Update::Presence(Arc::new(unsigned(super::Presence { leaving, ..presence })))
        }),
        (address(), stamp(), verdict, address()).prop_map(|(of, stamp, verdict, by)| {
            Update::Claim(Claim { node: node(of), stamp, verdict, by: node(by) })
        }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let updates = prop::collection::vec(update(), 0..40);
    let brief = (address(), stamp(), any::<bool>());
    prop_oneof![
        3 => any::<u64>().prop_map(|nonce| Body::Ping { nonce }),
        1 => any::<u64>().prop_map(|nonce| Body::Ack { nonce }),
        1 => any::<u64>().prop_map(|nonce| Body::Nack { nonce }),
        1 => (address(), 0..60_000_u64).prop_map(|(target, wait)| {
            Body::PingReq { nonce: wait, target: node(target), wait: ms(wait) }
        }),
        3 => Just(Body::Gossip),
        2 => prop::collection::vec(any::<u64>(), 63..65).prop_map(|sums| Body::Digest { sums }),
        2 => prop::collection::vec(brief, 0..20).prop_map(|briefs| {
            let line = |(address, stamp, gone)| Brief { node: node(address), stamp, gone };
            let mut entries: Vec<Brief> = briefs.into_iter().map(line).collect();
            entries.sort_unstable_by_key(|brief| brief.node);
            let bucket = entries.first().map_or(0, |brief| bucket(brief.node));
            entries.retain(|brief| super::super::table::bucket(brief.node) == bucket);
            Body::Page(Page { bucket, after: None, upto: None, entries })
        }),
        1 => prop::collection::vec(address(), 0..20).prop_map(|asked| {
            Body::Ask { nodes: asked.into_iter().map(node).collect() }
        }),
        2 => updates.prop_map(|updates| Body::Tell { updates }),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Message(Address, Vec<Update>, Body),
    /// The peer does what it was asked, of the last so many requests.
    Answer(usize),
    Hint(Address, u8),
    Present(u32),
    Wait(u64),
    Leave,
}

fn op() -> impl Strategy<Value = Op> {
    let updates = prop::collection::vec(update(), 0..40);
    prop_oneof![
        8 => (address(), updates, body()).prop_map(|(from, updates, body)| {
            Op::Message(from, updates, body)
        }),
        6 => (0..8_usize).prop_map(Op::Answer),
        2 => (address(), 0..3_u8).prop_map(|(address, kind)| Op::Hint(address, kind)),
        1 => (0..5_u32).prop_map(Op::Present),
        6 => (0..3_000_u64).prop_map(Op::Wait),
        1 => prop::bool::weighted(0.05).prop_map(|leave| if leave { Op::Leave } else { Op::Wait(1) }),
    ]
}

struct Model {
    swim: Swim,
    now: Instant,
    pings: Vec<(Address, u64)>,
}

impl Model {
    fn new() -> Self {
        let config = Config { members_max: 8, departed_max: 4, ..Config::default() };
        let swim = machine(Address(0), 2, config, Entropy::from_seed(3));
        let mut model = Self { swim, now: TokioClock.now(), pings: Vec::new() };
        model.tell(Input::Join { seeds: vec![contact(Address(1)), contact(Address(0))] });
        model
    }

    fn input(&self, op: Op) -> Option<Input> {
        Some(match op {
            Op::Message(from, updates, body) => {
                Input::Message { from: node(from), message: Message { updates, body } }
            }
            Op::Answer(back) => {
                let (from, nonce) = *self.pings.iter().rev().nth(back)?;
                let message = Message { updates: Vec::new(), body: Body::Ack { nonce } };
                Input::Message { from: node(from), message }
            }
            Op::Hint(address, 0) => Input::Lost { node: node(address) },
            Op::Hint(address, 1) => Input::Met { node: node(address) },
            Op::Hint(address, _) => Input::Undelivered { to: node(address) },
            Op::Present(number) => {
                let addresses = contact(Address(number)).addresses;
                Input::Present { addresses, role: Role::Client }
            }
            Op::Leave => Input::Leave,
            Op::Wait(_) => return None,
        })
    }

    fn play(&mut self, op: Op) {
        if let Op::Wait(millis) = op {
            return self.wait(millis);
        }
        if let Some(input) = self.input(op) {
            self.tell(input);
        }
    }

    fn tell(&mut self, input: Input) {
        self.swim.handle(self.now, input);
        self.look();
    }

    /// Time passes, and the machine is woken whenever it wanted to be.
    fn wait(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        for _ in 0..10_000 {
            let due = self.swim.poll_timeout().filter(|(at, _)| *at <= end);
            let Some((at, _)) = due else {
                self.now = end;
                return;
            };
            self.now = at.max(self.now);
            self.swim.handle_timeout(self.now);
            self.look();
            let passed = self.swim.poll_timeout().is_some_and(|(at, _)| at < self.now);
            assert!(!passed, "a deadline has passed");
        }
        panic!("the machine wants to be woken again and again at one time");
    }

    /// Takes the outputs, and holds the machine to its bounds.
    fn look(&mut self) {
        let outputs: Vec<Output> = std::iter::from_fn(|| self.swim.poll_output()).collect();
        assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs", outputs.len());
        for output in outputs {
            let Output::Send { to, message } = output else { continue };
            assert!(message.updates.len() <= super::super::UPDATES_MAX);
            assert_ne!(to.node, self.swim.me.node(), "it speaks to itself");
            if let Body::Ping { nonce } = message.body {
                self.pings.push((super::place(to.node), nonce));
            }
        }
        let swim = &self.swim;
        assert!(swim.members.len() <= 8 && swim.departed.len() <= 4);
        assert!(swim.stats().rumours <= 8 + 4 + 1, "{:?}", swim.stats());
        assert!(swim.probes.len() == swim.probed.len() && swim.relays.len() <= 256);
        for (node, member) in &swim.members {
            assert_ne!(*node, swim.me.node(), "a member of itself");
            assert!(swim.departed.get(node).is_none(), "there and gone");
            let suspect = member.belief.status == super::super::super::update::Status::Suspect;
            assert_eq!(suspect, member.suspicion.is_some());
            let timer = super::super::timer::Timer::Suspicion(*node);
            let ends = swim.timers.get(timer).is_some() || swim.is_leaving();
            assert!(!suspect || ends, "a suspicion without an end");
            assert!(suspect || swim.timers.get(timer).is_none(), "the end of no suspicion");
        }
        assert_eq!(*swim.sums.all(), self.recount(), "the sums have lost count");
    }

    fn recount(&self) -> [u64; super::super::BUCKETS] {
        let mut sums = super::super::table::Sums::default();
        sums.toggle(self.swim.me.node(), self.swim.me.stamp());
        for (node, member) in &self.swim.members {
            sums.toggle(*node, member.belief.seen.stamp());
        }
        *sums.all()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_keeps_its_laws(ops in prop::collection::vec(op(), 0..80)) {
        let mut model = Model::new();
        for op in ops {
            model.play(op);
        }
        model.wait(60_000);
    }
}
