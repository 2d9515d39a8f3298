//! A leader that does not run for longer than its lease: when it runs again it is none, and all that was
//! acknowledged meanwhile is there.

use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::agreement::{start, until_done};
use super::election::Telling;
use super::{Folders, macula, text, told};

/// A command that has said what it wants, and is waiting for an answer.
fn waiting(folders: &Folders, through: &str, words: &[&str]) -> Child {
    let mut command = macula(words);
    command.args(["--config", &folders.configuration(through)]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_does_not_act_as_one() {
    let folders = Folders::new("pause");
    let ids = [folders.init("a", None), folders.init("b", Some("a")), folders.init("c", Some("a"))];
    let nodes = start(&folders, &ids);
    let names = ["a", "b", "c"];
    for voter in &ids[1..] {
        until_done(&folders, "a", &["raft", "add-voter", voter]);
    }
    let status = told(&["raft", "status", "--json", "--config", &folders.configuration("c")]);
    let at = ids.iter().position(|id| status["leader"] == json!(id)).unwrap();
    let (leader, other) = (names[at], names[(at + 1) % 3]);
    let first = until_done(&folders, leader, &["kv", "put", "x", "1", "--json"]);
    let first: Value = serde_json::from_str(&first).unwrap();
    let revision = first["revision"].to_string();
    let campaign = ["election", "campaign", "job", "--ttl", "1s"];
    let mut held = Telling::start(&folders, leader, &campaign);
    let token = held.elected();

    nodes[at].signal("STOP");
    // What is asked of it now it hears in the moment in which it runs again.
    let reads = ["lease", "linearizable"].map(|level| {
        let words = ["kv", "get", "x", "--level", level];
        [(); 4].map(|()| waiting(&folders, leader, &words))
    });
    let late = ["kv", "put", "x", "late", "--expected", &revision];
    let late = waiting(&folders, leader, &late);
    for number in 0..20 {
        until_done(&folders, other, &["kv", "put", &format!("y/{number}"), "acknowledged"]);
    }
    until_done(&folders, other, &["kv", "put", "x", "2"]);
    let mut follows = Telling::start(&folders, other, &campaign);
    let next = follows.elected();
    assert!(next > token, "{next} after {token}");
    nodes[at].signal("CONT");

    for read in reads.into_iter().flatten() {
        let output = read.wait_with_output().unwrap();
        // It may have been too late to find out who leads; but it is never told what was.
        assert!(!output.status.success() || text(&output.stdout) == "2\n", "{output:?}");
    }
    let output = late.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let deposed = held.next();
    assert_eq!((&deposed["event"], &deposed["token"]), (&json!("deposed"), &json!(token)));
    for name in names {
        assert_eq!(until_done(&folders, name, &["kv", "get", "x"]), "2");
        assert_eq!(until_done(&folders, name, &["kv", "get", "y/19"]), "acknowledged");
    }
    let range = ["kv", "range", "y/", "--json", "--config", &folders.configuration(leader)];
    assert_eq!(told(&range)["items"].as_array().unwrap().len(), 20);
    // It is a voter like the others again.
    let member = ["raft", "status", "--node", &ids[at], "--json"];
    let member: Value = serde_json::from_str(&until_done(&folders, other, &member)).unwrap();
    assert_eq!(member["in_touch"], true, "{member}");
    drop((held, follows));
    nodes.into_iter().for_each(super::Running::stop);
}
