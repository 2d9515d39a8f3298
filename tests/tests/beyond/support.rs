//! The actor that all tests supervise, and what they have in common.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::clock::{Clock, TokioClock};
use macula_core::path::{ChildId, Path};
use macula_core::supervision::event::Event;
use macula_core::supervision::proto::Change;
use macula_core::supervision::{
    ExitReason, Handle, Root, Start, Supervisor, Target, TreeOptions, What, Worker,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::broadcast;

/// What happened, in order. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.lock().iter().filter(|other| *other == line).count()
    }
}

/// What one part of an actor's life does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Go,
    Hang,
    Panic,
    Fail,
    Nap(Duration),
}

impl Step {
    async fn take(self) -> Result<(), ActorProcessingErr> {
        match self {
            Self::Go => {}
            Self::Hang => std::future::pending().await,
            Self::Panic => panic!("a step of a life"),
            Self::Fail => return Err(Outer(Inner).into()),
            Self::Nap(time) => tokio::time::sleep(time).await,
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
pub(crate) struct Inner;

#[derive(Debug, thiserror::Error)]
#[error("could not save")]
pub(crate) struct Outer(#[source] pub(crate) Inner);

/// What an actor does in its lives, by their numbers.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) pre_start: fn(u64) -> Step,
    pub(crate) post_start: fn(u64) -> Step,
    pub(crate) post_stop: fn(u64) -> Step,
}

impl Default for Script {
    fn default() -> Self {
        Self { pre_start: |_| Step::Go, post_start: |_| Step::Go, post_stop: |_| Step::Go }
    }
}

/// What an actor is asked to do.
pub(crate) enum Ask {
    Note(u32),
    Seen(RpcReplyPort<Vec<u32>>),
    Do(Step),
    /// Does it while it holds a reply port.
    Hold(Step, RpcReplyPort<()>),
    /// Ends with a reason of its own.
    End(ExitReason),
    /// Ends through ractor's stop.
    Stop(Option<&'static str>),
    /// Sends notes to itself, past its mailbox.
    Cast(std::ops::Range<u32>),
}

impl Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ask")
    }
}

/// What only one life at a time may hold: says so when two do.
pub(crate) struct Socket {
    name: String,
    log: Log,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.log.add(format!("close {}", self.name));
    }
}

pub(crate) struct Probe(Script);

pub(crate) struct Life {
    number: u64,
    seen: Vec<u32>,
    _socket: Socket,
}

impl Actor for Probe {
    type Msg = Ask;
    type State = Life;
    type Arguments = (String, u64, Log);

    async fn pre_start(
        &self,
        _myself: ActorRef<Ask>,
        (id, number, log): Self::Arguments,
    ) -> Result<Life, ActorProcessingErr> {
        let name = format!("{id} {number}");
        log.add(format!("open {name}"));
        let socket = Socket { name, log };
        (self.0.pre_start)(number).take().await?;
        Ok(Life { number, seen: Vec::new(), _socket: socket })
    }

    async fn post_start(
        &self,
        _myself: ActorRef<Ask>,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        (self.0.post_start)(life.number).take().await
    }

    async fn handle(
        &self,
        myself: ActorRef<Ask>,
        ask: Ask,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Note(note) => life.seen.push(note),
            Ask::Seen(port) => drop(port.send(life.seen.clone())),
            Ask::Do(step) => step.take().await?,
            Ask::Hold(step, _port) => step.take().await?,
            Ask::End(reason) => return Err(reason.into()),
            Ask::Stop(text) => myself.stop(text.map(ToOwned::to_owned)),
            Ask::Cast(notes) => {
                for note in notes {
                    myself.cast(Ask::Note(note))?;
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Ask>,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        (self.0.post_stop)(life.number).take().await
    }
}

/// A worker whose lives and ends are in the log.
pub(crate) fn scripted(id: &str, log: &Log, script: Script) -> Worker<Probe> {
    let (hook_id, hook_log) = (id.to_owned(), log.clone());
    let (id, log) = (id.to_owned(), log.clone());
    let made = Worker::with(id.clone(), move |context| {
        Ok(Start::Run(Probe(script), (id.clone(), context.incarnation, log.clone())))
    });
    let worker = made.unwrap();
    worker.on_exit(move |reason| hook_log.add(format!("exit {hook_id} {}", reason.kind())))
}

pub(crate) fn worker(id: &str, log: &Log) -> Worker<Probe> {
    scripted(id, log, Script::default())
}

/// A supervisor that forgives much.
pub(crate) fn top() -> Supervisor {
    Supervisor::new("top").unwrap().intensity(1000, Duration::from_secs(1))
}

pub(crate) async fn start(supervisor: Supervisor) -> Root {
    supervisor.start(TreeOptions::default()).await.unwrap()
}

/// One worker under a supervisor.
pub(crate) async fn alone(worker: Worker<Probe>) -> (Root, Handle<Ask>) {
    let (spec, handle) = worker.split();
    (start(top().child(spec)).await, handle)
}

/// Does what ends the actor and waits for its next life.
pub(crate) async fn reborn(handle: &Handle<Ask>, end: Ask) -> u64 {
    let before = handle.incarnation();
    handle.cast(end).unwrap();
    handle.next_life(before).await.unwrap()
}

pub(crate) async fn seen(handle: &Handle<Ask>) -> Vec<u32> {
    handle.call(Ask::Seen).await.unwrap()
}

pub(crate) fn id(id: &str) -> Target {
    Target::Id(named(id))
}

pub(crate) fn named(id: &str) -> ChildId {
    ChildId::new(id).unwrap()
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

pub(crate) fn now() -> Instant {
    TokioClock.now()
}

/// What comes out, and how much virtual time it takes.
pub(crate) async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let begin = now();
    let result = what.await;
    (result, now() - begin)
}

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Lets everything happen that needs no time.
pub(crate) async fn calm() {
    tokio::time::sleep(ms(1)).await;
}

/// The first event that answers.
pub(crate) async fn await_event<T>(
    events: &mut broadcast::Receiver<Event>,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> T {
    loop {
        let event = events.recv().await.unwrap();
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// Why the next child ended.
pub(crate) async fn next_end(events: &mut broadcast::Receiver<Event>) -> ExitReason {
    await_event(events, |event| match &event.what {
        What::Life(Change::Exited { reason } | Change::Stopped { reason }) => Some(reason.clone()),
        What::Life(_) | What::Report(_) | What::DeadLetters { .. } => None,
    })
    .await
}
