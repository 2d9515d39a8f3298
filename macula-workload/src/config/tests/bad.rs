//! Bad configurations, and what a user is told of each.

use std::path::PathBuf;

use super::{Config, load, tree};

/// Files, each checked against the tree of these tests.
const FILES: &[(&str, &str)] = &[
    ("unknown_table", "[nod]\nname = 'x'\n"),
    ("unknown_key", "[supervision.workload]\n  intensty = 7\n"),
    ("unknown_key_unlike_any", "[node]\ncolour = 'red'\n"),
    ("unknown_key_in_backoff", "[supervision.workload]\nbackoff = { inital = '1s' }\n"),
    ("path_in_parts", "[supervision.platform.consensus]\nintensity = 7\n"),
    ("unquoted", "[node]\nname = red\n"),
    ("unquoted_duration", "[node]\nshutdown = 30s\n"),
    ("unquoted_words", "[node]\nname = my node\n"),
    ("unquoted_number", "[crdt.limits]\nkeys_max = 100_000_\n"),
    ("value_missing", "[node]\nname =\nshutdown = '5s'\n"),
    ("unclosed", "[node\nname = 'x'\n"),
    ("unclosed_text", "[node]\nname = \"red\nshutdown = '5s'\n"),
    ("twice", "[node]\nname = 'a'\nname = 'b'\n"),
    ("section_twice", "[supervision.root]\n[supervision.\"root\"]\n"),
    ("table_for_value", "[node.name]\n"),
    ("value_for_table", "crdt = 'fast'\n"),
    ("value_for_section", "[supervision]\nworkload = 'one_for_all'\n"),
    ("number_for_text", "[node]\nname = 7\n"),
    ("number_for_duration", "[node]\nshutdown = 30\n"),
    ("text_for_number", "[crdt.limits]\nkeys_max = '100'\n"),
    ("float_for_number", "[crdt.limits]\nkeys_max = 1.5\n"),
    ("text_for_boolean", "[supervision.'workload/matchmaker']\nsignificant = 'no'\n"),
    ("number_too_small", "[crdt.limits]\nkeys_max = 0\n"),
    ("number_negative", "[supervision.workload]\nintensity = -1\n"),
    ("number_too_large", "[crdt.limits]\nkeys_max = 99999999999999999999999\n"),
    ("not_a_duration", "[node]\nshutdown = 'soon'\n"),
    ("no_unit", "[supervision.workload]\nperiod = '10'\n"),
    ("not_a_shutdown", "[supervision.workload]\nshutdown = 'brutall'\n"),
    ("not_a_liveness", "[supervision.workload]\nliveness = 'never'\n"),
    ("duration_too_long", "[node]\nshutdown = '100years'\n"),
    ("not_a_strategy", "[supervision.workload]\nstrategy = 'one_for_al'\n"),
    ("not_a_restart", "[supervision.workload]\nrestart = 'sometimes'\n"),
    ("not_a_backoff", "[supervision.workload]\nbackoff = '5s'\n"),
    ("access_word", "[access]\ndefault = 'alow'\n"),
    ("access_rules_no_array", "[access]\nrules = 'none'\n"),
    ("access_rule_without_effect", "access = { rules = [{}, { effect = 'deny' }] }\n"),
    ("access_rule_key", "[[access.rules]]\neffct = 'deny'\n"),
    ("access_rule_values", "[[access.rules]]\nactions = ['calls']\nnodes = ['ada']\n"),
    ("access_rule_names", "[[access.rules]]\nroles = ['a b']\nnames = ['a..b', '**.a']\n"),
    ("name_empty", "[node]\nname = ''\n"),
    ("name_with_space", "[node]\nname = 'my node'\n"),
    ("path_with_space", "[supervision.'my workload']\n"),
    ("path_empty", "[supervision.'']\n"),
    ("path_of_nothing", "[supervision.'workload/matchmakr']\nrestart = 'temporary'\n"),
    ("path_of_its_end", "[supervision.matchmaker]\nrestart = 'temporary'\n"),
    ("path_below_worker", "[supervision.'workload/matchmaker/queue']\n"),
    ("path_below_dynamic", "[supervision.'workload/rooms/7']\nrestart = 'temporary'\n"),
    ("path_below_empty", "[supervision.'platform/consensus/raft']\n"),
    ("flags_of_a_worker", "[supervision.'workload/matchmaker']\nstrategy = 'one_for_all'\n"),
    ("policy_of_the_root", "[supervision.root]\nrestart = 'temporary'\nshutdown = '1s'\n"),
    ("significant_permanent", "[supervision.'workload/matchmaker']\nsignificant = true\n"),
    (
        "significant_never",
        "[supervision.'workload/matchmaker']\nrestart = 'transient'\nsignificant = true\n",
    ),
    ("never_for_significant", "[supervision.'workload/party']\nauto_shutdown = 'never'\n"),
    ("permanent_significant", "[supervision.'workload/party/scout']\nrestart = 'permanent'\n"),
    ("dynamic_strategy", "[supervision.'workload/rooms']\nstrategy = 'rest_for_one'\n"),
    (
        "dynamic_auto_shutdown",
        "[supervision.'workload/rooms']\nauto_shutdown = 'any_significant'\n",
    ),
    ("jitter", "[supervision.'workload/matchmaker']\nbackoff = { jitter = 1.5 }\n"),
    ("backoff_shrinks", "[supervision.'workload/matchmaker']\nbackoff.initial = '9s'\n"),
    ("period_zero", "[supervision.workload]\nperiod = '0s'\n"),
    ("liveness_zero", "[supervision.'workload/matchmaker']\nliveness = '0s'\n"),
    ("address_of_a_name", "[transport]\nlisten = ['localhost:7000']\n"),
    ("address_without_port", "[transport]\nlisten = ['127.0.0.1:7000', '10.0.0.1']\n"),
    ("address_for_addresses", "[transport]\nlisten = '127.0.0.1:7000'\n"),
    ("number_for_address", "[transport]\nlisten = [7000]\n"),
    ("handshake_too_short", "[transport]\nhandshake_timeout = '10ms'\n"),
    ("keep_alive_over_idle", "[transport]\nidle_timeout = '5s'\nkeep_alive = '5s'\n"),
    ("idle_under_keep_alive", "[transport]\nidle_timeout = '2s'\n"),
    ("mtu_too_small", "[transport]\nmtu_max = 576\n"),
    ("window_too_large", "[transport]\nconnection_window = 2_000_000_000\n"),
    ("not_a_congestion", "[transport]\ncongestion = 'cubik'\n"),
    ("body_under_frame", "[transport]\nframe_len_max = 65536\nbody_len_max = 1024\n"),
    ("unknown_key_in_admission", "[transport.admission]\nconnection_max = 5\n"),
    ("nobody_admitted", "[transport.admission]\nconnections_max = 0\n"),
    ("low_above_high", "[pool]\nlive_low = 20\nlive_high = 10\n"),
    ("backoff_max_under_initial", "[pool]\nbackoff_initial = '5s'\nbackoff_max = '1s'\n"),
    ("pool_jitter", "[pool]\njitter = 1.5\n"),
    ("lifetime_too_short", "[pool]\nlifetime = '1s'\n"),
    ("not_a_trust", "[tls]\ntrust = 'nobody'\n"),
    ("verification_off", "[tls]\nenforcement = 'off'\ninsecure = true\n"),
    ("not_a_pin", "[tls]\ntrust = 'pin'\npins = ['sha256/abc']\n"),
    ("allow_a_name", "[tls]\ntrust = 'node-id'\nallow = ['ada']\n"),
    ("directory_empty", "[tls]\ndirectory = ''\n"),
    ("peer_that_is_none", "[peers]\nada = ['127.0.0.1:7000']\n"),
    ("not_a_seed", "[mesh]\nseeds = ['10.0.0.1:7000', '10.0.0.2', 'seed.example.org:0']\n"),
    ("not_a_realm", "[mesh]\nrealm = 'our realm'\n"),
    ("not_a_role", "[mesh]\nrole = 'gateway'\n"),
    ("retry_max_under_initial", "[mesh]\nretry_initial = '5s'\nretry_max = '1s'\n"),
    ("suspicion_min_over_max", "[membership]\nsuspicion_min = '5s'\n"),
    ("timeout_max_under_min", "[membership]\ntimeout_max = '50ms'\n"),
    ("relays_none", "[membership]\nrelays = 0\n"),
    ("unknown_key_in_membership", "[membership]\nprobe_intervall = '1s'\n"),
    ("k_too_large", "[dht]\nk = 65\n"),
    ("agree_over_k", "[dht]\nk = 4\nagree = 5\n"),
    ("record_ttl_too_short", "[dht]\nrecord_ttl_max = '1s'\n"),
    ("author_over_all", "[dht]\nalpha = 3\n[dht.records]\nauthor_count_max = 20000\n"),
    ("all_under_author", "[dht.records]\ncount_max = 100\n"),
    ("timeout_initial_over_max", "[dht.requests]\ntimeout_max = '500ms'\n"),
    ("provider_part_too_late", "[dht.published]\nprovider_part = 0.9\n"),
    ("table_for_value_in_dht", "[dht]\nrecords = 5\n"),
    ("unknown_table_in_dht", "[dht.store]\ncount_max = 5\n"),
    ("unknown_key_in_cache", "[dht.cache]\nttll = '1s'\n"),
    ("unknown_key_in_mesh", "[mesh]\nseed = ['10.0.0.1:7000']\n"),
    ("not_a_use", "[relay]\nuse = 'sometimes'\n"),
    ("places_too_many", "[relay]\nplaces = 9\n"),
    ("node_over_realm", "[relay]\nserve = true\nkib_per_s = 100000\n"),
    ("realm_over_all", "[relay]\nreservations_per_realm_max = 2000\n"),
    ("circuit_lifetime_too_short", "[relay]\ncircuit_lifetime = '1s'\n"),
    ("nothing_on_credit", "[pubsub]\ncredit_messages = 0\n"),
    ("queue_too_short", "[pubsub]\nqueue_len_max = 1000\n"),
    ("direct_too_many", "[pubsub]\ndirect_max = 5000\n"),
    ("topic_over_all", "[pubsub]\nkept_topic_len_max = 2_000_000\nkept_len_max = 1_000_000\n"),
    ("unknown_key_in_pubsub", "[pubsub]\ncredit_message = 5\n"),
    ("lease_of_two_heartbeats", "[consensus]\nheartbeat = '200ms'\n"),
    ("client_with_files", "[consensus]\nrole = 'client'\nfolder = 'here'\n"),
    ("not_a_role_in_consensus", "[consensus]\nrole = 'leader'\n"),
    ("attempt_over_all", "[consensus.kv]\nattempt = '20s'\n"),
    ("unknown_key_in_kv", "[consensus.kv]\nrequest_max = 5\n"),
    ("many_of_the_mesh", "[transport]\nidle_timeout = '1s'\n[pool]\nlive_high = 1\n"),
    (
        "many",
        "[node]\nnmae = 'x'\nshutdown = 5\n\n[crdt.limits]\nkeys_max = -5\n\n\
         [supervision.workload]\nstrategy = 'all'\n[supervision.'a b']\n",
    ),
    (
        "many_of_the_tree",
        "[supervision.'workload/nobody']\n[supervision.root]\nrestart = 'permanent'\n\
         [supervision.'workload/matchmaker']\nintensity = 5\n",
    ),
];

