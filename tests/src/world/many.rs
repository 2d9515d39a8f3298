//! Many seeds, each in a world of its own, on several threads.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::seeds::{self, Case, FailedSeed};

/// How many worlds run at one time.
const THREADS: usize = 2;

/// The environment variable that says how many seeds to run.
const SEEDS_VARIABLE: &str = "MACULA_WORLD_SEEDS";

/// Whether a property holds for `seeds`, or for as many as `MACULA_WORLD_SEEDS` says, or for the
/// one that `MACULA_SEED` names. Two worlds run at one time.
///
/// # Errors
///
/// The first [`FailedSeed`] of those that were found.
pub fn check_all(
    case: Case,
    seeds: Range<u64>,
    holds: impl Fn(u64) -> Result<(), String> + Sync,
) -> Result<(), FailedSeed> {
    if seeds::replayed().is_some() {
        return seeds::check(case, seeds, holds);
    }
    let told = std::env::var(SEEDS_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
    let end = told.map_or(seeds.end, |count: u64| seeds.start.saturating_add(count));
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.lock().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let found = seeds::find(case, seed..seed + 1, &holds);
                    failed.lock().extend(found);
                }
            });
        }
    });
    let first = failed.into_inner().into_iter().min_by_key(|failed| failed.seed);
    first.map_or(Ok(()), Err)?;
    seeds::tell(&format!(
        "{}: seeds {:?} hold; to run more: {SEEDS_VARIABLE}=2000 cargo test -p macula-tests --test {}",
        case.test,
        seeds.start..end,
        case.target
    ));
    Ok(())
}
