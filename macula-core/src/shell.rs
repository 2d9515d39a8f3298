//! The one generic actor that drives a [`Machine`] in production.
//!
//! A [`Shell`] is a ractor actor whose only message is a bell. Inputs travel through an
//! [`Inbox`], which rings the bell once for any number of inputs; the shell then feeds them to the
//! machine, carries out the outputs through its [`Effects`], and sleeps until the machine's one
//! deadline. A lane from outside enters with [`Inbox::try_push`], whose refusal is the caller's
//! back-pressure.
//!
//! When ractor stops the actor, the shell asks the effects for a last input and goes on driving
//! until they say that the machine is finished, so that an orderly stop needs no help from outside.

mod inbox;

pub use inbox::{Full, Inbox};

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Instant;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::clock::Clock;
use crate::machine::Machine;

/// How many inputs and deadlines one turn handles before ractor's other ports get a look.
const TURN_STEPS_MAX: usize = 256;

/// What carries a machine's outputs into the world.
pub trait Effects<M: Machine>: Send + 'static {
    /// Carries out one output. Whatever follows from it goes into `inbox`; this never waits.
    fn apply(&mut self, now: Instant, output: M::Output, inbox: &Inbox<M::Input>);

    /// Looks at the machine when a turn is over: for figures that others read.
    fn observe(&mut self, _machine: &M) {}

    /// The input with which the machine learns that it has to end, if it can.
    fn stop_input(&mut self) -> Option<M::Input> {
        None
    }

    /// Whether the machine has ended, and the actor should too.
    fn finished(&self) -> bool {
        false
    }
}

/// The message that wakes a shell: its inbox has something, or its deadline has come.
#[derive(Debug, Clone, Copy)]
pub struct Bell;

/// An actor that drives one machine. See the [module](self) for how.
pub struct Shell<M, E, C>(Of<M, E, C>);

/// Names the types without holding any of them.
type Of<M, E, C> = PhantomData<fn() -> (M, E, C)>;

impl<M, E, C> Debug for Shell<M, E, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shell")
    }
}

impl<M, E, C> Default for Shell<M, E, C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// A machine with all that a shell needs to drive it.
pub struct Driver<M: Machine, E, C> {
    machine: M,
    effects: E,
    clock: C,
    inbox: Inbox<M::Input>,
    alarm: Option<Alarm>,
}

impl<M: Machine + Debug, E, C: Debug> Debug for Driver<M, E, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// A task that rings the bell at one moment.
struct Alarm {
    at: Instant,
    task: tokio::task::AbortHandle,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<M, E, C> Driver<M, E, C>
where
    M: Machine,
    M::Input: Send + 'static,
    E: Effects<M>,
    C: Clock,
{
    /// Puts the parts together. The inbox may already hold inputs: they are handled first.
    pub fn new(machine: M, effects: E, clock: C, inbox: Inbox<M::Input>) -> Self {
        Self { machine, effects, clock, inbox, alarm: None }
    }

    /// Handles what is there, up to the bound of a turn, and sets the alarm for the rest.
    fn turn(&mut self) {
        self.inbox.answer_bell();
        // A machine may want something done from its first moment on.
        self.carry_out(self.clock.now());
        for _ in 0..TURN_STEPS_MAX {
            let now = self.clock.now();
            if let Some(input) = self.inbox.pop() {
                self.machine.handle(now, input);
            } else if self.machine.poll_timeout().is_some_and(|(at, _)| at <= now) {
                self.machine.handle_timeout(now);
            } else {
                self.set_alarm(now);
                self.effects.observe(&self.machine);
                return;
            }
            self.carry_out(now);
        }
        self.effects.observe(&self.machine);
        self.inbox.ring();
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.machine.poll_output() {
            self.effects.apply(now, output, &self.inbox);
        }
    }

    /// An alarm that is too early is left alone: it costs one idle turn and no new task.
    fn set_alarm(&mut self, now: Instant) {
        let Some((at, _reason)) = self.machine.poll_timeout() else {
            return;
        };
        if self.alarm.as_ref().is_some_and(|alarm| alarm.at <= at && alarm.at > now) {
            return;
        }
        let inbox = self.inbox.clone();
        let sleep = tokio::time::sleep_until(at.into());
        let task = tokio::spawn(async move {
            sleep.await;
            inbox.ring();
        });
        self.alarm = Some(Alarm { at, task: task.abort_handle() });
    }
}

impl<M, E, C> Actor for Shell<M, E, C>
where
    M: Machine + Send + 'static,
    M::Input: Send + 'static,
    E: Effects<M>,
    C: Clock,
{
    type Msg = Bell;
    type State = Driver<M, E, C>;
    type Arguments = Driver<M, E, C>;

    async fn pre_start(
        &self,
        myself: ActorRef<Bell>,
        driver: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        driver.inbox.connect(myself);
        // The machine may have outputs and deadlines before anything is put in.
        driver.inbox.ring();
        Ok(driver)
    }

    async fn handle(
        &self,
        myself: ActorRef<Bell>,
        _bell: Bell,
        driver: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        driver.turn();
        if driver.effects.finished() {
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Bell>,
        driver: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if driver.effects.finished() {
            return Ok(());
        }
        let Some(input) = driver.effects.stop_input() else {
            return Ok(());
        };
        driver.inbox.push(input);
        while !driver.effects.finished() {
            let inbox = driver.inbox.clone();
            inbox.rung().await;
            driver.turn();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
