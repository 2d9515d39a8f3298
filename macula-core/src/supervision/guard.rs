//! How a supervisor learns that a child has ended, with all that it held, and why.
//!
//! ractor tells a supervisor of a failure before the failed actor's state is dropped, and of a
//! graceful stop's reason nowhere but in its event. Here an incarnation's actor and its state both
//! hold an [`ExitGuard`]; the last of them to be dropped is the true end. A child's guard holds
//! its supervisor's, so that a supervisor has ended only when its whole subtree has.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent,
};
use tokio::sync::{Notify, watch};

use crate::path::Path;
use crate::shell::Inbox;

use super::exit::ExitReason;
use super::proto::{Input, Key, Outlook};
use super::slot::Place;
use super::spec::{ExitHook, Launcher};
use super::tree::Tree;

/// Who hears of the end.
pub(super) enum Tell {
    Parent { inbox: Inbox<Input<Launcher>>, key: Key, incarnation: u64 },
    Waiter(watch::Sender<Option<ExitReason>>, Arc<Tree>),
}

/// What is known of an end, until somebody is told.
struct Epitaph {
    reason: Option<ExitReason>,
    /// A graceful stop's text is on its way from ractor.
    text_pending: bool,
    ended: bool,
    tell: Option<Tell>,
    /// Keeps the supervisor from having ended.
    parent: Option<Arc<ExitGuard>>,
}

/// The end of one incarnation, shared by all that can learn something of it.
pub(super) struct End {
    path: Path,
    incarnation: u64,
    place: Arc<dyn Place>,
    hook: Option<ExitHook>,
    started: AtomicBool,
    epitaph: Mutex<Epitaph>,
    over: Notify,
}

impl Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("path", &self.path).finish_non_exhaustive()
    }
}

impl End {
    /// The first reason is the true one; what follows from it is not.
    pub(super) fn record(&self, reason: ExitReason) {
        self.epitaph.lock().reason.get_or_insert(reason);
    }

    pub(super) fn mark_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The reason so far.
    pub(super) fn reason(&self) -> Option<ExitReason> {
        self.epitaph.lock().reason.clone()
    }

    fn text(&self, text: Option<&str>) {
        let mut epitaph = self.epitaph.lock();
        epitaph.text_pending = false;
        epitaph.reason.get_or_insert_with(|| ExitReason::from_stop(text));
        drop(epitaph);
        self.tell();
    }

    fn ended(&self, otherwise: ExitReason) {
        let mut epitaph = self.epitaph.lock();
        epitaph.ended = true;
        if !epitaph.text_pending {
            epitaph.reason.get_or_insert(otherwise);
        }
        drop(epitaph);
        self.tell();
    }

    /// Tells once everything is known: first the hook, then the place, then the supervisor.
    fn tell(&self) {
        let mut epitaph = self.epitaph.lock();
        if !epitaph.ended || epitaph.text_pending {
            return;
        }
        let (tell, parent) = (epitaph.tell.take(), epitaph.parent.take());
        let reason = epitaph.reason.clone().unwrap_or(ExitReason::Cancelled);
        drop(epitaph);
        let Some(tell) = tell else { return };
        if let Some(hook) = &self.hook
            && catch_unwind(AssertUnwindSafe(|| hook(&reason))).is_err()
        {
            tracing::error!(path = %self.path, "the exit hook panicked; the rest of it did not run");
        }
        self.place.close(self.incarnation);
        self.place.bury(self.incarnation, &reason);
        match tell {
            Tell::Parent { inbox, key, incarnation } => {
                if self.started.load(Ordering::Acquire) {
                    inbox.push(Input::Exited { key, incarnation, reason });
                }
            }
            Tell::Waiter(waiter, tree) => {
                // A root has nobody who would start it again.
                self.place.outlook(Outlook::Down);
                tree.close();
                waiter.send_replace(Some(reason));
            }
        }
        self.over.notify_one();
        drop(parent);
    }

    /// Waits until all that it is the end of has gone. For one who waits.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }
}

/// Held by all that belongs to one incarnation. Its drop is the end.
pub(super) struct ExitGuard {
    pub(super) end: Arc<End>,
    cell: OnceLock<ActorCell>,
}

