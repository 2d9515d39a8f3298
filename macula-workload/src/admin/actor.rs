//! The supervised actor that listens at the socket.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use macula_core::path::InvalidId;
use macula_core::supervision::Worker;
use macula_infra::pubsub::{Replay, SubscribeOptions, Subscription};
use macula_platform::election::Candidacy;
use macula_platform::election::observation::Observation;
use macula_platform::kv::Watch;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;
use tokio::io::Take;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{answer, crdt, election, kv};
use super::{About, Declined, LINE_LEN_MAX, Request, Response, topics};

/// How many clients there are at one time. Others wait.
const CLIENTS_MAX: usize = 256;

/// How many of them are answered at one time. Whoever has not asked yet is in nobody's way.
const ANSWERED_MAX: usize = 16;

/// How many of them subscribe at one time, in one process. More are refused.
const FOLLOWERS_MAX: usize = 64;

/// How long a client has to say what it wants.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// The socket is closed, by whatever.
#[derive(Debug)]
pub(crate) struct Ended(String);

/// The actor.
#[derive(Debug)]
pub(crate) struct Admin;

/// Where it listens, and what it tells about: known once the node has been built.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) path: PathBuf,
    pub(crate) about: Arc<OnceLock<About>>,
}

/// The worker.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    path: PathBuf,
    about: Arc<OnceLock<About>>,
) -> Result<Worker<Admin>, InvalidId> {
    Worker::new("admin", move || (Admin, Parts { path: path.clone(), about: Arc::clone(&about) }))
}

/// One life. The socket goes with it.
pub(crate) struct State {
    path: PathBuf,
    _listening: JoinSet<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl Actor for Admin {
    type Msg = Ended;
    type State = State;
    type Arguments = Parts;

    async fn pre_start(
        &self,
        myself: ActorRef<Ended>,
        Parts { path, about }: Parts,
    ) -> Result<State, ActorProcessingErr> {
        let bound = bound(&path).map_err(|error| format!("{}: {error}", path.display()));
        let (listener, owner) = bound?;
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let why = listen(&listener, owner, &about).await;
            drop(myself.cast(Ended(why.to_string())));
        });
        Ok(State { path, _listening: listening })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Ended>,
        Ended(why): Ended,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Err(format!("the admin socket has ended: {why}").into())
    }
}

/// A socket that only its owner may open, and who that is; in the place of one that a process has
/// left behind. It has its name only once it has its mode.
///
/// # Errors
///
/// If something else stands there, or a process listens: it is left as it is.
fn bound(path: &Path) -> std::io::Result<(UnixListener, u32)> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(std::io::Error::other("something stands there that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(std::io::Error::other("another process listens there"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let listener = UnixListener::bind(&beside)?;
    let named = std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| std::fs::metadata(path));
    if named.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    named.map(|metadata| (listener, metadata.uid()))
}

/// Serves clients until the socket fails, and says how it did.
async fn listen(
    listener: &UnixListener,
    owner: u32,
    about: &Arc<OnceLock<About>>,
) -> std::io::Error {
    let seats = Arc::new(Semaphore::new(CLIENTS_MAX));
    let turns = Arc::new(Semaphore::new(ANSWERED_MAX));
    let mut clients = JoinSet::new();
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return std::io::Error::other("its seats are gone");
        };
        let client = match listener.accept().await {
            Ok((client, _address)) => client,
            Err(error) => return error,
        };
        while clients.try_join_next().is_some() {}
        // Before it had its mode, somebody else may have come.
        if !client.peer_cred().is_ok_and(|peer| peer.uid() == owner) {
            tracing::warn!("a client of another user was turned away from the admin socket");
            continue;
        }
        let (about, turns) = (Arc::clone(about), Arc::clone(&turns));
        clients.spawn(async move {
            if let Err(error) = Box::pin(serve(client, &about, seat, &turns)).await {
                tracing::debug!(%error, "a client of the admin socket");
            }
        });
    }
}

