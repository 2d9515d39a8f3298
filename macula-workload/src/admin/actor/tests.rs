//! What clients are told, and who may be one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{CLIENTS_MAX, LINE_LEN_MAX, State, bound, listen, serve};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("macula-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The turn of a client.
fn turns() -> Semaphore {
    Semaphore::new(1)
}

/// What a node that is not up answers to some bytes, after which the client says no more.
async fn told(bytes: &[u8]) -> String {
    let (mut client, server) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    let talk = async move {
        // A node that has heard enough may close before all is said.
        drop(client.write_all(&bytes).await);
        drop(client.shutdown().await);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (nobody, turns) = (OnceLock::new(), turns());
    let (served, answer) = tokio::join!(serve(server, &nobody, (), &turns), talk);
    served.unwrap();
    assert!(answer.ends_with('\n'), "{answer:?}");
    answer.trim_end().to_owned()
}

#[tokio::test]
async fn what_is_no_request_is_told_to_be_none() {
    let mut all = Vec::new();
    for request in [
        &b"{\"command\": \"peers\"}\n"[..],
        b"{\"command\": \"peers\"}",
        b"peers\n",
        b"{\"command\": \"pe",
        b"\n",
        b"",
        b"{\"command\": \"dance\"}\n",
        b"{\"command\": \"dht_get\", \"space\": \"any\"}\n",
        b"{\"command\": \"peers\", \"of\": 7}\n",
        b"[1, 2]\n",
        b"\xff\xfe\n",
    ] {
        all.push(format!("{} {}", request.escape_ascii(), told(request).await));
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test]
async fn nobody_says_more_than_a_line_may_have() {
    let limit = usize::try_from(LINE_LEN_MAX).unwrap();
    let too_long = format!("{{\"wrong\":\"the request has more than {LINE_LEN_MAX} bytes\"}}");
    // As long as may be, with its end.
    let mut just = vec![b' '; limit];
    just[..19].copy_from_slice(b"{\"command\":\"peers\"}");
    just[limit - 1] = b'\n';
    assert_eq!(told(&just).await, "{\"error\":\"the node is not up yet\"}");
    assert_eq!(told(&vec![b'['; limit]).await, too_long);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for_for_ever() {
    let (_client, server) = UnixStream::pair().unwrap();
    let error = serve(server, &OnceLock::new(), (), &turns()).await.unwrap_err();
    assert_eq!(error.to_string(), "it does not say what it wants");
}

#[tokio::test]
async fn only_its_owner_may_open_the_socket_and_it_takes_the_place_of_an_old_one() {
    let folder = Folder::new("admin-bits");
    let path = folder.socket();
    // Somebody has left one behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).await.is_err());
    let (_listener, _owner) = bound(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(UnixStream::connect(&path).await.is_ok());
    let files = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(files, 1, "nothing else is left");
    // It goes with its life.
    drop(State { path: path.clone(), _listening: tokio::task::JoinSet::new() });
    assert!(!path.exists());
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let folder = Folder::new("admin-gone");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { bound(&folder.0.join("no/admin.sock")).unwrap_err() });
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn clients_that_hang_up_or_dawdle_take_no_turn_from_those_that_come_later() {
    let folder = Folder::new("admin-clients");
    let path = folder.socket();
    let (listener, owner) = bound(&path).unwrap();
    let listening =
        tokio::spawn(async move { listen(&listener, owner, &Arc::new(OnceLock::new())).await });
    // More than have turns go at once, in the middle of a word or before they read an answer.
    for number in 0..2 * CLIENTS_MAX {
        let mut client = UnixStream::connect(&path).await.unwrap();
        let said: &[u8] = if number % 2 == 0 { b"{\"comm" } else { b"{\"command\":\"peers\"}\n" };
        client.write_all(said).await.unwrap();
    }
    // All but one turn are taken by clients that say nothing.
    let mut quiet = Vec::new();
    for _ in 1..CLIENTS_MAX {
        quiet.push(UnixStream::connect(&path).await.unwrap());
    }
    for _ in 0..3 {
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"{\"command\":\"peers\"}\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "{\"error\":\"the node is not up yet\"}\n");
    }
    listening.abort();
}

#[tokio::test]
async fn what_else_stands_there_is_left_as_it_is() {
    let folder = Folder::new("admin-else");
    let path = folder.socket();
    std::fs::write(&path, "precious").unwrap();
    let error = bound(&path).unwrap_err().to_string();
    assert_eq!(error, "something stands there that is no socket");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let (listener, _owner) = bound(&path).unwrap();
    assert_eq!(bound(&path).unwrap_err().to_string(), "another process listens there");
    assert!(UnixStream::connect(&path).await.is_ok(), "it still listens");
    // Nobody listens at what is left of it.
    drop(listener);
    assert!(bound(&path).is_ok());
}
