//! The supervisor as a pure machine: what to start, stop, kill and report, and when.
//!
//! The plan knows nothing of actors. A child is a key, an incarnation number and a payload that it
//! hands back with each order to start. Its words and decisions are those of OTP's
//! `supervisor.erl`; the waits between restarts, the liveness probes and the bound on a kill are
//! what OTP lacks.
//!
//! Two kinds of sequence are never mixed. A *group* (a restart under `one_for_all` or
//! `rest_for_one`, and the first start) stops its members one by one from the last, then starts
//! them one by one from the first. The *end* stops everything, in reverse order where there is one
//! and all at once in a dynamic supervisor. Exits that arrive in between are kept and decided
//! after.

mod admin;
mod backoff;
mod budget;
mod child;
mod exits;
mod group;
mod shutdown;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::machine::Machine;
use crate::path::ChildId;

use super::error::AdminError;
use super::exit::{ExitReason, SharedReason};
use super::policy::{ChildKind, ChildPolicy, Flags, Restart};

use budget::Budget;
use child::{Child, StartCause, State};
use group::Group;
use timer::Timers;

/// How long after a kill a child is called stuck. A kill is met at the next await; only code that
/// never awaits outlives it.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// How many children one step stops at the most; the next step follows at once.
pub const STOP_WAVE_MAX: usize = 256;

/// How many requests wait for the end of the first start.
pub const HELD_MAX: usize = 1024;

/// A child, for as long as the supervisor lists it. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) u64);

/// Ties a reply to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// Whom a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The child of this id.
    Id(ChildId),
    /// The child of this key.
    Key(Key),
}

/// A child as it is handed to the plan.
#[derive(Debug, Clone)]
pub struct Spec<P> {
    /// Its id; a dynamic supervisor numbers a child without one.
    pub id: Option<ChildId>,
    /// Its policy.
    pub policy: ChildPolicy,
    /// How many lives it has had, under an earlier life of its supervisor: incarnations go on from
    /// there.
    pub lives: u64,
    /// What is handed back with each order to start it.
    pub payload: P,
}

