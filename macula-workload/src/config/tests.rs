//! What good and bad configurations give.

mod bad;

use std::collections::BTreeMap;
use std::time::Duration;

use macula_core::path::Path;
use macula_core::supervision::{
    AutoShutdown, Backoff, ChildPolicy, ChildSpec, Flags, Restart, Shutdown, Strategy, Supervisor,
    Worker,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::keys::{
    ACCESS, ADMIN, ADMISSION, BACKOFF, BUCKET, CACHE, CHILD, CONSENSUS, CRDT, DHT, FLAGS, KV,
    LIMITS, MEMBERSHIP, MESH, NODE, POOL, PROVIDERS, PUBLISHED, PUBSUB, RECORDS, RELAY, REQUESTS,
    RULE, SECTION, TABLE, TAKEN, TLS, TOP, TRANSPORT,
};
use super::{Config, Error};

const EXAMPLE: &str = include_str!("../../../examples/macula.toml");

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn worker(id: &str) -> Worker<Idle> {
    Worker::new(id, || (Idle, ())).unwrap()
}

/// A tree with all that can stand in one: lists, an empty one, a dynamic one, and workers.
fn tree() -> ChildSpec {
    let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(8));
    let scout = worker("scout").restart(Restart::Transient).significant(true);
    let workload = Supervisor::new("workload")
        .unwrap()
        .child(worker("matchmaker").backoff(backoff).liveness(Duration::from_secs(3)))
        .child(Supervisor::dynamic("rooms", 8).unwrap())
        .child(
            Supervisor::new("party")
                .unwrap()
                .auto_shutdown(AutoShutdown::AnySignificant)
                .child(scout),
        );
    let platform =
        Supervisor::new("platform").unwrap().child(Supervisor::new("consensus").unwrap()).child(
            Supervisor::new("replicator").unwrap().child(worker("registers")).child(worker("crdt")),
        );
    Supervisor::new("root").unwrap().child(platform).child(workload).into()
}

/// What holds in a tree under a configuration.
type Effect = BTreeMap<Path, (ChildPolicy, Option<(Flags, bool)>)>;

fn effect(config: &Config, root: &ChildSpec) -> Result<Effect, Error> {
    let overrides = config.overrides(root)?;
    let (mut effect, mut ahead) = (Effect::new(), vec![(Path::root(), root.clone())]);
    while let Some((path, spec)) = ahead.pop() {
        let said = overrides.get(&path);
        let flags = spec.supervisor().map(|(flags, dynamic)| (said.apply_flags(flags), dynamic));
        for child in spec.children() {
            ahead.push((path.join(child.id().unwrap()), child.clone()));
        }
        effect.insert(path, (said.apply(*spec.policy()), flags));
    }
    Ok(effect)
}

