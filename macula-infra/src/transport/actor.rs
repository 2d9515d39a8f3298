//! The supervised actor that holds the endpoint, and the place where the others find it.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use macula_core::supervision::{Shutdown, Start, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::Config;
use super::connection::{CloseCode, Connection, Opener};
use super::endpoint::{Endpoint, Me};
use super::io::Sockets;
use super::tls::Credentials;

/// How long peers get to hear that the node stops.
const FAREWELL: Duration = Duration::from_millis(200);

/// The longest time between two looks at the certificates of live connections.
const LOOK_MAX: Duration = Duration::from_secs(3_600);

/// The endpoint of this moment: another after each restart, none in between. Clones are the same.
#[derive(Clone, Default)]
pub struct Current(Arc<Place>);

#[derive(Default)]
struct Place {
    live: ArcSwapOption<Live>,
    watched: Mutex<Watched>,
    /// Rung for each that is watched from now on.
    joined: Notify,
}

/// The connections whose peers are judged anew.
#[derive(Default)]
struct Watched {
    all: Vec<Weak<Opener>>,
    /// Those that were not yet judged since they are watched.
    fresh: Vec<Weak<Opener>>,
}

struct Live {
    endpoint: Endpoint,
    gone: CancellationToken,
}

impl Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("is_up", &self.0.live.load().is_some()).finish()
    }
}

impl Current {
    /// The endpoint, and what is cancelled when it is gone; none while it restarts.
    #[must_use]
    pub fn get(&self) -> Option<(Endpoint, CancellationToken)> {
        self.0.live.load().as_ref().map(|live| (live.endpoint.clone(), live.gone.clone()))
    }

    /// Has the peer of a connection judged anew whenever trust changes or its certificate ends.
    pub(crate) fn watch(&self, opener: &Arc<Opener>) {
        let mut watched = self.0.watched.lock();
        if watched.all.len() == watched.all.capacity() {
            watched.all.retain(|opener| opener.strong_count() > 0);
        }
        watched.all.push(Arc::downgrade(opener));
        watched.fresh.push(Arc::downgrade(opener));
        drop(watched);
        self.0.joined.notify_one();
    }

    fn watched(&self) -> Vec<Arc<Opener>> {
        let mut watched = self.0.watched.lock();
        watched.fresh = Vec::new();
        watched.all.retain(|opener| opener.strong_count() > 0);
        watched.all.iter().filter_map(Weak::upgrade).collect()
    }

    fn fresh(&self) -> Vec<Arc<Opener>> {
        let fresh = std::mem::take(&mut self.0.watched.lock().fresh);
        fresh.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What takes the connections that peers dial.
pub type Sink = Arc<dyn Fn(Connection, CancellationToken) + Send + Sync>;

/// What an endpoint is made of, again for each of its lives.
#[derive(Clone)]
pub struct Parts {
    /// How it behaves.
    pub config: Config,
    /// The sockets, which outlive it.
    pub sockets: Arc<Sockets>,
    /// Who the node is.
    pub me: Me,
    /// Where it is found.
    pub current: Current,
    /// Who takes what arrives.
    pub sink: Sink,
}

impl Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("me", &self.me).finish_non_exhaustive()
    }
}

/// The worker that holds the endpoint.
///
/// # Errors
///
/// Never: its id is one.
pub fn worker(parts: Parts) -> Result<Worker<EndpointActor>, macula_core::path::InvalidId> {
    let make = move |_: &_| Ok(Start::Run(EndpointActor, parts.clone()));
    Ok(Worker::with("endpoint", make)?.shutdown(Shutdown::Timeout(Duration::from_secs(2))))
}

/// Holds the endpoint.
#[derive(Debug)]
pub struct EndpointActor;

/// Something that an endpoint stands on has ended by itself; so the endpoint fails, and its
/// supervisor makes another.
#[derive(Debug)]
pub struct Broken(String);

