//! Nodes that hold one bucket, some of them with a disk, on a faulty network; and what was asked of
//! them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::entropy::Entropy;
use macula_core::machine::Machine;
use macula_core::sim::{Address, Birth, Effect, Faults, Moment, Node, Sim};

use crate::crdt::codec::Digest;
use crate::crdt::config::Config;
use crate::crdt::context::Context;
use crate::crdt::proto::{
    Batch, Bug, Change, Epoch, Event, Input, Level, Output, Parts, Replica, Saved,
};
use crate::crdt::types::{LwwElementSet, LwwRegister, OrSet, PnCounter};

/// The longest frame in these worlds.
pub(in crate::crdt) const FRAME: usize = 2048;

/// For how long a write waits for its level.
const WITHIN: Duration = Duration::from_secs(4);

/// What is on disk.
#[derive(Debug, Clone, Default)]
pub(in crate::crdt) struct Disk {
    group: Option<Vec<u8>>,
    rows: BTreeMap<Arc<str>, Vec<u8>>,
    context: Option<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

impl Disk {
    fn write(&mut self, batch: Batch) {
        self.group = batch.group.or_else(|| self.group.take());
        if let Some(checkpoint) = batch.checkpoint {
            if checkpoint.anew {
                self.rows.clear();
            }
            for (key, row) in checkpoint.rows {
                match row {
                    Some(row) => drop(self.rows.insert(key, row)),
                    None => drop(self.rows.remove(&key)),
                }
            }
            self.context = Some(checkpoint.context);
            self.records.clear();
        }
        self.records.extend(batch.records);
    }

    fn saved(&self) -> Saved {
        Saved {
            group: self.group.clone(),
            rows: self.rows.values().cloned().collect(),
            context: self.context.clone(),
            records: self.records.clone(),
        }
    }
}

/// A replica with its disk.
#[derive(Debug)]
pub(in crate::crdt) struct Host {
    pub(in crate::crdt) replica: Replica,
    disk: Option<Disk>,
    busy: Option<(Instant, Batch)>,
    dice: Entropy,
    out: VecDeque<Output>,
    calendar: Duration,
    life: u64,
    /// By how many milliseconds the calendar was set forward.
    shift_ms: i64,
}

#[derive(Debug)]
pub(in crate::crdt) enum Act {
    Event(Event),
    Shift(i64),
}

#[derive(Debug)]
pub(in crate::crdt) struct In {
    pub(in crate::crdt) since_epoch: Duration,
    pub(in crate::crdt) act: Act,
}

impl Host {
    fn pump(&mut self, now: Instant) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Persist(batch) => {
                    assert!(self.busy.is_none(), "two batches at a time");
                    let wait = Duration::from_micros(self.dice.below(20_000));
                    self.busy = Some((now + wait, batch));
                }
                other => self.out.push_back(other),
            }
        }
    }

    fn wall(&self) -> Duration {
        let shift = Duration::from_millis(self.shift_ms.unsigned_abs());
        if self.shift_ms < 0 { self.calendar - shift } else { self.calendar + shift }
    }
}

impl Machine for Host {
    type Input = In;
    type Output = Output;

    fn handle(&mut self, now: Instant, In { since_epoch, act }: In) {
        self.calendar = since_epoch;
        match act {
            Act::Event(event) => self.replica.handle(now, Input { wall: self.wall(), event }),
            Act::Shift(ms) => self.shift_ms = ms,
        }
        self.pump(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.busy.as_ref().is_some_and(|(at, _)| *at <= now) {
            let (_, batch) = self.busy.take().unwrap();
            let event = Event::Written(batch.ticket);
            self.disk.as_mut().unwrap().write(batch);
            self.replica.handle(now, Input { wall: self.wall(), event });
        }
        self.replica.handle_timeout(now);
        self.pump(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let disk = self.busy.as_ref().map(|(at, _)| (*at, "the disk is done"));
        disk.into_iter().chain(self.replica.poll_timeout()).min_by_key(|(at, _)| *at)
    }
}

/// How a write or read ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::crdt) struct Ended {
    pub(in crate::crdt) ticket: u64,
    pub(in crate::crdt) why: Option<String>,
    pub(in crate::crdt) reached: usize,
}

#[derive(Debug)]
pub(in crate::crdt) struct Mesh;

pub(in crate::crdt) fn number(address: Address) -> u64 {
    u64::from(address.0) + 1
}

fn address(node: u64) -> Address {
    Address(u32::try_from(node - 1).unwrap())
}

impl Node for Mesh {
    type Machine = Host;
    type Message = Bytes;
    type Seen = Ended;