impl Debug for ExitGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ExitGuard").field(&self.end).finish()
    }
}

impl ExitGuard {
    pub(super) fn new(
        path: Path,
        incarnation: u64,
        place: Arc<dyn Place>,
        hook: Option<ExitHook>,
        tell: Tell,
        parent: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let epitaph =
            Epitaph { reason: None, text_pending: false, ended: false, tell: Some(tell), parent };
        let end = End {
            path,
            incarnation,
            place,
            hook,
            started: AtomicBool::new(false),
            epitaph: Mutex::new(epitaph),
            over: Notify::new(),
        };
        Arc::new(Self { end: Arc::new(end), cell: OnceLock::new() })
    }

    pub(super) fn watch(&self, cell: ActorCell) {
        drop(self.cell.set(cell));
    }

    /// Why an actor that has said nothing ends, seen from the drop of its state.
    ///
    /// ractor moves an actor to `Stopping` before it drops the state of one that was killed, and
    /// leaves it `Running` when the task itself is cancelled.
    pub(super) fn presumed(&self) -> ExitReason {
        match self.cell.get() {
            Some(cell) if cell.get_status() >= ActorStatus::Stopping => ExitReason::Killed,
            Some(_) | None => ExitReason::Cancelled,
        }
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.end.ended(self.presumed());
    }
}

/// Hears from ractor with which text an actor was stopped.
///
/// The text is in the event that ractor sends to monitors when a graceful stop is over, and
/// nowhere else. One coroner serves a whole tree; it is no part of any supervisor, so that it hears
/// while they are busy stopping.
#[derive(Debug, Clone)]
pub(super) struct Coroner {
    cell: ActorCell,
    open: Arc<Inquests>,
}

/// Whose text is awaited; none once nobody listens any more.
type Inquests = Mutex<Option<BTreeMap<ActorId, Arc<End>>>>;

impl Coroner {
    /// # Errors
    ///
    /// If the runtime is shutting down.
    pub(super) async fn start() -> Result<Self, ExitReason> {
        let open = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let ears = Ears(Arc::clone(&open));
        let (actor, task) = Actor::spawn(None, CoronerActor, ears)
            .await
            .map_err(|error| ExitReason::from_error(&error))?;
        drop(task);
        Ok(Self { cell: actor.get_cell(), open })
    }

    /// Waits for the text of an actor that has begun to stop.
    ///
    /// An actor that stops after its whole tree has ended is not waited for.
    pub(super) fn attend(&self, actor: &ActorCell, end: &Arc<End>) {
        let mut open = self.open.lock();
        let Some(inquests) = open.as_mut() else {
            drop(open);
            end.record(ExitReason::Shutdown);
            return;
        };
        end.epitaph.lock().text_pending = true;
        inquests.insert(actor.get_id(), Arc::clone(end));
        drop(open);
        self.cell.monitor(actor.clone());
    }

    pub(super) fn stop(&self) {
        self.cell.stop(None);
    }
}

/// The coroner's state. When it is dropped, no text comes any more, and no end waits for one.
struct Ears(Arc<Inquests>);

impl Drop for Ears {
    fn drop(&mut self) {
        let open = self.0.lock().take();
        for end in open.into_iter().flatten().map(|(_, end)| end) {
            end.text(Some("actor_task_cancelled"));
        }
    }
}

struct CoronerActor;

impl Actor for CoronerActor {
    type Msg = ();
    type State = Ears;
    type Arguments = Ears;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        ears: Ears,
    ) -> Result<Ears, ActorProcessingErr> {
        Ok(ears)
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        ears: &mut Ears,
    ) -> Result<(), ActorProcessingErr> {
        let (who, text) = match &event {
            SupervisionEvent::ActorTerminated(who, _, text) => (who, text.as_deref()),
            // The reason of a failure is recorded where it happens.
            SupervisionEvent::ActorFailed(who, _) => (who, None),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        let end = ears.0.lock().as_mut().and_then(|open| open.remove(&who.get_id()));
        if let Some(end) = end {
            end.text(text);
        }
        Ok(())
    }
}
