//! A simulated mesh: how many lookups find exactly the closest, in honest and in bad company.
//!
//! The campaign has its size from the environment, and is run by hand in release mode:
//! `MESH_NODES=10000 MESH_HOSTILE=0.25 cargo test --release -p macula-infra campaign -- --nocapture`.

use std::str::FromStr;
use std::time::Duration;

use super::Bug;
use crate::dht::proto::lookup;
use crate::dht::simulated::{Figures, Mesh, Plan, Settings, quantile};

const HOUR: Duration = Duration::from_secs(3_600);

/// Settings with so many paths; what one alone finds is not judged.
fn on_paths(paths: usize) -> Settings {
    Settings {
        lookup: lookup::Config { paths, ..lookup::Config::default() },
        judges: paths > 1,
        ..Settings::default()
    }
}

fn joined(plan: &Plan, bug: Option<Bug>) -> Mesh {
    let mut mesh = Mesh::with_bug(plan, bug);
    mesh.join_all().unwrap();
    mesh
}

fn line(figures: &Figures, mesh: &Mesh) -> String {
    format!(
        "exact {} %, found {} %, hops {} (p99 {}), messages {} (p99 {}), {:?} (p99 {:?}), {} B a node",
        figures.exact_percent(),
        figures.found_percent(),
        quantile(&figures.hops, 0.5),
        quantile(&figures.hops, 0.99),
        quantile(&figures.messages, 0.5),
        quantile(&figures.messages, 0.99),
        quantile(&figures.times, 0.5),
        quantile(&figures.times, 0.99),
        mesh.memory(),
    )
}

#[test]
fn a_thousand_nodes_find_exactly_the_closest_and_a_refresh_that_never_runs_is_found() {
    let run = |bug| {
        // Several paths, judged by the density, make up for the bug.
        let plan = Plan { settings: on_paths(1), ..Plan::honest(1, 1_000) };
        let mut mesh = joined(&plan, bug);
        let figures = mesh.measure(50).unwrap();
        println!("{bug:?}: {}", line(&figures, &mesh));
        assert!(mesh.memory() < 32 * 1_024);
        figures
    };
    let (good, bad) = (run(None), run(Some(Bug::NeverRefreshes)));
    assert_eq!(good.exact, 50);
    assert!(quantile(&good.hops, 0.5) <= 5, "half of log2(1,000)");
    // Whole parts of the key space are unknown to some nodes.
    assert!(bad.exact < 50);
}

#[test]
fn nodes_that_come_and_go_are_followed() {
    let mut mesh = joined(&Plan::honest(2, 100), None);
    mesh.churn(0.4, 2 * HOUR).unwrap();
    let figures = mesh.measure(50).unwrap();
    println!("{}", line(&figures, &mesh));
    assert!(figures.exact >= 49, "{figures:?}");
}

#[test]
fn a_lookup_that_ends_one_round_early_is_found_by_the_mesh() {
    let exact = |bug| joined(&Plan::honest(3, 80), bug).measure(20).unwrap().exact;
    assert_eq!(exact(None), 20);
    assert!(exact(Some(Bug::EndsOneRoundEarly)) < 10);
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        let mut mesh = joined(&Plan { hostile: 0.25, ..Plan::honest(4, 40) }, None);
        mesh.measure(5).unwrap();
        (mesh.sim().hash(), mesh.sent())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_quarter_of_liars_does_not_mislead_guarded_lookups() {
    let plan = Plan { hostile: 0.25, ..Plan::honest(5, 120) };
    let mut mesh = joined(&plan, None);
    let figures = mesh.measure(40).unwrap();
    println!("{}", line(&figures, &mesh));
    assert!(figures.exact >= 38, "{figures:?}");
}

/// A number of the environment, or what stands for it.
fn env<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn campaign() {
    let mut settings = on_paths(env("MESH_PATHS", 3));
    settings.judges = env("MESH_JUDGES", settings.judges);
    settings.refreshes = env("MESH_REFRESHES", true);
    let plan = Plan {
        hostile: env("MESH_HOSTILE", 0.0),
        settings,
        ..Plan::honest(env("MESH_SEED", 1), env("MESH_NODES", 30))
    };
    let mut mesh = joined(&plan, None);
    let mut figures = mesh.measure(env("MESH_LOOKUPS", 5)).unwrap();
    println!("joined: {}, sent {:?}", line(&figures, &mesh), mesh.sent());
    for hour in 1..=env("MESH_CHURN_HOURS", 1) {
        mesh.churn(0.2, HOUR).unwrap();
        figures = mesh.measure(env("MESH_LOOKUPS", 5)).unwrap();
        println!("hour {hour}: {}", line(&figures, &mesh));
    }
    assert!(figures.lookups > 0);
}
