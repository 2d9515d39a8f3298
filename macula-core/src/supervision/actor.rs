//! The actor behind a supervisor: carries out what its plan wants done.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::clock::TokioClock;
use crate::path::{ChildId, Path};
use crate::shell::{Effects, Inbox, Shell};

use super::event::{Offender, Report, What};
use super::exit::ExitReason;
use super::guard::ExitGuard;
use super::proto::{Change, ChildInfo, Context, Input, Key, Outlook, Output, Plan};
use super::slot::Place;
use super::spec::{Launcher, Live, Order, Outcome};
use super::supervisor::Desk;
use super::tree::Tree;

/// A supervisor is a plan in a shell.
pub(super) type SupervisorActor = Shell<Plan<Launcher>, Boss, TokioClock>;

/// A child as its boss holds it.
struct Seat {
    id: ChildId,
    place: Arc<dyn Place>,
    /// Set once the start has succeeded, perhaps by a task of its own.
    live: Arc<OnceLock<Live>>,
    /// Dropped or used to give up a start.
    cancel: Option<oneshot::Sender<()>>,
}

/// The effects of a supervisor.
pub(super) struct Boss {
    path: Path,
    tree: Arc<Tree>,
    guard: Arc<ExitGuard>,
    desk: Arc<Desk>,
    seats: BTreeMap<Key, Seat>,
    ready: Option<oneshot::Sender<Result<(), ExitReason>>>,
    ending: bool,
    finished: bool,
}

impl Debug for Boss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boss").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Boss {
    pub(super) fn new(
        path: Path,
        tree: Arc<Tree>,
        guard: Arc<ExitGuard>,
        desk: Arc<Desk>,
        ready: oneshot::Sender<Result<(), ExitReason>>,
    ) -> Self {
        Self {
            path,
            tree,
            guard,
            desk,
            seats: BTreeMap::new(),
            ready: Some(ready),
            ending: false,
            finished: false,
        }
    }

    fn start(
        &mut self,
        inbox: &Inbox<Input<Launcher>>,
        (key, incarnation): (Key, u64),
        id: &ChildId,
        launcher: Launcher,
    ) {
        let (cancel, cancelled) = oneshot::channel();
        let live = Arc::new(OnceLock::new());
        let order = Order {
            path: self.path.join(id),
            incarnation,
            tell: Order::tell(inbox.clone(), key, incarnation),
            parent: Some(Arc::clone(&self.guard)),
            tree: Arc::clone(&self.tree),
            cancel: cancelled,
        };
        let place = launcher.0.place();
        if place.is_up() {
            // The place belongs to the one that runs; the other gets no seat.
            let message = "this spec already runs: each child needs one of its own".to_owned();
            let reason = ExitReason::Error { message, causes: Vec::new() };
            inbox.push(Input::StartFailed { key, incarnation, reason });
            return;
        }
        let mut starting = launcher.0.launch(order);
        drop(launcher);
        // Most starts never wait: those are done here and now. The others go on in a task.
        let cancel = match poll_now(&mut starting) {
            Poll::Ready(outcome) => {
                land(outcome, &live, inbox, key, incarnation);
                None
            }
            Poll::Pending => {
                let (live, inbox) = (Arc::clone(&live), inbox.clone());
                let desk = Arc::clone(&self.desk);
                drop(tokio::spawn(async move {
                    let outcome = starting.await;
                    land(outcome, &live, &inbox, key, incarnation);
                    // A supervisor that was killed meanwhile has either seen the child or is seen.
                    if let Some(orphan) = live.get().filter(|_| desk.is_closed()) {
                        orphan.cell.kill();
                    }
                }));
                Some(cancel)
            }
        };
        self.seats.insert(key, Seat { id: id.clone(), place, live, cancel });
    }

    fn live(&self, key: Key) -> Option<&Live> {
        self.seats.get(&key)?.live.get()
    }

    /// A child that goes down with its supervisor comes back with it, unless it was a guest. What
    /// becomes of the supervisor, its own place passes on.
    fn settle(&mut self, key: Key, outlook: Outlook) {
        let outlook = match outlook {
            Outlook::Gone | Outlook::Down if self.ending => self.prospect(key),
            outlook => outlook,
        };
        if let Some(seat) = self.seats.get(&key) {
            seat.place.outlook(outlook);
        }
        if outlook == Outlook::Gone
            && let Some(seat) = self.seats.remove(&key)
        {
            self.desk.forget(&seat.id);
        }
    }

    /// What becomes of a child when its supervisor has ended.
    fn prospect(&self, key: Key) -> Outlook {
        match self.seats.get(&key) {
            Some(seat) if self.desk.returns(&seat.id) => Outlook::Restarting,
            Some(_) | None => Outlook::Gone,
        }
    }

    fn event(&self, id: Option<ChildId>, incarnation: u64, change: Change) {
        if self.tree.heard() {
            let path = id.map_or_else(|| self.path.clone(), |id| self.path.join(&id));
            self.tree.announce(path, incarnation, What::Life(change));
        }
    }

    fn report(&self, context: Context, reason: ExitReason, child: &ChildInfo) {
        self.tree.report(Report {
            supervisor: self.path.clone(),
            context,
            reason,
            offender: Offender {
                path: self.path.join(&child.id),
                kind: child.policy.kind,
                restart: child.policy.restart,
                incarnation: child.incarnation,
                restarts: child.restarts,
            },
        });
    }

    fn finish(&mut self, reason: ExitReason) {
        self.finished = true;
        self.guard.end.record(reason.clone());
        self.desk.close();
        if let Some(ready) = self.ready.take() {
            // Whoever started it may have given up.
            drop(ready.send(Err(reason)));
        }
    }
}

