//! Runs every example as a user would.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// Builds and runs an example, and gives what it said.
fn run(name: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--package", "macula-examples", "--example", name])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed: {}\n{said}\n{complaint}", output.status);
    said
}

#[test]
fn hello() {
    assert!(run("hello").ends_with("hello eve, you are number 1\n"));
}

#[test]
fn supervise() {
    let said = run("supervise");
    assert!(said.contains("workload/pipeline/parser"), "{said}");
    assert!(said.contains("panic: out of paper at "), "{said}");
    assert!(said.contains("hung: no sign of life for 200ms"), "{said}");
}

#[test]
fn policy() {
    let said = run("policy");
    assert!(said.contains("life number 4"), "{said}");
    assert!(said.contains("policy:2:1") && said.contains("intensity"), "{said}");
}

#[test]
fn registers() {
    assert!(run("registers").ends_with("the registers were killed, and forgot nothing\n"));
}

#[test]
fn remote_call() {
    let said = run("remote_call");
    assert!(said.contains("ada has 7 points"), "{said}");
    assert!(said.contains("no answer within 100ms"), "{said}");
    assert!(said.contains("life 1 of scoreboard is down"), "{said}");
    assert!(said.ends_with("after a restart: ada has 5 points\n"), "{said}");
}

#[test]
fn two_nodes() {
    assert!(run("two_nodes").ends_with("hello from the other node\n"));
}

#[test]
fn names() {
    assert_eq!(run("names"), "found on two\nfound on one\n");
}

#[test]
fn matchmaking() {
    assert_eq!(run("matchmaking"), "40 players, 20 rooms\n");
}

#[test]
fn tenants() {
    let said = run("tenants");
    assert!(said.contains("each tenant is answered by its own server"), "{said}");
    assert!(said.contains("blue here: NoSubscribers"), "{said}");
    assert!(said.contains("refused to call: it uses the names of another realm"), "{said}");
    assert!(said.contains("refused to call: rule 2 denies it"), "{said}");
}

#[test]
fn chat() {
    let said = run("chat");
    assert!(said.contains("the moderator hears chat.garden: it rains"), "{said}");
    assert!(said.contains("a late guest hears chat.garden: it rains"), "{said}");
    assert!(said.ends_with("copies were delivered, none was lost\n"), "{said}");
}

#[test]
fn pinning() {
    let said = run("pinning");
    assert!(said.contains("a friend is answered: 42"), "{said}");
    assert!(said.contains("a stranger is not: "), "{said}");
}

#[test]
fn coordinator() {
    let said = run("coordinator");
    assert!(said.starts_with("20 jobs, "), "{said}");
    let coordinators: u32 =
        said.trim_end().trim_start_matches("20 jobs, ").split(' ').next().unwrap().parse().unwrap();
    assert!(coordinators >= 2, "{said}");
}

#[test]
fn lock() {
    let said = run("lock");
    assert!(said.starts_with("18 changes by turns; then: token "), "{said}");
    assert!(said.contains(" is stale: "), "{said}");
}

#[test]
fn configuration() {
    assert!(run("configuration").starts_with("20 changes heard by all, none lost\n"));
}

#[test]
fn scoreboard() {
    let said = run("scoreboard");
    assert!(said.starts_with("2 of 3 have it while one is cut off\n"), "{said}");
    assert!(said.ends_with("on all nodes, and no point is lost\n"), "{said}");
}

#[test]
fn cart() {
    let said = run("cart");
    assert_eq!(said, "the cart has 3 jam, 1 milk, 1 tea\nit was paid for, and has 5 tea again\n");
}

#[test]
fn presence() {
    let said = run("presence");
    assert_eq!(said, "in the lobby: ada ben dan eve\nwithout that node: ben dan\n");
}
