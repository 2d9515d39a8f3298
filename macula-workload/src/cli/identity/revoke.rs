//! `macula identity revoke`: a realm takes a node's certificates back.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use macula_core::identity::file::write_public;
use macula_core::identity::{Authority, NodeId, Revocation, crl_to_pem};
use macula_workload::identity::REVOKED;

use super::realm::{self, ledger};
use crate::cli::print;

/// How many days a list holds. A realm that revokes nothing makes no new one.
const LIST_DAYS: u32 = 3_650;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub(in crate::cli) struct RevokeArgs {
    /// The folder that holds the realm's key.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// A certificate of the node, such as its node.pem.
    #[arg(long, value_name = "FILE", group = "whose")]
    certificate: Option<PathBuf>,
    /// The node, of which no certificate is at hand.
    #[arg(long, value_name = "NODE_ID", group = "whose")]
    node: Option<NodeId>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RevokeArgs) -> anyhow::Result<()> {
    let authority = realm::authority(&args.dir)?;
    let issued = ledger::read(&args.dir, ledger::ISSUED)?;
    let (node, shown) = match (&args.certificate, args.node) {
        (Some(path), _) => shown(&authority, path).map(|(node, serial)| (node, Some(serial)))?,
        (None, Some(node)) => (node, None),
        (None, None) => bail!("say --certificate or --node"),
    };
    let of_node = issued.iter().filter(|entry| entry.node == node);
    let serials: Vec<Vec<u8>> = of_node.map(|entry| entry.serial.clone()).chain(shown).collect();
    ensure!(
        !serials.is_empty(),
        "nothing changed: {} knows of no certificate of {node}",
        args.dir.join(ledger::ISSUED).display()
    );
    let mut revoked = ledger::read(&args.dir, ledger::REVOKED)?;
    ensure!(
        !revoked.is_empty() || realm::present(&args.dir, &[REVOKED]).is_empty(),
        "nothing changed: {REVOKED} is there and {} is not, and what was revoked would be \
         forgotten",
        ledger::REVOKED
    );
    let mut new = Vec::new();
    for serial in serials {
        if !revoked.iter().any(|known| known.serial == serial) {
            new.push(serial.clone());
            revoked.push(ledger::Entry { serial, at_s: realm::now().as_secs(), node });
        }
    }
    let list = list(&authority, &revoked)?;
    // The list from which the other is made comes first: after a failure the next run completes it.
    ledger::write(&args.dir, ledger::REVOKED, &revoked)?;
    let path = args.dir.join(REVOKED);
    write_public(&path, crl_to_pem(&list).as_bytes())?;
    tell(args, node, &new, revoked.len(), &path)
}

/// Whose certificate is in a file, if it is one that this realm can take back, and its serial.
fn shown(authority: &Authority, path: &Path) -> anyhow::Result<(NodeId, Vec<u8>)> {
    let (certificate, facts) = realm::certificate_in(path)?;
    let issued = authority.has_issued(&certificate).with_context(|| path.display().to_string())?;
    ensure!(
        issued,
        "nothing changed: {} is no node's certificate that the realm {} has issued; it says that it \
         is {}, issued by {}",
        path.display(),
        authority.realm(),
        facts.subject,
        facts.issuer
    );
    Ok((facts.node_id, facts.serial))
}

fn list(authority: &Authority, revoked: &[ledger::Entry]) -> anyhow::Result<Vec<u8>> {
    let revocation = |entry: &ledger::Entry| Revocation {
        serial: entry.serial.clone(),
        at: Duration::from_secs(entry.at_s),
    };
    let revoked: Vec<Revocation> = revoked.iter().map(revocation).collect();
    // The number of a list has to grow; the time does.
    let number = u64::try_from(realm::now().as_millis()).unwrap_or(u64::MAX);
    Ok(authority.revocation_list(&revoked, number, realm::days(LIST_DAYS))?)
}

fn tell(
    args: &RevokeArgs,
    node: NodeId,
    new: &[Vec<u8>],
    revoked: usize,
    path: &Path,
) -> anyhow::Result<()> {
    let serials: Vec<String> = new.iter().map(|serial| ledger::hex(serial)).collect();
    let ledger = args.dir.join(ledger::REVOKED);
    if args.json {
        let told = serde_json::json!({
            "node": node.to_string(), "serials": serials, "revoked": revoked,
            "files": [path, ledger],
        });
        print(&told.to_string())?;
    } else {
        let mut told = format!("node {node}");
        serials.iter().for_each(|serial| told.push_str(&format!("\nserial {serial}")));
        let (path, ledger) = (path.display(), ledger.display());
        told.push_str(&format!("\nrevoked {revoked}\nfile {path}\nfile {ledger}"));
        print(&told)?;
    }
    let advice = format!(
        "copy {REVOKED} into the folders of the other nodes, and send them SIGHUP: they close their \
         connections to the node, and it gets no new ones; {} stays here",
        ledger::REVOKED
    );
    drop(writeln!(std::io::stderr(), "{advice}"));
    Ok(())
}
