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
