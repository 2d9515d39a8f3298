//! The actor that serves a table: it takes one message at a time and answers it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use macula_core::clock::Clock;
use macula_core::hlc::Stamp;
use macula_core::path::InvalidId;
use macula_core::supervision::{Absence, ChildSpec, Mailbox, Start, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::broadcast;

use super::client::Registers;
use super::error::Refused;
use super::proto::{Reply, Request, Stats};
use super::register::{Change, Register};
use super::table::Page;
use super::vault::Vault;

/// The id of the actor among its siblings.
const ID: &str = "registers";

/// A handler that takes longer hangs.
const LIVENESS: Duration = Duration::from_secs(5);

/// How long a caller waits for an actor that is being restarted.
const ABSENCE_MAX: Duration = Duration::from_secs(2);

/// Where an answer goes.
type Port<T> = RpcReplyPort<Result<T, Refused>>;

/// What the actor can be asked. [`Registers`] is the comfortable way to do so.
#[derive(Debug)]
pub enum Message {
    /// Give a register a value.
    Write(Arc<str>, Arc<[u8]>, Port<Stamp>),
    /// Take a register's value away.
    Remove(Arc<str>, Port<Stamp>),
    /// Give a register's value.
    Read(Arc<str>, Port<Option<Register>>),
    /// List keys that begin with a prefix, from after a key.
    Keys(Arc<str>, Option<Arc<str>>, Port<Page>),
    /// Take a register from another replica, and say whether it won.
    Merge(Arc<str>, Register, Port<bool>),
    /// Open a lane with the changes of keys that begin with a prefix.
    Subscribe(Arc<str>, Port<broadcast::Receiver<Change>>),
    /// Open the lane with local changes, for the one replicator; an earlier one ends.
    Deltas(Port<broadcast::Receiver<Change>>),
    /// Say how full the table is.
    Stats(Port<Stats>),
}

/// The child that serves a vault, with the id `registers`, and a client for it.
///
/// It is permanent, and counts as hung after five seconds in one message. Callers wait up to two
/// seconds for one that is being restarted.
///
/// # Errors
///
/// None in practice: the id is a constant.
pub fn worker<C: Clock>(vault: Vault, clock: C) -> Result<(ChildSpec, Registers), InvalidId> {
    let make = move |_: &_| {
        let (clock, vault) = (clock.clone(), vault.clone());
        Ok(Start::Run(Keeper { clock, vault }, ()))
    };
    let mailbox = Mailbox { absence: Absence::Wait(ABSENCE_MAX), ..Mailbox::default() };
    let (spec, handle) = Worker::with(ID, make)?.liveness(LIVENESS).mailbox(mailbox).split();
    Ok((spec, Registers::new(handle)))
}

/// One life of the actor. All that lasts is in the vault.
#[derive(Debug)]
struct Keeper<C> {
    vault: Vault,
    clock: C,
}

impl<C: Clock> Actor for Keeper<C> {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        self.vault.begin_life();
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.serve(message);
        Ok(())
    }
}

impl<C: Clock> Keeper<C> {
    fn serve(&self, message: Message) {
        let (now, wall) = (self.clock.now(), self.clock.since_epoch());
        match message {
            Message::Write(key, value, port) => {
                self.answer(Request::Write { key, value }, port, |reply| match reply {
                    Reply::Written(stamp) => Some(stamp),
                    _ => None,
                });
            }
            Message::Remove(key, port) => {
                self.answer(Request::Remove { key }, port, |reply| match reply {
                    Reply::Written(stamp) => Some(stamp),
                    _ => None,
                });
            }
            Message::Read(key, port) => {
                self.answer(Request::Read { key }, port, |reply| match reply {
                    Reply::Register(register) => Some(register),
                    _ => None,
                });
            }
            Message::Keys(prefix, after, port) => {
                self.answer(Request::Keys { prefix, after }, port, |reply| match reply {
                    Reply::Keys(page) => Some(page),
                    _ => None,
                });
            }
            Message::Merge(key, register, port) => {
                self.answer(Request::Merge { key, register }, port, |reply| match reply {
                    Reply::Merged(won) => Some(won),
                    _ => None,
                });
            }
            Message::Subscribe(prefix, port) => {
                give(port, self.vault.subscribe(now, wall, prefix));
            }
            Message::Deltas(port) => give(port, Some(Ok(self.vault.deltas()))),
            Message::Stats(port) => self.answer(Request::Stats, port, |reply| match reply {
                Reply::Stats(stats) => Some(stats),
                _ => None,
            }),
        }
    }

    fn answer<T>(&self, request: Request, port: Port<T>, pick: impl FnOnce(Reply) -> Option<T>) {
        let reply = self.vault.ask(self.clock.now(), self.clock.since_epoch(), request);
        give(port, reply.and_then(|reply| reply.map(pick).transpose()));
    }
}

/// A caller that has gone away is no matter; one whose answer is missing sees the port close.
fn give<T>(port: Port<T>, answer: Option<Result<T, Refused>>) {
    if let Some(answer) = answer {
        drop(port.send(answer));
    }
}
