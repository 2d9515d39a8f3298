//! What the realm has agreed upon outlives its processes.
//!
//! `MACULA_POWER_ROUNDS=50 cargo test -p macula-workload --test processes agreement` kills all voters as
//! often.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use serde_json::{Value, json};

use super::{Folders, HANGS, Running, macula, text, told};

/// How often all voters are killed if nothing else is said.
const ROUNDS: u32 = 3;

/// How many values are acknowledged before each time; more are being written then.
const WRITES: usize = 20;

/// How many write at one time.
const WRITERS: usize = 6;

/// A bound for the worst machine.
const WITHIN: Duration = Duration::from_secs(120);

pub(super) fn run(folders: &Folders, through: &str, words: &[&str]) -> Output {
    macula(words).args(["--config", &folders.configuration(through)]).output().unwrap()
}

/// Runs a command until it succeeds, and gives what it says.
pub(super) fn until_done(folders: &Folders, through: &str, words: &[&str]) -> String {
    let end = TokioClock.now() + WITHIN;
    loop {
        let output = run(folders, through, words);
        if output.status.success() {
            return text(&output.stdout).trim_end().to_owned();
        }
        assert!(TokioClock.now() < end, "{words:?}: {}", text(&output.stderr));
    }
}

/// Starts the nodes, of which the first is known to the others.
pub(super) fn start(folders: &Folders, ids: &[String; 3]) -> [Running; 3] {
    let [a, b, c] = ids.clone();
    let a = Running::start(folders, "a", a);
    let seed = format!("mesh.seeds={}", a.address);
    let voter = |name, id| Running::start_with(folders, name, id, &[&seed, "consensus.role=voter"]);
    let (b, c) = (voter("b", b), voter("c", c));
    [a, b, c]
}

/// A key and what it has.
type Pair = (String, String);

/// Writes one value after the other until it is told to stop, and tells of each that is acknowledged.
fn write(
    folders: &Folders,
    named: &str,
    through: &str,
    stops: &AtomicBool,
    told: &SyncSender<Pair>,
) {
    for number in 0.. {
        if stops.load(Ordering::Relaxed) {
            return;
        }
        let (key, value) = (format!("{named}/{number}"), format!("value {number}"));
        let is_done = run(folders, through, &["kv", "put", &key, &value]).status.success();
        if is_done && told.send((key, value)).is_err() {
            return;
        }
    }
}

/// All keys and what they have, page by page.
fn all_of(folders: &Folders, through: &str) -> BTreeMap<String, String> {
    let (mut all, mut from) = (BTreeMap::new(), String::new());
    loop {
        let page = until_done(folders, through, &["kv", "range", "--from", &from, "--json"]);
        let page: Value = serde_json::from_str(&page).unwrap();
        for item in page.get("items").and_then(Value::as_array).unwrap() {
            let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap().to_owned();
            from = text("key");
            all.insert(text("key"), text("value"));
        }
        if page.get("has_more") == Some(&json!(false)) {
            return all;
        }
    }
}

/// Kills all nodes, without a word, while many write. Gives what was acknowledged.
fn kill_in_mid_load(folders: &Folders, nodes: &[Running], round: u32) -> Vec<Pair> {
    let stops = AtomicBool::new(false);
    let (told, acknowledged) = sync_channel(WRITERS);
    std::thread::scope(|scope| {
        for (writer, through) in (0..WRITERS).zip(["a", "b", "c"].into_iter().cycle()) {
            let (told, stops) = (told.clone(), &stops);
            let named = format!("{round}/{writer}");
            scope.spawn(move || write(folders, &named, through, stops, &told));
        }
        drop(told);
        let pairs = (0..WRITES).map(|_| acknowledged.recv_timeout(WITHIN));
        let pairs: Result<Vec<Pair>, _> = pairs.collect();
        nodes.iter().for_each(|node| node.signal("KILL"));
        stops.store(true, Ordering::Relaxed);
        // What was acknowledged and not told of yet.
        let rest: Vec<Pair> = acknowledged.iter().collect();
        let pairs = pairs.expect("nothing is acknowledged");
        pairs.into_iter().chain(rest).collect()
    })
}

#[test]
fn what_was_acknowledged_is_there_after_all_voters_were_killed() {
    let rounds = std::env::var("MACULA_POWER_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(ROUNDS);
    let folders = Folders::lasting("agreement", HANGS * rounds);
    let ids = [folders.init("a", None), folders.init("b", Some("a")), folders.init("c", Some("a"))];
    let mut nodes = start(&folders, &ids);
    let [_, b, c] = &ids;
    for voter in [b, c] {
        until_done(&folders, "a", &["raft", "add-voter", voter]);
    }
    let status = told(&["raft", "status", "--json", "--config", &folders.configuration("c")]);
    let voters = status["members"].as_array().unwrap();
    assert_eq!(voters.len(), 3, "{status}");
    assert!(voters.iter().all(|member| member["role"] == json!("voter")), "{status}");
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        acknowledged.extend(kill_in_mid_load(&folders, &nodes, round));
        drop(nodes);
        nodes = start(&folders, &ids);
        let there = all_of(&folders, "c");
        for (key, value) in &acknowledged {
            assert_eq!(there.get(key), Some(value), "{key}");
        }
    }
    assert!(acknowledged.len() >= WRITES, "{} were acknowledged", acknowledged.len());
    for node in nodes {
        node.stop();
    }
}

