//! What clippy cannot say about the style and the architecture of this project, as a test.
//!
//! Each rule reads all tracked source files and gives a line for each violation.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

/// The most lines of code in a file, without tests, comments and blank lines.
const CODE_LINES_MAX: usize = 500;

/// The rooms in which protocols are pure: no IO, no clock, no randomness of their own, no `async`.
const PURE_ROOMS: [&str; 42] = [
    "macula-core/src/supervision/proto",
    "macula-core/src/machine.rs",
    "macula-core/src/hlc.rs",
    "macula-core/src/topic.rs",
    "macula-core/src/wire",
    "macula-infra/src/budget.rs",
    "macula-infra/src/dht/proto",
    "macula-infra/src/dht/provider.rs",
    "macula-infra/src/dht/record.rs",
    "macula-infra/src/dht/rules.rs",
    "macula-infra/src/dht/signed.rs",
    "macula-infra/src/dht/wire",
    "macula-infra/src/membership/proto",
    "macula-infra/src/announcing/announcer.rs",
    "macula-infra/src/pool/proto",
    "macula-infra/src/pubsub/proto",
    "macula-infra/src/relay/ledger.rs",
    "macula-infra/src/relay/paths.rs",
    "macula-infra/src/relay/reserver.rs",
    "macula-infra/src/round_trip.rs",
    "macula-infra/src/rpc/proto",
    "macula-infra/src/tokens.rs",
    "macula-infra/src/transport/tls/judge.rs",
    "macula-infra/src/transport/tls/name.rs",
    "macula-platform/src/crdt/bucket",
    "macula-platform/src/crdt/changes.rs",
    "macula-platform/src/crdt/codec",
    "macula-platform/src/crdt/context.rs",
    "macula-platform/src/crdt/contract.rs",
    "macula-platform/src/crdt/proto",
    "macula-platform/src/crdt/stamps.rs",
    "macula-platform/src/crdt/state",
    "macula-platform/src/crdt/store.rs",
    "macula-platform/src/crdt/types",
    "macula-platform/src/crdt/write.rs",
    "macula-platform/src/election/proto",
    "macula-platform/src/kv/checks.rs",
    "macula-platform/src/kv/expiry.rs",
    "macula-platform/src/kv/rates.rs",
    "macula-platform/src/kv/state",
    "macula-platform/src/raft/acks.rs",
    "macula-platform/src/raft/elector.rs",
];

/// What no pure room says.
const IMPURE: [&str; 11] = [
    "async ",
    ".await",
    "tokio::",
    "ractor::",
    "UdpSocket",
    "TcpStream",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "std::thread",
];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines of code before the tests, each with its number.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take_while(|(_, line)| !line.starts_with("mod tests {"))
            .filter(|(_, line)| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("//")
            })
    }

    fn is_in(&self, room: &str) -> bool {
        self.path == room
            || self.path == format!("{room}.rs")
            || self.path.starts_with(&format!("{room}/"))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All Rust files below the top folder.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let (top, mut found) = (top(), Vec::new());
    walk(&top, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| Source {
            text: std::fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(&top).unwrap().to_string_lossy().into_owned(),
        })
        .collect()
}

fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_walk_finds_the_sources() {
    let found = sources();
    for path in ["macula-core/src/lib.rs", "macula-workload/src/main.rs", "tests/tests/tidy.rs"] {
        assert!(found.iter().any(|source| source.path == path), "{path} is not seen");
    }
}

#[test]
fn no_file_is_too_long() {
    none(
        sources()
            .iter()
            .filter_map(|source| {
                let lines = source.code().count();
                (lines > CODE_LINES_MAX).then(|| {
                    format!("{}: {lines} lines of code, at most {CODE_LINES_MAX}", source.path)
                })
            })
            .collect(),
    );
}

#[test]
fn every_module_says_what_it_is() {
    none(
        sources()
            .iter()
            .filter(|source| !source.text.starts_with("//!"))
            .map(|source| format!("{}: does not begin with //!", source.path))
            .collect(),
    );
}

#[test]
fn pure_rooms_stay_pure() {
    let sources = sources();
    let mut violations = Vec::new();
    for room in PURE_ROOMS {
        let room = room.trim_end_matches(".rs");
        assert!(sources.iter().any(|source| source.is_in(room)), "no room {room}");
        for source in sources.iter().filter(|source| source.is_in(room) && !source.is_test()) {
            for (number, line) in source.code() {
                for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                    violations.push(format!("{}:{number}: a pure room says {word:?}", source.path));
                }
            }
        }
    }
    none(violations);
}

