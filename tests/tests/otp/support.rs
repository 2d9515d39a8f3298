//! A puppet: an actor that starts, works and ends as a test says, and a log of what became of it.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use macula_core::path::ChildId;
use macula_core::supervision::event::What;
use macula_core::supervision::proto::Context;
use macula_core::supervision::{
    ChildState, Event, ExitReason, Handle, Ignore, Presence, Restart, Root, Start, StartedChild,
    Strategy, Supervisor, SupervisorHandle, Target, TreeOptions, Worker,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::broadcast;

/// All strategies.
pub(crate) const STRATEGIES: [Strategy; 3] =
    [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];

/// All restart types.
pub(crate) const RESTARTS: [Restart; 3] =
    [Restart::Permanent, Restart::Transient, Restart::Temporary];

/// What a puppet is told to do.
#[derive(Debug)]
pub(crate) enum Do {
    /// Say in which life it is.
    Ping(RpcReplyPort<u64>),
    /// End by itself, with this reason.
    End(ExitReason),
    /// Panic.
    Panic,
    /// Be killed by somebody who is not the supervisor.
    Kill,
    /// Never come back from the handler.
    Hang,
    /// Take this long, then go on.
    Busy(Duration),
    /// Take this long, then end with this reason.
    BusyThen(Duration, ExitReason),
    /// Cut all ractor links and monitors that lead away from it.
    Unlink,
}

impl Do {
    /// An abnormal end.
    pub(crate) fn fail() -> Self {
        Self::End(boom())
    }
}

/// An abnormal reason.
pub(crate) fn boom() -> ExitReason {
    ExitReason::Error { message: "boom".to_owned(), causes: Vec::new() }
}

/// How a puppet's start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It runs.
    Run,
    /// It runs, and says this.
    RunWith(&'static str),
    /// The start function says that it should not run.
    Ignore,
    /// `pre_start` says so.
    IgnoreInside,
    /// The start function fails.
    Fail,
    /// `pre_start` fails.
    FailInside,
    /// `pre_start` panics.
    PanicInside,
}

/// What happened, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    Up(String),
    End(String, ExitReason),
}

/// The log that all puppets of a test share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    /// Who came up, in order.
    pub(crate) fn ups(&self) -> Vec<String> {
        let lines = self.0.lock();
        lines
            .iter()
            .filter_map(|line| match line {
                Line::Up(id) => Some(id.clone()),
                Line::End(..) => None,
            })
            .collect()
    }

    /// Who ended and why, in order.
    pub(crate) fn ends(&self) -> Vec<(String, ExitReason)> {
        let lines = self.0.lock();
        lines
            .iter()
            .filter_map(|line| match line {
                Line::End(id, reason) => Some((id.clone(), reason.clone())),
                Line::Up(_) => None,
            })
            .collect()
    }

    /// Who ended, in order.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.ends().into_iter().map(|(id, _)| id).collect()
    }

    /// How the last life of a puppet ended.
    pub(crate) fn last_end(&self, id: &str) -> Option<ExitReason> {
        self.ends().into_iter().rev().find(|(who, _)| who == id).map(|(_, reason)| reason)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    fn write(&self, line: Line) {
        self.0.lock().push(line);
    }
}

/// How the next starts go: as scripted, and then as `after` says.
#[derive(Debug)]
struct Script {
    next: VecDeque<Begin>,
    after: Begin,
    attempts: u64,
}

/// A puppet's strings.
#[derive(Debug, Clone)]
pub(crate) struct Kid {
    pub(crate) handle: Handle<Do>,
    script: Arc<Mutex<Script>>,
}

impl Kid {
    /// How its next starts go; after them it starts as before.
    pub(crate) fn script(&self, begins: impl IntoIterator<Item = Begin>) {
        self.script.lock().next.extend(begins);
    }

    /// How its starts go from now on.
    pub(crate) fn always(&self, begin: Begin) {
        self.script.lock().after = begin;
    }

