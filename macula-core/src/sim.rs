//! The simulator: many machines in virtual time on a faulty network, all from one seed.
//!
//! A [`Node`] says how a machine meets the network. A [`Sim`] holds one machine for each address,
//! a queue of what is going to happen, and dice. It hands the machines messages and deadlines in
//! the order of virtual time, and takes their outputs; [`Faults`] says what goes wrong in between.
//! Nothing depends on real time, threads or addresses in memory, so a seed has one trace, and
//! [`Sim::hash`] is a number for all of it.
//!
//! A run has two phases. Under faults only safety is checked. Then [`Sim::heal`] ends all faults,
//! and within a bound the machines have to be as they should: [`Sim::run_until_holds`].
//!
//! Deterministic simulation of a whole distributed system is as in `FoundationDB` (Zhou et al.,
//! SIGMOD 2021, section 4).

mod faults;
mod network;
pub mod trace;

pub use faults::Faults;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::clock::{Clock, TokioClock};
use crate::entropy::Entropy;
use crate::machine::Machine;

use network::{Network, up_to};
use trace::Trace;

/// What the calendars say when a run begins, since the Unix epoch.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How many outputs one input may have before the machine counts as run wild.
const OUTPUTS_MAX: usize = 100_000;

/// How many events one moment may have before the machines count as run wild.
const MOMENT_EVENTS_MAX: u64 = 1_000_000;

/// How often a condition is looked at, in virtual time.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a machine is: the first has address 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u32);

/// One moment, as one node sees it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic time.
    pub now: Instant,
    /// The node's calendar: the time since the Unix epoch, and what the calendar is ahead by.
    pub since_epoch: Duration,
}

/// What becomes of an output.
#[derive(Debug)]
pub enum Effect<M, S> {
    /// A message goes to another node.
    Send(Address, M),
    /// Something happened that a test wants to know of.
    Seen(S),
    /// Nothing.
    Nothing,
}

/// How a machine meets the network.
pub trait Node {
    /// The machine.
    type Machine: Machine;
    /// What travels between machines.
    type Message: Clone + Hash + Debug;
    /// What a test sees.
    type Seen: Hash + Debug;

    /// A message has arrived.
    fn received(
        from: Address,
        message: Self::Message,
        moment: Moment,
    ) -> <Self::Machine as Machine>::Input;

    /// How many bytes a message has on the wire, if a run is to count them.
    fn bytes(_message: &Self::Message) -> usize {
        0
    }

    /// The machine wants something done.
    fn effect(output: <Self::Machine as Machine>::Output) -> Effect<Self::Message, Self::Seen>;
}

/// A life that begins. Whoever makes the machine decides what of the last life was durable.
#[derive(Debug)]
pub struct Birth<M> {
    /// Where.
    pub address: Address,
    /// Which life of this address; the first is 1.
    pub life: u64,
    /// When.
    pub moment: Moment,
    /// Dice for the machine.
    pub entropy: Entropy,
    /// The machine of the last life, as it was when it crashed.
    pub remains: Option<M>,
}

/// What has been sent so far, lost messages included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// How many messages.
    pub messages: u64,
    /// How many bytes, if [`Node::bytes`] says.
    pub bytes: u64,
}

/// Something that a test sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting<S> {
    /// When, since the beginning of the run.
    pub at: Duration,
    /// Where.
    pub address: Address,
    /// What.
    pub what: S,
}

/// A machine broke its contract. The run has ended there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at {at:?} the machine at {address:?} {what}")]
pub struct Misconduct {
    /// When, since the beginning of the run.
    pub at: Duration,
    /// Which machine.
    pub address: Address,
    /// What it did.
    pub what: &'static str,
}

enum Event<M> {
    Deliver { from: Address, to: Address, message: M },
    Wake(Address),
    Start(Address),
    Crash,
    Sever,
    Mend,
}

impl<M> Event<M> {
    /// Whether it is part of the weather, which ends when a run heals.
    const fn is_weather(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Crash | Self::Sever | Self::Mend)
    }
}

struct Place<M> {
    machine: Option<M>,
    remains: Option<M>,
    life: u64,
    ahead: Duration,
    /// Where in the queue its deadline is.
    alarm: Option<(Duration, u64)>,
}

/// What makes the machines.
type Make<M> = Box<dyn FnMut(Birth<M>) -> M>;