/// Variables of the environment.
const VARIABLES: &[(&str, &str, &str)] = &[
    ("env_unknown", "MACULA_NODE_NAME", "red"),
    ("env_path", "MACULA_SUPERVISION__WORKLOAD__INTENSITY", "7"),
    ("env_out_of_range", "MACULA_CRDT__LIMITS__KEYS_MAX", "0"),
    ("env_not_a_number", "MACULA_CRDT__LIMITS__KEYS_MAX", "many"),
    ("env_not_a_duration", "MACULA_NODE__SHUTDOWN", "30"),
    ("env_of_a_table", "MACULA_DHT__RECORDS", "5"),
    ("env_dht", "MACULA_DHT__RECORDS__COUNT_MAX", "0"),
    ("env_set_unknown", "MACULA_SET", "node.name=red;node.nam=blue"),
    ("env_set_no_value", "MACULA_SET", "node.name"),
];

/// Assignments from the command line.
const FLAGS: &[(&str, &str)] = &[
    ("flag_unknown", "node.nam=red"),
    ("flag_no_value", "node.name"),
    ("flag_no_key", "=red"),
    ("flag_comment", "# node.name=red"),
    ("flag_unclosed", "node.name=\"red"),
    ("flag_empty", "node.name="),
    ("flag_bad_key", "node name=red"),
    ("flag_bad_toml", "supervision.workload.backoff={ initial = 1s }"),
    ("flag_path_of_nothing", "supervision.'wrkload'.intensity=7"),
    ("flag_address", "transport.listen=127.0.0.1:7000,localhost"),
    ("flag_pool", "pool.live_high=1"),
    ("flag_dht", "dht.limits.ignored_for=2days"),
    ("flag_illegal", "supervision.'workload/rooms'.strategy=one_for_all"),
];

