//! Nodes that nobody can dial are called over others, which see nothing of what is said.

use std::os::unix::fs::FileExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use serde_json::{Value, json};

use super::{Folders, Running, answered, macula, text, told};

/// How many bytes of a process are looked at at one time.
const PIECE: usize = 1 << 20;

/// A bound for the worst machine.
const WITHIN: Duration = Duration::from_secs(60);

/// How often a state is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Says why a test was not run. A test that passes has what it prints kept back, so it is written.
fn skipped(why: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).ok();
}

/// How often some bytes are found in the writable memory of a process.
fn found(process: u32, needle: &[u8]) -> std::io::Result<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = std::fs::File::open(format!("/proc/{process}/mem"))?;
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let span = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (hex(span.0), hex(span.1));
        let mut piece = Vec::new();
        while at < end {
            piece.resize((PIECE + needle.len()).min(usize::try_from(end - at).unwrap()), 0);
            // What was given back meanwhile holds nothing.
            let len = memory.read_at(&mut piece, at).unwrap_or(0);
            let windows = piece.windows(needle.len()).take((len + 1).saturating_sub(needle.len()));
            count += windows.filter(|window| *window == needle).count();
            at += u64::try_from(PIECE).unwrap();
        }
    }
    Ok(count)
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap()
}

/// What a node tells of its peers.
fn peers(folders: &Folders, name: &str) -> Value {
    told(&["peers", "--config", &folders.configuration(name), "--json"])
}

/// How many pairs it carries.
fn circuits(folders: &Folders, name: &str) -> u64 {
    peers(folders, name).get("relayed_circuits").and_then(Value::as_u64).unwrap()
}

/// Runs a node that nobody can dial.
fn hidden(folders: &Folders, name: &str, node: String, seed: &Running) -> Running {
    let mut command = macula(&["run", "--config", &folders.configuration(name)]);
    let seed = format!("mesh.seeds={}", seed.address);
    command.args(["--set", "transport.listen=[]", "--set", &seed]);
    Running::run(command, node)
}

#[test]
fn a_node_tells_over_which_relay_another_is_reached() {
    let folders = Folders::new("via");
    let relay = folders.init("relay", None);
    let [b, c] = ["b", "c"].map(|name| folders.init(name, Some("relay")));
    let relay = Running::start_with(&folders, "relay", relay, &["relay.serve=true"]);
    let b = hidden(&folders, "b", b, &relay);
    let c = hidden(&folders, "c", c, &relay);
    let until = TokioClock.now() + WITHIN;
    let told = loop {
        let told = peers(&folders, "c");
        let found = told["peers"].as_array().unwrap();
        let via = |node: &str| found.iter().find(|peer| peer["node"] == node).map(|p| &p["via"]);
        if via(&b.node) == Some(&json!(relay.node)) {
            assert_eq!(via(&relay.node), Some(&Value::Null), "the relay itself is connected");
            break told;
        }
        // Members ping one another about once in a second.
        assert!(TokioClock.now() < until, "{told}");
        std::thread::sleep(LOOK_EVERY);
    };
    assert_eq!(told["relays"], json!([relay.node]));
    let of_relay = peers(&folders, "relay");
    assert_eq!((&of_relay["relayed_nodes"], &of_relay["relayed_circuits"]), (&json!(2), &json!(1)));
    let tables = macula(&["peers", "--config", &folders.configuration("c")]).output().unwrap();
    assert!(text(&tables.stdout).contains("via"), "{}", text(&tables.stdout));
    [b, c, relay].into_iter().for_each(Running::stop);
}

