//! `macula demo`: a game lobby on some nodes that is broken while it runs, and heals.

mod lobby;
mod matchmaker;
mod scores;
mod story;
mod tell;
mod world;

use crate::cli::{DemoArgs, Failure, Paint, log, runtime};

use story::Story;
use tell::Teller;

/// Runs the demo to its end.
///
/// It succeeds only if all trees are whole again, every failure that was made was seen, and each
/// score is what the rounds that were played add up to.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    // The demo shows crash reports itself.
    log("off").map_err(Failure::Usage)?;
    let teller = Teller::new(args.json, Paint::new(args.color));
    runtime()?.block_on(Story::play(teller, args.seed, args.nodes))?;
    Ok(())
}
