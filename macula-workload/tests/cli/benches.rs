//! `macula bench`: all figures of each suite, in short.

use std::path::Path;

use serde_json::Value;

use super::{Folder, run, text, told};

/// Each of these is there, and is more than nothing.
fn has_figures(suite: &Value, names: &[&str]) {
    let results = suite["results"].as_array().unwrap();
    for name in names {
        let figure = results.iter().find(|result| result["name"] == *name);
        assert!(figure.is_some_and(|figure| figure["value"].as_f64() > Some(0.0)), "{name}");
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

#[test]
fn the_bench_of_pubsub_has_all_figures() {
    let suite = told(&["bench", "pubsub", "--json", "--scale", "10000"]);
    assert_eq!(suite["suite"], "pubsub");
    has_figures(
        &suite,
        &[
            "one_to_one",
            "acknowledged",
            "one_to_one_of_bulk",
            "batching_of_messages",
            "latency",
            "batching_gain",
            "fan_out_32",
            "wildcards_100k",
        ],
    );
}

#[test]
fn the_bench_of_the_table_has_all_figures_and_says_its_seed() {
    let arguments = ["bench", "dht", "--json", "--scale", "1000", "--seed", "7", "--large"];
    let suite = told(&arguments);
    assert_eq!((&suite["suite"], &suite["seed"]), (&"dht".into(), &7.into()));
    let results = suite["results"].as_array().unwrap();
    for name in [
        "exact_1k",
        "exact_10k",
        "exact_100k",
        "exact_churn",
        "exact_hostile",
        "exact_healed",
        "hops_10k",
        "messages_10k",
        "bytes_10k",
        "hops_100k",
        "messages_100k",
        "bytes_100k",
        "node_memory",
        "put",
        "get",
        "find_providers",
        "batching_gain",
        "cache_gain",
        "latency_vs_fixed_delay",
    ] {
        let of_name = |result: &&Value| result["name"] == name;
        assert_eq!(results.iter().filter(of_name).count(), 1, "{name}");
    }
    for result in results {
        let value = result["value"].as_f64().unwrap();
        assert!(value.is_finite() && value > 0.0, "{result}");
    }
}

#[test]
fn the_bench_of_replicated_types_has_all_figures() {
    let suite = told(&["bench", "crdt", "--json", "--scale", "1000"]);
    assert_eq!(suite["suite"], "crdt");
    has_figures(
        &suite,
        &[
            "update_g_counter",
            "update_pn_counter",
            "update_lww_register",
            "update_mv_register",
            "update_g_set",
            "update_or_set",
            "update_lww_element_set",
            "update_or_map",
            "merge_or_set",
            "merge_states",
            "delta_bytes_add",
            "crdts_or_set_bytes",
            "crdts_or_set_merge",
            "soak_memory",
            "soak_process",
            "sync_bytes_10",
            "sync_bytes_1k",
            "sync_bytes_100k",
            "converge_100",
            "converge_3",
        ],
    );
}

#[test]
fn the_bench_of_agreement_has_all_figures_and_says_on_which_disk() {
    let folder = Folder::new("bench");
    let place = folder.0.to_str().unwrap();
    let output = run(&["bench", "kv", "--json", "--scale", "1000", "--dir", place]);
    let said = text(&output.stderr);
    if said.contains("brings nothing to a disk") {
        eprintln!("skipped: the tests run where nothing is brought to a disk");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    let suite: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(suite["suite"], "kv");
    assert!(suite["disk"].as_str().unwrap().contains(" on "), "{suite}");
    has_figures(
        &suite,
        &[
            "file_append",
            "raw_store_1",
            "raw_store_64_one_phase",
            "put_sequential",
            "put_64",
            "put_64_of_store",
            "put_1024",
            "put_1024_of_store",
            "get_linearizable_64",
            "get_lease_64",
            "watch_fan_out",
            "failover",
        ],
    );
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "its files are gone");
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        let refused = run(&["bench", "kv", "--dir", memory.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("brings nothing to a disk"), "{refused:?}");
    }
}
