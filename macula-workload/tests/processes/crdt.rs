//! Replicated types by command: what one node is told all have, wrong calls and refusals are told apart, and
//! what is to be on disk is there after the process was killed.

use std::process::Stdio;
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use serde_json::{Value, json};

use super::agreement::{run, until_done};
use super::{Folders, Running, macula, text, told};

/// A bound for the worst machine.
const WITHIN: Duration = Duration::from_secs(120);

const HOLD: &str = "crdt.hold=lobby,disk";
const DURABLE: &str = "crdt.durable=disk";

/// Runs a command until it says something.
fn until_said(folders: &Folders, through: &str, words: &[&str], expected: &str) {
    let end = TokioClock.now() + WITHIN;
    loop {
        let said = until_done(folders, through, words);
        if said == expected {
            return;
        }
        assert!(TokioClock.now() < end, "{words:?}: {said}");
    }
}

/// Runs a command that has to end with a code, and gives what it complains of.
fn fails(folders: &Folders, words: &[&str], code: i32) -> String {
    let output = run(folders, "a", words);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output.stderr));
    assert!(output.stdout.is_empty() || code == 1, "{words:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn start(folders: &Folders, a: String, b: String) -> [Running; 2] {
    let a = Running::start_with(folders, "a", a, &[HOLD, DURABLE]);
    let seed = format!("mesh.seeds={}", a.address);
    let b = Running::start_with(folders, "b", b, &[HOLD, &seed]);
    let end = TokioClock.now() + WITHIN;
    loop {
        let config = folders.configuration("b");
        let held = told(&["crdt", "keys", "--json", "--config", &config]);
        let rows = held.get("buckets").and_then(Value::as_array).unwrap();
        if rows.len() == 2 && rows.iter().all(|row| row.get("in_touch") == Some(&json!(1))) {
            return [a, b];
        }
        assert!(TokioClock.now() < end, "{held}");
    }
}

fn until_held(folders: &Folders, expected: &[&str]) {
    let end = TokioClock.now() + WITHIN;
    loop {
        let held = told(&["crdt", "keys", "--json", "--config", &folders.configuration("a")]);
        let rows = held.get("buckets").and_then(Value::as_array).unwrap().iter();
        if rows.map(|row| &row["bucket"]).eq(expected) {
            return;
        }
        assert!(TokioClock.now() < end, "{held}");
    }
}

/// Wrong calls, and what could be and is not, while there are two nodes.
fn what_cannot_be_is_told(folders: &Folders, other: &str) {
    // Wrong calls.
    for words in [
        &["crdt", "inc", "score"][..],
        &["crdt", "get", "lobby/score", "--level", "most"],
        &["crdt", "get", "lobby/score", "--level", "0"],
        &["crdt", "inc", "lobby/x", "-1", "--type", "g-counter"],
        &["crdt", "add", "lobby/x", "1", "--type", "pn-counter"],
        &["crdt", "set", "lobby/x", "{", "--parse"],
        &["crdt", "set", "lobby/x", "perhaps", "--type", "dw-flag"],
        &["crdt", "add", "lobby/x", "ada", "--within", "2m"],
        &["crdt", "inc", "lobby/score", "2.5"],
        &["crdt", "get", "score"],
        &["crdt", "keys", &"n".repeat(300)],
        &["crdt", "inc", &format!("wrong/{}", "n".repeat(600))],
    ] {
        let complaint = fails(folders, words, 2);
        assert!(complaint.len() < 700, "{complaint}");
    }
    // What could be, and is not.
    assert!(fails(folders, &["crdt", "get", "lobby/x"], 1).contains("there is no key"));
    assert!(fails(folders, &["crdt", "inc", "lobby/players"], 1).contains("is of type or-set"));
    fails(folders, &["crdt", "remove", "lobby/x"], 1);
    fails(folders, &["crdt", "remove", "lobby/players", "ada"], 1);
    // A bucket that somebody has mistyped is held by nobody then.
    fails(folders, &["crdt", "get", "loby/score"], 1);
    fails(folders, &["crdt", "remove", "loby/score"], 1);
    fails(folders, &["crdt", "inc", "loby/score", "-1", "--type", "g-counter"], 2);
    until_done(folders, "a", &["crdt", "keys", "loby"]);
    assert!(fails(folders, &["crdt", "retire", "loby", other], 1).contains("does not hold"));
    let mut mistyped = macula(&["crdt", "watch", "loby", "--config", &folders.configuration("a")]);
    let mut mistyped = mistyped.spawn().unwrap();
    until_held(folders, &["disk", "lobby", "loby"]);
    mistyped.kill().unwrap();
    mistyped.wait().unwrap();
    until_held(folders, &["disk", "lobby"]);
    let many = ["crdt", "inc", "lobby/score", "--level", "3", "--within", "100ms"];
    let late = fails(folders, &many, 1);
    assert!(late.contains("2 of 2 members were reached"), "{late}");
    let late = run(folders, "a", &[&many[..], &["--json"]].concat());
    let late: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!(late, json!({ "reached": 2, "members": 2, "wanted": 3 }));
}