fn load(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, Error> {
    let mut config = Config::parse("macula.toml", file)?;
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    super::layers::environment(&mut config, env)?;
    sets.iter().try_for_each(|set| super::layers::flag(&mut config, set))?;
    config.checked()
}

fn names<T>(keys: &[super::item::Key<T>]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// The example's block on a worker of the user's, without the `#` before each of its lines.
fn commented() -> String {
    let block = EXAMPLE.lines().skip_while(|line| !line.starts_with("# [supervision"));
    block.map(|line| line.strip_prefix("# ").unwrap().to_owned() + "\n").collect()
}

#[test]
fn the_example_is_the_defaults() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/macula.toml");
    let config = Config::load(Some(&file), [], &[]).unwrap_or_else(|error| panic!("{error}"));
    let none = Config::default();
    assert_eq!(config.node, none.node);
    assert_eq!((&config.transport, &config.pool), (&none.transport, &none.pool));
    assert_eq!((&config.tls, &config.peers), (&none.tls, &none.peers));
    assert_eq!((&config.mesh, &config.admin), (&none.mesh, &none.admin));
    assert_eq!((&config.membership, &config.dht), (&none.membership, &none.dht));
    assert_eq!(config.access, none.access);
    assert_eq!((config.relay, config.pubsub), (none.relay, none.pubsub));
    assert_eq!((&config.consensus, &config.crdt), (&none.consensus, &none.crdt));
    let tree = crate::node::declared_tree().unwrap();
    let with = effect(&config, &tree).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(with, effect(&none, &tree).unwrap());
}

#[test]
fn the_examples_block_on_a_worker_is_the_defaults_of_a_worker() {
    let root = Supervisor::new("root")
        .unwrap()
        .child(Supervisor::new("workload").unwrap().child(worker("matchmaker")));
    let root = ChildSpec::from(root);
    let block = commented();
    for key in CHILD {
        assert!(block.contains(&format!("\n{key} = ")), "{key} is missing from\n{block}");
    }
    let config = Config::parse("block", &block).unwrap_or_else(|error| panic!("{error}\n{block}"));
    assert_eq!(effect(&config, &root).unwrap(), effect(&Config::default(), &root).unwrap());
}

#[test]
fn the_example_has_every_key() {
    let text = format!("{EXAMPLE}\n{}", commented());
    for key in names(RULE) {
        assert!(text.contains(&format!("\n# {key} = ")), "{key}");
    }
    let has = |text: &str, keys: Vec<&'static str>| {
        for key in keys {
            let (value, table) = (format!("\n{key} = "), format!(".{key}]\n"));
            assert!(text.contains(&value) || text.contains(&table), "{key}");
        }
    };
    has(&text, [names(NODE), names(SECTION)].concat());
    has(&text, [names(TRANSPORT), names(ADMISSION), names(TLS), names(POOL)].concat());
    has(&text, [names(MESH), names(MEMBERSHIP), names(DHT), names(ADMIN), names(ACCESS)].concat());
    for (table, keys) in [
        ("table", names(TABLE)),
        ("requests", names(REQUESTS)),
        ("records", names(RECORDS)),
        ("providers", names(PROVIDERS)),
        ("published", names(PUBLISHED)),
        ("limits", names(LIMITS)),
        ("cache", names(CACHE)),
    ] {
        // Some keys have one name in many of these tables.
        let (_, rest) = EXAMPLE.split_once(&format!("\n[dht.{table}]")).unwrap();
        has(rest.split_once("\n[").unwrap().0, keys);
    }
    let (_, rest) = EXAMPLE.split_once("\n[relay]").unwrap();
    has(rest.split_once("\n[").unwrap().0, names(RELAY));
    let (_, rest) = EXAMPLE.split_once("\n[pubsub]").unwrap();
    has(rest.split_once("\n[").unwrap().0, names(PUBSUB));
    let (_, rest) = EXAMPLE.split_once("\n[consensus]").unwrap();
    has(rest.split_once("\n[admin]").unwrap().0, names(CONSENSUS));
    let (_, rest) = EXAMPLE.split_once("\n[consensus.kv]").unwrap();
    has(rest.split_once("\n[").unwrap().0, names(KV));
    let (_, rest) = EXAMPLE.split_once("\n[crdt]").unwrap();
    has(rest.split_once("\n[admin]").unwrap().0, names(CRDT));
    for (table, keys) in [("bucket", names(BUCKET)), ("limits", names(TAKEN))] {
        let (_, rest) = EXAMPLE.split_once(&format!("\n[crdt.{table}]")).unwrap();
        has(rest.split_once("\n[").unwrap().0, keys);
    }
    for key in names(BACKOFF) {
        assert!(text.contains(&format!(" {key} = ")), "{key}");
    }
    assert!(text.contains("\n[transport.admission]"));
    for key in names(TOP) {
        assert!(text.contains(&format!("\n[{key}")), "{key}");
    }
    let mut all = [FLAGS, CHILD].concat();
    let mut section = names(SECTION);
    all.sort_unstable();
    section.sort_unstable();
    assert_eq!(all, section);
}