fn told(name: &str, config: Result<Config, super::Error>) {
    let error = config.and_then(|config| config.overrides(&tree()).map(drop));
    let error = error.expect_err(name).to_string();
    insta::assert_snapshot!(name, error);
}

#[test]
fn of_a_file() {
    for (name, text) in FILES {
        told(name, Config::parse("macula.toml", text));
    }
}

#[test]
fn of_the_environment() {
    for (name, variable, value) in VARIABLES {
        told(name, load("", &[(variable, value)], &[]));
    }
}

#[test]
fn of_the_command_line() {
    for (name, set) in FLAGS {
        told(name, load("", &[], &[set]));
    }
}

#[test]
fn of_all_layers_at_once() {
    let file = Scratch::new("layers", b"[node]\nname = 7\n");
    let env = [("MACULA_NODE__SHUTDOWN".to_owned(), "soon".to_owned())];
    let error = Config::load(Some(&file.0), env, &["node.nam=x".to_owned()]).unwrap_err();
    insta::assert_snapshot!("all_layers", file.named(&error));
}

/// A file that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let name = format!("macula-config-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    /// The message, with the file named as users name theirs.
    fn named(&self, error: &super::Error) -> String {
        error.to_string().replace(&self.0.display().to_string(), "macula.toml")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn of_files_that_are_no_text() {
    let bound = usize::try_from(super::super::FILE_LEN_MAX).unwrap();
    let comment = |len| vec![b'#'; len];
    for (name, bytes) in [
        ("file_not_utf8", b"[node]\nname = \"caf\xe9\"\n".to_vec()),
        ("file_too_large", comment(bound + 1)),
    ] {
        let file = Scratch::new(name, &bytes);
        let error = Config::load(Some(&file.0), [], &[]).unwrap_err();
        insta::assert_snapshot!(name, file.named(&error));
    }
    let file = Scratch::new("largest", &comment(bound));
    assert!(Config::load(Some(&file.0), [], &[]).is_ok());
}

#[test]
fn of_no_file() {
    let path = std::path::Path::new("no/such/macula.toml");
    let error = Config::load(Some(path), [], &[]).unwrap_err();
    insta::assert_snapshot!("file_missing", error);
}