/// What can happen to a supervisor.
#[derive(Debug, Clone)]
pub enum Input<P> {
    /// Start the children that were listed at birth.
    Boot,
    /// Somebody asks for something.
    Request {
        /// Returned with the reply.
        ticket: Ticket,
        /// What is asked.
        request: Request<P>,
    },
    /// A child that was ordered to start has.
    Started {
        /// The child.
        key: Key,
        /// The incarnation of the order.
        incarnation: u64,
        /// What the child said of itself.
        info: Option<String>,
    },
    /// A child that was ordered to start chose not to run.
    Ignored {
        /// The child.
        key: Key,
        /// The incarnation of the order.
        incarnation: u64,
    },
    /// A child that was ordered to start could not.
    StartFailed {
        /// The child.
        key: Key,
        /// The incarnation of the order.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// An incarnation has ended, with all that it held.
    Exited {
        /// The child.
        key: Key,
        /// Which of its lives.
        incarnation: u64,
        /// Why.
        reason: ExitReason,
    },
    /// The answer to a probe.
    Pulse {
        /// The child.
        key: Key,
        /// Which of its lives.
        incarnation: u64,
        /// A count that is odd while a handler runs.
        beats: u64,
    },
    /// End: stop the children, then finish with this reason.
    Stop(ExitReason),
}

/// What can be asked of a supervisor.
#[derive(Debug, Clone)]
pub enum Request<P> {
    /// OTP's `start_child`.
    Start(Spec<P>),
    /// OTP's `terminate_child`.
    Terminate(Target),
    /// OTP's `restart_child`.
    Restart(Target),
    /// OTP's `delete_child`.
    Delete(Target),
    /// Ends the wait of a child in back-off: it is started at once.
    Retry(Target),
    /// OTP's `which_children`.
    Which,
    /// OTP's `which_child`, and `get_childspec`.
    WhichOne(Target),
    /// OTP's `count_children`.
    Count,
    /// OTP's `code_change`: new flags and specs while everything runs on. Listed children keep
    /// running under their new policy, new ones are listed and not started, none is removed.
    Reconfigure {
        /// The new flags.
        flags: Flags,
        /// The new list.
        specs: Vec<Spec<P>>,
    },
}

/// What a supervisor wants done.
#[derive(Debug, Clone)]
pub enum Output<P> {
    /// Start a child.
    Start {
        /// The child.
        key: Key,
        /// Its next life.
        incarnation: u64,
        /// Its id.
        id: ChildId,
        /// What it was handed in with.
        payload: P,
    },
    /// Give up an order to start. It is still answered, with a failure or a success.
    AbortStart {
        /// The child.
        key: Key,
    },
    /// Ask a child to stop.
    Stop {
        /// The child.
        key: Key,
    },
    /// Kill a child.
    Kill {
        /// The child.
        key: Key,
    },
    /// Answer with [`Input::Pulse`].
    Probe {
        /// The child.
        key: Key,
        /// Which of its lives.
        incarnation: u64,
    },
    /// A child that ran does not, and this is what it waits for.
    Settle {
        /// The child.
        key: Key,
        /// What comes next.
        outlook: Outlook,
    },
    /// The answer to a request.
    Reply {
        /// Of the request.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// Something happened that people should read.
    Report {
        /// In which situation.
        context: Context,
        /// Why.
        reason: ExitReason,
        /// The child.
        child: Box<ChildInfo>,
    },
    /// Something happened that tools may want to know.
    Event {
        /// The child, or none for the supervisor itself.
        id: Option<ChildId>,
        /// Which of its lives.
        incarnation: u64,
        /// What.
        change: Change,
    },
    /// The first start is done.
    Booted,
    /// The end has begun: what goes down from here on goes down with the supervisor.
    Ending,
    /// The end: no child is left, and nothing more comes.
    Finish(ExitReason),
}

/// What a child that does not run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It is about to be started again.
    Restarting,
    /// It is listed, and stays down until somebody starts it.
    Down,
    /// It is not listed any more.
    Gone,
}

/// The situation of a report. OTP's error contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// A child ended that should not have.
    ChildTerminated,
    /// A child could not be started.
    StartError,
    /// A child ended otherwise than it was asked to.
    ShutdownError,
    /// More restarts than the intensity allows.
    Meltdown,
    /// A child outlives its kill.
    Stuck,
}

/// What happened to a child or to its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
#[non_exhaustive]
pub enum Change {
    /// It runs.
    Started,
    /// It chose not to run.
    Ignored,
    /// It could not be started.
    StartFailed {
        /// Why.
        reason: ExitReason,
    },
    /// It ended without having been asked.
    Exited {
        /// Why.
        reason: ExitReason,
    },
    /// It is to be started again.
    Restarting {
        /// After which wait, in milliseconds.
        delay_ms: u64,
    },
    /// It was stopped because somebody asked, or a sibling took it along.
    Stopped {
        /// How it ended.
        reason: ExitReason,
    },
    /// It did not answer in time, and is killed.
    Hung {
        /// The bound that it broke, in milliseconds.
        bound_ms: u64,
    },
    /// It outlives its kill; no replacement is started before it has ended.
    Stuck,
    /// The supervisor gives up.
    Meltdown,
    /// The supervisor ends because of its significant children.
    AutoShutdown,
}

/// The state of a child, for people and tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Listed, and not running. OTP's `undefined`.
    Down,
    /// On its way up.
    Starting,
    /// It runs. OTP shows the pid.
    Running,
    /// It failed, and waits for its next start. OTP's `restarting`.
    Restarting,
    /// Asked to stop, or killed, and not yet ended.
    Stopping,
}

/// A child as its supervisor sees it.
#[derive(Debug, Clone)]
pub struct ChildInfo {
    /// The key, for requests about a child of a dynamic supervisor.
    pub key: Key,
    /// The id.
    pub id: ChildId,
    /// Its policy: with the id, OTP's child spec.
    pub policy: ChildPolicy,
    /// What it does now.
    pub state: ChildState,
    /// How many times it was started or tried to.
    pub incarnation: u64,
    /// How many of those were restarts.
    pub restarts: u64,
    /// Why its last life ended.
    pub last_exit: Option<SharedReason>,
    /// For how long it has been up.
    pub up_for: Option<Duration>,
}