#[test]
fn nothing_said_is_the_defaults_and_overrides_nothing() {
    let config = Config::load(None, [], &[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.overrides(&tree()).unwrap().iter().count(), 0);
}

#[test]
fn later_layers_win_key_by_key() {
    let file = "
        [node]
        name = 'file'
        shutdown = '1s'
        [crdt.limits]
        keys_max = 1
        spans_max = 1
        [supervision.workload]
        intensity = 1
        period = '1s'
        [supervision.'workload/matchmaker']
        backoff = { max = '20s', jitter = 0.5 }
    ";
    let env = [
        ("MACULA_SET", "node.shutdown=3s; supervision.workload.intensity=3"),
        ("MACULA_NODE__SHUTDOWN", "2s"),
        ("MACULA_CRDT__LIMITS__KEYS_MAX", "2"),
        ("MACULA_LOG", "debug"),
        ("MACULA_HOME", "here"),
        ("MACULA_SEED", "7"),
        ("PATH", "/bin"),
    ];
    let sets = [
        "node.name=flag",
        "supervision.workload.intensity = 4",
        "supervision.'workload/matchmaker'.backoff.jitter=0.75",
    ];
    let config = load(file, &env, &sets).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.node.name.as_str(), config.node.shutdown.as_secs()), ("flag", 3));
    let limits = config.crdt().bucket.limits;
    assert_eq!((limits.keys_max, limits.spans_max), (2, 1));
    let said = config.overrides(&tree()).unwrap();
    let workload = said.get(&Path::parse("workload").unwrap());
    assert_eq!((workload.intensity, workload.period), (Some(4), Some(Duration::from_secs(1))));
    // What nobody says of the back-off is as the code has it.
    let backoff = said.get(&Path::parse("workload/matchmaker").unwrap()).backoff.unwrap();
    assert_eq!((backoff.initial.as_secs(), backoff.max.as_secs()), (1, 20));
    assert_eq!((backoff.jitter, backoff.reset_after.as_secs()), (0.75, 60));
}

#[test]
fn every_word_means_what_it_says() {
    let sets = [
        "supervision.root.strategy=rest_for_one",
        "supervision.root.auto_shutdown=all_significant",
        "supervision.'workload/matchmaker'.restart=temporary",
        "supervision.'workload/matchmaker'.shutdown=brutal",
        "supervision.'workload/matchmaker'.liveness=none",
        "supervision.'workload/matchmaker'.backoff=none",
        "supervision.'platform/consensus'.strategy=one_for_all",
        "supervision.'workload/rooms'.shutdown=infinity",
        "supervision.'workload/party/scout'.shutdown='1m 30s'",
    ];
    let config = load("", &[], &sets).unwrap_or_else(|error| panic!("{error}"));
    let effect = effect(&config, &tree()).unwrap_or_else(|error| panic!("{error}"));
    let at = |path: &str| effect[&Path::parse(path).unwrap()];
    let flags = at("").1.unwrap().0;
    assert_eq!(flags.strategy, Strategy::RestForOne);
    assert_eq!(flags.auto_shutdown, AutoShutdown::AllSignificant);
    let matchmaker = at("workload/matchmaker").0;
    assert_eq!(matchmaker.restart, Restart::Temporary);
    assert_eq!(matchmaker.shutdown, Shutdown::Brutal);
    assert_eq!((matchmaker.liveness, matchmaker.backoff), (None, Backoff::NONE));
    assert_eq!(at("platform/consensus").1.unwrap().0.strategy, Strategy::OneForAll);
    assert_eq!(at("workload/rooms").0.shutdown, Shutdown::Infinity);
    let scout = at("workload/party/scout").0;
    assert_eq!(scout.shutdown, Shutdown::Timeout(Duration::from_secs(90)));
}

#[test]
fn outside_of_files_a_text_needs_no_quotes() {
    let name = |value: &str| {
        let config = load("", &[("MACULA_NODE__NAME", value)], &[]).unwrap();
        config.node.name
    };
    assert_eq!(name("red"), "red");
    assert_eq!(name("\"red\""), "red");
    assert_eq!(name("7"), "7");
    assert_eq!(name("1979-05-27"), "1979-05-27");
    assert_eq!(name("true"), "true");
}

#[test]
fn a_relative_folder_is_meant_from_the_folder_of_the_file_that_says_it() {
    let directory = |name: &str, said: &str| {
        let config = Config::parse(name, &format!("[tls]\ndirectory = '{said}'")).unwrap();
        config.tls.directory.map(|path| path.display().to_string())
    };
    assert_eq!(directory("macula.toml", "keys").as_deref(), Some("keys"));
    assert_eq!(directory("etc/macula.toml", "keys").as_deref(), Some("etc/keys"));
    assert_eq!(directory("etc/macula.toml", "/keys").as_deref(), Some("/keys"));
    assert_eq!(directory("etc/macula.toml", "none"), None);
    let config = load("", &[], &["tls.directory=keys"]).unwrap();
    assert_eq!(config.tls.directory, Some("keys".into()));
}

