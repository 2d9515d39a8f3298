//! The actors that are measured. All are as small as an actor can be.

use std::sync::Arc;
use std::time::Instant;

use macula_core::clock::{Clock as _, TokioClock};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Notify, mpsc};

/// Panics on its message, and tells a channel when it has started.
pub(super) struct Fragile;

pub(super) struct Crash;

impl Actor for Fragile {
    type Msg = Crash;
    type State = ();
    type Arguments = mpsc::Sender<(ActorRef<Crash>, Instant)>;

    async fn pre_start(
        &self,
        myself: ActorRef<Crash>,
        started: Self::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        started.try_send((myself, TokioClock.now()))?;
        Ok(())
    }

    #[expect(clippy::panic, reason = "the panic is what is measured")]
    async fn handle(
        &self,
        _myself: ActorRef<Crash>,
        _message: Crash,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        panic!("crash")
    }
}

/// Plain ractor's way: a parent that spawns the child again in its supervision handler.
pub(super) struct Respawner;

impl Actor for Respawner {
    type Msg = ();
    type State = mpsc::Sender<(ActorRef<Crash>, Instant)>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        started: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(Actor::spawn_linked(None, Fragile, started.clone(), myself.get_cell()).await?);
        Ok(started)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        started: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if matches!(event, SupervisionEvent::ActorFailed(..)) {
            drop(Actor::spawn_linked(None, Fragile, started.clone(), myself.get_cell()).await?);
        }
        Ok(())
    }
}

/// Counts casts, answers calls, and tells when it has counted enough.
pub(super) struct Sink;

pub(super) enum Work {
    Count,
    Echo(u64, RpcReplyPort<u64>),
}

impl Actor for Sink {
    type Msg = Work;
    type State = (u64, u64, Arc<Notify>);
    type Arguments = (u64, Arc<Notify>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Work>,
        (enough, done): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((0, enough, done))
    }

    async fn handle(
        &self,
        _myself: ActorRef<Work>,
        message: Work,
        (count, enough, done): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Work::Count => {
                *count += 1;
                if *count == *enough {
                    *count = 0;
                    done.notify_one();
                }
            }
            Work::Echo(number, port) => drop(port.send(number)),
        }
        Ok(())
    }
}

/// A child that does nothing.
pub(super) struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A parent for raw children that ignores their ends, and starts them when told.
pub(super) struct Parent;

pub(super) enum ParentMsg {
    /// Start this many, and say when.
    Start(usize, RpcReplyPort<()>),
}

impl Actor for Parent {
    type Msg = ParentMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<ParentMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ParentMsg>,
        ParentMsg::Start(count, done): ParentMsg,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        for _ in 0..count {
            drop(Actor::spawn_linked(None, Idle, (), myself.get_cell()).await?);
        }
        drop(done.send(()));
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<ParentMsg>,
        _event: SupervisionEvent,
        _state: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