/// OTP's four counts of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// How many are listed.
    pub specs: usize,
    /// How many run.
    pub active: usize,
    /// How many are supervisors, running or not.
    pub supervisors: usize,
    /// How many are workers, running or not.
    pub workers: usize,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The child runs.
    Started {
        /// Its key.
        key: Key,
        /// Its id.
        id: ChildId,
        /// What it said of itself.
        info: Option<String>,
    },
    /// The child chose not to run.
    Ignored,
    /// Done.
    Done,
    /// All children, in start order.
    Children(Vec<ChildInfo>),
    /// One child.
    Child(Box<ChildInfo>),
    /// The counts.
    Counts(Counts),
    /// It was refused.
    Refused(AdminError),
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Unborn,
    Booting,
    Running,
    Ending(ExitReason),
    Ended,
}

/// The machine. `P` is what it hands back with an order to start.
#[derive(Debug)]
pub struct Plan<P> {
    flags: Flags,
    dynamic: bool,
    children_max: usize,
    children: BTreeMap<Key, Child<P>>,
    ids: BTreeMap<ChildId, Key>,
    /// The start order, by rank. Empty in a dynamic supervisor, whose children have none.
    order: BTreeMap<u64, Key>,
    /// Where the keys begin: elsewhere in each supervisor and in each of its lives, so that a key
    /// of another one names nobody here.
    key_base: u64,
    next_key: u64,
    /// How many children are not down; kept so that the end of many is cheap to see.
    live: usize,
    budget: Budget,
    phase: Phase,
    group: Option<Group>,
    /// Children that ended while a group was at work and were no part of what it still had to do.
    deferred: VecDeque<(Key, u64, ExitReason)>,
    held: VecDeque<(Ticket, Request<P>)>,
    /// Where the next wave of stops begins.
    wave: Option<Key>,
    timers: Timers,
    outputs: VecDeque<Output<P>>,
    entropy: Entropy,
}

impl<P: Clone + Debug> Plan<P> {
    /// A supervisor with a list.
    ///
    /// # Errors
    ///
    /// What is wrong with the flags, or with the first spec that is.
    pub fn with_list(
        flags: Flags,
        specs: Vec<Spec<P>>,
        entropy: Entropy,
    ) -> Result<Self, AdminError> {
        flags.check(false)?;
        let mut plan = Self::empty(flags, false, usize::MAX, entropy);
        for spec in specs {
            plan.enlist(spec)?;
        }
        Ok(plan)
    }

    /// A dynamic supervisor that refuses more than `children_max` children. It begins with those
    /// of an earlier life that outlive it, which in OTP are none.
    ///
    /// # Errors
    ///
    /// What is wrong with the flags, or with the first spec that is.
    pub fn dynamic(
        flags: Flags,
        children_max: usize,
        specs: Vec<Spec<P>>,
        entropy: Entropy,
    ) -> Result<Self, AdminError> {
        flags.check(true)?;
        let mut plan = Self::empty(flags, true, children_max, entropy);
        for spec in specs {
            plan.enlist(spec)?;
        }
        Ok(plan)
    }

    fn empty(flags: Flags, dynamic: bool, children_max: usize, mut entropy: Entropy) -> Self {
        // Half of the range, so that no count of children runs over.
        let key_base = entropy.next_u64() >> 1;
        Self {
            flags,
            dynamic,
            children_max,
            children: BTreeMap::new(),
            ids: BTreeMap::new(),
            order: BTreeMap::new(),
            key_base,
            next_key: 0,
            live: 0,
            budget: Budget::default(),
            phase: Phase::Unborn,
            group: None,
            deferred: VecDeque::new(),
            held: VecDeque::new(),
            wave: None,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            entropy,
        }
    }