#[test]
fn an_assignment_writes_a_list_with_commas_or_as_an_array() {
    let listen = |value: &str| {
        let config = load("", &[], &[&format!("transport.listen={value}")]).unwrap();
        config.transport.listen.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(listen("127.0.0.1:7000, [::1]:7000"), ["127.0.0.1:7000", "[::1]:7000"]);
    assert_eq!(listen("[\"127.0.0.1:7000\"]"), ["127.0.0.1:7000"]);
    assert!(listen("[]").is_empty());
    let config = load("", &[("MACULA_TRANSPORT__LISTEN", "[::1]:7000")], &[]).unwrap();
    assert_eq!(config.transport.listen.len(), 1);
}

#[test]
fn what_is_said_of_the_code_is_checked_after_it_is_said() {
    let below = |sets: &[&str]| load("", &[], sets).unwrap().overrides(&tree());
    // Legal only together.
    let both = [
        "supervision.workload.auto_shutdown=any_significant",
        "supervision.'workload/matchmaker'.significant=true",
        "supervision.'workload/matchmaker'.restart=transient",
    ];
    assert!(below(&both).is_ok());
    for left_out in 0..both.len() {
        let two: Vec<&str> =
            both.iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, set)| *set).collect();
        assert_eq!(below(&two).is_ok(), left_out == 1, "without {}", both[left_out]);
    }
}

#[test]
fn many_faults_are_counted_and_not_all_listed() {
    let text: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    let error = Config::parse("macula.toml", &text).unwrap_err();
    assert_eq!(error.faults().len(), super::FAULTS_MAX);
    assert!(error.to_string().ends_with("\nand 936 more like these"));
    let long = "k".repeat(1 << 20) + " = 1";
    assert!(Config::parse("macula.toml", &long).unwrap_err().to_string().len() < 300);
}

proptest::proptest! {
    /// Whatever is typed, it is read or refused, and the refusal has something to say.
    #[test]
    fn nothing_typed_is_a_panic(
        text in ".{0,60}",
        key in "[a-z.\"'=; ]{0,20}",
        value in ".{0,20}",
    ) {
        for result in [
            Config::parse("f", &text).map(drop),
            Config::parse("f", &format!("[supervision.\"{key}\"]\nshutdown = {value}")).map(drop),
            load("", &[("MACULA_SET", &text)], &[]).map(drop),
            load("", &[("MACULA_NODE__NAME", &value)], &[]).map(drop),
            load("", &[], &[&format!("{key}={value}"), &text]).map(drop),
        ] {
            if let Err(error) = result {
                assert!(!error.faults().is_empty());
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn where_nobody_can_be_reached_is_told_before_anything_runs() {
    let id = macula_core::identity::Keypair::from_seed([1; 32]).node_id();
    let long = format!("admin.socket=/{}", "a".repeat(92));
    let all = [
        vec!["mesh.seeds=0.0.0.0:7000".to_owned()],
        vec!["mesh.seeds=a..b:7000".to_owned()],
        vec!["mesh.advertise=[::]:7000".to_owned()],
        vec![format!("peers.{id}=10.0.0.1:0")],
        vec!["mesh.role=bootstrap".to_owned(), "transport.listen=[]".to_owned()],
        vec![long],
    ];
    let told = all.map(|sets| Config::load(None, [], &sets).unwrap_err().to_string());
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_configuration_is_for_nodes_that_vote_and_for_those_that_do_not() {
    let start = |role: &str, path: &str| {
        let said = format!("[consensus]\nrole = \"{role}\"\n[supervision.\"{path}\"]\n");
        let config = load(&(said + "shutdown = \"3s\"\n"), &[], &[]).unwrap();
        let credentials = crate::identity::EphemeralRealm::new().unwrap().member().unwrap();
        crate::Node::builder().config(config).credentials(credentials).start()
    };
    for role in ["founder", "client"] {
        for path in ["platform/consensus/raft", "infrastructure/telemetry/admin"] {
            start(role, path).await.unwrap().stop().await.unwrap();
        }
        let nowhere = start(role, "platform/consensus/raff").await.unwrap_err();
        assert!(nowhere.to_string().contains("platform/consensus/raft"), "{nowhere}");
    }
}
