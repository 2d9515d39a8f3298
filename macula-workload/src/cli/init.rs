//! `macula init`: the folder of a node, of a new realm or of one that is there.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use macula_core::identity::file::{read_public, write_key, write_public};
use macula_core::identity::{Authority, Certificate, InvalidRealm, Keypair, check_name};
use macula_workload::identity::{
    NODE_CERTIFICATE, NODE_KEY, REALM_CERTIFICATES, REALM_KEY, REVOKED,
};
use macula_workload::{Config, NodeId};

use super::realm::{self, CONFIGURATION, ledger};
use super::{Failure, print};

/// How long a realm's own certificate holds at least, in days.
const REALM_DAYS: u32 = 3_650;

/// Where a node listens if nothing is said: a free port, for this machine only.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How many days a node's certificate holds if nothing is said.
const DAYS: u32 = 365;

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The folder to make. Nothing in it is overwritten.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The name of the new realm. Without it, it is called after its key: macula-xxxxxxxx.
    #[arg(long, value_name = "NAME", conflicts_with = "join", value_parser = name)]
    realm: Option<String>,
    /// Make a node of the realm whose key is in this folder, and not a new realm.
    #[arg(long, value_name = "DIR")]
    join: Option<PathBuf>,
    /// Where the node listens. Port 0 is a free one.
    #[arg(long, value_name = "ADDR", default_value_t = LISTEN)]
    listen: SocketAddr,
    /// How many days the node's certificate holds.
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// A role that the certificate gives to the node; may be said again.
    #[arg(long = "role", value_name = "ROLE", value_parser = name)]
    roles: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// All that goes into the folder, before anything is written.
struct Plan {
    authority: Authority,
    /// Whether the realm is new, and its key belongs into the folder.
    founds: bool,
    revoked: Option<String>,
    key: Keypair,
    certificate: Certificate,
    configuration: String,
    /// How many other nodes it names.
    peers: usize,
}

/// Another node, and where it can be dialled.
struct Peer {
    node: NodeId,
    addresses: Vec<SocketAddr>,
}

pub(super) fn run(args: &InitArgs) -> Result<(), Failure> {
    let plan = plan(args)?;
    let ledger = args.join.as_ref().unwrap_or(&args.directory);
    let files = write(&args.directory, &plan, ledger)?;
    let node = plan.key.node_id();
    if args.json {
        let told = serde_json::json!({
            "node": node.to_string(),
            "realm": plan.authority.realm(),
            "directory": args.directory,
            "files": files,
        });
        print(&told.to_string())?;
    } else {
        let mut told = format!("node {node}\nrealm {}", plan.authority.realm());
        for file in &files {
            told.push_str(&format!("\nfile {}", file.display()));
        }
        print(&told)?;
    }
    if args.join.is_some() && plan.peers == 0 {
        let other = "the node of the other folder says of no address where it can be dialled, so this \
                     node knows none: put one into [peers], or say it with --at";
        drop(writeln!(std::io::stderr(), "{other}"));
    }
    let configuration = args.directory.join(CONFIGURATION);
    let hint = format!("start it with: macula run --config {}", configuration.display());
    drop(writeln!(std::io::stderr(), "{hint}"));
    Ok(())
}

/// Makes the folder of the first node of a new realm.
///
/// # Errors
///
/// If it cannot be made, or parts of it are there; nothing was changed then.
pub(super) fn found(folder: &Path) -> anyhow::Result<()> {
    let args = InitArgs {
        directory: folder.to_owned(),
        realm: None,
        join: None,
        listen: LISTEN,
        days: DAYS,
        roles: Vec::new(),
        json: false,
    };
    write(folder, &plan(&args)?, folder).map(drop)
}

fn plan(args: &InitArgs) -> anyhow::Result<Plan> {
    let (authority, peer, revoked) = match &args.join {
        None => {
            let valid = realm::days(args.days.max(REALM_DAYS));
            let key = Keypair::generate()?;
            let called_after = || format!("macula-{}", short(&key.node_id().to_string()));
            let name = args.realm.clone().unwrap_or_else(called_after);
            (Authority::with_key(&name, key, valid)?, None, None)
        }
        Some(other) => {
            let revoked = other.join(REVOKED);
            let there = revoked.symlink_metadata().is_ok();
            let revoked = there.then(|| read_public(&revoked)).transpose()?;
            (realm::authority(other)?, peer(other)?, revoked)
        }
    };
    let key = Keypair::generate()?;
    let roles: Vec<&str> = args.roles.iter().map(String::as_str).collect();
    let certificate = authority.issue(key.node_id(), realm::days(args.days), &roles)?;
    let configuration = configuration(key.node_id(), args.listen, peer.as_ref());
    let founds = args.join.is_none();
    let peers = usize::from(peer.is_some());
    Ok(Plan { authority, founds, revoked, key, certificate, configuration, peers })
}

