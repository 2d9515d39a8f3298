//! `macula bench`: each subsystem beside the raw layer below it, in the same run.

mod report;
mod rpc;
mod supervision;

pub(crate) use report::Suite;

/// The suites by name, and what each runs.
pub(crate) fn run(suite: SuiteName, scale: u32) -> anyhow::Result<Suite> {
    match suite {
        SuiteName::Supervision => supervision::run(scale),
        SuiteName::Rpc => rpc::run(scale),
    }
}

/// The suites there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SuiteName {
    /// Restarts, handles, and a hundred thousand dynamic children, beside raw ractor.
    Supervision,
    /// Calls to an actor on another node, and what connections cost, beside raw QUIC.
    Rpc,
}