async fn serve(
    client: UnixStream,
    about: &OnceLock<About>,
    seat: impl Send,
    turns: &Semaphore,
) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut line = Vec::new();
    let mut read = BufReader::new(read.take(LINE_LEN_MAX));
    let asked = tokio::time::timeout(ASK_WITHIN, read.read_until(b'\n', &mut line)).await;
    let len =
        asked.map_err(|_elapsed| std::io::Error::other("it does not say what it wants"))??;
    let is_cut = !line.ends_with(b"\n") && u64::try_from(len).unwrap_or(u64::MAX) >= LINE_LEN_MAX;
    match (serde_json::from_slice(&line), about.get()) {
        (Ok(Request::Subscribe { pattern, group, last, retained }), Some(About { mesh, .. })) => {
            drop(seat);
            let replay = Replay { last, within: None, retained };
            let options = SubscribeOptions { group, replay, ..SubscribeOptions::default() };
            let subscribed = async { topics::subscribe(mesh, &pattern, &options) };
            return follow((read, write), subscribed).await;
        }
        (Ok(Request::KvWatch { prefix, after }), Some(About { agreement, .. })) => {
            drop(seat);
            let watched = Box::pin(kv::watch(&agreement.kv, prefix, after));
            return Box::pin(follow((read, write), watched)).await;
        }
        (Ok(Request::CrdtWatch { bucket, prefix }), Some(About { crdts, .. })) => {
            drop(seat);
            let watched = Box::pin(crdt::watch(crdts, bucket, prefix));
            return Box::pin(follow((read, write), watched)).await;
        }
        (Ok(Request::ElectionObserve { name }), Some(About { agreement, .. })) => {
            drop(seat);
            let observed = async { election::observe(&agreement.elections, &name) };
            return Box::pin(follow((read, write), observed)).await;
        }
        (Ok(Request::ElectionCampaign { name, ttl_ms }), Some(About { agreement, .. })) => {
            drop(seat);
            let campaigned = async { election::campaign(&agreement.elections, &name, ttl_ms) };
            return Box::pin(follow((read, write), campaigned)).await;
        }
        _ => {}
    }
    let Ok(_turn) = turns.acquire().await else { return Ok(()) };
    let response = match (serde_json::from_slice::<Request>(&line), about.get()) {
        (Err(_), _) if is_cut => {
            Response::Wrong(format!("the request has more than {LINE_LEN_MAX} bytes"))
        }
        (Err(error), _) => Response::Wrong(format!("the request is none: {error}")),
        (Ok(_), None) => Response::Error("the node is not up yet".to_owned()),
        (Ok(request), Some(about)) => match answer(about, request).await {
            Ok(value) => Response::Ok(value),
            Err(declined) => declined.into(),
        },
    };
    say(&mut write, &response).await
}

async fn say(write: &mut OwnedWriteHalf, response: &Response) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// What a client follows.
trait Followed {
    /// What happens next; none if nothing ever will. It is dropped whenever the client goes.
    async fn happens(&mut self) -> Option<Result<Value, Declined>>;
}

impl Followed for Subscription {
    async fn happens(&mut self) -> Option<Result<Value, Declined>> {
        self.next().await.map(topics::told).map(Ok)
    }
}

impl Followed for Watch {
    async fn happens(&mut self) -> Option<Result<Value, Declined>> {
        Some(kv::next(self).await)
    }
}

impl Followed for crdt::Changes {
    async fn happens(&mut self) -> Option<Result<Value, Declined>> {
        self.next().await
    }
}

impl Followed for Observation {
    async fn happens(&mut self) -> Option<Result<Value, Declined>> {
        Some(election::next(self).await)
    }
}

impl Followed for Candidacy {
    async fn happens(&mut self) -> Option<Result<Value, Declined>> {
        self.next().await.map(|event| Ok(election::told(&event)))
    }
}

/// Tells of what happens until the client goes, or the node ends. A client that reads slowly makes what
/// it follows slow, and nobody else.
async fn follow(
    (mut read, mut write): (BufReader<Take<OwnedReadHalf>>, OwnedWriteHalf),
    begun: impl Future<Output = Result<(Value, impl Followed), Declined>>,
) -> std::io::Result<()> {
    static FOLLOWERS: Semaphore = Semaphore::const_new(FOLLOWERS_MAX);
    let begun = match FOLLOWERS.try_acquire() {
        Ok(turn) => begun.await.map(|begun| (begun, turn)),
        Err(_none) => {
            let why = format!("there are {FOLLOWERS_MAX} who follow something already");
            Err(Declined::Failed(why))
        }
    };
    let ((answer, mut followed), _turn) = match begun {
        Ok(begun) => begun,
        Err(declined) => return say(&mut write, &declined.into()).await,
    };
    say(&mut write, &Response::Ok(answer)).await?;
    let mut rest = [0];
    loop {
        tokio::select! {
            event = followed.happens() => match event {
                None => return Ok(()),
                Some(Ok(event)) => say(&mut write, &Response::Ok(event)).await?,
                Some(Err(declined)) => return say(&mut write, &declined.into()).await,
            },
            // It says nothing more; what it does is to go.
            _gone = read.read(&mut rest) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
