//! Many seeds for one property, and the one command that replays a seed that failed.

use std::fmt::{Debug, Display};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The environment variable that replays one seed instead of all.
pub const SEED_VARIABLE: &str = "MACULA_SEED";

/// Where a property stands, so that a failure can say how to run it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The integration test, as `cargo test --test` has it.
    pub target: &'static str,
    /// The full name of the test function.
    pub test: &'static str,
}

/// A seed for which a property does not hold. Its `Debug` is its `Display`, for a test's result.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed} fails: {why}\nreplay it with: {variable}={seed} cargo test -p macula-tests \
     --test {} {} -- --exact --nocapture",
    case.target, case.test, variable = SEED_VARIABLE
)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// What was violated.
    pub why: String,
    /// The property.
    pub case: Case,
}

impl Debug for FailedSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

/// The seed to replay, if the environment names one.
#[must_use]
pub fn replayed() -> Option<u64> {
    std::env::var(SEED_VARIABLE).ok().and_then(|text| text.trim().parse().ok())
}

/// Tells people something, also of a test that passes: what the macros print is captured then.
pub fn tell(text: &str) {
    use std::io::Write as _;
    // Whoever does not listen misses it.
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).ok();
}

/// Whether a property holds for all `seeds`, or for the one that the environment names. A panic in
/// `holds` counts as a violation.
///
/// # Errors
///
/// The first [`FailedSeed`].
pub fn check(
    case: Case,
    seeds: Range<u64>,
    holds: impl FnMut(u64) -> Result<(), String>,
) -> Result<(), FailedSeed> {
    let seeds = replayed().map_or(seeds, |seed| seed..seed.saturating_add(1));
    find(case, seeds.clone(), holds).map_or(Ok(()), Err)?;
    tell(&format!("{}: seeds {seeds:?} hold; {SEED_VARIABLE}=N runs another", case.test));
    Ok(())
}

/// The first of `seeds` for which a property does not hold: for a bug put in on purpose, which a
/// harness has to find.
pub fn find(
    case: Case,
    mut seeds: Range<u64>,
    mut holds: impl FnMut(u64) -> Result<(), String>,
) -> Option<FailedSeed> {
    seeds.find_map(|seed| {
        let held = catch_unwind(AssertUnwindSafe(|| holds(seed)));
        let why = match held {
            Ok(Ok(())) => return None,
            Ok(Err(why)) => why,
            Err(_) => "it panicked, as told above".to_owned(),
        };
        Some(FailedSeed { seed, why, case })
    })
}

/// The first of `seeds` that finds a planted bug, which is told.
///
/// # Panics
///
/// If none does.
#[expect(clippy::panic, reason = "a harness that misses a planted bug has failed its test")]
pub fn must_find(
    case: Case,
    seeds: Range<u64>,
    bug: impl Debug,
    holds: impl FnMut(u64) -> Result<(), String>,
) -> FailedSeed {
    let Some(failed) = find(case, seeds.clone(), holds) else {
        panic!("no seed of {seeds:?} finds {bug:?}");
    };
    let why = failed.why.lines().next().unwrap_or_default();
    tell(&format!("seed {} finds {bug:?}: {why}", failed.seed));
    failed
}

#[cfg(test)]
mod tests {
    use super::{Case, find, must_find};

    #[test]
    fn a_failure_says_how_to_replay_it() {
        let case = Case { target: "sim", test: "odd" };
        let holds = |seed| if seed < 3 { Ok(()) } else { Err("three is odd".to_owned()) };
        let failed = find(case, 0..10, holds).unwrap();
        let told = failed.to_string();
        assert!(told.starts_with("seed 3 fails: three is odd\n"), "{told}");
        assert!(told.contains("MACULA_SEED=3 cargo test -p macula-tests --test sim odd"), "{told}");
        assert_eq!(find(case, 0..3, holds), None);
    }

    #[test]
    #[should_panic(expected = "no seed of 0..3 finds \"a bug\"")]
    fn a_planted_bug_that_nobody_finds_is_a_failure() {
        must_find(Case { target: "sim", test: "odd" }, 0..3, "a bug", |_| Ok(()));
    }
}
