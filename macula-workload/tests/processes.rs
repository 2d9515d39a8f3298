//! Nodes in processes of their own, made and started as a user makes and starts them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "processes/agreement.rs"]
mod agreement;
#[path = "processes/crdt.rs"]
mod crdt;
#[path = "processes/election.rs"]
mod election;
#[path = "processes/home.rs"]
mod home;
#[path = "processes/pause.rs"]
mod pause;
#[path = "processes/rebuild.rs"]
mod rebuild;
#[path = "processes/relay.rs"]
mod relay;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use serde_json::{Value, json};

fn macula(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_macula"));
    command.args(arguments).env_remove("MACULA_LOG").env_remove("MACULA_SET");
    command.env_remove("MACULA_POWER_ROUNDS");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that has to succeed, and gives its object.
fn told(arguments: &[&str]) -> Value {
    let output = macula(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How long a test may take before it is taken for one that hangs. None takes so long otherwise.
const HANGS: Duration = Duration::from_mins(5);

/// Ends all tests if this one hangs, and says which it was: a test that waits for a process waits for
/// ever if that never answers.
#[expect(clippy::print_stderr, reason = "it is the last that is said")]
fn end_if_it_hangs(name: &str, hangs: Duration) -> SyncSender<()> {
    let (over, is_over) = sync_channel(1);
    let name = name.to_owned();
    std::thread::spawn(move || {
        if is_over.recv_timeout(hangs) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the test with the folders of {name} hangs");
            std::process::abort();
        }
    });
    over
}

/// Folders of nodes, which go with their test.
struct Folders {
    path: PathBuf,
    /// Dropped with the test.
    _over: SyncSender<()>,
}

impl Folders {
    fn new(name: &str) -> Self {
        Self::lasting(name, HANGS)
    }

    /// Of a test that may take so long.
    fn lasting(name: &str, hangs: Duration) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("processes-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self { path, _over: end_if_it_hangs(name, hangs) }
    }

    fn at(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    fn configuration(&self, name: &str) -> String {
        self.at(&format!("{name}/macula.toml"))
    }

    /// Makes a folder, and gives the id of its node.
    fn init(&self, name: &str, join: Option<&str>) -> String {
        let (folder, other) = (self.at(name), join.map(|other| self.at(other)));
        let mut arguments = vec!["init", &folder, "--json"];
        if let Some(other) = &other {
            arguments.extend(["--join", other]);
        }
        told(&arguments).get("node").unwrap().as_str().unwrap().to_owned()
    }

    /// Asks the `node/ping` of a node from the identity of a folder.
    fn ping(&self, from: &str, to: &Running, question: &str) -> Output {
        let (config, at) = (self.configuration(from), to.address.to_string());
        let arguments = ["call", &to.node, "node/ping", question, "--config", &config, "--at", &at];
        // A bound for the worst machine; nobody waits for it.
        macula(&arguments).args(["--within", "30s"]).output().unwrap()
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

/// A node in a process of its own, which is killed with its test.
struct Running {
    node: String,
    address: SocketAddr,
    process: Child,
    log: Receiver<String>,
    /// What it said before it was up: it may have met others by then.
    early: RefCell<VecDeque<String>>,
}

/// How long a node may be silent about what a test waits for, before the test fails and tells what
/// the node said.
const SILENT: Duration = Duration::from_mins(3);

/// How many lines of a node wait for its test. More are lost.
const LINES_MAX: usize = 65_536;

/// The lines that a node writes. They are read whether a test wants them or not, for a node does
/// not go on once nobody takes them.
fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (lines, log) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            // A test that is over reads no more, and one that reads none needs no more.
            drop(lines.try_send(line.unwrap()));
        }
    });
    log
}

/// Waits until a log says something. What it says before that is put to the rest.
fn heard(log: &Receiver<String>, words: &str, rest: &mut VecDeque<String>) -> String {
    let until = TokioClock.now() + SILENT;
    loop {
        match log.recv_timeout(until.saturating_duration_since(TokioClock.now())) {
            Ok(line) if line.contains(words) => return line,
            Ok(line) => rest.push_back(line),
            Err(why) => {
                let rest: Vec<String> = rest.drain(..).collect();
                panic!("{why}: never said: {words}; but:\n{}", rest.join("\n"));
            }
        }
    }
}

impl Running {
    /// Starts the node of a folder on a free port, and waits until it is up.
    fn start(folders: &Folders, name: &str, node: String) -> Self {
        Self::start_with(folders, name, node, &[])
    }

    fn start_with(folders: &Folders, name: &str, node: String, sets: &[&str]) -> Self {
        let config = folders.configuration(name);
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let mut command = macula(&["run", "--config", &config]);
        command.args(["--set", "transport.listen=127.0.0.1:0"]).args(sets);
        Self::run(command, node)
    }

    /// Runs the node that a command starts, and waits until it is up.
    fn run(mut command: Command, node: String) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = lines_of(process.stderr.take().unwrap());
        let mut early = VecDeque::new();
        let up = heard(&log, "the node is up", &mut early);
        assert!(up.contains(&node), "{up}");
        let address = up.split("listening=[").nth(1).unwrap().split(']').next().unwrap();
        // One that listens nowhere has no address.
        let address = address.parse().unwrap_or_else(|_none| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self { node, address, process, log, early: RefCell::new(early) }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let kill = format!("kill -{name} \"$0\"");
        assert!(Command::new("sh").args(["-c", &kill, &pid]).status().unwrap().success());
    }

    /// Waits until the log says something.
    fn says(&self, words: &str) -> String {
        let mut said = VecDeque::new();
        while let Some(line) = self.early.borrow_mut().pop_front() {
            if line.contains(words) {
                return line;
            }
            said.push_back(line);
        }
        heard(&self.log, words, &mut said)
    }

    /// Stops the node in order.
    fn stop(mut self) {
        self.signal("TERM");
        self.says("the node has stopped");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn answered(output: &Output, by: &Running, question: &Value) {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, json!({ "node": by.node, "incarnation": 1, "echo": question }));
}

#[test]
fn two_nodes_of_a_realm_call_each_other_and_a_stranger_is_refused() {
    let folders = Folders::new("calls");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    folders.init("stranger", None);
    folders.init("guest", Some("a"));
    let a = Running::start(&folders, "a", a);
    let b = Running::start(&folders, "b", b);

    // A node that runs is not asked with its own identity.
    let twin = folders.ping("a", &b, "7");
    assert_eq!(twin.status.code(), Some(2));
    assert!(text(&twin.stderr).contains("another process"), "{}", text(&twin.stderr));

    let question = json!({ "text": "h\u{e9}", "numbers": [1, -2, 2.5, null, true] });
    answered(&folders.ping("guest", &b, &question.to_string()), &b, &question);
    answered(&folders.ping("guest", &a, "7"), &a, &json!(7));

    let refused = folders.ping("stranger", &b, "7");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
    assert!(text(&refused.stderr).contains("refused"), "{}", text(&refused.stderr));
    // The other side does not know of it, and goes on.
    answered(&folders.ping("guest", &b, "8"), &b, &json!(8));
    a.stop();
    b.signal("TERM");
    b.says("the node has stopped");
}

#[test]
fn a_node_takes_a_new_certificate_and_a_revocation_while_it_runs() {
    let folders = Folders::new("reload");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let guest = folders.init("guest", Some("a"));
    let a = Running::start(&folders, "a", a);
    let b = Running::start(&folders, "b", b);
    let (home, away) = (folders.at("a"), folders.at("b"));
    let rotated = told(&["identity", "rotate", "--dir", &away, "--realm-dir", &home, "--json"]);
    assert_eq!(rotated["node"], b.node.as_str());
    b.signal("HUP");
    b.says("the identity was read anew");
    answered(&folders.ping("guest", &b, "1"), &b, &json!(1));

    // What cannot be read changes nothing.
    let good = std::fs::read(folders.path.join("b/node.pem")).unwrap();
    std::fs::write(folders.path.join("b/node.pem"), "no certificate").unwrap();
    b.signal("HUP");
    b.says("the identity was not read anew");
    answered(&folders.ping("guest", &b, "3"), &b, &json!(3));
    std::fs::write(folders.path.join("b/node.pem"), good).unwrap();

    answered(&folders.ping("guest", &a, "4"), &a, &json!(4));
    told(&["identity", "revoke", "--dir", &home, "--node", &guest, "--json"]);
    a.signal("HUP");
    a.says("the identity was read anew");
    let refused = folders.ping("guest", &a, "5");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    // What was revoked stays so, whatever becomes of the file.
    for bad in ["", "garbage", "-----BEGIN X509 CRL-----\nMIIB"] {
        std::fs::write(folders.path.join("a/revoked.pem"), bad).unwrap();
        a.signal("HUP");
        a.says("the identity was not read anew");
    }
    std::fs::remove_file(folders.path.join("a/revoked.pem")).unwrap();
    a.signal("HUP");
    let said = a.says("the identity was not read anew");
    assert!(said.contains("would be believed again"), "{said}");
    assert_eq!(folders.ping("guest", &a, "6").status.code(), Some(1));
    a.stop();
    b.stop();
}

#[test]
fn a_node_takes_other_pins_while_it_runs() {
    let folders = Folders::new("pins");
    let a = folders.init("a", None);
    folders.init("friend", Some("a"));
    folders.init("other", Some("a"));
    let a = Running::start(&folders, "a", a);
    answered(&folders.ping("other", &a, "1"), &a, &json!(1));

    let file = folders.path.join("a/macula.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[tls\n").unwrap();
    a.signal("HUP");
    a.says("the identity was not read anew");
    answered(&folders.ping("other", &a, "2"), &a, &json!(2));

    let friend = told(&["identity", "show", "--dir", &folders.at("friend"), "--json"]);
    let pins = format!("[tls]\ntrust = \"pin\"\npins = [{}]\n", friend["pin"]);
    std::fs::write(&file, good.replace("[tls]\n", &pins)).unwrap();
    a.signal("HUP");
    a.says("the identity was read anew");
    answered(&folders.ping("friend", &a, "3"), &a, &json!(3));
    let refused = folders.ping("other", &a, "4");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    a.stop();
}

#[test]
fn what_was_put_is_found_when_the_node_through_which_all_met_has_gone() {
    let folders = Folders::new("three");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let c = folders.init("c", Some("a"));
    let a = Running::start(&folders, "a", a);
    let seed = format!("mesh.seeds={}", a.address);
    let b = Running::start_with(&folders, "b", b, &[&seed]);
    let c = Running::start_with(&folders, "c", c, &[&seed]);
    let (b_joins, c_joins) = (format!("joined node={}", b.node), format!("joined node={}", c.node));
    b.says(&c_joins);
    c.says(&b_joins);
    let config = |name: &str| folders.configuration(name);
    let peers = told(&["peers", "--config", &config("b"), "--json"]);
    assert_eq!(peers["peers"].as_array().unwrap().len(), 2, "{peers}");
    let put =
        ["dht", "put", "greeting", "hello", "--quorum", "all", "--config", &config("b"), "--json"];
    let stored = told(&put);
    assert_eq!((&stored["reached"], &stored["sequence"]), (&json!(true), &json!(1)), "{stored}");

    // The one that both know goes without a word.
    a.signal("KILL");
    c.says(&format!("gone node={}", a.node));
    let got = told(&["dht", "get", "greeting", "--config", &config("c"), "--json"]);
    assert_eq!((&got["value"], &got["agreed"]), (&json!("hello"), &json!(2)), "{got}");
    let late = ["dht", "put", "greeting", "bye", "--expected", "0", "--config", &config("c")];
    let late = macula(&late).output().unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("sequence number 1"), "{}", text(&late.stderr));
    let nobody = macula(&["dht", "get", "nothing", "--config", &config("c")]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    let wrong = |how: [&str; 4], why: &str| {
        let [command, name, flag, value] = how;
        let mut words = vec!["dht", command, name];
        if command == "put" {
            words.push("value");
        }
        let at_c = config("c");
        words.extend([flag, value, "--config", at_c.as_str()]);
        let output = macula(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    };
    wrong(["put", "name", "--quorum", "nonsense"], "is no quorum");
    wrong(["get", "name", "--space", "nowhere"], "there is no key space");
    wrong(["providers", &"n".repeat(513), "--space", "any"], "at most 512 are taken");
    wrong(["put", "name", "--ttl", "365d"], "at most 2days is possible");
    let table = told(&["dht", "table", "--config", &config("c"), "--json"]);
    assert!(table["records"].as_u64().unwrap() >= 1, "{table}");
    b.stop();
    c.stop();
    let gone = macula(&["peers", "--config", &config("b")]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("is it running?"), "{}", text(&gone.stderr));
}

#[test]
fn a_node_finds_the_mesh_again_without_seeds() {
    let folders = Folders::new("table");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let a = Running::start(&folders, "a", a);
    let (joined, id) = (format!("joined node={}", a.node), b.clone());
    let seed = format!("mesh.seeds={}", a.address);
    let b = Running::start_with(&folders, "b", b, &[&seed]);
    b.says(&joined);
    b.stop();
    // It listens elsewhere now, so the other cannot be who finds it.
    let b = Running::start(&folders, "b", id);
    b.says(&joined);
    b.stop();
    assert!(Path::new(&folders.at("b/table.json")).exists());
    a.stop();
}

#[test]
fn procedures_are_called_and_who_may_not_is_refused_and_put_down() {
    let folders = Folders::new("rpc");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let (c, d) = (folders.init("c", Some("a")), folders.init("d", Some("a")));
    // One that only helps the others to find each other provides nothing.
    let a = Running::start_with(&folders, "a", a, &["mesh.role=bootstrap"]);
    let seed = format!("mesh.seeds={}", a.address);
    let rule = r#"access.rules=[{ effect = "deny", actions = ["call"], names = ["node.*"] }]"#;
    let b = Running::start_with(&folders, "b", b, &[&seed, rule]);
    let c = Running::start_with(&folders, "c", c, &[&seed]);
    let config = |name: &str| folders.configuration(name);
    let listed = |name: &str| told(&["rpc", "list", "--config", &config(name), "--json"]);
    assert_eq!(listed("a")["procedures"], json!([]));
    assert_eq!(listed("c")["procedures"], json!(["node.ping"]));
    let providers = || {
        let list = ["rpc", "list", "node.ping", "--config", &config("b"), "--json"];
        let found = told(&list)["providers"].as_array().unwrap().clone();
        found.iter().map(|found| text(found["node"].as_str().unwrap().as_bytes())).collect()
    };
    let mut both = vec![b.node.clone(), c.node.clone()];
    both.sort();
    loop {
        let mut found: Vec<String> = providers();
        found.sort();
        if found == both {
            break;
        }
    }
    // The node of the rule may not ask itself either, and so another is asked or none.
    let call = |name: &str| {
        macula(&["rpc", "call", "node.ping", "[1,2]", "--config", &config(name)]).output().unwrap()
    };
    let answer = loop {
        let output = call("c");
        if output.status.success() {
            break serde_json::from_slice::<Value>(&output.stdout).unwrap();
        }
        assert!(text(&output.stderr).contains("forbidden"), "{}", text(&output.stderr));
    };
    assert_eq!((&answer["node"], &answer["echo"]), (&json!(c.node), &json!([1, 2])));

    let refused = folders.ping("d", &b, "1");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("rule 1 denies it"), "{}", text(&refused.stderr));
    let audit = told(&["audit", "--config", &config("b"), "--json"]);
    let put_down = audit["refused"].as_array().unwrap().iter().any(|entry| {
        entry["node"] == json!(d)
            && entry["action"] == "call"
            && entry["name"] == "node/ping"
            && entry["why"] == "rule 1 denies it"
    });
    assert!(put_down, "{audit}");
    let shown = macula(&["audit", "--config", &config("b")]).output().unwrap();
    assert!(text(&shown.stdout).starts_with("at "), "{}", text(&shown.stdout));

    let asked = |procedure: &str| {
        macula(&["rpc", "call", procedure, "1", "--config", &config("c")]).output().unwrap()
    };
    let wrong = asked("node..ping");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("is no procedure"), "{}", text(&wrong.stderr));
    let nobody = asked("nobody.there");
    assert!(text(&nobody.stderr).contains("nobody provides"), "{}", text(&nobody.stderr));
    [a, b, c].into_iter().for_each(Running::stop);
}

#[test]
fn what_is_published_at_one_node_is_followed_at_another() {
    let folders = Folders::new("topics");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let a = Running::start(&folders, "a", a);
    let seed = format!("mesh.seeds={}", a.address);
    let b = Running::start_with(&folders, "b", b, &[&seed]);
    b.says(&format!("joined node={}", a.node));
    let (at_a, at_b) = (folders.configuration("a"), folders.configuration("b"));
    let publish = ["pub", "room.1", "hello", "--retain", "--config", &at_a, "--json"];
    assert_eq!(told(&publish), json!({ "subscribers": 0 }));
    // It is retained, so it does not matter who is first.
    let follow = ["sub", "room.*", "--retained", "--count", "1", "--config", &at_b, "--json"];
    let heard = told(&follow);
    assert_eq!((&heard["topic"], &heard["value"]), (&json!("room.1"), &json!("hello")));
    assert_eq!((&heard["publisher"], &heard["replayed"]), (&json!(a.node), &json!(true)));
    let wrong = macula(&["pub", "room..1", "hello", "--config", &at_a]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stdout));
    let nameless = ["sub", "room.1", "--group", "", "--config", &at_a];
    assert_eq!(macula(&nameless).output().unwrap().status.code(), Some(2));
    // Whoever follows a node that stops is told so.
    let mut follower = macula(&["sub", "room.*", "--retained", "--config", &at_b]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut heard = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(heard.next().unwrap().unwrap(), "room.1 hello");
    b.stop();
    let ended = follower.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("the node ended"), "{}", text(&ended.stderr));
    a.stop();
}

