//! The command line: what can be asked, where answers go, and with which code it ends.
//!
//! Data goes to standard output and everything else to standard error. The exit code is 0 for
//! success, 1 for a failure while running, and 2 for a call or a configuration that is wrong.

mod ask;
mod call;
mod crdt;
mod election;
mod follow;
mod home;
mod identity;
mod init;
mod kv;
mod ping;
mod raft;
mod realm;
mod rpc;
mod run;
mod term;
mod topics;

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use macula_workload::Config;

use crate::{bench, demo};

pub(crate) use term::Paint;

/// Why a command failed, by its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It ran, and did not succeed.
    Ran(anyhow::Error),
    /// It could not be run as asked.
    Usage(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Ran(error)
    }
}

/// Supervision trees and a self-organising mesh, in one node.
#[derive(Debug, Parser)]
#[command(
    name = "macula",
    version,
    after_help = "Try `macula demo` first: it runs a small game lobby, makes parts of it fail, and \
                  shows what was restarted and why.\n\nExit codes: 0 success, 1 failure while \
                  running, 2 wrong usage or configuration.\nEnvironment: MACULA_LOG filters the log \
                  on standard error (for example MACULA_LOG=debug). MACULA_HOME is the folder of the \
                  node that is run and asked where no --config is named."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run some nodes with a small game lobby, break parts of it, and watch it heal.
    ///
    /// The nodes talk over verified QUIC on the loopback interface, in a realm made on the fly. It
    /// ends by itself: with 0 if all healed and no score was lost, and with 1 if not.
    Demo(DemoArgs),
    /// Make the folder of a node: its key, its certificate and its configuration.
    ///
    /// Without --join it is the first node of a new realm, whose key stays in the folder too. Nodes
    /// of one realm believe one another.
    Init(init::InitArgs),
    /// Show, renew and take back what nodes are believed by.
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Run a node until SIGINT or SIGTERM, then stop it in order.
    ///
    /// A second signal ends it at once. SIGHUP makes it read `[tls]`, `[access]` and the files of its
    /// identity anew. It serves one actor to other nodes, `node/ping`, which answers with what it is
    /// asked, and provides it as the procedure `node.ping`; unless it is a bootstrap node, which serves
    /// nothing.
    Run(RunArgs),
    /// Ask an actor on another node, and print its answer as JSON.
    ///
    /// It joins with the identity of a configuration, and listens nowhere.
    Call(call::CallArgs),
    /// Show who is in the mesh of a node that runs.
    Peers(ask::PeersArgs),
    /// Show what a node that runs has refused to others lately, and why.
    Audit(ask::AuditArgs),
    /// Call procedures through a node that runs, and find who provides them.
    #[command(subcommand)]
    Rpc(rpc::RpcCommand),
    /// Ask a node that runs about the distributed hash table.
    #[command(subcommand)]
    Dht(ask::DhtCommand),
    /// Read, write and watch the keys and values that the realm agrees upon.
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Read, write and watch state that every node may write at any time, and that converges.
    #[command(subcommand)]
    Crdt(crdt::CrdtCommand),
    /// Show who leads in what, take part, and ask who leads to resign.
    #[command(subcommand)]
    Election(election::ElectionCommand),
    /// Show and change the group of voters that the realm's agreement is made by.
    #[command(subcommand)]
    Raft(raft::RaftCommand),
    /// Publish a message through a node that runs, and say to how many it is on its way.
    Pub(topics::PubArgs),
    /// Print what is published to topics that a pattern matches, through a node that runs.
    ///
    /// It goes on until it is ended, or there are as many as --count says.
    Sub(topics::SubArgs),
    /// Measure a subsystem beside the raw layer below it, in the same run.
    #[command(after_long_help = bench::BESIDE)]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print events as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Replay the game of this seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many nodes there are: players on one, rooms on the next, scores on the third.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) nodes: u8,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The configuration, in TOML. Without it a folder of the user's own is taken, which is made as by
    /// `init` when there is none: `MACULA_HOME`, or else `macula` in `XDG_STATE_HOME` or ~/.local/state.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, over file and environment, for example --set 'node.shutdown="10s"'.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Check the configuration and do not start anything.
    #[arg(long)]
    pub(crate) check: bool,
    /// Print lifecycle events as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    suite: bench::SuiteName,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Divide all amounts by this, for a quick look; figures count only at 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: u32,
    /// Replay the simulated meshes of this seed (dht, crdt).
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulate a mesh of 100,000 nodes as well, which takes many minutes and some GiB (dht).
    #[arg(long)]
    large: bool,
    /// Where the files are, in a folder that goes again. It has to be on a disk (kv).
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// Reads the command line, does what it says, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is a success; clap knows which is which.
            let code = if error.use_stderr() { 2 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Identity(command) => identity::run(&command),
        Command::Run(args) => run::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Peers(args) => ask::peers(&args),
        Command::Audit(args) => ask::audit(&args),
        Command::Rpc(command) => rpc::run(&command),
        Command::Dht(command) => ask::dht(&command),
        Command::Kv(command) => kv::run(&command),
        Command::Crdt(command) => crdt::run(&command),
        Command::Election(command) => election::run(&command),
        Command::Raft(command) => raft::run(&command),
        Command::Pub(args) => topics::publish(&args),
        Command::Sub(args) => topics::subscribe(&args),
        Command::Bench(args) => run_bench(&args),
    };
    let (error, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Ran(error)) if has_no_reader(&error) => return ExitCode::SUCCESS,
        Err(Failure::Ran(error)) => (error, 1),
        Err(Failure::Usage(error)) => (error, 2),
    };
    // Standard error may be closed; the exit code still tells.
    drop(writeln!(std::io::stderr(), "macula: {}", told(&error)));
    ExitCode::from(code)
}