#[test]
fn what_one_node_is_told_all_have() {
    let folders = Folders::new("crdt");
    let ids = [folders.init("a", None), folders.init("b", Some("a"))];
    let [a, b] = ids.clone();
    let nodes = start(&folders, a, b);

    until_done(&folders, "a", &["crdt", "inc", "lobby/score", "5", "--level", "all"]);
    until_done(&folders, "b", &["crdt", "inc", "lobby/score", "-2", "--level", "2"]);
    until_said(&folders, "a", &["crdt", "get", "lobby/score"], "3");
    until_done(&folders, "a", &["crdt", "add", "lobby/players", "ada"]);
    until_done(&folders, "a", &["crdt", "add", "lobby/players", "7", "--parse"]);
    until_said(&folders, "b", &["crdt", "get", "lobby/players"], "7\nada");
    until_done(&folders, "b", &["crdt", "remove", "lobby/players", "ada", "--level", "all"]);
    until_said(&folders, "a", &["crdt", "get", "lobby/players", "--level", "all"], "7");
    until_done(&folders, "a", &["crdt", "set", "lobby/open", "true", "--type", "ew-flag"]);
    until_said(&folders, "b", &["crdt", "get", "lobby/open"], "true");
    until_done(&folders, "b", &["crdt", "set", "lobby/topic", "cheese"]);
    let config = folders.configuration("b");
    let got = told(&["crdt", "get", "lobby/topic", "--json", "--config", &config]);
    let found = json!([{ "type": "lww-register", "value": "cheese" }]);
    assert_eq!(got, json!({ "key": "lobby/topic", "found": found }));
    let keys =
        told(&["crdt", "keys", "lobby", "--prefix", "lobby/s", "--json", "--config", &config]);
    assert_eq!(keys, json!({ "keys": [{ "key": "lobby/score", "type": "pn-counter" }] }));

    // What changes is told on the other node, from when somebody watches.
    let mut watch = macula(&["crdt", "watch", "lobby", "--prefix", "lobby/s", "--count", "1"]);
    watch.args(["--json", "--config", &config]).stdout(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    while watch.try_wait().unwrap().is_none() {
        until_done(&folders, "a", &["crdt", "inc", "lobby/score"]);
    }
    let heard = watch.wait_with_output().unwrap();
    let heard: Value = serde_json::from_slice(&heard.stdout).unwrap();
    assert_eq!(heard.get("key"), Some(&json!("lobby/score")));
    assert_eq!(heard.get("local"), Some(&json!(false)));
    assert!(heard.get("value").and_then(Value::as_i64) > Some(3), "{heard}");

    what_cannot_be_is_told(&folders, &ids[1]);

    // One lets go, and what it had stays; the other one is alone then, and has nobody to leave it to.
    fails(&folders, &["crdt", "release", "nothing"], 1);
    fails(&folders, &["crdt", "retire", "lobby", "nobody"], 2);
    let alive = fails(&folders, &["crdt", "retire", "lobby", &ids[1]], 1);
    assert!(alive.contains("it is in the mesh"), "{alive}");
    until_done(&folders, "b", &["crdt", "release", "lobby"]);
    until_said(&folders, "a", &["crdt", "get", "lobby/players"], "7");
    let alone = fails(&folders, &["crdt", "release", "lobby"], 1);
    assert!(alone.contains("nobody else holds the bucket"), "{alone}");
    until_said(&folders, "b", &["crdt", "get", "lobby/topic"], "cheese");
    drop(nodes);
}

#[test]
fn what_is_on_disk_is_there_after_a_kill() {
    let folders = Folders::new("crdt-disk");
    let (a, b) = (folders.init("a", None), folders.init("b", Some("a")));
    let [first, other] = start(&folders, a.clone(), b);
    for number in 0..10 {
        until_done(&folders, "a", &["crdt", "add", "disk/kept", &number.to_string()]);
    }
    until_done(&folders, "a", &["crdt", "inc", "disk/sum", "41"]);
    other.stop();
    first.signal("KILL");
    drop(first);
    // Nobody else has it.
    let _again = Running::start_with(&folders, "a", a, &[HOLD, DURABLE]);
    let expected = (0..10).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
    assert_eq!(until_done(&folders, "a", &["crdt", "get", "disk/kept"]), expected);
    until_done(&folders, "a", &["crdt", "inc", "disk/sum"]);
    assert_eq!(until_done(&folders, "a", &["crdt", "get", "disk/sum"]), "42");
}
