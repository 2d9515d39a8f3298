//! Simulated meshes: how many lookups find exactly the closest nodes, and what they cost.

use std::time::Duration;

use anyhow::Context as _;
use macula_workload::dht::simulated::{Figures, Mesh, Plan, quantile};

use crate::bench::Amounts;
use crate::bench::report::{Measure, resident_bytes};

const HOUR: Duration = Duration::from_secs(3_600);

/// How long a partition lasts, in which nodes look themselves up three times, and how long a mesh
/// has after it.
const PARTED: Duration = Duration::from_secs(1_800);
const HEALING: Duration = Duration::from_secs(1_200);

/// How many lookups each figure stands for.
const LOOKUPS: usize = 1_000;

/// Fewer nodes and lookups say nothing.
const LEAST: usize = 40;

/// Which part of the nodes is replaced each hour.
const CHURN: f64 = 0.2;

/// Which part of the nodes is hostile.
const HOSTILE: f64 = 0.25;

/// What holds for all of the meshes.
const SETTINGS: &str = "tables and lookups as of a real node; but a request is slow after 200 ms \
                        and lost after 1 s, where a real node goes by the round trips it measures";

/// The amounts of one run.
#[derive(Clone, Copy)]
struct Sizes {
    seed: u64,
    scale: usize,
}

impl Sizes {
    fn plan(self, nodes: usize) -> Plan {
        let nodes = (nodes / self.scale).max(LEAST);
        Plan::honest(self.seed, u32::try_from(nodes).unwrap_or(u32::MAX))
    }

    fn lookups(self) -> usize {
        (LOOKUPS / self.scale).max(LEAST)
    }
}

pub(super) fn measure(amounts: Amounts) -> anyhow::Result<Vec<Measure>> {
    let sizes = Sizes { seed: amounts.seed, scale: amounts.scale };
    // The one whose memory is measured, before anything else is on the heap.
    let (mut mesh, memory) = joined_and_weighed(&sizes.plan(10_000))?;
    // A mesh is one thread's affair, and there is a second.
    let (honest, others) = std::thread::scope(|scope| {
        let others = scope.spawn(move || others(sizes));
        (honest(&mut mesh, sizes), others.join())
    });
    drop(mesh);
    let mut results =
        others.map_err(|_panic| anyhow::anyhow!("a simulated mesh has panicked"))??;
    results.extend(honest?);
    results.push(memory);
    if amounts.large {
        results.extend(large(sizes)?);
    }
    Ok(results)
}

/// The mesh of all nodes having joined, and how much the process has grown for each.
#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn joined_and_weighed(plan: &Plan) -> anyhow::Result<(Mesh, Measure)> {
    let before = resident_bytes()?;
    let mesh = joined(plan)?;
    let grown = resident_bytes()?.saturating_sub(before) as f64;
    let memory = Measure::new("node_memory", "B", grown / f64::from(plan.nodes))
        .against("counted in its tables and lookups", mesh.memory() as f64)
        .note("by how much the process grew while they joined, with what the simulator holds");
    Ok((mesh, memory))
}

fn joined(plan: &Plan) -> anyhow::Result<Mesh> {
    let mut mesh = Mesh::new(plan);
    mesh.join_all()?;
    Ok(mesh)
}

/// The mesh without enemies: as it is, with nodes that come and go, and after a partition.
fn honest(mesh: &mut Mesh, sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let figures = looked_up(mesh, sizes)?;
    let mut results = vec![
        exact("exact_10k", &figures).note(SETTINGS),
        spread("hops_10k", "hops", &figures.hops)?,
        spread("messages_10k", "messages", &figures.messages)?,
        spread("bytes_10k", "B", &figures.bytes)?
            .note("frames as a real node encodes them, requests and answers; QUIC's own aside"),
    ];
    mesh.churn(CHURN, HOUR)?;
    results.push(
        exact("exact_churn", &looked_up(mesh, sizes)?)
            .note("the same mesh, right after an hour in which 20 % were replaced unannounced"),
    );
    mesh.part(PARTED)?;
    mesh.run(HEALING)?;
    results.push(
        exact("exact_healed", &looked_up(mesh, sizes)?)
            .note("then two halves for 30 minutes, and 20 minutes after that"),
    );
    Ok(results)
}

/// The smaller mesh, and the one with enemies.
fn others(sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let mut small = joined(&sizes.plan(1_000))?;
    let small = looked_up(&mut small, sizes)?;
    let mut hostile = joined(&Plan { hostile: HOSTILE, ..sizes.plan(10_000) })?;
    let hostile = looked_up(&mut hostile, sizes)?;
    Ok(vec![
        exact("exact_1k", &small),
        exact("exact_hostile", &hostile).note(
            "25 % of 10,000 from the beginning: three of four name only one another, and the \
             fourth anybody",
        ),
        spread("messages_hostile", "messages", &hostile.messages)?,
    ])
}

fn large(sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let mut mesh = joined(&sizes.plan(100_000))?;
    let figures = looked_up(&mut mesh, sizes)?;
    Ok(vec![
        exact("exact_100k", &figures),
        spread("hops_100k", "hops", &figures.hops)?,
        spread("messages_100k", "messages", &figures.messages)?,
        spread("bytes_100k", "B", &figures.bytes)?,
    ])
}

fn looked_up(mesh: &mut Mesh, sizes: Sizes) -> anyhow::Result<Figures> {
    let figures = mesh.measure(sizes.lookups())?;
    anyhow::ensure!(figures.lookups == sizes.lookups(), "lookups that never ended");
    Ok(figures)
}

/// How many of 100 lookups found exactly the k closest.
fn exact(name: &'static str, figures: &Figures) -> Measure {
    Measure::new(name, "%", figures.exact_percent())
        .against("of the closest nodes, how many were found", figures.found_percent())
}

/// The median, and the hundredth that is worst.
fn spread(name: &'static str, unit: &'static str, sorted: &[usize]) -> anyhow::Result<Measure> {
    let at = |part| u32::try_from(quantile(sorted, part)).context("a count beyond all bounds");
    Ok(Measure::new(name, unit, at(0.5)?.into()).p99(at(0.99)?.into()))
}