/// Whether whoever read standard output has gone away, which is no failure.
fn has_no_reader(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unread>().is_some()
}

/// Nobody reads standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output")]
struct Unread;

/// An error and its causes, without those whose words are in what was said before.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match told.is_empty() {
            true => cause,
            false if told.contains(&cause) => told,
            false => format!("{told}: {cause}"),
        }
    })
}

/// Writes a line of data. A reader that has gone away is no failure, and no reason to go on.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        written => Ok(written?),
    }
}

/// All of standard input, as text, of which there may be so many bytes.
pub(crate) fn input(max: usize) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let enough = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin()
        .take(enough)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Ran(anyhow::Error::new(error).context("standard input")))?;
    if bytes.len() > max {
        let text =
            format!("standard input: more than {max} bytes, which is the most that is taken");
        return Err(Failure::Usage(anyhow::anyhow!(text)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Usage(anyhow::anyhow!("standard input: it is no UTF-8 from byte {at} on"))
    })
}

/// A span of time in which something can happen.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() { Err("it has to be more than nothing".to_owned()) } else { Ok(span) }
}

/// Sends the log to standard error, filtered by `MACULA_LOG`, else by `default`.
pub(crate) fn log(default: &str) -> anyhow::Result<()> {
    let said = std::env::var("MACULA_LOG").unwrap_or_else(|_unset| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&said).map_err(|error| {
        anyhow::anyhow!("environment MACULA_LOG: {said:?} is no filter: {error}")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    Ok(())
}

/// Reads the layers of a configuration.
pub(crate) fn load(file: Option<&Path>, sets: &[String]) -> Result<Config, Failure> {
    // A variable that is not text is none of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(file, env, sets).map_err(|errors| Failure::Usage(errors.into()))
}

/// Why a node did not start, and whether it could have been known before.
fn unstarted(error: macula_workload::node::Error) -> Failure {
    use macula_workload::node::Error as E;
    match error {
        E::Config(_) | E::Identity(_) => Failure::Usage(error.into()),
        _ => Failure::Ran(error.into()),
    }
}

/// The runtime that a command runs its node on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn run_bench(args: &BenchArgs) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        let text =
            "a debug build is slow, and slow in another way: figures count only from --release";
        drop(writeln!(std::io::stderr(), "{text}"));
    }
    let amounts = bench::Amounts { scale: args.scale as usize, seed: args.seed, large: args.large };
    let suite = bench::run(args.suite, amounts, &args.dir)?;
    let text = if args.json {
        serde_json::to_string(&suite).map_err(anyhow::Error::from)?
    } else {
        suite.table()
    };
    Ok(print(text.trim_end())?)
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