    fn received(from: Address, frame: Bytes, moment: Moment) -> In {
        let act = Act::Event(Event::Frame { from: number(from), frame });
        In { since_epoch: moment.since_epoch, act }
    }

    fn bytes(message: &Bytes) -> usize {
        message.len()
    }

    fn effect(output: Output) -> Effect<Bytes, Ended> {
        match output {
            Output::Send { to, frame } => {
                assert!(frame.len() <= FRAME, "a frame of {} bytes", frame.len());
                Effect::Send(address(to), frame)
            }
            Output::Done { ticket, result } => Effect::Seen(match result {
                Ok(done) => Ended { ticket, why: None, reached: done.reached },
                Err(why) => Ended { ticket, why: Some(why.to_string()), reached: 0 },
            }),
            Output::Persist(_) | Output::Changed { .. } => Effect::Nothing,
        }
    }
}

pub(in crate::crdt) fn config() -> Config {
    Config {
        frame_len_max: FRAME,
        message_len_max: 1 << 20,
        buffer_len_max: 16 << 10,
        greet_ms: 200,
        greet_ms_max: 2_000,
        sync_ms: 2_000,
        step_ms: 200,
        collect_ms: 400,
        retire_ms: 0,
        ..Config::default()
    }
}

/// What was asked of one element of a set.
#[derive(Debug, Clone, Copy)]
pub(in crate::crdt) struct Asked {
    pub(in crate::crdt) ticket: u64,
    pub(in crate::crdt) adds: bool,
}

/// A run, with all that was asked.
pub(in crate::crdt) struct World {
    pub(in crate::crdt) sim: Sim<Mesh>,
    pub(in crate::crdt) dice: Entropy,
    tickets: u64,
    pub(in crate::crdt) ended: BTreeMap<u64, Ended>,
    /// Elements of the set that only grows, by the tickets of those who added them.
    pub(in crate::crdt) kept: BTreeSet<u64>,
    /// What was counted by tickets.
    pub(in crate::crdt) counted: BTreeMap<u64, i128>,
    /// What was asked of the elements of the set in which the latest counts, in the order of time.
    pub(in crate::crdt) latest: BTreeMap<u8, Vec<Asked>>,
    /// Removals of elements that are added once only.
    pub(in crate::crdt) removed: BTreeMap<u64, u64>,
    /// How far each node was when it was last looked at.
    marks: BTreeMap<Address, Mark>,
}

/// How far a replica has come, in one life and epoch.
struct Mark {
    of: (u64, Epoch),
    seen: Context,
    live: Context,
}

impl Mark {
    fn of(host: &Host) -> Self {
        let (replica, mut live) = (&host.replica, Context::default());
        for (_, entry) in replica.bucket().entries(Bound::Unbounded) {
            live.join(&entry.state().dots());
        }
        let seen = replica.bucket().context().clone();
        Self { of: (host.life, replica.group.epoch), seen, live }
    }
}

pub(in crate::crdt) struct Setup {
    pub(in crate::crdt) seed: u64,
    pub(in crate::crdt) nodes: u32,
    pub(in crate::crdt) config: Config,
    /// Which nodes have a disk.
    pub(in crate::crdt) disk: fn(u64) -> bool,
    pub(in crate::crdt) bug: Option<Bug>,
}

impl World {
    /// Nodes that hear of each other at once.
    pub(in crate::crdt) fn new(setup: Setup) -> Self {
        let Setup { seed, nodes, config, disk, bug } = setup;
        let all: BTreeSet<u64> = (1..=u64::from(nodes)).collect();
        let make = move |birth: Birth<Host>| born(birth, (config, disk, bug), &all);
        Self {
            sim: Sim::new(seed, nodes, Faults::NONE, make),
            dice: Entropy::from_seed(seed ^ 0x5eed),
            tickets: 0,
            ended: BTreeMap::new(),
            kept: BTreeSet::new(),
            counted: BTreeMap::new(),
            latest: BTreeMap::new(),
            removed: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Whether no node has gone back since it was looked at before: it has seen what it had seen, and nothing
    /// is there again that was gone.
    pub(in crate::crdt) fn look(&mut self) -> Result<(), String> {
        for (at, host) in self.sim.machines() {
            let now = Mark::of(host);
            let before = self.marks.get(&at).filter(|before| before.of == now.of);
            if let Some(before) = before {
                let back = before.seen.minus(&before.live).meet(&now.live);
                if !back.is_empty() || !now.seen.includes(&before.seen) {
                    return Err(format!("{at:?} goes back: {back:?}"));
                }
            }
            self.marks.insert(at, now);
        }
        Ok(())
    }

    pub(in crate::crdt) fn run(&mut self, time: Duration) {
        let end = self.sim.now() + time;
        self.sim.run_until(end).unwrap();
        for sighting in self.sim.take_seen() {
            self.ended.insert(sighting.what.ticket, sighting.what);
        }
    }

    pub(in crate::crdt) fn event(&mut self, at: Address, event: Event) -> bool {
        let input = |moment: Moment| In { since_epoch: moment.since_epoch, act: Act::Event(event) };
        let is_there = self.sim.input(at, input);
        self.run(Duration::ZERO);
        is_there
    }

    /// Asks a node for a change. Gives the ticket, if the node runs.
    pub(in crate::crdt) fn write(
        &mut self,
        at: Address,
        key: &str,
        level: Level,
        change: Change,
    ) -> Option<u64> {
        self.tickets += 1;
        let ticket = self.tickets;
        let event = Event::Write { ticket, key: key.into(), change, level, within: WITHIN };
        self.event(at, event).then_some(ticket)
    }

    pub(in crate::crdt) fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(in crate::crdt) fn is_good(&self, ticket: u64) -> bool {
        self.ended.get(&ticket).is_some_and(|ended| ended.why.is_none())
    }

    /// Adds something that nobody else adds, and that is never removed.
    pub(in crate::crdt) fn keep(&mut self, at: Address, level: Level) {
        let element = (self.tickets + 1).to_be_bytes();
        let add = Change::of(move |set: &OrSet, write| set.add(element, write));
        let ticket = self.write(at, "kept", level, add);
        self.kept.extend(ticket);
    }

    pub(in crate::crdt) fn count(&mut self, at: Address, level: Level) {
        let (by, up) = (1 + self.dice.below(9), self.dice.chance(0.7));
        let count = Change::of(move |sum: &PnCounter, write| match up {
            true => sum.increment(by, write),
            false => sum.decrement(by, write),
        });
        if let Some(ticket) = self.write(at, "sum", level, count) {
            self.counted.insert(ticket, if up { by.into() } else { -i128::from(by) });
        }
    }

    /// Adds an element to the set in which the latest counts, or removes it.
    pub(in crate::crdt) fn mark(&mut self, at: Address, element: u8, adds: bool, level: Level) {
        let mark = Change::of(move |set: &LwwElementSet, write| match adds {
            true => set.add([element], write),
            false => set.remove([element], write),
        });
        if let Some(ticket) = self.write(at, "latest", level, mark) {
            self.latest.entry(element).or_default().push(Asked { ticket, adds });
        }
    }

    /// Adds something that nobody else adds, and removes something that somebody has added.
    pub(in crate::crdt) fn add_and_remove(&mut self, at: Address, level: Level) {
        let element = (self.tickets + 1).to_be_bytes();
        let add = Change::of(move |set: &OrSet, write| set.add(element, write));
        self.write(at, "removed", level, add);
        let there = self.sim.machine(at).map(|host| elements(host, "removed")).unwrap_or_default();
        let lot = self.dice.below(u64::try_from(there.len()).unwrap());
        if let Some(element) = there.get(usize::try_from(lot).unwrap()).copied() {
            let bytes = element.to_be_bytes();
            let remove = Change::of(move |set: &OrSet, _| Ok(set.remove(&bytes)));
            if let Some(ticket) = self.write(at, "removed", level, remove) {
                self.removed.insert(ticket, element);
            }
        }
    }

    pub(in crate::crdt) fn set(&mut self, at: Address, key: &str, value: u64) -> Option<u64> {
        let set = move |register: &LwwRegister, write: &mut crate::crdt::write::Write<'_>| {
            register.set(value.to_be_bytes(), write)
        };
        self.write(at, key, Level::Local, Change::of(set))
    }

    /// One thing or another, at some node.
    pub(in crate::crdt) fn something(&mut self, level: Level) {
        let nodes = self.sim.addresses();
        let lot = self.dice.below(u64::try_from(nodes.len()).unwrap());
        let at = nodes[usize::try_from(lot).unwrap()];
        let element = u8::try_from(self.dice.below(4)).unwrap();
        match self.dice.below(12) {
            0..3 => self.keep(at, level),
            3..5 => self.count(at, level),
            5..7 => {
                let adds = self.dice.chance(0.5);
                self.mark(at, element, adds, level);
            }
            7..9 => self.add_and_remove(at, level),
            9 | 10 => drop(self.set(at, &format!("topic/{element}"), 7)),
            _ => {
                let key = format!("topic/{element}");
                self.write(at, &key, level, Change::removal());
            }
        }
    }

    pub(in crate::crdt) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.sim.machines().map(|(_, host)| host)
    }

