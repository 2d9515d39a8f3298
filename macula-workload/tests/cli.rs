//! The real `macula` binary, as a user calls it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn macula(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_macula"));
    command.args(arguments).env_remove("MACULA_LOG").env_remove("MACULA_SET");
    command
}

fn run(arguments: &[&str]) -> Output {
    macula(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_demo_breaks_heals_and_ends_with_0() {
    let output = run(&["demo", "--json", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = lines(&output.stdout);
    assert!(told.iter().filter(|line| line["type"] == "fault").count() >= 5);
    let verdict = told.last().unwrap();
    assert_eq!(verdict["type"], "verdict");
    assert_eq!(verdict["ok"], true);
    assert!(verdict["failures"].as_u64().unwrap() >= 5, "{verdict}");
    assert!(verdict["restarts"].as_u64().unwrap() >= 5, "{verdict}");
    let kinds: Vec<&str> =
        verdict["kinds"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!(kinds, ["error", "hung", "killed", "meltdown", "panic"]);
    let scores = told.iter().find(|line| line["type"] == "scores").unwrap();
    let won: u64 =
        scores["scores"].as_array().unwrap().iter().map(|row| row["found"].as_u64().unwrap()).sum();
    assert_eq!(won, 40, "each round has one winner");
}

#[test]
fn the_demo_is_plain_in_a_pipe_and_coloured_when_asked() {
    let plain = text(&run(&["demo"]).stdout);
    assert!(plain.contains("the tree healed and no score was lost"));
    assert!(!plain.contains('\x1b'));
    assert!(text(&run(&["demo", "--color", "always"]).stdout).contains("\x1b[32m"));
}

#[test]
fn a_node_runs_until_sigterm_and_stops_in_reverse_order() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/macula.toml");
    let mut child = macula(&["run", "--json", "--config", example.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let up = log.next().unwrap().unwrap();
    assert!(up.contains("the node is up"), "{up}");
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
    let rest: Vec<String> = log.map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("the node has stopped")), "{rest:?}");
    let stopped: Vec<String> = lines(&output.stdout)
        .iter()
        .filter(|event| event["what"]["life"]["change"] == "stopped")
        .map(|event| event["path"].as_str().unwrap().to_owned())
        .collect();
    let at = |path: &str| stopped.iter().position(|stopped| stopped == path).unwrap();
    assert!(at("workload") < at("platform/replicator/registers"));
    assert!(at("platform/replicator/registers") < at("platform"));
    assert!(at("platform") < at("infrastructure/telemetry"));
    assert!(at("infrastructure/telemetry") < at("infrastructure/transport"));
    assert_eq!(stopped.last().unwrap(), "infrastructure");
}

#[test]
fn wrong_calls_end_with_2_and_complain_on_standard_error() {
    let wrong: [&[&str]; 5] = [
        &["frobnicate"],
        &["run", "--config", "no/such/file.toml"],
        &["run", "--set", "node.nam=x"],
        &["bench", "nothing"],
        &["demo", "--seed", "many"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_configuration_can_be_checked_without_starting_anything() {
    let output = run(&["run", "--check", "--set", "supervision.workload.intensity=7"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["run", "--check", "--set", "supervision.workload.strategy=one_for_all"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_teaches_and_succeeds() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in ["demo", "run", "bench", "Exit codes", "MACULA_LOG"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
}

#[test]
fn the_bench_prints_one_object_with_both_sides_of_each_ratio() {
    let output = run(&["bench", "supervision", "--json", "--scale", "200"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let suite: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(suite["suite"], "supervision");
    let results = suite["results"].as_array().unwrap();
    let names: Vec<&str> = results.iter().map(|result| result["name"].as_str().unwrap()).collect();
    for name in [
        "restart_to_ready",
        "restarts",
        "cast",
        "call",
        "dynamic_start",
        "dynamic_memory",
        "dynamic_stop",
    ] {
        assert!(names.contains(&name), "{name} is missing");
    }
    for result in results.iter().filter(|result| result.get("ratio").is_some()) {
        let (value, base) =
            (result["value"].as_f64().unwrap(), result["baseline_value"].as_f64().unwrap());
        assert!((result["ratio"].as_f64().unwrap() - value / base).abs() < 1e-9, "{result}");
    }
}
