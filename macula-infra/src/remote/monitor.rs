//! The end of an actor on another node, told exactly once.

use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::wire::Flags;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::FIRST_KIND;
use super::client::Remote;
use super::error::{CallError, Interruption};
use super::session::{Calls, Waiting, lost, unsent};
use super::wire::{DEMONITOR, Ended, MONITOR, Watch};
use crate::link::{InFlight, Link};
use crate::transport::Pulse;
use crate::transport::lane::{Lane, SendError};

/// How long it may take to watch a life anew over another connection.
const REARM_WITHIN: Duration = Duration::from_secs(5);

/// A watched life has ended, or cannot be watched any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The node.
    pub node: NodeId,
    /// The name under which the actor is served.
    pub name: Arc<str>,
    /// Which of its lives was watched.
    pub incarnation: u64,
    /// Why.
    pub reason: DownReason,
}

/// Why a watched life is down.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// It has ended, and this is why.
    Ended {
        /// A word for the kind of end, as in `ExitReason::kind`.
        kind: String,
        /// The reason in words.
        reason: String,
    },
    /// It had ended before, and why is not known any more. Erlang's `noproc`.
    Over,
    /// The connection to its node was lost, or the mesh holds the node to be gone; whether it lives
    /// is not known. Erlang's `noconnection`.
    NodeGone(String),
}

/// Watches one life of an actor on another node.
///
/// It ends with one [`Down`], whatever happens. Connections that are closed in good order are
/// replaced, and the life is watched over the next one.
#[derive(Debug)]
pub struct Monitor {
    incarnation: u64,
    /// None once it was told.
    down: Option<oneshot::Receiver<Down>>,
    task: AbortHandle,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// Which life of the actor is watched.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Waits for the end of the life. None if it was told already.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the end can be waited for again.
    pub async fn down(&mut self) -> Option<Down> {
        let down = self.down.as_mut()?.await.ok();
        self.down = None;
        down
    }

    pub(super) async fn start(
        remote: Remote,
        name: Arc<str>,
        within: Duration,
    ) -> Result<Self, CallError> {
        let first = tokio::time::timeout(within, arm(&remote, &name, None)).await;
        let armed = first.unwrap_or(Err(CallError::TimedOut { within }))?;
        let incarnation = armed.incarnation;
        let (tell, down) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (node, reason) = (remote.node, watch(&remote, &name, armed).await);
            // Nobody may wait any more.
            drop(tell.send(Down { node, name, incarnation, reason }));
        });
        Ok(Self { incarnation, down: Some(down), task: task.abort_handle() })
    }
}

/// A life that is watched over one connection, until this is dropped.
struct Armed {
    incarnation: u64,
    /// Which life of its node it belongs to: another one counts its actors' lives anew.
    node: u64,
    ended: oneshot::Receiver<Ended>,
    on: Option<(InFlight, u64)>,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let Some((in_flight, id)) = self.on.take() else { return };
        let link = in_flight.link();
        if link.session::<Calls>(FIRST_KIND).is_some_and(|calls| calls.forget(id)) {
            // If it does not get through, the other side tells of an end that nobody waits for.
            drop(link.lane(Lane::Rpc).send((DEMONITOR, Flags::default(), id), &Pulse {}));
        }
    }
}

/// Watches over one connection after the other.
async fn watch(remote: &Remote, name: &Arc<str>, mut armed: Armed) -> DownReason {
    let life = (armed.incarnation, armed.node);
    let gone = remote.calling.membership.departure(remote.node, armed.node);
    loop {
        let link = armed.on.as_ref().map(|(in_flight, _)| Arc::clone(in_flight.link()));
        let leaves = async {
            match &link {
                Some(link) => link.left().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut armed.ended => match ended {
                Ok(ended) => return reason(ended),
                Err(_lost) => {}
            },
            () = leaves => {}
            () = gone.cancelled() => return DownReason::NodeGone("the mesh holds it to be gone".to_owned()),
        }
        if let Some(link) = link.filter(|link| link.ended().is_some() && !is_orderly(link)) {
            return DownReason::NodeGone(lost(&link).to_string());
        }
        // The next connection is there before the last one is let go.
        let next = tokio::time::timeout(REARM_WITHIN, arm(remote, name, Some(life))).await;
        armed = match next {
            Ok(Ok(armed)) => armed,
            Ok(Err(CallError::Unavailable(super::Unavailability::NotServed(_)))) => {
                return DownReason::Over;
            }
            Ok(Err(error)) => return DownReason::NodeGone(error.to_string()),
            Err(_elapsed) => return DownReason::NodeGone("it does not answer".to_owned()),
        };
    }
}

fn is_orderly(link: &Link) -> bool {
    link.ended().is_some_and(|closed| closed.is_orderly())
}

fn reason(ended: Ended) -> DownReason {
    match ended.kind {
        Some(kind) => DownReason::Ended { kind, reason: ended.reason },
        None => DownReason::Over,
    }
}

/// Watches the life that runs now, or the one that was watched before: which it is of its actor, and
/// of its node.
async fn arm(
    remote: &Remote,
    name: &Arc<str>,
    life: Option<(u64, u64)>,
) -> Result<Armed, CallError> {
    let incarnation = life.map(|(incarnation, _node)| incarnation);
    let here = &remote.calling;
    let (last, ended) = oneshot::channel();
    if remote.node == here.node() {
        let (incarnation, end) = here.served.watch(name, incarnation)?;
        drop(tokio::spawn(async move {
            let reason = end.await;
            let kind = reason.as_ref().map(|reason| reason.kind().to_owned());
            let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
            drop(last.send(Ended { incarnation, kind, reason }));
        }));
        return Ok(Armed { incarnation, node: 0, ended, on: None });
    }
    let in_flight = here.link(remote.node).await?;
    let link = Arc::clone(in_flight.link());
    let node = link.peer().incarnation;
    if life.is_some_and(|(_actor, watched)| watched != node) {
        let why = "its node was started anew".to_owned();
        return Err(CallError::Interrupted(Interruption::ConnectionLost(why)));
    }
    let unsupported = || CallError::Unsupported("monitors".to_owned());
    let calls = link.session::<Calls>(FIRST_KIND).ok_or_else(unsupported)?;
    let (id, (first, watched)) = (calls.next_id(), oneshot::channel());
    calls.expect(&link, id, Waiting::Watched(Some(first), last))?;
    let mut armed = Armed { incarnation: 0, node, ended, on: Some((in_flight, id)) };
    let ask = Watch { to: name.to_string(), incarnation };
    let lane = link.lane(Lane::Rpc);
    loop {
        match lane.send((MONITOR, Flags::default(), id), &ask) {
            Ok(()) => break,
            Err(SendError::Full { .. }) => lane.room().await,
            Err(SendError::Closed(closed)) => return Err(unsent(&closed)),
            Err(SendError::Encode(error)) => return Err(CallError::Unsupported(error.to_string())),
        }
    }
    armed.incarnation = watched.await.unwrap_or_else(|_closed| Err(lost(&link)))?;
    Ok(armed)
}
