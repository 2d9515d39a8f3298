//! A simulated mesh.

use crate::dht::simulated::{Plan, SimulatedMesh, quantile};

use crate::dht::proto::lookup;
use crate::dht::simulated::Settings;

fn env<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn try_it() {
    let nodes = env("N", 300);
    let begin = super::begin();
    let settings = Settings {
        lookup: lookup::Config {
            paths: env("PATHS", 1),
            alpha: env("ALPHA", 3),
            ..lookup::Config::default()
        },
        judges: env("JUDGES", false),
        refreshes: env("REFRESH", true),
        ..Settings::default()
    };
    let plan =
        Plan { hostile: env("HOSTILE", 0.0), settings, ..Plan::honest(env("SEED", 1), nodes) };
    let mut mesh = SimulatedMesh::new(&plan);
    mesh.join_all().unwrap();
    println!("joined {:?} {:?}", super::begin() - begin, mesh.sent());
    let mut show = |mesh: &mut SimulatedMesh| {
        let f = mesh.measure(env("L", 200)).unwrap();
        println!(
            "{} {} hops {} {} msgs {} {} time {:?} {:?}",
            f.exact_percent(),
            f.found_percent(),
            quantile(&f.hops, 0.5),
            quantile(&f.hops, 0.99),
            quantile(&f.messages, 0.5),
            quantile(&f.messages, 0.99),
            quantile(&f.times, 0.5),
            quantile(&f.times, 0.99)
        );
        println!("{} {:?}", mesh.memory(), super::begin() - begin);
    };
    show(&mut mesh);
    for _ in 0..env("CHURN", 0) {
        mesh.churn(0.2, std::time::Duration::from_secs(3600)).unwrap();
        show(&mut mesh);
    }
}
