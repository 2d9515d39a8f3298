//! The actor that is asked for registers: it takes one message at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use macula_core::hlc::Stamp;
use macula_core::path::InvalidId;
use macula_core::supervision::{Absence, ChildSpec, Mailbox, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::Semaphore;

use super::changes::Changes;
use super::client::{Register, Registers};
use super::error::Error;
use super::{BUCKET, client};
use crate::crdt::limits::Refused;
use crate::crdt::proto::Stats;
use crate::crdt::types::LwwRegister;
use crate::crdt::{self, Crdts, Failed, Key};

/// The id of the actor among its siblings.
const ID: &str = "registers";

/// A handler that takes longer hangs.
const LIVENESS: Duration = Duration::from_secs(5);

/// How long a caller waits for an actor that is being restarted.
const ABSENCE_MAX: Duration = Duration::from_secs(2);

/// How many answers wait for the disk at one time.
const ANSWERS_MAX: usize = 1_024;

/// How long one more is waited with, before it is said that nobody waits for it: less than would make the actor
/// seem dead.
const PLACE_WITHIN: Duration = Duration::from_secs(1);

const BUSY: Failed = Failed::Busy { waits_max: ANSWERS_MAX };

/// Where an answer goes.
type Port<T> = RpcReplyPort<Result<T, Error>>;

/// What the actor can be asked. [`Registers`] is the comfortable way to do so.
#[derive(Debug)]
pub enum Message {
    /// Give a register a value.
    Write(Arc<str>, Arc<[u8]>, Port<Stamp>),
    /// Take a register's value away, as far as it is known here.
    Remove(Arc<str>, Port<()>),
    /// Give a register's value.
    Read(Arc<str>, Port<Option<Register>>),
    /// List the keys that begin with a prefix.
    Keys(Arc<str>, Port<Vec<Arc<str>>>),
    /// Tell of the changes of keys that begin with a prefix.
    Subscribe(Arc<str>, Port<Changes>),
    /// Say how full the bucket is.
    Stats(Port<Stats>),
}

/// The child with the id `registers`, and a client for it.
///
/// It is permanent, and counts as hung after five seconds in one message. Callers wait up to two seconds for
/// one that is being restarted. All that lasts is in `crdts`.
///
/// # Errors
///
/// None in practice: the id is a constant.
pub fn worker(crdts: Crdts) -> Result<(ChildSpec, Registers), InvalidId> {
    let mailbox = Mailbox { absence: Absence::Wait(ABSENCE_MAX), ..Mailbox::default() };
    let answers = Arc::new(Semaphore::new(ANSWERS_MAX));
    let keeper = move || Keeper { crdts: crdts.clone(), answers: Arc::clone(&answers) };
    let worker = Worker::new(ID, move || (keeper(), ()))?;
    let (spec, handle) = worker.liveness(LIVENESS).mailbox(mailbox).split();
    Ok((spec, Registers::new(handle)))
}

/// One life of the actor.
#[derive(Debug)]
struct Keeper {
    crdts: Crdts,
    answers: Arc<Semaphore>,
}

impl Actor for Keeper {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // Once the bucket is held, what a message asks for is done at once. Why it is not held is told by
        // what was asked for.
        drop(self.crdts.hold(BUCKET).await);
        self.serve(message).await;
        Ok(())
    }
}

impl Keeper {
    async fn serve(&self, message: Message) {
        let crdts = self.crdts.clone();
        match message {
            Message::Write(key, value, port) => {
                self.answer(port, write(self.key(&key), value)).await;
            }
            Message::Remove(key, port) => {
                let key = self.key(&key);
                self.answer(port, async move { Ok(key?.remove().await.map(drop)?) }).await;
            }
            Message::Read(key, port) => {
                let key = self.key(&key);
                self.answer(port, async move { Ok(key?.read(client::register).await?) }).await;
            }
            Message::Keys(prefix, port) => {
                let asked = async move {
                    let keys = crdts.keys(BUCKET, &client::key_of(&prefix)).await?;
                    Ok(keys.iter().filter_map(|(key, _kind)| client::name_of(key)).collect())
                };
                self.answer(port, asked).await;
            }
            Message::Subscribe(prefix, port) => {
                let asked = async move {
                    let changes = crdts.subscribe(BUCKET, &client::key_of(&prefix)).await?;
                    Ok(Changes::new(changes, crdts))
                };
                self.answer(port, asked).await;
            }
            Message::Stats(port) => {
                self.answer(port, async move { Ok(crdts.stats(BUCKET).await?) }).await;
            }
        }
    }

    /// Answers a caller; one that has gone away is no matter. What is asked for is done before the next message
    /// is; if its answer has to wait for the disk, the next message has not.
    async fn answer<T: Send + 'static>(
        &self,
        port: Port<T>,
        asked: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) {
        let mut asked = Box::pin(asked);
        if let Some(answer) = asked.as_mut().now_or_never() {
            return drop(port.send(answer));
        }
        let place = Arc::clone(&self.answers).acquire_owned();
        match tokio::time::timeout(PLACE_WITHIN, place).await {
            Ok(Ok(place)) => drop(tokio::spawn(async move {
                drop(port.send(asked.await));
                drop(place);
            })),
            // It is on its way, and the disk is far behind: nobody waits for that here.
            Ok(Err(_)) | Err(_) => drop(port.send(Err(crdt::Error::from(BUSY).into()))),
        }
    }

    fn key(&self, name: &str) -> Result<Key<LwwRegister, ()>, Error> {
        match name {
            "" => Err(Error::Refused(Refused::KeyEmpty)),
            name => Ok(self.crdts.register(&client::key_of(name))),
        }
    }
}

async fn write(key: Result<Key<LwwRegister, ()>, Error>, value: Arc<[u8]>) -> Result<Stamp, Error> {
    let (key, stamp) = (key?, Arc::new(Mutex::new(None)));
    let told = Arc::clone(&stamp);
    let done = key.update(move |register, write| {
        let delta = register.set(value, write)?;
        *told.lock() = delta.state.stamp();
        Ok(delta)
    });
    done.await?;
    let stamp = *stamp.lock();
    stamp.ok_or(Error::Types(crdt::Error::NoAnswer))
}
