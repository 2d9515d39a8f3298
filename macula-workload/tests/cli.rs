//! The real `macula` binary, as a user calls it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "cli/benches.rs"]
mod benches;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use macula_core::identity::Keypair;
use serde_json::Value;

fn macula(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_macula"));
    command.args(arguments).env_remove("MACULA_LOG").env_remove("MACULA_SET");
    command
}

fn run(arguments: &[&str]) -> Output {
    macula(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(self.0.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs a command that has to succeed, and gives its object.
fn told(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn init_makes_a_realm_with_its_first_node_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new("init");
    let home = folder.at("home");
    let made = told(&["init", &home, "--realm", "lobby", "--role", "gateway", "--json"]);
    assert_eq!(made["realm"], "lobby");
    assert_eq!(made["files"].as_array().unwrap().len(), 6);
    for key in ["node.key", "realm.key"] {
        let mode = std::fs::metadata(folder.0.join("home").join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let shown = told(&["identity", "show", "--dir", &home, "--json"]);
    assert_eq!(shown["node"], made["node"]);
    assert_eq!(shown["realm"], "lobby");
    assert_eq!(shown["roles"], serde_json::json!(["gateway"]));
    assert!(shown["pin"].as_str().unwrap().starts_with("sha256/"), "{shown}");
    let plain = text(&run(&["identity", "show", "--dir", &home]).stdout);
    assert!(plain.contains("\nroles gateway\nrealm lobby\n"), "{plain}");

    let before = folder.files("home");
    let again = run(&["init", &home]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("node.key"), "{}", text(&again.stderr));
    assert_eq!(folder.files("home"), before);

    std::fs::create_dir(folder.0.join("half")).unwrap();
    std::fs::write(folder.0.join("half/node.pem"), "mine").unwrap();
    assert_eq!(run(&["init", &folder.at("half")]).status.code(), Some(1));
    assert_eq!(folder.files("half"), [("node.pem".to_owned(), b"mine".to_vec())]);

    let bad = run(&["init", &folder.at("bad"), "--realm", "a b"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(!folder.0.join("bad").exists());
}

#[test]
fn what_init_makes_is_a_good_configuration_that_knows_the_other_node() {
    let folder = Folder::new("join");
    let (first, second) = (folder.at("first"), folder.at("second"));
    let made = told(&["init", &first, "--listen", "127.0.0.1:7000", "--json"]);
    told(&["init", &second, "--join", &first, "--json"]);
    let text_of = |name: &str| std::fs::read_to_string(folder.0.join(name)).unwrap();
    assert_eq!(text_of("first/realm.pem"), text_of("second/realm.pem"));
    assert!(!folder.0.join("second/realm.key").exists());
    let peer = format!("{} = [\"127.0.0.1:7000\"]", made["node"]);
    assert!(text_of("second/macula.toml").contains(&peer), "{}", text_of("second/macula.toml"));
    for node in ["first", "second"] {
        let file = folder.at(&format!("{node}/macula.toml"));
        let output = run(&["run", "--check", "--config", &file]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let stranger = run(&["init", &folder.at("third"), "--join", &second]);
    assert_eq!(stranger.status.code(), Some(1), "the second folder has no key of the realm");
    assert!(text(&stranger.stderr).contains("realm.key"), "{}", text(&stranger.stderr));
}

#[test]
fn rotate_renews_a_certificate_and_a_key_and_keeps_the_roles() {
    let folder = Folder::new("rotate");
    let (home, other) = (folder.at("home"), folder.at("other"));
    told(&["init", &home, "--role", "gateway", "--json"]);
    told(&["init", &other, "--json"]);
    let first = told(&["identity", "show", "--dir", &home, "--json"]);
    let rotate = ["identity", "rotate", "--dir", &home, "--days", "7", "--json"];
    let second = told(&rotate);
    assert_eq!((&second["node"], &second["pin"]), (&first["node"], &first["pin"]));
    assert_ne!(second["serial"], first["serial"]);
    assert_eq!(second["roles"], first["roles"]);
    let old = std::fs::read(folder.0.join("home/node.key")).unwrap();
    let third = told(&[&rotate[..], &["--new-key"]].concat());
    assert_ne!(third["node"], first["node"]);
    assert_eq!(std::fs::read(folder.0.join("home/node.key.old-1")).unwrap(), old);

    let before = folder.files("home");
    let foreign = run(&["identity", "rotate", "--dir", &home, "--realm-dir", &other]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(text(&foreign.stderr).contains("does not believe"), "{}", text(&foreign.stderr));
    assert_eq!(folder.files("home"), before);
}

#[test]
fn revoke_keeps_all_that_was_revoked_before() {
    let folder = Folder::new("revoke");
    let home = folder.at("home");
    told(&["init", &home, "--json"]);
    for (node, revoked) in [("a", 1), ("b", 2), ("a", 2)] {
        let place = folder.at(node);
        if !folder.0.join(node).exists() {
            told(&["init", &place, "--join", &home, "--json"]);
        }
        let file = format!("{place}/node.pem");
        let said = told(&["identity", "revoke", "--dir", &home, "--certificate", &file, "--json"]);
        assert_eq!(said["revoked"], revoked, "{said}");
    }
    let other = folder.at("other");
    let realm = text(&run(&["identity", "show", "--dir", &home]).stdout);
    let realm = realm.lines().last().unwrap().strip_prefix("realm ").unwrap().to_owned();
    told(&["init", &other, "--realm", &realm, "--json"]);
    let before = folder.files("home");
    let file = format!("{other}/node.pem");
    // Another realm, though of the same name; and the realm itself, which is no node.
    for file in [file, format!("{home}/realm.pem")] {
        let foreign = run(&["identity", "revoke", "--dir", &home, "--certificate", &file]);
        assert_eq!(foreign.status.code(), Some(1));
        assert!(text(&foreign.stderr).contains("no node's certificate"), "{foreign:?}");
    }
    let unknown = told(&["identity", "show", "--dir", &other, "--json"]);
    let node = unknown["node"].as_str().unwrap();
    let unknown = run(&["identity", "revoke", "--dir", &home, "--node", node]);
    assert!(text(&unknown.stderr).contains("knows of no certificate"), "{unknown:?}");
    assert_eq!(run(&["identity", "revoke", "--dir", &home]).status.code(), Some(2));
    assert_eq!(folder.files("home"), before);
}

#[test]
fn revoke_takes_back_all_that_a_node_has_ever_got() {
    let folder = Folder::new("revoke-all");
    let (home, away) = (folder.at("home"), folder.at("away"));
    told(&["init", &home, "--json"]);
    let node = told(&["init", &away, "--join", &home, "--json"])["node"].clone();
    for _ in 0..2 {
        told(&["identity", "rotate", "--dir", &away, "--realm-dir", &home, "--json"]);
    }
    let revoke = ["identity", "revoke", "--dir", &home, "--node", node.as_str().unwrap(), "--json"];
    let said = told(&revoke);
    assert_eq!((said["serials"].as_array().unwrap().len(), &said["revoked"]), (3, &3.into()));
    let again = told(&revoke);
    assert_eq!((again["serials"].as_array().unwrap().len(), &again["revoked"]), (0, &3.into()));
}

#[test]
fn the_files_of_an_identity_are_checked_with_the_configuration() {
    let folder = Folder::new("check");
    let home = folder.at("home");
    told(&["init", &home, "--json"]);
    let config = folder.at("home/macula.toml");
    let said = |what: &str| {
        let output = run(&["run", "--check", "--config", &config]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        let said = text(&output.stderr);
        assert!(said.contains(what), "{said}");
        said
    };
    let good = std::fs::read(folder.0.join("home/node.pem")).unwrap();
    std::fs::write(folder.0.join("home/node.pem"), &good[..300]).unwrap();
    said("certificates, of which only 0 are whole");
    std::fs::remove_file(folder.0.join("home/node.pem")).unwrap();
    let missing = said("cannot open it");
    assert_eq!(missing.matches("No such file").count(), 1, "said again and again: {missing}");
    std::fs::write(folder.0.join("home/node.pem"), &good).unwrap();
    for bad in ["", "garbage", "-----BEGIN X509 CRL-----\nMIIB"] {
        std::fs::write(folder.0.join("home/revoked.pem"), bad).unwrap();
        said("revocation list");
    }
    std::fs::remove_file(folder.0.join("home/revoked.pem")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.0.join("home/revoked.pem")).unwrap();
    said("revoked.pem");
}

#[test]
fn the_demo_breaks_heals_and_ends_with_0() {
    let output = run(&["demo", "--json", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = lines(&output.stdout);
    assert!(told.iter().filter(|line| line["type"] == "fault").count() >= 5);
    let verdict = told.last().unwrap();
    assert_eq!(verdict["type"], "verdict");
    assert_eq!(verdict["ok"], true);
    assert!(verdict["failures"].as_u64().unwrap() >= 5, "{verdict}");
    assert!(verdict["restarts"].as_u64().unwrap() >= 5, "{verdict}");
    let kinds: Vec<&str> =
        verdict["kinds"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!(kinds, ["error", "hung", "killed", "meltdown", "panic"]);
    let scores = told.iter().find(|line| line["type"] == "scores").unwrap();
    for node in 0..3 {
        let rows = scores["scores"].as_array().unwrap().iter();
        let won: u64 = rows.map(|row| row["found"][node].as_u64().unwrap()).sum();
        assert_eq!(won, 40, "each round has one winner, on each node");
    }
    let matchmakers: Vec<(&str, u64)> = told
        .iter()
        .filter(|line| line["type"] == "matchmaker")
        .map(|line| (line["node"].as_str().unwrap(), line["token"].as_u64().unwrap()))
        .collect();
    let [(first, before), (second, after)] = matchmakers[..] else { panic!("{matchmakers:?}") };
    assert!(first == "rooms" && second != first && after > before, "{matchmakers:?}");
}

#[test]
fn the_demo_is_plain_in_a_pipe_and_coloured_when_asked() {
    let plain = text(&run(&["demo"]).stdout);
    assert!(plain.contains("everything healed and no score was lost"));
    assert!(!plain.contains('\x1b'));
    assert!(text(&run(&["demo", "--color", "always"]).stdout).contains("\x1b[32m"));
}

#[test]
fn a_node_runs_until_sigterm_and_stops_in_reverse_order() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/macula.toml");
    let mut child = macula(&["run", "--json", "--config", example.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let up = log.next().unwrap().unwrap();
    assert!(up.contains("the node is up"), "{up}");
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
    let rest: Vec<String> = log.map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("the node has stopped")), "{rest:?}");
    let stopped: Vec<String> = lines(&output.stdout)
        .iter()
        .filter(|event| event["what"]["life"]["change"] == "stopped")
        .map(|event| event["path"].as_str().unwrap().to_owned())
        .collect();
    let at = |path: &str| stopped.iter().position(|stopped| stopped == path).unwrap();
    assert!(at("workload") < at("platform/replicator/registers"));
    assert!(at("platform/replicator/registers") < at("platform"));
    assert!(at("platform") < at("infrastructure/telemetry"));
    assert!(at("infrastructure/telemetry") < at("infrastructure/transport"));
    assert_eq!(stopped.last().unwrap(), "infrastructure");
}

#[test]
fn wrong_calls_end_with_2_and_complain_on_standard_error() {
    let node = Keypair::from_seed([1; 32]).node_id().to_string();
    let wrong: [&[&str]; 14] = [
        &["frobnicate"],
        &["run", "--config", "no/such/file.toml"],
        &["run", "--set", "node.nam=x"],
        &["bench", "nothing"],
        &["demo", "--seed", "many"],
        &["sub", "a.b", "--count", "0"],
        &["kv", "watch", "--count", "0"],
        &["crdt", "watch", "bucket", "--count", "0"],
        &["crdt", "watch", "bucket/a"],
        &["crdt", "release", "bucket/a"],
        &["election", "observe", "a", "--count", "0"],
        &["rpc", "call", "node.ping", "1", "--within", "0s"],
        &["call", &node, "node/ping", "1", "--config", "macula.toml", "--within", "0s"],
        &["call", &node, "no de//ping", "1", "--config", "macula.toml"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_is_not_to_be_said_is_told_before_anybody_is_asked() {
    let text_max = 1 << 20;
    for (said, why) in [(vec![b'a', 0xff], "UTF-8"), (vec![b'a'; text_max + 1], "1048576 bytes")] {
        for arguments in [["pub", "a.b"].as_slice(), &["kv", "put", "a"]] {
            let mut macula = macula(arguments);
            macula.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = macula.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // It may stop reading before all is said.
            drop(stdin.write_all(&said));
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn nobody_who_reads_is_no_failure() {
    let folder = Folder::new("unread");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = macula(&["init", &folder.at("node")]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("macula:"), "{}", text(&output.stderr));
    assert!(Path::new(&folder.at("node")).join("node.pem").exists());
}

#[test]
fn a_configuration_can_be_checked_without_starting_anything() {
    let output = run(&["run", "--check", "--set", "supervision.workload.intensity=7"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["run", "--check", "--set", "supervision.'workload/ping'.shutdown=1s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["run", "--check", "--set", "supervision.workload.strategy=one_for_all"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_teaches_and_succeeds() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in ["demo", "init", "identity", "run", "call", "bench", "Exit codes", "MACULA_LOG"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
}