    /// Whether the machine has said its last word.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn boot(&mut self, now: Instant) {
        if self.phase == Phase::Unborn {
            self.phase = Phase::Booting;
            self.group = Some(Group::boot(self.children.keys().copied()));
            self.advance_group(now);
        }
    }

    fn booted(&mut self, now: Instant) {
        self.phase = Phase::Running;
        self.outputs.push_back(Output::Booted);
        while let Some((ticket, request)) = self.held.pop_front() {
            self.request(now, ticket, request);
        }
    }

    /// Orders a start. The child must be listed and down or waiting.
    fn start(&mut self, now: Instant, key: Key, cause: StartCause) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.incarnation += 1;
        if !matches!(cause, StartCause::Boot | StartCause::Admin { fresh: true, .. }) {
            child.restarts += 1;
        }
        child.become_live(State::Starting { cause, early_exit: None }, &mut self.live);
        // A temporary child is started once: what starts it is not kept.
        let payload = match child.policy.restart {
            Restart::Temporary => child.payload.take(),
            Restart::Permanent | Restart::Transient => child.payload.clone(),
        };
        let (incarnation, id, liveness) =
            (child.incarnation, child.id.clone(), child.policy.liveness);
        if let Some(bound) = liveness {
            self.timers.set(key, child, now + bound, timer::Due::StartBound);
        } else {
            self.timers.clear(key, child);
        }
        match payload {
            Some(payload) => {
                self.outputs.push_back(Output::Start { key, incarnation, id, payload });
            }
            None => {
                let reason = ExitReason::Error {
                    message: "a temporary child is started only once".to_owned(),
                    causes: Vec::new(),
                };
                self.start_failed(now, key, incarnation, reason);
            }
        }
    }

    fn event(&mut self, key: Key, change: Change) {
        if let Some(child) = self.children.get(&key) {
            let (id, incarnation) = (Some(child.id.clone()), child.incarnation);
            self.outputs.push_back(Output::Event { id, incarnation, change });
        }
    }

    fn own_event(&mut self, change: Change) {
        self.outputs.push_back(Output::Event { id: None, incarnation: 0, change });
    }

    fn report(&mut self, now: Instant, key: Key, context: Context, reason: ExitReason) {
        if let Some(child) = self.children.get(&key) {
            let child = Box::new(child.info(now, key));
            self.outputs.push_back(Output::Report { context, reason, child });
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.outputs.push_back(Output::Reply { ticket, reply });
    }

    fn refuse(&mut self, ticket: Ticket, error: AdminError) {
        self.reply(ticket, Reply::Refused(error));
    }

    /// Takes a child off the list.
    fn remove(&mut self, key: Key) {
        if let Some(mut child) = self.children.remove(&key) {
            self.timers.clear(key, &mut child);
            child.become_down(&mut self.live);
            self.ids.remove(&child.id);
            self.order.remove(&child.rank);
            self.outputs.push_back(Output::Settle { key, outlook: Outlook::Gone });
        }
    }

    fn settle(&mut self, key: Key, outlook: Outlook) {
        self.outputs.push_back(Output::Settle { key, outlook });
    }
}

impl<P: Clone + Debug> Machine for Plan<P> {
    type Input = Input<P>;
    type Output = Output<P>;

    fn handle(&mut self, now: Instant, input: Input<P>) {
        if self.phase == Phase::Ended {
            if let Input::Request { ticket, .. } = input {
                self.refuse(ticket, AdminError::ShuttingDown);
            }
            return;
        }
        match input {
            Input::Boot => self.boot(now),
            Input::Request { ticket, request } => self.request(now, ticket, request),
            Input::Started { key, incarnation, info } => self.started(now, key, incarnation, info),
            Input::Ignored { key, incarnation } => self.ignored(now, key, incarnation),
            Input::StartFailed { key, incarnation, reason } => {
                self.start_failed(now, key, incarnation, reason);
            }
            Input::Exited { key, incarnation, reason } => {
                self.exited(now, key, incarnation, reason);
            }
            Input::Pulse { key, incarnation, beats } => self.pulse(now, key, incarnation, beats),
            Input::Stop(reason) => self.end(now, reason),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        // What a due timer sets for this very moment waits for the next call.
        for _ in 0..self.timers.due(now, STOP_WAVE_MAX) {
            if let Some((key, due)) = self.timers.pop(now) {
                self.timer(now, key, due);
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output<P>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next()
    }
}

impl Counts {
    fn add(&mut self, kind: ChildKind, active: bool) {
        self.specs += 1;
        self.active += usize::from(active);
        match kind {
            ChildKind::Worker => self.workers += 1,
            ChildKind::Supervisor => self.supervisors += 1,
        }
    }
}
