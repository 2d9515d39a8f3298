//! Elections by command: who leads is seen from each node, resigns when it is asked to, and is followed by
//! another one when its node is killed.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::agreement::{start, until_done};
use super::{Folders, macula, text, told};

/// A command that goes on telling, which is killed with its test.
pub(super) struct Telling {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Telling {
    pub(super) fn start(folders: &Folders, through: &str, words: &[&str]) -> Self {
        let mut command = macula(words);
        command.args(["--json", "--config", &folders.configuration(through)]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    pub(super) fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// The token of an election that this one has won.
    pub(super) fn elected(&mut self) -> u64 {
        let told = self.next();
        assert_eq!(told.get("event").and_then(Value::as_str), Some("elected"), "{told}");
        told.get("token").and_then(Value::as_u64).unwrap()
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn who_leads_is_seen_asked_to_resign_and_followed_by_another() {
    let folders = Folders::new("election");
    let ids = [folders.init("a", None), folders.init("b", Some("a")), folders.init("c", Some("a"))];
    let nodes = start(&folders, &ids);
    let [a, b, c] = &ids;
    for voter in [b, c] {
        until_done(&folders, "a", &["raft", "add-voter", voter]);
    }
    let list = ["election", "list", "--json", "--config", &folders.configuration("a")];
    assert_eq!(told(&list), json!({ "elections": [], "has_more": false }));
    let nobody = ["election", "resign", "job", "--config", &folders.configuration("a")];
    let output = macula(&nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("nobody leads"), "{}", text(&output.stderr));

    let mut seen = Telling::start(&folders, "a", &["election", "observe", "job"]);
    assert_eq!(seen.next()["leader"], json!(null));
    let campaign = ["election", "campaign", "job", "--ttl", "2s"];
    let mut at_b = Telling::start(&folders, "b", &campaign);
    let first = at_b.elected();
    let mut at_c = Telling::start(&folders, "c", &campaign);
    let listed = told(&list);
    let row = json!({ "election": "job", "node": b, "token": first, "asked_to_resign": false });
    assert_eq!(listed["elections"], json!([row]), "{listed}");

    // It is asked from a node that has no part in it, and waited for.
    let resign = ["election", "resign", "job", "--wait", "50s", "--json"];
    let resigned = until_done(&folders, "a", &resign);
    let resigned: Value = serde_json::from_str(&resigned).unwrap();
    assert_eq!(resigned, json!({ "token": first, "resigned": true }));
    assert_eq!(at_b.next(), json!({ "event": "deposed", "token": first, "why": "asked" }));
    let second = at_c.elected();
    assert!(second > first, "{second} after {first}");

    // Its node goes without a word, and the other one has had its rest.
    let [_, _, lost] = &nodes;
    lost.signal("KILL");
    let third = at_b.elected();
    assert!(third > second, "{third} after {second}");
    let mut led = Vec::new();
    while led.last() != Some(&(json!(b), third)) {
        let told = seen.next();
        assert_eq!(told["gap"], false, "{told}");
        let leader = &told["leader"];
        let is_asked = leader["asked_to_resign"] == json!(true);
        if !leader.is_null() && !is_asked {
            led.push((leader["node"].clone(), leader["token"].as_u64().unwrap()));
        }
    }
    assert_eq!(led, [(json!(b), first), (json!(c), second), (json!(b), third)]);

    // Whoever asked for the candidacy has gone, and so it ends.
    drop(at_b);
    while !seen.next()["leader"].is_null() {}
    let wrong = ["election", "observe", "", "--config", &folders.configuration("a")];
    let output = macula(&wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no name of an election"), "{}", text(&output.stderr));
    drop((at_c, seen));
    let [a_runs, b_runs, lost] = nodes;
    assert_eq!(a_runs.node, *a);
    drop(lost);
    b_runs.stop();
    a_runs.stop();
}
