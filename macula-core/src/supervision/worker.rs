//! A user's ractor actor under supervision.
//!
//! The wrapper has the actor's own message type, so the actor sees plain ractor: the same
//! `myself`, the same calls in the same order. It records why the actor ends, feeds it from the
//! handle's mailbox, and beats while a handler runs. It is not linked to its supervisor in ractor's
//! tree: links share one lock in the process, and the exit guard tells more, later and truer.

mod watch;

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::exit::{ExitReason, Ignore};
use super::guard::{Coroner, ExitGuard};
use super::slot::{Place, Slot};

use watch::watched;

/// The wrapper. Fields drop in order: the guard last.
pub(super) struct Supervised<A: Actor> {
    actor: A,
    coroner: Coroner,
    incarnation: u64,
    slot: Arc<Slot<A::Msg>>,
    guard: Arc<ExitGuard>,
}

/// The actor's state, and the guard after it.
pub(super) struct Held<S> {
    state: S,
    _guard: Arc<ExitGuard>,
}

impl<A: Actor> Supervised<A> {
    pub(super) const fn new(
        actor: A,
        coroner: Coroner,
        incarnation: u64,
        slot: Arc<Slot<A::Msg>>,
        guard: Arc<ExitGuard>,
    ) -> Self {
        Self { actor, coroner, incarnation, slot, guard }
    }

    fn failed(&self, reason: ExitReason) -> ActorProcessingErr {
        self.guard.end.record(reason.clone());
        reason.into()
    }

    /// What a handler's result means: nothing, a graceful end with a reason, or a failure.
    fn conclude(
        &self,
        myself: &ActorRef<A::Msg>,
        result: Result<Result<(), ActorProcessingErr>, ExitReason>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ExitReason::from_error(&*error),
            Err(panic) => panic,
        };
        if reason.is_abnormal() {
            return Err(self.failed(reason));
        }
        self.guard.end.record(reason);
        // An actor that ends itself in good order gets its `post_stop`.
        myself.stop(None);
        Ok(())
    }
}

impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = Held<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        self.guard.watch(myself.get_cell());
        let state = match watched(self.actor.pre_start(myself.clone(), arguments)).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) if error.is::<Ignore>() => {
                self.guard.end.record(ExitReason::Normal);
                return Err(error);
            }
            Ok(Err(error)) => return Err(self.failed(ExitReason::from_error(&*error))),
            Err(panic) => return Err(self.failed(panic)),
        };
        self.guard.end.mark_started();
        self.slot.open(&myself.get_cell(), self.incarnation);
        Ok(Held { state, _guard: Arc::clone(&self.guard) })
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.slot.beat();
        let result = watched(self.actor.post_start(myself.clone(), &mut held.state)).await;
        self.slot.beat();
        self.conclude(&myself, result)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.slot.beat();
        let result = watched(self.actor.handle(myself.clone(), message, &mut held.state)).await;
        self.slot.beat();
        self.conclude(&myself, result)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // An event about the actor itself is its bell.
        if event.actor_id() == Some(myself.get_id()) {
            return match self.slot.take() {
                Some(message) => self.handle(myself, message, held).await,
                None => Ok(()),
            };
        }
        self.slot.beat();
        let future = self.actor.handle_supervisor_evt(myself.clone(), event, &mut held.state);
        let result = watched(future).await;
        self.slot.beat();
        self.conclude(&myself, result)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // From here on messages meet a child that is not there.
        self.slot.close(self.incarnation);
        if self.guard.end.reason().is_none() {
            self.coroner.attend(&myself.get_cell(), &self.guard.end);
        }
        self.slot.beat();
        let result = watched(self.actor.post_stop(myself.clone(), &mut held.state)).await;
        self.slot.beat();
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(ExitReason::from_error(&*error))),
            Err(panic) => Err(self.failed(panic)),
        }
    }
}