    /// How many starts were tried.
    pub(crate) fn attempts(&self) -> u64 {
        self.script.lock().attempts
    }

    pub(crate) fn tell(&self, what: Do) {
        self.handle.cast(what).unwrap();
    }

    /// Tells it something and lets everything happen that follows.
    pub(crate) async fn does(&self, what: Do) {
        self.tell(what);
        calm().await;
    }

    pub(crate) fn life(&self) -> u64 {
        self.handle.incarnation()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.handle.presence() == Presence::Up
    }

    /// Whether it answers, in the life that its handle says.
    pub(crate) async fn answers(&self) -> bool {
        self.handle.call(Do::Ping).await == Ok(self.life())
    }
}

/// The lives of several puppets.
pub(crate) fn lives<const N: usize>(kids: [&Kid; N]) -> [u64; N] {
    kids.map(Kid::life)
}

pub(crate) struct Puppet;

pub(crate) struct Part {
    name: String,
    life: u64,
    begin: Begin,
    log: Log,
}

impl Puppet {
    /// The arguments of a puppet that runs, for one that is made without strings.
    pub(crate) fn part(name: &str, log: &Log) -> Part {
        Part { name: name.to_owned(), life: 1, begin: Begin::Run, log: log.clone() }
    }
}

impl Actor for Puppet {
    type Msg = Do;
    type State = Part;
    type Arguments = Part;

    async fn pre_start(
        &self,
        _myself: ActorRef<Do>,
        part: Part,
    ) -> Result<Part, ActorProcessingErr> {
        match part.begin {
            Begin::FailInside => return Err(boom().into()),
            Begin::IgnoreInside => return Err(Ignore.into()),
            Begin::PanicInside => panic!("told to panic in pre_start"),
            Begin::Run | Begin::RunWith(_) | Begin::Ignore | Begin::Fail => {}
        }
        part.log.write(Line::Up(part.name.clone()));
        Ok(part)
    }

    async fn handle(
        &self,
        myself: ActorRef<Do>,
        message: Do,
        part: &mut Part,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Do::Ping(port) => drop(port.send(part.life)),
            Do::End(reason) => return Err(reason.into()),
            Do::Panic => panic!("told to panic"),
            Do::Kill => myself.kill(),
            Do::Hang => pending().await,
            Do::Busy(time) => tokio::time::sleep(time).await,
            Do::BusyThen(time, reason) => {
                tokio::time::sleep(time).await;
                return Err(reason.into());
            }
            Do::Unlink => {
                let cell = myself.get_cell();
                if let Some(supervisor) = cell.try_get_supervisor() {
                    cell.unlink(supervisor);
                }
            }
        }
        Ok(())
    }
}

/// A puppet with an id.
pub(crate) fn worker(id: &str, log: &Log) -> (Worker<Puppet>, impl FnOnce(Handle<Do>) -> Kid) {
    let script = Script { next: VecDeque::new(), after: Begin::Run, attempts: 0 };
    let script = Arc::new(Mutex::new(script));
    let (theirs, name, lines) = (Arc::clone(&script), id.to_owned(), log.clone());
    let worker = Worker::with(id, move |context| {
        let mut script = theirs.lock();
        script.attempts += 1;
        let begin = script.next.pop_front().unwrap_or(script.after);
        drop(script);
        let life = context.incarnation;
        let part = Part { name: name.clone(), life, begin, log: lines.clone() };
        match begin {
            Begin::Fail => Err(boom()),
            Begin::Ignore => Ok(Start::Ignore),
            Begin::RunWith(info) => Ok(Start::RunWithInfo(Puppet, part, info.to_owned())),
            _ => Ok(Start::Run(Puppet, part)),
        }
    });
    let (name, log) = (id.to_owned(), log.clone());
    let worker =
        worker.unwrap().on_exit(move |reason| log.write(Line::End(name.clone(), reason.clone())));
    (worker, |handle| Kid { handle, script })
}