    /// Whether all have the same, and know of the same members.
    pub(in crate::crdt) fn is_equal(sim: &Sim<Mesh>) -> bool {
        let mut hosts = sim.machines().map(|(_, host)| &host.replica);
        let Some(first) = hosts.next() else { return true };
        let members = first.members();
        hosts.all(|host| {
            host.bucket().context() == first.bucket().context()
                && host.members() == members
                && host.stats().epoch == first.stats().epoch
        }) && members.len() == sim.addresses().len()
            && Self::has_equal_states(sim)
    }

    fn has_equal_states(sim: &Sim<Mesh>) -> bool {
        let mut all = sim.machines().map(|(_, host)| contents(host));
        let first = all.next();
        all.all(|other| Some(other) == first)
    }

    /// Ends all faults, and waits until all have the same.
    pub(in crate::crdt) fn heal(&mut self, within: Duration) -> Result<Duration, String> {
        self.sim.heal();
        let took = self.sim.run_until_holds(within, Self::is_equal).unwrap();
        self.run(Duration::ZERO);
        let Some(took) = took else {
            let stats: Vec<String> =
                self.hosts().map(|host| format!("{:?}", host.replica.stats())).collect();
            let differences = self.differences();
            return Err(format!("not equal after {within:?}: {stats:#?} {differences}"));
        };
        Ok(took)
    }