#[test]
fn what_rules_forbid_is_told_to_whoever_publishes_and_whoever_subscribes() {
    let folders = Folders::new("forbidden");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let deny = |action: &str, names: &str| {
        format!(
            r#"access.rules=[{{ effect = "deny", actions = ["{action}"], names = ["{names}"] }}]"#
        )
    };
    let a = Running::start_with(&folders, "a", a, &[&deny("subscribe", "hidden.**")]);
    let seed = format!("mesh.seeds={}", a.address);
    let b = Running::start_with(&folders, "b", b, &[&seed, &deny("publish", "secret.**")]);
    b.says(&format!("joined node={}", a.node));
    let (at_a, at_b) = (folders.configuration("a"), folders.configuration("b"));
    let follow = |pattern: &str| {
        let mut command = macula(&["sub", pattern, "--config", &at_b]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let publish = |topic: &str| {
        macula(&["pub", topic, "x", "--at-least-once", "--config", &at_a]).output().unwrap()
    };
    // Until a subscriber is known nothing is sent.
    let outcome = |topic: &str| loop {
        let output = publish(topic);
        if !text(&output.stdout).contains("subscribers 0") {
            break output;
        }
    };
    let mut all = ["secret.a", "open.a", "hidden.a"].map(follow);
    let refused = outcome("secret.a");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let said = text(&refused.stderr);
    assert!(said.contains("0 of 1 were delivered, 1 forbidden"), "{said}");
    let delivered = outcome("open.a");
    assert_eq!(delivered.status.code(), Some(0), "{}", text(&delivered.stderr));
    assert!(text(&delivered.stdout).contains("delivered 1"), "{}", text(&delivered.stdout));
    // What it may not get it has no subscriber of, and whoever subscribes is told why nothing comes.
    assert!(text(&publish("hidden.a").stdout).contains("subscribers 0"));
    let told = all.last_mut().and_then(|child| child.stderr.take()).map(BufReader::new).unwrap();
    let told = told.lines().next().unwrap().unwrap();
    assert!(told.contains(&a.node) && told.contains("its rules forbid it"), "{told}");
    for mut child in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    b.stop();
    a.stop();
}

#[test]
fn calls_that_cannot_be_made_say_why() {
    let folders = Folders::new("wrong");
    let node = folders.init("a", None);
    let other = folders.init("b", Some("a"));
    let config = folders.configuration("a");
    let call = |arguments: &[&str]| {
        let output =
            macula(&["call"]).args(arguments).args(["--config", &config]).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = call(&[&other, "node/ping", "1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no address of the node is known"), "{said}");
    let (code, said) = call(&[&node, "node/ping", "1"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("that very node"), "{said}");
    let (code, said) = call(&[&other, "node/ping", "{"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("no JSON"), "{said}");
    assert_eq!(call(&["ada", "node/ping", "1"]).0, Some(2));
}