#[test]
fn who_may_not_change_the_group_is_refused_and_put_down_and_still_reads_and_writes() {
    let folders = Folders::new("changes");
    let ids = [folders.init("a", None), folders.init("b", Some("a")), folders.init("c", Some("a"))];
    let [a, b, c] = ids.clone();
    // Neither b nor the leader's own node may; c is in no rule.
    let rule = format!(
        r#"access.rules=[{{ effect = "deny", actions = ["call"], names = ["macula.raft.change"], nodes = ["{b}", "{a}"] }}]"#
    );
    let first = Running::start_with(&folders, "a", a, &[&rule]);
    let seed = format!("mesh.seeds={}", first.address);
    let voter =
        |name, id| Running::start_with(&folders, name, id, &[&seed, "consensus.role=voter"]);
    let (second, third) = (voter("b", b.clone()), voter("c", c.clone()));
    until_done(&folders, "b", &["kv", "put", "a", "1"]);
    let refused = |through: &str, words: &[&str]| {
        let output = run(&folders, through, words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains("rule 1 denies it"), "{}", text(&output.stderr));
    };
    let id = first.node.clone();
    for words in [
        ["raft", "add-voter", &b, ""],
        ["raft", "add-learner", &b, ""],
        ["raft", "remove-voter", &id, ""],
        ["raft", "transfer", &id, ""],
        ["raft", "replace", &id, &b],
        ["raft", "snapshot", "--node", &id],
    ] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        refused("b", &words);
    }
    let audit = told(&["audit", "--config", &folders.configuration("a"), "--json"]);
    let is_it = |entry: &&Value| {
        let name = entry["name"].as_str().unwrap();
        entry["node"] == json!(b)
            && entry["action"] == "call"
            && name.contains("macula/raft/change")
    };
    let entries = audit["refused"].as_array().unwrap();
    assert_eq!(entries.iter().filter(is_it).count(), 6, "{audit}");
    refused("a", &["raft", "add-voter", &b]);
    until_done(&folders, "c", &["raft", "add-voter", &c]);
    assert_eq!(until_done(&folders, "b", &["kv", "get", "a"]), "1");
    [first, second, third].into_iter().for_each(Running::stop);
}

#[test]
fn who_does_not_answer_and_that_too_few_do_is_told() {
    let folders = Folders::new("silent");
    let [a, b] = [folders.init("a", None), folders.init("b", Some("a"))];
    let c = folders.init("c", Some("a"));
    let first = Running::start(&folders, "a", a);
    let seed = format!("mesh.seeds={}", first.address);
    let second = Running::start_with(&folders, "b", b.clone(), &[&seed, "consensus.role=voter"]);
    // One that is not taken in yet says so, and one that has no member has to get one first.
    let outside = until_done(&folders, "a", &["raft", "status", "--node", &b]);
    assert!(outside.contains("in no group yet") && !outside.contains("MAJORITY"), "{outside}");
    let client = Running::start_with(&folders, "c", c.clone(), &[&seed]);
    client.says(&format!("joined node={}", first.node));
    let refused = run(&folders, "a", &["raft", "add-voter", &c]);
    let why = "it has no member yet: one comes of `role = \"voter\"`";
    assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    client.stop();
    until_done(&folders, "a", &["raft", "add-voter", &b]);
    let status = || told(&["raft", "status", "--json", "--config", &folders.configuration("a")]);
    let answers = |status: &Value, node: &str| {
        let members = status["members"].as_array().unwrap();
        let member = members.iter().find(|member| member["node"] == json!(node)).unwrap();
        member["answers"].as_bool().unwrap()
    };
    let whole = status();
    assert_eq!((&whole["silent_voters"], &whole["has_majority"]), (&json!(0), &json!(true)));
    assert!(answers(&whole, &b), "{whole}");
    // Whoever votes cannot listen, and nobody else goes.
    let wrong = run(&folders, "a", &["raft", "add-learner", &b]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("votes, and has all"), "{}", text(&wrong.stderr));

    second.signal("KILL");
    drop(second);
    let put = run(&folders, "a", &["kv", "put", "x", "1", "--within", "2s"]);
    assert_eq!(put.status.code(), Some(1));
    let why = "there is no majority: 1 of 2 voters answer, and 2 are needed";
    assert!(text(&put.stderr).contains(why), "{}", text(&put.stderr));
    let broken = status();
    assert_eq!((&broken["silent_voters"], &broken["has_majority"]), (&json!(1), &json!(false)));
    assert!(!answers(&broken, &b) && answers(&broken, &first.node), "{broken}");
    let shown = run(&folders, "a", &["raft", "status"]);
    assert!(text(&shown.stdout).contains("THERE IS NO MAJORITY"), "{}", text(&shown.stdout));
    first.stop();
}
