//! Keeps places at relays for a node that cannot be dialled: pure.
//!
//! It looks for relays, reserves a place at a few, and tells the mesh where, each time that changes.
//! When the connection to a relay ends, the relay is asked at once to keep the place: it may only
//! have been replaced. If it does not answer, or says no, the place is given up, and another sought.
//! Such relays are left alone for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use macula_core::machine::Machine;

use super::Bug;

/// How long a relay may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long a relay is left alone that said no or did not answer, at first; twice as long each
/// further time.
const AVOIDED_MIN: Duration = Duration::from_secs(1);

/// The longest such time.
const AVOIDED_MAX: Duration = Duration::from_secs(30);

/// How long after a search the next follows, at first, if there are too few places.
const SEARCH_INITIAL: Duration = Duration::from_millis(500);

/// The longest such wait.
const SEARCH_MAX: Duration = Duration::from_secs(30);

/// The shortest time for which a place is thought to be given, whatever a relay says.
const LIFETIME_MIN: Duration = Duration::from_secs(10);

/// The longest time after which a relay is asked to keep a place: it keeps the connection in use too,
/// which the relay would let go of otherwise.
const RENEW_MAX: Duration = Duration::from_secs(30);

/// How many relays are remembered.
const RELAYS_MAX: usize = 256;

/// What the reserver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// These nodes relay.
    Found(Vec<NodeId>),
    /// A relay has given, or kept, a place.
    Reserved {
        /// Which.
        relay: NodeId,
        /// For how long.
        lifetime: Duration,
    },
    /// A relay has said no.
    Denied {
        /// Which.
        relay: NodeId,
    },
    /// The connection to a relay has ended. There may be another.
    Closed {
        /// Which.
        relay: NodeId,
    },
    /// A relay cannot be reached, or has left.
    Lost {
        /// Which.
        relay: NodeId,
    },
    /// The mesh has changed: there may be other relays.
    Changed,
}

/// What the reserver wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look for relays, and say what was [`Found`](Input::Found).
    Search,
    /// Ask a relay for a place.
    Reserve(NodeId),
    /// Tell the mesh that this node is reached over these.
    Publish(Vec<NodeId>),
    /// Keep the connection to a relay.
    Keep(NodeId),
    /// Keep it no longer.
    LetGo(NodeId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    Held,
    /// It has given a place, and is asked to keep it.
    Renewing,
    /// It is left alone.
    Avoided,
}

impl State {
    const fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::Renewing)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Search,
    /// An answer is due, a place is to be kept, or a relay may be asked again.
    Relay(NodeId),
}

/// The machine.
#[derive(Debug)]
pub struct Reserver {
    wanted: usize,
    entropy: Entropy,
    relays: BTreeMap<NodeId, State>,
    /// How often in a row a relay was of no use: of those that are remembered.
    failures: BTreeMap<NodeId, u32>,
    /// What was published last.
    published: Vec<NodeId>,
    searches: u32,
    searched_at: Option<Instant>,
    timers: Deadlines<Timer>,
    out: VecDeque<Output>,
    bug: Option<Bug>,
}

impl Reserver {
    /// One that keeps so many places, or none if that is 0.
    #[must_use]
    pub fn new(now: Instant, wanted: usize, entropy: Entropy) -> Self {
        let mut reserver = Self {
            wanted,
            entropy,
            relays: BTreeMap::new(),
            failures: BTreeMap::new(),
            published: Vec::new(),
            searches: 0,
            searched_at: None,
            timers: Deadlines::new(),
            out: VecDeque::new(),
            bug: None,
        };
        if wanted > 0 {
            reserver.timers.set(Timer::Search, now);
        }
        reserver
    }

    /// With a bug that a test has planted.
    #[must_use]
    pub fn with(self, bug: Option<Bug>) -> Self {
        Self { bug, ..self }
    }

    /// The relays at which there is a place.
    #[must_use]
    pub fn held(&self) -> Vec<NodeId> {
        self.in_state(State::is_held)
    }

    fn in_state(&self, is: impl Fn(State) -> bool) -> Vec<NodeId> {
        self.relays.iter().filter(|(_, state)| is(**state)).map(|(node, _)| *node).collect()
    }