#[test]
fn a_relay_has_nothing_of_what_is_said_in_its_memory() {
    if !cfg!(target_os = "linux") {
        return skipped("the memory of a process is looked at on Linux only");
    }
    let folders = Folders::new("relayed");
    let (relay, b) = (folders.init("relay", None), folders.init("b", Some("relay")));
    folders.init("guest", Some("relay"));
    let relay = Running::start_with(&folders, "relay", relay, &["relay.serve=true"]);
    let b = hidden(&folders, "b", b, &relay);
    let seed = format!("mesh.seeds={}", relay.address);

    // It is put together here, so that no process has it from its command line but the one that asks.
    let needle = format!("{}-{}", "plain", std::process::id().wrapping_mul(0x9e37_79b9));
    let config = folders.configuration("guest");
    for _ in 0..5 {
        let question = json!(needle.repeat(1_000));
        let arguments = ["call", &b.node, "node/ping", &question.to_string(), "--config", &config];
        let output = macula(&arguments).args(["--set", &seed, "--within", "60s"]).output().unwrap();
        answered(&output, &b, &question);
    }
    assert!(circuits(&folders, "relay") >= 1, "the relay has carried it");
    let sought =
        (found(relay.process.id(), needle.as_bytes()), found(b.process.id(), needle.as_bytes()));
    match sought {
        (Ok(at_the_relay), Ok(at_the_end)) => {
            assert!(at_the_end > 0, "what is sought can be found where it is");
            assert_eq!(at_the_relay, 0, "and it is not at the relay");
        }
        (relay, end) => skipped(&format!("no process may be looked into: {relay:?}, {end:?}")),
    }
    b.stop();
    relay.stop();
}

/// Three networks, of which the outer two reach only the one in between. They go with their test.
struct Networks(String);

impl Networks {
    /// None if there are none to be had.
    fn new() -> Result<Self, String> {
        let networks = Self(format!("macula{}", std::process::id()));
        for name in ["relay", "a", "b"] {
            ip(&["netns", "add", &networks.name(name)])?;
            networks.ip(name, &["link", "set", "lo", "up"])?;
        }
        for (name, net) in [("a", 1), ("b", 2)] {
            let (here, there) = (networks.name("relay"), networks.name(name));
            let end = format!("to-{name}");
            ip(&[
                "link", "add", &end, "netns", &here, "type", "veth", "peer", "name", "out",
                "netns", &there,
            ])?;
            let address = |last: u8| format!("10.77.{net}.{last}/24");
            networks.ip("relay", &["address", "add", &address(1), "dev", &end])?;
            networks.ip("relay", &["link", "set", &end, "up"])?;
            networks.ip(name, &["address", "add", &address(2), "dev", "out"])?;
            networks.ip(name, &["link", "set", "out", "up"])?;
            // They send to each other, and nobody passes it on.
            networks.ip(name, &["route", "add", "default", "via", &format!("10.77.{net}.1")])?;
        }
        Ok(networks)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    fn ip(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name(name)], arguments].concat())
    }

    /// The command `macula` in one of the networks.
    fn macula(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name), env!("CARGO_BIN_EXE_macula")]);
        command.args(arguments).env_remove("MACULA_LOG").env_remove("MACULA_SET");
        command
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in ["relay", "a", "b"] {
            drop(ip(&["netns", "delete", &self.name(name)]));
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output: Output =
        Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    let said = || format!("ip {}: {}", arguments.join(" "), text(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

#[test]
fn nodes_in_networks_that_do_not_reach_each_other_call_each_other() {
    let networks = match Networks::new() {
        Ok(networks) => networks,
        Err(why) => return skipped(&format!("there are no network namespaces here: {why}")),
    };
    let folders = Folders::new("networks");
    let (relay, b) = (folders.init("relay", None), folders.init("b", Some("relay")));
    folders.init("guest", Some("relay"));
    let start = |name: &str, node: String, sets: &[&str]| {
        let config = folders.configuration(name);
        let mut command = networks.macula(name, &["run", "--config", &config]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        Running::run(command, node)
    };
    let reached = "mesh.advertise=[\"10.77.1.1:7400\", \"10.77.2.1:7400\"]";
    let listens = ["transport.listen=0.0.0.0:7400", "relay.serve=true", reached];
    let relay = start("relay", relay, &listens);
    let listens = "transport.listen=10.77.2.2:7400";
    let b = start("b", b, &[listens, "relay.use=always", "mesh.seeds=10.77.2.1:7400"]);
    let call = |uses: &str, within: &str| {
        let config = folders.configuration("guest");
        let arguments = ["call", &b.node, "node/ping", "7", "--config", &config];
        let mut command = networks.macula("a", &arguments);
        command.args(["--set", "mesh.seeds=10.77.1.1:7400", "--set", uses]);
        command.args(["--within", within]).output().unwrap()
    };
    let alone = call("relay.use=never", "3s");
    assert_eq!(alone.status.code(), Some(1), "nothing gets through: {}", text(&alone.stdout));
    answered(&call("relay.use=auto", "60s"), &b, &json!(7));
    assert!(circuits(&folders, "relay") >= 1);
    b.stop();
    relay.stop();
}