/// The node of another folder, if it is configured to listen where others can find it.
fn peer(folder: &Path) -> anyhow::Result<Option<Peer>> {
    let file = folder.join(CONFIGURATION);
    if !file.exists() || !folder.join(NODE_CERTIFICATE).exists() {
        return Ok(None);
    }
    let config = Config::load(Some(&file), [], &[])?;
    let findable = |at: &SocketAddr| at.port() != 0 && !at.ip().is_unspecified();
    let addresses: Vec<SocketAddr> = config.transport.listen.into_iter().filter(findable).collect();
    let node = realm::certificate(folder)?.1.node_id;
    Ok(Some(Peer { node, addresses }).filter(|peer| !peer.addresses.is_empty()))
}

/// A name of a realm or a role.
fn name(text: &str) -> Result<String, InvalidRealm> {
    check_name(text).map(str::to_owned)
}

/// The first characters of a node id.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn configuration(node: NodeId, listen: SocketAddr, peer: Option<&Peer>) -> String {
    let id = node.to_string();
    let name = short(&id);
    let mut text = format!(
        "# The node {id}.\n# What is not said here is as in examples/macula.toml, which explains \
         every key.\n\n[node]\nname = \"node-{name}\"\n\n[transport]\n# Where others may dial. Port \
         0 is a free one.\nlisten = [\"{listen}\"]\n\n[tls]\n# The folder of {NODE_KEY}, \
         {NODE_CERTIFICATE} and {REALM_CERTIFICATES}: the one that this file is in.\n\
         directory = \".\"\n\n# Where other nodes can be dialled: \
         \"<node id>\" = [\"192.0.2.7:7000\"]\n[peers]\n"
    );
    if let Some(Peer { node, addresses }) = peer {
        let addresses: Vec<String> = addresses.iter().map(|at| format!("\"{at}\"")).collect();
        text.push_str(&format!("\"{node}\" = [{}]\n", addresses.join(", ")));
    }
    text
}

/// Writes all files or none, and gives their names.
fn write(folder: &Path, plan: &Plan, ledger: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let all = [
        NODE_KEY,
        NODE_CERTIFICATE,
        REALM_KEY,
        REALM_CERTIFICATES,
        REVOKED,
        ledger::ISSUED,
        ledger::REVOKED,
        CONFIGURATION,
    ];
    let there = realm::present(folder, &all);
    if !there.is_empty() {
        let there: Vec<String> = there.iter().map(|path| path.display().to_string()).collect();
        bail!("nothing was made, because these are there already: {}", there.join(", "));
    }
    let made = !folder.exists();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut files = Vec::new();
    let noted = plan.certificate.facts().map_err(anyhow::Error::from);
    let done = fill(folder, plan, &mut files)
        .and_then(|()| ledger::issue(ledger, &noted?))
        .map(|()| files.extend((ledger == folder).then(|| folder.join(ledger::ISSUED))));
    if done.is_err() {
        // Only what was made here goes again.
        files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        if made {
            drop(std::fs::remove_dir(folder));
        }
    }
    done.map(|()| files)
}

fn fill(folder: &Path, plan: &Plan, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut public = |name: &str, text: &str| -> anyhow::Result<()> {
        let path = folder.join(name);
        write_public(&path, text.as_bytes())?;
        files.push(path);
        Ok(())
    };
    public(REALM_CERTIFICATES, &plan.authority.certificate().to_pem())?;
    if let Some(revoked) = &plan.revoked {
        public(REVOKED, revoked)?;
    }
    public(NODE_CERTIFICATE, &plan.certificate.to_pem())?;
    public(CONFIGURATION, &plan.configuration)?;
    let mut secret = |name: &str, key: &Keypair| -> anyhow::Result<()> {
        let path = folder.join(name);
        write_key(&path, key)?;
        files.push(path);
        Ok(())
    };
    secret(NODE_KEY, &plan.key)?;
    if plan.founds {
        secret(REALM_KEY, &realm::key_of(&plan.authority)?)?;
    }
    Ok(())
}