fn poll_now<T>(future: &mut BoxFuture<'static, T>) -> Poll<T> {
    Pin::new(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

fn land(
    outcome: Outcome,
    live: &OnceLock<Live>,
    inbox: &Inbox<Input<Launcher>>,
    key: Key,
    incarnation: u64,
) {
    inbox.push(match outcome {
        Outcome::Up(child, info) => {
            drop(live.set(child));
            Input::Started { key, incarnation, info }
        }
        Outcome::Ignored => Input::Ignored { key, incarnation },
        Outcome::Failed(reason) => Input::StartFailed { key, incarnation, reason },
    });
}

impl Effects<Plan<Launcher>> for Boss {
    fn apply(&mut self, _now: Instant, output: Output<Launcher>, inbox: &Inbox<Input<Launcher>>) {
        match output {
            Output::Start { key, incarnation, id, payload } => {
                self.start(inbox, (key, incarnation), &id, payload);
            }
            Output::AbortStart { key } => {
                if let Some(seat) = self.seats.get_mut(&key) {
                    drop(seat.cancel.take());
                }
            }
            Output::Stop { key } => {
                if let Some(live) = self.live(key) {
                    live.stop();
                }
            }
            Output::Kill { key } => {
                if let Some(live) = self.live(key) {
                    live.cell.kill();
                }
            }
            Output::Probe { key, incarnation } => {
                if let Some(seat) = self.seats.get(&key) {
                    inbox.push(Input::Pulse { key, incarnation, beats: seat.place.beats() });
                }
            }
            Output::Settle { key, outlook } => self.settle(key, outlook),
            Output::Reply { ticket, reply } => self.desk.answer(ticket, reply),
            Output::Report { context, reason, child } => self.report(context, reason, &child),
            Output::Event { id, incarnation, change } => self.event(id, incarnation, change),
            Output::Booted => {
                self.guard.end.mark_started();
                if let Some(ready) = self.ready.take() {
                    // Whoever started it may have given up, and has said so with a stop.
                    drop(ready.send(Ok(())));
                }
            }
            Output::Ending => self.ending = true,
            Output::Finish(reason) => self.finish(reason),
        }
    }

    fn stop_input(&mut self) -> Option<Input<Launcher>> {
        Some(Input::Stop(ExitReason::Shutdown))
    }

    fn finished(&self) -> bool {
        self.finished
    }
}

/// A supervisor that is killed takes its children along; ractor would do the same.
impl Drop for Boss {
    fn drop(&mut self) {
        self.desk.close();
        // The guard itself is dropped with the last of the children, when there is less to see.
        self.guard.end.record(self.guard.presumed());
        for seat in self.seats.values() {
            if !self.desk.returns(&seat.id) {
                seat.place.outlook(Outlook::Gone);
            }
            if let Some(live) = seat.live.get() {
                live.cell.kill();
            }
        }
    }
}
