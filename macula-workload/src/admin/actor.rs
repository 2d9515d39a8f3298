//! The supervised actor that listens at the socket.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use macula_core::path::InvalidId;
use macula_core::supervision::Worker;
use macula_infra::mesh::Mesh;
use macula_infra::pubsub::{Replay, SubscribeOptions};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::io::Take;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::answer;
use super::{Declined, LINE_LEN_MAX, Request, Response, topics};

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
    pub(crate) mesh: Arc<OnceLock<Mesh>>,
}

/// The worker.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(path: PathBuf, mesh: Arc<OnceLock<Mesh>>) -> Result<Worker<Admin>, InvalidId> {
    Worker::new("admin", move || (Admin, Parts { path: path.clone(), mesh: Arc::clone(&mesh) }))
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
        Parts { path, mesh }: Parts,
    ) -> Result<State, ActorProcessingErr> {
        let bound = bound(&path).map_err(|error| format!("{}: {error}", path.display()));
        let (listener, owner) = bound?;
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            let why = listen(&listener, owner, &mesh).await;
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
async fn listen(listener: &UnixListener, owner: u32, mesh: &Arc<OnceLock<Mesh>>) -> std::io::Error {
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
        let (mesh, turns) = (Arc::clone(mesh), Arc::clone(&turns));
        clients.spawn(async move {
            if let Err(error) = serve(client, &mesh, seat, &turns).await {
                tracing::debug!(%error, "a client of the admin socket");
            }
        });
    }
}

async fn serve(
    client: UnixStream,
    mesh: &OnceLock<Mesh>,
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
    if let (Ok(Request::Subscribe { pattern, group, last, retained }), Some(mesh)) =
        (serde_json::from_slice(&line), mesh.get())
    {
        drop(seat);
        let replay = Replay { last, within: None, retained };
        let options = SubscribeOptions { group, replay, ..SubscribeOptions::default() };
        return follow((read, write), mesh, &pattern, &options).await;
    }
    let Ok(_turn) = turns.acquire().await else { return Ok(()) };
    let response = match (serde_json::from_slice::<Request>(&line), mesh.get()) {
        (Err(_), _) if is_cut => {
            Response::Wrong(format!("the request has more than {LINE_LEN_MAX} bytes"))
        }
        (Err(error), _) => Response::Wrong(format!("the request is none: {error}")),
        (Ok(_), None) => Response::Error("the node is not up yet".to_owned()),
        (Ok(request), Some(mesh)) => match answer(mesh, request).await {
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

/// Tells of what is published until the client goes, or the node ends. A client that reads slowly
/// makes the subscription slow, and nobody else.
async fn follow(
    (mut read, mut write): (BufReader<Take<OwnedReadHalf>>, OwnedWriteHalf),
    mesh: &Mesh,
    pattern: &str,
    options: &SubscribeOptions,
) -> std::io::Result<()> {
    static FOLLOWERS: Semaphore = Semaphore::const_new(FOLLOWERS_MAX);
    let subscribed = match FOLLOWERS.try_acquire() {
        Ok(turn) => topics::subscribe(mesh, pattern, options).map(|subscribed| (subscribed, turn)),
        Err(_none) => {
            let why = format!("there are {FOLLOWERS_MAX} who subscribe already");
            Err(Declined::Failed(why))
        }
    };
    let ((answer, mut subscription), _turn) = match subscribed {
        Ok(subscribed) => subscribed,
        Err(declined) => return say(&mut write, &declined.into()).await,
    };
    say(&mut write, &Response::Ok(answer)).await?;
    let mut rest = [0];
    loop {
        tokio::select! {
            event = subscription.next() => {
                let Some(event) = event else { return Ok(()) };
                say(&mut write, &Response::Ok(topics::told(event))).await?;
            }
            // It says nothing more; what it does is to go.
            _gone = read.read(&mut rest) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
