//! What each input makes of a child in each state, as a table.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::clock::{Clock, TokioClock};
use crate::entropy::Entropy;
use crate::machine::Machine;
use crate::path::ChildId;
use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{Backoff, ChildPolicy, Flags};
use crate::supervision::proto::child::State;
use crate::supervision::proto::{Input, Key, Output, Plan, Reply, Request, Spec, Target, Ticket};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Step {
    Boot,
    Started,
    Ignored,
    StartFailed,
    ExitedNormal,
    ExitedAbnormal,
    Deadline,
    Start,
    Terminate,
    Restart,
    Delete,
    Retry,
    Stop,
}
use Step::{
    Boot, Deadline, Delete, ExitedAbnormal, ExitedNormal, Ignored, Restart, Retry, Start,
    StartFailed, Started, Stop, Terminate,
};

const INPUTS: [Step; 12] = [
    Started,
    Ignored,
    StartFailed,
    ExitedNormal,
    ExitedAbnormal,
    Deadline,
    Start,
    Terminate,
    Restart,
    Delete,
    Retry,
    Stop,
];

/// How a permanent child with a back-off gets into each state.
const STATES: [(&str, &[Step]); 8] = [
    ("down", &[Boot, Started, Terminate, ExitedNormal]),
    ("waiting", &[Boot, Started, ExitedAbnormal]),
    ("starting", &[Boot, Started, Terminate, ExitedNormal, Restart]),
    ("starting, ended", &[Boot, Started, Terminate, ExitedNormal, Restart, ExitedAbnormal]),
    ("aborting", &[Boot, Started, Terminate, ExitedNormal, Restart, Terminate]),
    ("up", &[Boot, Started]),
    ("stopping", &[Boot, Started, Terminate]),
    ("killed", &[Boot, Started, Terminate, Deadline]),
];

struct Bench {
    plan: Plan<()>,
    now: Instant,
    key: Key,
    tickets: u64,
}

fn spec() -> Spec<()> {
    let backoff = Backoff { jitter: 0.0, ..Backoff::exponential(SECOND, SECOND) };
    let policy = ChildPolicy { backoff, ..ChildPolicy::worker() };
    Spec { id: Some(ChildId::new("a").unwrap()), policy, lives: 0, payload: () }
}

impl Bench {
    fn new() -> Self {
        let flags = Flags { intensity: 5, ..Flags::default() };
        let plan = Plan::with_list(flags, vec![spec()], Entropy::from_seed(1)).unwrap();
        let key = *plan.children.keys().next().unwrap();
        Self { plan, now: TokioClock.now(), key, tickets: 0 }
    }

    fn apply(&mut self, step: Step) -> Vec<String> {
        let (key, target) = (self.key, Target::Key(self.key));
        let incarnation = self.plan.children.get(&key).map_or(0, |child| child.incarnation);
        let reason = ExitReason::panic("x", None);
        let request = match step {
            Boot => Err(Input::Boot),
            Started => Err(Input::Started { key, incarnation, info: None }),
            Ignored => Err(Input::Ignored { key, incarnation }),
            StartFailed => Err(Input::StartFailed { key, incarnation, reason }),
            ExitedNormal => Err(Input::Exited { key, incarnation, reason: ExitReason::Normal }),
            ExitedAbnormal => Err(Input::Exited { key, incarnation, reason }),
            Deadline => {
                if let Some((at, _)) = self.plan.poll_timeout() {
                    self.now = at;
                    self.plan.handle_timeout(at);
                }
                return self.outputs();
            }
            Start => Ok(Request::Start(spec())),
            Terminate => Ok(Request::Terminate(target)),
            Restart => Ok(Request::Restart(target)),
            Delete => Ok(Request::Delete(target)),
            Retry => Ok(Request::Retry(target)),
            Stop => Err(Input::Stop(ExitReason::Shutdown)),
        };
        let input = request.map_or_else(
            |input| input,
            |request| {
                self.tickets += 1;
                Input::Request { ticket: Ticket(self.tickets), request }
            },
        );
        self.plan.handle(self.now, input);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.plan.poll_output())
            .filter_map(|output| match output {
                Output::Start { .. } => Some("start".to_owned()),
                Output::AbortStart { .. } => Some("abort".to_owned()),
                Output::Stop { .. } => Some("stop".to_owned()),
                Output::Kill { .. } => Some("kill".to_owned()),
                Output::Probe { .. } => Some("probe".to_owned()),
                Output::Settle { outlook, .. } => {
                    Some(format!("settle {outlook:?}").to_lowercase())
                }
                Output::Reply { reply: Reply::Refused(error), .. } => {
                    Some(format!("refuse: {error}"))
                }
                Output::Reply { .. } => Some("reply".to_owned()),
                Output::Report { context, .. } => Some(format!("report {context}")),
                Output::Finish(_) => Some("finish".to_owned()),
                Output::Event { .. } | Output::Booted | Output::Ending => None,
            })
            .collect()
    }

    fn state(&self) -> String {
        let Some(child) = self.plan.children.get(&self.key) else { return "gone".to_owned() };
        let ended = |early: &Option<ExitReason>| if early.is_some() { ", ended" } else { "" };
        match &child.state {
            State::Down => "down".to_owned(),
            State::Waiting => "waiting".to_owned(),
            State::Starting { early_exit, .. } => format!("starting{}", ended(early_exit)),
            State::Aborting { early_exit, .. } => format!("aborting{}", ended(early_exit)),
            State::Up { .. } => "up".to_owned(),
            State::Stopping { killed: false } => "stopping".to_owned(),
            State::Stopping { killed: true } => "killed".to_owned(),
        }
    }
}

#[test]
fn the_states_of_a_child() {
    let mut table = String::new();
    for (name, path) in STATES {
        for input in INPUTS {
            let mut bench = Bench::new();
            for step in path {
                drop(bench.apply(*step));
            }
            assert_eq!(bench.state(), name);
            let outputs = bench.apply(input).join(", ");
            let input = format!("{input:?}");
            let line = format!("{name:<16}{input:<16}{:<18}{outputs}", bench.state());
            writeln!(table, "{}", line.trim_end()).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}