/// Fields drop in order: first nobody finds the endpoint, then all that runs upon it ends.
#[derive(Debug)]
pub struct Running {
    place: Occupied,
    _gone: DropGuard,
    _tasks: JoinSet<()>,
}

/// Takes the endpoint out of its place when it is dropped.
#[derive(Debug)]
struct Occupied(Current);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.0.live.store(None);
    }
}

impl Actor for EndpointActor {
    type Msg = Broken;
    type State = Running;
    type Arguments = Parts;

    async fn pre_start(
        &self,
        myself: ActorRef<Broken>,
        parts: Parts,
    ) -> Result<Running, ActorProcessingErr> {
        let Parts { config, sockets, me, current, sink } = parts;
        let credentials = me.credentials.clone();
        let (endpoint, mut arrivals) = Endpoint::start(config, sockets, me).await?;
        let gone = CancellationToken::new();
        // Each of these goes on for as long as the endpoint does.
        let mut tasks = JoinSet::new();
        let token = gone.clone();
        tasks.spawn(async move {
            while let Some(connection) = arrivals.recv().await {
                sink(connection, token.clone());
            }
            "the way of arrivals"
        });
        let watching = current.clone();
        tasks.spawn(async move {
            distrust(watching, credentials).await;
            "the watch over trust"
        });
        let over = endpoint.over();
        tasks.spawn(async move {
            over.cancelled().await;
            "a listener"
        });
        current.0.live.store(Some(Arc::new(Live { endpoint, gone: gone.clone() })));
        let mut watch = JoinSet::new();
        watch.spawn(first_end(tasks, myself));
        Ok(Running { place: Occupied(current), _gone: gone.drop_guard(), _tasks: watch })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Broken>,
        Broken(what): Broken,
        _running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        Err(format!("the endpoint is broken: {what} has ended").into())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Broken>,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        let current = &running.place.0;
        // Whoever hears that a connection has ended may dial at once.
        if let Some((endpoint, _gone)) = current.get() {
            endpoint.refuse();
        }
        // Those count as well that have ended a moment ago.
        let had_peers = !current.0.watched.lock().all.is_empty();
        current.watched().iter().for_each(|opener| opener.close(CloseCode::Stopping));
        if had_peers {
            // The library has no way to ask whether the last packets have left.
            tokio::time::sleep(FAREWELL).await;
        }
        Ok(())
    }
}

/// Tells the actor when one of its tasks has ended, in whatever way.
async fn first_end(mut tasks: JoinSet<&'static str>, actor: ActorRef<Broken>) {
    let what = match tasks.join_next().await {
        Some(Ok(what)) => what.to_owned(),
        Some(Err(panicked)) => panicked.to_string(),
        None => return,
    };
    // An actor that has ended already needs no word.
    drop(actor.send_message(Broken(what)));
}

/// Closes the connections of peers that are not believed any more.
///
/// One that joins is judged once more if trust has changed since its handshake.
async fn distrust(current: Current, credentials: Credentials) {
    let mut changes = credentials.changes();
    let mut next = look(&current.watched(), true, &credentials);
    loop {
        let wait = next.saturating_sub(credentials.now()).min(LOOK_MAX);
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = current.0.joined.notified() => {
                next = next.min(look(&current.fresh(), false, &credentials));
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        next = look(&current.watched(), true, &credentials);
    }
}

/// Judges peers anew, all or those whose handshake was before the last change. Tells when to do so again, since the Unix epoch.
fn look(openers: &[Arc<Opener>], all: bool, credentials: &Credentials) -> Duration {
    let now = credentials.now();
    let mut next = now.saturating_add(LOOK_MAX);
    for opener in openers {
        if (all || opener.generation != credentials.generation())
            && opener.rejudge(credentials).is_err()
        {
            opener.close(CloseCode::Distrusted);
            continue;
        }
        // A certificate holds through the second at which it ends.
        let over = opener.not_after.saturating_add(Duration::from_secs(1));
        if over > now {
            next = next.min(over);
        }
    }
    next
}

#[cfg(test)]
mod tests;