/// Where the libraries of QUIC and TLS may be named.
#[test]
fn libraries_stay_in_their_rooms() {
    let rooms =
        [("s2n_quic", "macula-infra/src/transport"), ("rustls::", "macula-infra/src/transport")];
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path.contains("/src/")) {
        for (number, line) in source.code() {
            for (library, _) in
                rooms.iter().filter(|(library, room)| line.contains(library) && !source.is_in(room))
            {
                violations.push(format!("{}:{number}: names {library}", source.path));
            }
        }
    }
    none(violations);
}

/// Which crates a crate's manifest may name as dependencies.
#[test]
fn dependencies_point_downwards() {
    let rules: [(&str, &[&str]); 4] = [
        ("macula-core", &[]),
        ("macula-platform", &["macula-core"]),
        ("macula-infra", &["macula-core"]),
        ("macula-workload", &["macula-core", "macula-platform", "macula-infra"]),
    ];
    let mut violations = Vec::new();
    for (name, allowed) in rules {
        let manifest = std::fs::read_to_string(top().join(name).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|line| line.starts_with("macula-")) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            if !allowed.contains(&dependency) {
                violations.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    none(violations);
}

#[test]
fn the_top_level_has_only_its_fixed_folders() {
    let fixed = [
        "examples",
        "macula-core",
        "macula-infra",
        "macula-platform",
        "macula-workload",
        "target",
        "tests",
    ];
    none(
        std::fs::read_dir(top())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') && !fixed.contains(&name.as_str()))
            .map(|name| format!("{name}: no folder of the top level"))
            .collect(),
    );
}

#[test]
fn nothing_is_left_over() {
    // Written in two parts, so that this file does not find itself.
    let words = ["FIX", "TO"].map(|start| match start {
        "FIX" => format!("{start}ME"),
        _ => format!("{start}DO"),
    });
    let mut violations = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}", source.path, index + 1);
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                violations.push(format!("{place}: {word}"));
            }
            if line.trim_start().starts_with("#[ignore") {
                violations.push(format!("{place}: a test that does not run"));
            }
        }
    }
    none(violations);
}

/// The file in which the module of another file has to be declared; none for the root of a crate, or of a
/// program or test.
fn parent_of(path: &str) -> Option<[String; 2]> {
    let (crate_name, inside) = path.split_once("/src/")?;
    if inside == "lib.rs" || inside == "main.rs" {
        return None;
    }
    Some(match inside.rsplit_once('/') {
        Some((folder, _)) => {
            [format!("{crate_name}/src/{folder}.rs"), format!("{crate_name}/src/{folder}/mod.rs")]
        }
        None => [format!("{crate_name}/src/lib.rs"), format!("{crate_name}/src/main.rs")],
    })
}

/// A file that no module names is compiled by nobody, and what it tests is not tested.
#[test]
fn every_file_is_compiled() {
    let sources = sources();
    let mut violations = Vec::new();
    for source in &sources {
        let Some(parents) = parent_of(&source.path) else { continue };
        let name = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        let declares = |parent: &Source| {
            parent.text.lines().map(str::trim).any(|line| {
                let rest = line.rsplit_once("mod ").map_or("", |(_, rest)| rest);
                !line.starts_with("//") && rest.trim_end_matches([';', ' ', '{']) == name
            })
        };
        let mut parents = sources.iter().filter(|parent| parents.contains(&parent.path));
        if !parents.any(declares) {
            violations.push(format!("{}: no module names it", source.path));
        }
    }
    none(violations);
}

#[test]
fn no_module_is_called_mod() {
    none(
        sources()
            .iter()
            .filter(|source| source.path.ends_with("/mod.rs"))
            .map(|source| format!("{}: write foo.rs beside foo/", source.path))
            .collect(),
    );
}

#[test]
fn nothing_public_is_unbounded() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| !source.is_in("tests/tests/tidy")) {
        for (number, line) in source.code() {
            if line.contains("unbounded_channel") || line.contains("unbounded()") {
                violations.push(format!("{}:{number}: an unbounded queue", source.path));
            }
        }
    }
    none(violations);
}
