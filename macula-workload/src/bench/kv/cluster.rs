//! Three voters, each a process of its own as a user makes and starts it, and a node beside them that asks.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use macula_core::clock::{Clock as _, TokioClock};
use macula_workload::kv::{Kv, Status};
use macula_workload::{Config, Node, NodeId};

use super::disk::Place;

/// How many voters there are.
const VOTERS: usize = 3;

/// How long something may take that has to come: a bound for the worst machine.
const WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What voters say on standard error, if nothing else is said: one that is killed is missed by the others.
const QUIET: &str = "error,openraft=off";

/// So often one node may ask: what is measured is what a voter can do, and not what it may.
const ASKS_PER_S_MAX: u32 = 10_000_000;

/// A voter in a process of its own, which is killed with it.
struct Voter {
    node: NodeId,
    configuration: PathBuf,
    address: SocketAddr,
    /// Whether it is the one that founds the group.
    founds: bool,
    process: Option<Child>,
}

/// The voters, and the node that asks them.
pub(super) struct Cluster {
    voters: Vec<Voter>,
    client: Node,
}

impl Voter {
    fn new(place: &Place, number: usize) -> anyhow::Result<Self> {
        let address = free_address()?;
        let folder = place.at(&format!("voter-{number}"));
        let first = place.at("voter-0");
        let listen = address.to_string();
        let mut words = vec!["--listen", &listen];
        let founds = number == 0;
        if !founds {
            words.extend(["--join", text(&first)?]);
        }
        let node = init(&folder, &words)?;
        let configuration = folder.join("macula.toml");
        Ok(Self { node, configuration, address, founds, process: None })
    }

    fn start(&mut self, seeds: &str) -> anyhow::Result<()> {
        let role = if self.founds { "founder" } else { "voter" };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--config").arg(&self.configuration);
        let sets = [
            format!("mesh.seeds={seeds}"),
            format!("consensus.role={role}"),
            format!("consensus.kv.asks_per_s_max={ASKS_PER_S_MAX}"),
        ];
        for set in sets {
            command.args(["--set", &set]);
        }
        let log = std::env::var("MACULA_LOG").unwrap_or_else(|_unset| QUIET.to_owned());
        let command = command.env("MACULA_LOG", log).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().context("a voter's process")?);
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the voter does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.kill());
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

/// An address at which nobody listens now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Makes a node's folder, and gives its id.
fn init(folder: &Path, words: &[&str]) -> anyhow::Result<NodeId> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("init").arg(folder).arg("--json").args(words).stderr(Stdio::null());
    let output = command.output().context("macula init")?;
    ensure!(output.status.success(), "macula init has failed: {}", output.status);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let node = told.get("node").and_then(serde_json::Value::as_str).context("no node id")?;
    Ok(node.parse()?)
}

impl Cluster {
    /// Starts all, and waits until each voter votes and has what there is.
    pub(super) async fn start(place: &Place) -> anyhow::Result<Self> {
        let voters: anyhow::Result<Vec<Voter>> =
            (0..VOTERS).map(|number| Voter::new(place, number)).collect();
        let mut voters = voters?;
        let seeds = seeds(&voters);
        for voter in &mut voters {
            voter.start(&seeds)?;
        }
        let client = place.at("client");
        init(&client, &["--join", text(&place.at("voter-0"))?])?;
        let seeds = format!("mesh.seeds={seeds}");
        let config = Config::load(Some(&client.join("macula.toml")), [], &[seeds])?;
        let client = Node::builder().config(config).start().await?;
        let cluster = Self { voters, client };
        for voter in cluster.voters.iter().filter(|voter| !voter.founds) {
            cluster.take_in(voter.node).await?;
        }
        cluster.settled().await?;
        Ok(cluster)
    }

    /// The client.
    pub(super) fn kv(&self) -> &Kv {
        self.client.kv()
    }

    async fn take_in(&self, node: NodeId) -> anyhow::Result<()> {
        let end = TokioClock.now() + WITHIN;
        // Until all have found one another.
        while let Err(error) = self.kv().operator().add_voter(node).await {
            ensure!(TokioClock.now() < end, "{node} does not come to vote: {error}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until all voters have what there is, and gives the leader.
    pub(super) async fn settled(&self) -> anyhow::Result<NodeId> {
        let end = TokioClock.now() + WITHIN;
        loop {
            match self.leader().await {
                Ok(Some(leader)) => return Ok(leader),
                Ok(None) => ensure!(TokioClock.now() < end, "the voters do not come together"),
                Err(error) => ensure!(TokioClock.now() < end, "the voters are silent: {error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The leader, if all follow it and have what it has.
    async fn leader(&self) -> anyhow::Result<Option<NodeId>> {
        let operator = self.kv().operator();
        let status = operator.status(None).await?;
        let leads = |of: &Status| of.leader.and_then(|leader| leader.node().ok());
        let leader = leads(&status);
        let are_all = status.members.voters.len() == VOTERS && !status.members.is_changing;
        if !are_all || leader.is_none() {
            return Ok(None);
        }
        for voter in &self.voters {
            let theirs = operator.status(Some(voter.node)).await?;
            let is_well = theirs.is_in_touch
                && leads(&theirs) == leader
                && theirs.term == status.term
                && theirs.applied >= status.applied;
            if !is_well {
                return Ok(None);
            }
        }
        Ok(leader)
    }

    /// Kills a voter's process, as `kill -9` does.
    pub(super) fn kill(&mut self, node: NodeId) -> anyhow::Result<()> {
        self.voter(node)?.kill()
    }

    /// Starts a voter again that was killed.
    pub(super) fn restart(&mut self, node: NodeId) -> anyhow::Result<()> {
        let seeds = seeds(&self.voters);
        self.voter(node)?.start(&seeds)
    }

    fn voter(&mut self, node: NodeId) -> anyhow::Result<&mut Voter> {
        self.voters.iter_mut().find(|voter| voter.node == node).context("it is no voter")
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.client.stop().await?;
        Ok(())
    }
}

/// Where all listen, as configuration has it.
fn seeds(voters: &[Voter]) -> String {
    let all: Vec<String> = voters.iter().map(|voter| format!("\"{}\"", voter.address)).collect();
    format!("[{}]", all.join(","))
}