    /// What differs, for people.
    fn differences(&self) -> String {
        let all: Vec<Vec<(Arc<str>, Digest)>> = self.hosts().map(contents).collect();
        let keys: BTreeSet<Arc<str>> =
            all.iter().flatten().map(|(key, _)| Arc::clone(key)).collect();
        let mut text = String::new();
        for key in keys {
            let of = |host: &Host| {
                let states = super::super::snapshot::states(host.replica.bucket(), &key);
                format!("{states:?}")
            };
            let states: Vec<String> = self.hosts().map(of).collect();
            if states.iter().any(|state| *state != states[0]) {
                text += &format!("\n{key}:\n{}", states.join("\n"));
            }
        }
        text
    }

    /// Whether nothing that was acknowledged was lost, and nothing that was removed came back.
    pub(in crate::crdt) fn judge(&self) -> Result<(), String> {
        let Some(host) = self.hosts().next() else { return Ok(()) };
        let there = elements(host, "kept");
        if let Some(lost) =
            self.kept.iter().find(|ticket| self.is_good(**ticket) && !there.contains(ticket))
        {
            return Err(format!("{lost} was acknowledged and is lost"));
        }
        let left = elements(host, "removed");
        let back = self.removed.iter();
        let mut back =
            back.filter(|(ticket, element)| self.is_good(**ticket) && left.contains(element));
        if let Some((ticket, element)) = back.next() {
            return Err(format!("{element} was removed by {ticket} and is there"));
        }
        let set = host.replica.bucket().read::<LwwElementSet>("latest").unwrap();
        for (element, asked) in &self.latest {
            let last = asked.iter().rposition(|one| self.is_good(one.ticket)).unwrap_or(0);
            let may = &asked[last..];
            let is_there = set.is_some_and(|set| set.contains(&[*element]));
            let surely = self.is_good(may[0].ticket);
            if surely && may.iter().all(|one| one.adds != is_there) {
                return Err(format!("{element} is {is_there} in the set, of {asked:?}"));
            }
        }
        self.judge_sum(host)
    }