    fn set(&mut self, now: Instant, relay: NodeId, state: State) {
        let Some(before) = self.relays.insert(relay, state) else { return };
        match state {
            State::Asked | State::Renewing => {
                self.timers.set(Timer::Relay(relay), now + ANSWER_WITHIN);
                self.out.push_back(Output::Reserve(relay));
            }
            State::Avoided => {
                let failures = self.failures.entry(relay).or_default();
                let wait = AVOIDED_MIN.saturating_mul(1 << (*failures).min(16)).min(AVOIDED_MAX);
                *failures = failures.saturating_add(1);
                self.timers.set(Timer::Relay(relay), now + wait);
            }
            State::Idle => {}
            State::Held => {
                self.failures.remove(&relay);
            }
        }
        match (before.is_held(), state.is_held()) {
            (false, true) => self.out.push_back(Output::Keep(relay)),
            (true, false) => self.out.push_back(Output::LetGo(relay)),
            _ => {}
        }
    }

    fn found(&mut self, now: Instant, relays: Vec<NodeId>) {
        let found: BTreeSet<NodeId> = relays.into_iter().take(RELAYS_MAX).collect();
        self.relays.retain(|relay, state| *state != State::Idle || found.contains(relay));
        self.failures.retain(|relay, _| self.relays.contains_key(relay));
        for relay in found {
            if self.relays.len() < RELAYS_MAX {
                self.relays.entry(relay).or_insert(State::Idle);
            }
        }
        self.fill(now);
    }

    /// Asks as many as places are missing, by chance, and looks for more if there are not enough.
    fn fill(&mut self, now: Instant) {
        let have = self.in_state(|state| state.is_held() || state == State::Asked).len();
        let mut idle = self.in_state(|state| state == State::Idle);
        for _ in have..self.wanted {
            if idle.is_empty() {
                break;
            }
            let count = u64::try_from(idle.len()).unwrap_or(1);
            let chosen = usize::try_from(self.entropy.below(count)).unwrap_or(0);
            let relay = idle.swap_remove(chosen);
            self.set(now, relay, State::Asked);
        }
        if self.held().len() >= self.wanted {
            self.searches = 0;
            self.timers.clear(Timer::Search);
        } else if self.timers.get(Timer::Search).is_none() {
            let wait = SEARCH_INITIAL.saturating_mul(1 << self.searches.min(16)).min(SEARCH_MAX);
            self.timers.set(Timer::Search, now + wait);
        }
        let held = self.held();
        if held != self.published {
            self.published.clone_from(&held);
            self.out.push_back(Output::Publish(held));
        }
    }

    /// The next search, if one is due at all, is soon.
    fn changed(&mut self, now: Instant) {
        let soon = self.searched_at.map_or(now, |at| now.max(at + SEARCH_INITIAL));
        if self.timers.get(Timer::Search).is_some_and(|at| at > soon) {
            self.searches = 0;
            self.timers.set(Timer::Search, soon);
        }
    }

    /// A relay is of no use now.
    fn avoid(&mut self, now: Instant, relay: NodeId) {
        if self.relays.get(&relay).is_some_and(|state| *state != State::Avoided) {
            self.set(now, relay, State::Avoided);
        }
    }

    fn due(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Search => {
                self.searches = self.searches.saturating_add(1);
                self.searched_at = Some(now);
                self.out.push_back(Output::Search);
            }
            Timer::Relay(relay) => match self.relays.get(&relay) {
                Some(State::Held) => self.set(now, relay, State::Renewing),
                Some(State::Asked | State::Renewing) => self.avoid(now, relay),
                Some(State::Avoided) => self.set(now, relay, State::Idle),
                Some(State::Idle) | None => {}
            },
        }
    }
}

impl Machine for Reserver {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        let is_end = matches!(input, Input::Closed { .. } | Input::Lost { .. });
        if self.bug == Some(Bug::KeepsLostPlaces) && is_end {
            return;
        }
        match input {
            Input::Found(relays) => return self.found(now, relays),
            Input::Reserved { relay, lifetime } => {
                let asked = |state: &State| matches!(state, State::Asked | State::Renewing);
                if self.relays.get(&relay).is_some_and(asked) {
                    self.set(now, relay, State::Held);
                    let renew = (lifetime.max(LIFETIME_MIN) / 2).min(RENEW_MAX);
                    self.timers.set(Timer::Relay(relay), now + renew);
                }
            }
            Input::Denied { relay } | Input::Lost { relay } => self.avoid(now, relay),
            Input::Closed { relay } => {
                if self.relays.get(&relay) == Some(&State::Held) {
                    self.set(now, relay, State::Renewing);
                }
            }
            Input::Changed => return self.changed(now),
        }
        self.fill(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            self.due(now, timer);
            self.fill(now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, timer)| match timer {
            Timer::Search => (at, "search"),
            Timer::Relay(_) => (at, "relay"),
        })
    }
}

#[cfg(test)]
mod tests;