/// A run.
pub struct Sim<N: Node> {
    base: Instant,
    now: Duration,
    numbers: u64,
    events_now: u64,
    queue: BTreeMap<(Duration, u64), Event<N::Message>>,
    places: Vec<Place<N::Machine>>,
    network: Network,
    faults: Faults,
    entropy: Entropy,
    make: Make<N::Machine>,
    trace: Trace,
    seen: Vec<Sighting<N::Seen>>,
    misconduct: Option<Misconduct>,
    sent: Sent,
}

impl<N: Node> Debug for Sim<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now)
            .field("machines", &self.places.len())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl<N: Node> Sim<N> {
    /// A run with `machines` machines, each made by `make`, now and after each crash.
    pub fn new(
        seed: u64,
        machines: u32,
        faults: Faults,
        make: impl FnMut(Birth<N::Machine>) -> N::Machine + 'static,
    ) -> Self {
        let mut entropy = Entropy::from_seed(seed);
        let network = Network::new(entropy.fork());
        let place = |_| Place { machine: None, remains: None, life: 0, ahead: ZERO, alarm: None };
        let mut sim = Self {
            // Only differences to it are ever used.
            base: TokioClock.now(),
            now: ZERO,
            numbers: 0,
            events_now: 0,
            queue: BTreeMap::new(),
            places: (0..machines).map(place).collect(),
            network,
            faults,
            entropy,
            make: Box::new(make),
            trace: Trace::default(),
            seen: Vec::new(),
            misconduct: None,
            sent: Sent::default(),
        };
        for address in sim.addresses() {
            sim.start(address);
        }
        sim.forecast(faults.crash_every, Event::Crash);
        sim.forecast(faults.partition_every, Event::Sever);
        sim
    }

    /// Keeps the last `lines_max` events as text, for people.
    pub fn keep_lines(&mut self, lines_max: usize) {
        self.trace.keep_lines(lines_max);
    }

    /// The last events as text, if they are kept.
    #[must_use]
    pub fn lines(&self) -> String {
        self.trace.lines().collect::<Vec<_>>().join("\n")
    }

    /// One number for everything that happened so far, in its order.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// How many events have happened so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.trace.events()
    }

    /// What has been sent so far.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// All addresses, whether their machines run or not.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        (0..u32::try_from(self.places.len()).unwrap_or(u32::MAX)).map(Address).collect()
    }

    /// A machine that runs.
    #[must_use]
    pub fn machine(&self, address: Address) -> Option<&N::Machine> {
        self.place(address).and_then(|place| place.machine.as_ref())
    }

    /// All machines that run, in the order of their addresses.
    pub fn machines(&self) -> impl Iterator<Item = (Address, &N::Machine)> {
        (0..)
            .map(Address)
            .zip(&self.places)
            .filter_map(|(address, place)| place.machine.as_ref().map(|machine| (address, machine)))
    }

    /// What was seen since the last call.
    pub fn take_seen(&mut self) -> Vec<Sighting<N::Seen>> {
        std::mem::take(&mut self.seen)
    }

    /// Hands a machine an input of its own, and says whether it was there to take it.
    pub fn input(
        &mut self,
        address: Address,
        input: impl FnOnce(Moment) -> <N::Machine as Machine>::Input,
    ) -> bool {
        if self.machine(address).is_none() {
            return false;
        }
        self.trace.event(self.now, "input", address);
        let input = input(self.moment(address));
        self.drive(address, |machine, now| machine.handle(now, input));
        true
    }

    /// Parts the network: nodes of different groups do not reach each other, and what is under way
    /// between them is lost. Nodes of no group are a group.
    pub fn sever(&mut self, groups: &[&[Address]]) {
        self.trace.event(self.now, "sever", groups);
        self.network.sever(groups);
    }

    /// Ends a partition.
    pub fn mend(&mut self) {
        self.trace.event(self.now, "mend", ());
        self.network.mend();
    }

    /// Crashes a machine: what it had in mind remains for its next life, if that wants it.
    pub fn crash(&mut self, address: Address) {
        self.trace.event(self.now, "crash", address);
        if let Some(place) = self.place_mut(address)
            && let Some(machine) = place.machine.take()
        {
            place.remains = Some(machine);
            if let Some(alarm) = place.alarm.take() {
                self.queue.remove(&alarm);
            }
        }
    }

    /// Begins a life at an address, unless one is on.
    pub fn start(&mut self, address: Address) {
        if self.machine(address).is_some() {
            return;
        }
        self.trace.event(self.now, "start", address);
        let ahead = up_to(&mut self.entropy, self.faults.skew_max);
        let entropy = self.entropy.fork();
        let Some(place) = self.place_mut(address) else {
            return;
        };
        place.ahead = ahead;
        place.life += 1;
        let (life, remains) = (place.life, place.remains.take());
        let moment = self.moment(address);
        let machine = (self.make)(Birth { address, life, moment, entropy, remains });
        if let Some(place) = self.place_mut(address) {
            place.machine = Some(machine);
        }
        self.drive(address, |_, _| {});
    }

    /// Begins other weather. Machines that are down still start, and a partition still ends.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.queue.retain(|_, event| !matches!(event, Event::Crash | Event::Sever));
        self.forecast(faults.crash_every, Event::Crash);
        self.forecast(faults.partition_every, Event::Sever);
    }

    /// Ends all faults: the network is whole, and every machine runs. What was lost stays lost.
    pub fn heal(&mut self) {
        self.faults = Faults::NONE;
        self.queue.retain(|_, event| !event.is_weather());
        self.mend();
        for address in self.addresses() {
            self.start(address);
        }
    }

    /// Runs until a moment of virtual time, since the beginning; what is due then is done.
    ///
    /// # Errors
    ///
    /// [`Misconduct`] of a machine, now or in an earlier call.
    pub fn run_until(&mut self, end: Duration) -> Result<(), Misconduct> {
        while self.step(end) {}
        self.advance(end);
        self.misconduct.map_or(Ok(()), Err)
    }

    /// Runs until nothing is going to happen, for `within` at most; says whether it became quiet.
    ///
    /// Machines with a deadline that always comes again are never quiet, and neither is a run under
    /// crashes or partitions.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub fn run_quiet(&mut self, within: Duration) -> Result<bool, Misconduct> {
        let end = self.now + within;
        while self.step(end) {}
        self.misconduct.map_or(Ok(self.queue.is_empty()), Err)
    }

    /// Runs until a condition holds, for `within` at most; says how long it took, and none if it
    /// came to nothing. It looks every ten milliseconds of virtual time.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    pub fn run_until_holds(
        &mut self,
        within: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Result<Option<Duration>, Misconduct> {
        let begin = self.now;
        loop {
            if holds(self) {
                return Ok(Some(self.now - begin));
            }
            if self.now - begin >= within {
                return Ok(None);
            }
            self.run_until(self.now + LOOK_EVERY)?;
        }
    }

    /// Does the next thing that is due by `end`, if there is one.
    fn step(&mut self, end: Duration) -> bool {
        if self.misconduct.is_some() {
            return false;
        }
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            return false;
        };
        let ((at, _), event) = entry.remove_entry();
        self.advance(at);
        self.events_now += 1;
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Wake(address) => self.wake(address),
            Event::Start(address) => self.start(address),
            Event::Crash => self.crash_someone(),
            Event::Sever => {
                self.trace.event(self.now, "sever", ());
                let addresses = self.addresses();
                self.network.sever_at_random(addresses.into_iter());
                let lasts = up_to(&mut self.entropy, self.faults.partition_max);
                self.schedule(lasts, Event::Mend);
            }
            Event::Mend => {
                self.mend();
                self.forecast(self.faults.partition_every, Event::Sever);
            }
        }
        true
    }

    fn deliver(&mut self, from: Address, to: Address, message: N::Message) {
        if self.machine(to).is_none() || !self.network.connects(from, to) {
            self.trace.event(self.now, "lost", (from, to, &message));
            return;
        }
        if self.entropy.chance(self.faults.early_wake) {
            self.wake_early(to);
        }
        self.trace.event(self.now, "deliver", (from, to, &message));
        let input = N::received(from, message, self.moment(to));
        self.drive(to, |machine, now| machine.handle(now, input));
    }

    fn wake(&mut self, address: Address) {
        self.trace.event(self.now, "wake", address);
        if let Some(place) = self.place_mut(address) {
            place.alarm = None;
        }
        if self.events_now > MOMENT_EVENTS_MAX {
            self.accuse(address, "has a deadline that does not pass");
            return;
        }
        self.drive(address, Machine::handle_timeout);
    }

    /// Holds a machine to its law: before its deadline, it does nothing.
    fn wake_early(&mut self, address: Address) {
        let now = self.base + self.now;
        let machine = self.place_mut(address).and_then(|place| place.machine.as_mut());
        if let Some(machine) = machine
            && machine.poll_timeout().is_none_or(|(at, _)| at > now)
        {
            let due = machine.poll_timeout();
            machine.handle_timeout(now);
            if machine.poll_output().is_some() || machine.poll_timeout() != due {
                self.accuse(address, "did something before it was due");
            }
        }
    }

    fn crash_someone(&mut self) {
        let count = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let address = Address(u32::try_from(self.entropy.below(count)).unwrap_or(0));
        if self.machine(address).is_some() {
            self.crash(address);
            let down = up_to(&mut self.entropy, self.faults.down_max);
            self.schedule(down, Event::Start(address));
        }
        self.forecast(self.faults.crash_every, Event::Crash);
    }

    /// Lets a machine do something, takes its outputs, and sees to its deadline.
    fn drive(&mut self, address: Address, what: impl FnOnce(&mut N::Machine, Instant)) {
        let now = self.base + self.now;
        let Some(place) = self.places.get_mut(index(address)) else {
            return;
        };
        let Some(machine) = place.machine.as_mut() else {
            return;
        };
        what(machine, now);
        let outputs: Vec<_> =
            std::iter::from_fn(|| machine.poll_output()).take(OUTPUTS_MAX).collect();
        let due = machine.poll_timeout().map(|(at, _reason)| at);
        if let Some(alarm) = place.alarm.take() {
            self.queue.remove(&alarm);
        }
        if outputs.len() == OUTPUTS_MAX {
            self.accuse(address, "has outputs without end");
        }
        for output in outputs {
            self.carry_out(address, N::effect(output));
        }
        if let Some(due) = due {
            let wait = due.saturating_duration_since(now);
            let alarm = Some(self.schedule(wait, Event::Wake(address)));
            if let Some(place) = self.place_mut(address) {
                place.alarm = alarm;
            }
        }
    }

    fn carry_out(&mut self, from: Address, effect: Effect<N::Message, N::Seen>) {
        match effect {
            Effect::Send(to, message) => {
                self.trace.event(self.now, "send", (from, to, &message));
                self.sent.messages += 1;
                self.sent.bytes += u64::try_from(N::bytes(&message)).unwrap_or(u64::MAX);
                for at in self.network.arrivals(self.now, (from, to), &self.faults) {
                    let message = message.clone();
                    self.schedule(at - self.now, Event::Deliver { from, to, message });
                }
            }
            Effect::Seen(what) => {
                self.trace.event(self.now, "seen", (from, &what));
                self.seen.push(Sighting { at: self.now, address: from, what });
            }
            Effect::Nothing => {}
        }
    }

    /// Foretells something that happens every so often: after zero to two times the mean.
    fn forecast(&mut self, every: Option<Duration>, event: Event<N::Message>) {
        if let Some(mean) = every {
            // Not at once, or a mean of zero would stop time.
            let wait = up_to(&mut self.entropy, mean * 2).max(Duration::from_micros(1));
            self.schedule(wait, event);
        }
    }

    fn schedule(&mut self, wait: Duration, event: Event<N::Message>) -> (Duration, u64) {
        self.numbers += 1;
        let key = (self.now + wait, self.numbers);
        self.queue.insert(key, event);
        key
    }

    fn advance(&mut self, to: Duration) {
        if to > self.now {
            self.now = to;
            self.events_now = 0;
        }
    }

    fn accuse(&mut self, address: Address, what: &'static str) {
        self.misconduct.get_or_insert(Misconduct { at: self.now, address, what });
    }

    fn moment(&self, address: Address) -> Moment {
        let ahead = self.place(address).map_or(ZERO, |place| place.ahead);
        Moment { now: self.base + self.now, since_epoch: EPOCH + self.now + ahead }
    }

    fn place(&self, address: Address) -> Option<&Place<N::Machine>> {
        self.places.get(index(address))
    }

    fn place_mut(&mut self, address: Address) -> Option<&mut Place<N::Machine>> {
        self.places.get_mut(index(address))
    }
}

const ZERO: Duration = Duration::ZERO;

fn index(Address(number): Address) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
