//! A node that nobody has configured.

use super::{Folders, Running, macula, text};

#[test]
fn one_node_without_configuration_keeps_what_it_is_told_when_it_is_started_again() {
    let folders = Folders::new("home");
    let at_home = |words: &[&str]| {
        let mut command = macula(words);
        command.env("MACULA_HOME", folders.at("home"));
        command
    };
    let get = || at_home(&["kv", "get", "a"]).output().unwrap();
    let early = get();
    assert_eq!(early.status.code(), Some(2), "{}", text(&early.stdout));

    let node = Running::run(at_home(&["run"]), String::new());
    let put = at_home(&["kv", "put", "a", "1"]).output().unwrap();
    assert!(put.status.success(), "{}", text(&put.stderr));
    let got = get();
    assert_eq!(text(&got.stdout), "1\n", "{}", text(&got.stderr));
    let fails = |words: &[&str], code: i32, why: &str| {
        let output = at_home(words).output().unwrap();
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {complaint}");
        assert!(complaint.contains(why), "{words:?}: {complaint}");
    };
    fails(&["kv", "put", "", "1"], 2, "one byte at least");
    fails(&["kv", "put", "b", "1", "--ttl", "1ms"], 2, "a lease of 1 ms is not between");
    fails(&["kv", "get", "a", "--within", "51s"], 2, "at most 50s");
    fails(&["kv", "delete", "b"], 1, "there is no key \"b\"");
    fails(&["kv", "put", "a", "2", "--expected", "0"], 1, "and was changed last at revision");
    fails(&["kv", "put", "a", "2", "--expected", "7"], 1, ", and not at 7: nothing changed");
    fails(&["kv", "delete", "b", "--expected", "7"], 1, "there is no key \"b\": nothing");
    fails(&["run"], 2, "stop it, or use the identity of another node");
    // Without a word, and in order.
    node.signal("KILL");
    drop(node);
    let node = Running::run(at_home(&["run"]), String::new());
    let got = get();
    assert_eq!(text(&got.stdout), "1\n", "{}", text(&got.stderr));
    node.stop();
    let node = Running::run(at_home(&["run"]), String::new());
    let got = get();
    assert_eq!(text(&got.stdout), "1\n", "{}", text(&got.stderr));
    node.stop();
}
