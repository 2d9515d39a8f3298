//! The actor of one connection, below `infrastructure/peers`.

use std::fmt::Debug;
use std::sync::Arc;

use macula_core::supervision::{Restart, Shutdown, Worker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Link;
use super::reading::read;
use crate::transport::lane::Reader;
use crate::transport::{CloseCode, Closed, Streams};

/// What an actor reads.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(super) streams: Streams,
    pub(super) control: Reader,
}

/// Hears how a link ended.
pub(crate) type Ended = Box<dyn FnOnce(&Arc<Link>, Closed) + Send + Sync>;

/// The worker of a link. It has one life: a lost connection is not restarted but dialled anew.
pub(super) fn worker(
    link: Arc<Link>,
    ends: Ends,
    endpoint_gone: CancellationToken,
    ended: Ended,
) -> Worker<LinkActor> {
    Worker::once(LinkActor, Arguments { link, ends, endpoint_gone, ended })
        .restart(Restart::Temporary)
        .shutdown(Shutdown::Timeout(std::time::Duration::from_secs(1)))
}

/// Fields drop in order: a link that nobody reads is closed before its streams are.
pub(crate) struct Arguments {
    link: Arc<Link>,
    ended: Ended,
    ends: Ends,
    endpoint_gone: CancellationToken,
}

pub(crate) struct LinkActor;

/// The reading task is over.
pub(crate) struct ReadingOver;

/// A link that runs. However the actor ends, this is dropped with it.
pub(crate) struct Running {
    link: Arc<Link>,
    task: AbortHandle,
    ended: Option<Ended>,
    closed: Option<Closed>,
}

impl Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        let closed = self.closed.take().unwrap_or(Closed::Here(CloseCode::Dropped));
        // Before anything else, and whatever comes: what was read is not to be closed as unread.
        if let Closed::Here(code) = self.link.ended().unwrap_or_else(|| closed.clone()) {
            self.link.close(code);
        }
        let closed = self.link.over(&closed);
        if let Some(ended) = self.ended.take() {
            ended(&self.link, closed);
        }
    }
}

impl Actor for LinkActor {
    type Msg = ReadingOver;
    type State = Running;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ReadingOver>,
        arguments: Arguments,
    ) -> Result<Running, ActorProcessingErr> {
        let Arguments { link, ends, endpoint_gone, ended } = arguments;
        let reading = Arc::clone(&link);
        let task = tokio::spawn(async move {
            let closed = tokio::select! {
                biased;
                () = endpoint_gone.cancelled() => Closed::Here(CloseCode::Dropped),
                closed = read(Arc::clone(&reading), ends) => closed,
            };
            reading.end.lock().get_or_insert(closed);
            // An actor that has ended already needs no word.
            drop(myself.send_message(ReadingOver));
        });
        Ok(Running { link, task: task.abort_handle(), ended: Some(ended), closed: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReadingOver>,
        _over: ReadingOver,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        running.closed = running.link.ended();
        myself.stop(None);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ReadingOver>,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        if running.closed.is_none() {
            running.closed = Some(Closed::Here(CloseCode::Stopping));
        }
        Ok(())
    }
}
