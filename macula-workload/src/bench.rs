//! `macula bench`: each subsystem beside the raw layer below it, in the same run.

mod dht;
mod pubsub;
mod report;
mod rpc;
mod supervision;

pub(crate) use report::Suite;

/// The suites by name, and what each runs.
pub(crate) fn run(suite: SuiteName, amounts: Amounts) -> anyhow::Result<Suite> {
    match suite {
        SuiteName::Supervision => supervision::run(amounts),
        SuiteName::Rpc => rpc::run(amounts),
        SuiteName::Pubsub => pubsub::run(amounts),
        SuiteName::Dht => dht::run(amounts),
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    /// Divides all amounts, for a quick look and for tests; 1 is the real one, and the least.
    pub(crate) scale: usize,
    /// What is simulated comes from it.
    pub(crate) seed: u64,
    /// Whether what takes very long is measured too.
    pub(crate) large: bool,
}

/// The suites there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SuiteName {
    /// Restarts, handles, and a hundred thousand dynamic children, beside raw ractor.
    Supervision,
    /// Calls to an actor on another node, and what connections cost, beside raw QUIC.
    Rpc,
    /// Published messages of 128 bytes between nodes. `one_to_one` and `acknowledged` are held against
    /// raw frames pipelined on one QUIC stream: a task makes each, gives it to the stream by itself and
    /// waits for nothing, and another cuts them out of what comes. `one_to_one_of_bulk` holds it
    /// against the mere bytes in writes of 256 frames that nobody makes or reads, which bounds what any
    /// protocol could do.
    Pubsub,
    /// The distributed hash table: simulated meshes of up to 10,000 nodes, or 100,000 with --large,
    /// and real ones on the loopback interface. It takes some minutes.
    Dht,
}