/// A puppet with an id and a policy.
pub(crate) fn kid(
    id: &str,
    log: &Log,
    policy: impl FnOnce(Worker<Puppet>) -> Worker<Puppet>,
) -> (macula_core::supervision::ChildSpec, Kid) {
    let (worker, strings) = worker(id, log);
    let (spec, handle) = policy(worker).split();
    (spec, strings(handle))
}

/// A permanent puppet with OTP's defaults.
pub(crate) fn plain(id: &str, log: &Log) -> (macula_core::supervision::ChildSpec, Kid) {
    kid(id, log, |worker| worker)
}

/// A puppet of a restart type.
pub(crate) fn of(
    restart: Restart,
    id: &str,
    log: &Log,
) -> (macula_core::supervision::ChildSpec, Kid) {
    kid(id, log, |worker| worker.restart(restart))
}

/// An empty supervisor that survives the few failures of a test.
pub(crate) fn top() -> Supervisor {
    Supervisor::new("top").unwrap().intensity(10, Duration::from_secs(10))
}

/// An empty dynamic supervisor of the same kind.
pub(crate) fn pool() -> Supervisor {
    Supervisor::dynamic("pool", 100_000).unwrap().intensity(10, Duration::from_secs(10))
}

pub(crate) async fn start(supervisor: Supervisor) -> Root {
    supervisor.start(TreeOptions::default()).await.unwrap()
}

/// Lets every task run until none has anything to do: only then does a paused clock move. The few
/// milliseconds leave room for restarts that go through a timer that is due at once.
pub(crate) async fn calm() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The end of a tree, which must come.
pub(crate) async fn end_of(root: &Root) -> ExitReason {
    tokio::time::timeout(Duration::from_secs(3600), root.wait()).await.unwrap()
}

/// Stops a tree that is still there, in good order.
pub(crate) async fn stop(root: &Root) {
    assert_eq!(root.handle().presence(), Presence::Up);
    root.handle().stop();
    assert_eq!(end_of(root).await, ExitReason::Shutdown);
}

pub(crate) fn id(id: &str) -> Target {
    Target::Id(ChildId::new(id).unwrap())
}

/// The id of a child as an error has it.
pub(crate) fn named(id: &str) -> ChildId {
    ChildId::new(id).unwrap()
}

/// The children and their states, in start order.
pub(crate) async fn states(supervisor: &SupervisorHandle) -> Vec<(String, ChildState)> {
    let children = supervisor.which_children().await.unwrap();
    children.into_iter().map(|child| (child.id.to_string(), child.state)).collect()
}

/// What [`states`] should say.
pub(crate) fn all<const N: usize>(expected: [(&str, ChildState); N]) -> Vec<(String, ChildState)> {
    expected.into_iter().map(|(id, state)| (id.to_owned(), state)).collect()
}

/// OTP's list of four: specs, active, supervisors, workers.
pub(crate) async fn counts(supervisor: &SupervisorHandle) -> [usize; 4] {
    let counts = supervisor.count_children().await.unwrap();
    [counts.specs, counts.active, counts.supervisors, counts.workers]
}

/// The target of a child that has just been started.
pub(crate) fn key(started: &StartedChild) -> Target {
    match started {
        StartedChild::Running { key, .. } => Target::Key(*key),
        StartedChild::Ignored => panic!("the child was ignored"),
    }
}

/// The reports among the events so far: the context, the child's name, and the reason.
pub(crate) fn reports(
    events: &mut broadcast::Receiver<Event>,
) -> Vec<(Context, String, ExitReason)> {
    std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|event| match event.what {
            What::Report(report) => {
                Some((report.context, report.offender.path.name().to_owned(), report.reason))
            }
            _ => None,
        })
        .collect()
}

/// How long something takes in virtual time.
pub(crate) async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    use macula_core::clock::{Clock, TokioClock};
    let before = TokioClock.now();
    let value = what.await;
    (value, TokioClock.now() - before)
}