    fn judge_sum(&self, host: &Host) -> Result<(), String> {
        let sum = host.replica.bucket().read::<PnCounter>("sum").unwrap();
        let sum = sum.map_or(0, PnCounter::value);
        let good = |up: bool, sure: bool| -> i128 {
            let all = self.counted.iter().filter(|(_, by)| (**by > 0) == up);
            all.filter(|(ticket, _)| !sure || self.is_good(**ticket)).map(|(_, by)| by).sum()
        };
        // What was not acknowledged may count or not.
        let (least, most) =
            (good(true, true) + good(false, false), good(true, false) + good(false, true));
        if (least..=most).contains(&sum) {
            Ok(())
        } else {
            Err(format!("the sum is {sum}, and has to be {least} to {most}"))
        }
    }
}

fn born(
    birth: Birth<Host>,
    (config, disk, bug): (Config, fn(u64) -> bool, Option<Bug>),
    all: &BTreeSet<u64>,
) -> Host {
    let node = number(birth.address);
    let mut dice = birth.entropy;
    let on_disk = disk(node).then(|| {
        let remains = birth.remains.and_then(|host| host.disk);
        remains.unwrap_or_default()
    });
    let written_as = if bug == Some(Bug::ReusedDots) { 1 } else { birth.life };
    let parts = Parts {
        config,
        kinds: Arc::default(),
        node,
        life: written_as,
        seed: dice.next_u64(),
        saved: on_disk.as_ref().map(Disk::saved),
    };
    let mut replica = Replica::new(parts).unwrap();
    replica.bug = bug;
    let (busy, out, shift_ms) = (None, VecDeque::new(), 0);
    let calendar = birth.moment.since_epoch;
    let life = birth.life;
    let mut host = Host { replica, disk: on_disk, busy, dice, out, calendar, life, shift_ms };
    let act = Act::Event(Event::Near(all.clone()));
    host.handle(birth.moment.now, In { since_epoch: calendar, act });
    host
}

/// All keys with what they have.
pub(in crate::crdt) fn contents(host: &Host) -> Vec<(Arc<str>, Digest)> {
    let entries = host.replica.bucket().entries(Bound::Unbounded);
    entries.map(|(key, entry)| (Arc::clone(key), entry.digest())).collect()
}

/// The elements of a set, which are tickets.
pub(in crate::crdt) fn elements(host: &Host, key: &str) -> Vec<u64> {
    let set = host.replica.bucket().read::<OrSet>(key).unwrap();
    let elements = set.into_iter().flat_map(|set| set.iter());
    elements.map(|bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap())).collect()
}
