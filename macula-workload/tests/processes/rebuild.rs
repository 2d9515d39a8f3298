//! A voter whose files are damaged does not vote, and is rebuilt by one command.

use serde_json::{Value, json};

use super::agreement::{run, start, until_done};
use super::{Folders, Running, text};

#[test]
fn a_voter_with_damaged_files_gets_all_anew_from_the_others_by_command() {
    let folders = Folders::new("rebuild");
    let ids = [folders.init("a", None), folders.init("b", Some("a")), folders.init("c", Some("a"))];
    let [a, b, c] = start(&folders, &ids);
    for voter in &ids[1..] {
        until_done(&folders, "a", &["raft", "add-voter", voter]);
    }
    for number in 0..20 {
        until_done(&folders, "b", &["kv", "put", &format!("key/{number}"), "acknowledged"]);
    }
    let sound = run(&folders, "c", &["raft", "rebuild"]);
    assert_eq!(sound.status.code(), Some(1));
    assert!(text(&sound.stderr).contains("not known to be damaged"), "{}", text(&sound.stderr));

    c.signal("TERM");
    c.says("the node has stopped");
    drop(c);
    let log = folders.path.join("c/consensus/log.redb");
    let mut bytes = std::fs::read(&log).unwrap();
    let found = bytes.windows(12).enumerate().filter(|(_, window)| *window == b"acknowledged");
    let found: Vec<usize> = found.map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    found.into_iter().for_each(|at| bytes[at] ^= 1);
    std::fs::write(&log, &bytes).unwrap();
    let seed = format!("mesh.seeds={}", a.address);
    let c = Running::start_with(&folders, "c", ids[2].clone(), &[&seed, "consensus.role=voter"]);
    let damaged = run(&folders, "b", &["raft", "status", "--node", &ids[2]]);
    assert!(text(&damaged.stderr).contains("damaged"), "{}", text(&damaged.stderr));
    // It reads and writes like any client meanwhile.
    until_done(&folders, "c", &["kv", "put", "meanwhile", "1"]);

    let rebuilt = until_done(&folders, "c", &["raft", "rebuild", "--json"]);
    let rebuilt: Value = serde_json::from_str(&rebuilt).unwrap();
    assert_eq!(rebuilt["member"], json!(ids[2]), "{rebuilt}");
    let voters = rebuilt["members"].as_array().unwrap();
    assert_eq!(voters.len(), 3, "{rebuilt}");
    assert!(voters.iter().all(|member| member["role"] == json!("voter")), "{rebuilt}");
    let files = std::fs::read_dir(folders.path.join("c/consensus")).unwrap();
    let names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("log.redb.damaged-")), "{names:?}");

    // Now it makes a majority with one of the others.
    a.signal("KILL");
    drop(a);
    until_done(&folders, "c", &["kv", "put", "after", "1"]);
    for key in ["key/0", "key/19", "meanwhile", "after"] {
        until_done(&folders, "c", &["kv", "get", key]);
    }
    b.stop();
    c.stop();
}
