//! `macula identity`: what is in a node's folder, a new certificate, and the end of one.

mod revoke;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use macula_core::identity::file::{read_key, replace_key, write_key, write_public};
use macula_core::identity::{Facts, Keypair};
use macula_workload::identity::{NODE_CERTIFICATE, NODE_KEY, REALM_CERTIFICATES};
use serde::Serialize;

use super::realm::{self, ledger};
use super::{Failure, print};

/// How many old keys a folder keeps.
const OLD_KEYS_MAX: u32 = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum IdentityCommand {
    /// Say who the node of a folder is, and until when it is believed.
    Show(ShowArgs),
    /// Issue a new certificate for the node of a folder.
    ///
    /// A node that runs takes a new certificate when it gets SIGHUP. A new key is a new node id, and
    /// is taken only at a restart.
    Rotate(RotateArgs),
    /// Take back all certificates of a node, in the folder that holds the realm's key.
    ///
    /// Nodes believe them no longer as soon as they have the new revoked.pem and got SIGHUP.
    Revoke(revoke::RevokeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The folder of the node.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// The folder of the node.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The folder of the realm's key, if it is another.
    #[arg(long, value_name = "DIR")]
    realm_dir: Option<PathBuf>,
    /// How many days the new certificate holds.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Make a new key too. The old one is kept as node.key.old-1, and so on.
    #[arg(long)]
    new_key: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is told of a node's certificate.
#[derive(Debug, Serialize)]
struct Told {
    node: String,
    pin: String,
    serial: String,
    not_before: String,
    not_after: String,
    issuer: String,
    roles: Vec<String>,
    realm: Option<String>,
}

pub(super) fn run(command: &IdentityCommand) -> Result<(), Failure> {
    match command {
        IdentityCommand::Show(args) => tell(&args.dir, args.json)?,
        IdentityCommand::Rotate(args) => rotate(args)?,
        IdentityCommand::Revoke(args) => revoke::run(args)?,
    }
    Ok(())
}

/// Prints what a folder says of its node.
fn tell(folder: &Path, json: bool) -> anyhow::Result<()> {
    let (certificate, facts) = realm::certificate(folder)?;
    let realm = folder.join(REALM_CERTIFICATES);
    let there = realm.symlink_metadata().is_ok();
    let realm = there.then(|| realm::certificate_in(&realm)).transpose()?;
    let told = Told {
        node: facts.node_id.to_string(),
        pin: certificate.spki_sha256()?.to_string(),
        serial: ledger::hex(&facts.serial),
        not_before: realm::date(facts.validity.not_before),
        not_after: realm::date(facts.validity.not_after),
        issuer: facts.issuer,
        roles: facts.roles,
        realm: realm.map(|(_, facts)| facts.common_name),
    };
    if json {
        return print(&serde_json::to_string(&told)?);
    }
    let Told { node, pin, serial, not_before, not_after, issuer, roles, realm } = told;
    let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let (roles, realm) = (none(roles.join(" ")), none(realm.unwrap_or_default()));
    print(&format!(
        "node {node}\npin {pin}\nserial {serial}\nnot_before {not_before}\nnot_after {not_after}\n\
         issuer {issuer}\nroles {roles}\nrealm {realm}"
    ))
}

fn rotate(args: &RotateArgs) -> anyhow::Result<()> {
    let folder = &args.dir;
    let realm_folder = args.realm_dir.as_deref().unwrap_or(folder);
    let authority = realm::authority(realm_folder)
        .context("a certificate is issued where the realm's key is (--realm-dir)")?;
    let believed = realm::certificates_in(&folder.join(REALM_CERTIFICATES))?;
    ensure!(
        believed.contains(authority.certificate()),
        "nothing changed: the node in {} does not believe this realm `{}`",
        folder.display(),
        authority.realm()
    );
    let old_key = read_key(&folder.join(NODE_KEY))?;
    let (_, Facts { roles, validity, serial, .. }) = realm::certificate(folder)?;
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let new_key = args.new_key.then(Keypair::generate).transpose()?;
    let node = new_key.as_ref().unwrap_or(&old_key).node_id();
    let certificate = authority.issue(node, realm::days(args.days), &roles)?;
    ledger::issue(realm_folder, &certificate.facts()?)?;
    let (certificate, old_id) = (certificate.to_pem(), old_key.node_id());
    let until = realm::date(validity.not_after);
    let old = format!("the old certificate, serial {}, holds until {until}", ledger::hex(&serial));
    let advice = match new_key {
        None => format!("a node that runs takes it when it gets SIGHUP; {old}"),
        Some(key) => {
            let kept = keep(folder, &old_key)?;
            replace_key(&folder.join(NODE_KEY), &key)?;
            let (kept, realm) = (kept.display(), realm_folder.display());
            format!(
                "the old key is {kept}; a node that runs takes a new key only at a restart\n{old}; \
                 take it back with: macula identity revoke --dir {realm} --node {old_id}\nother \
                 nodes know this one as {old_id}: put {node} into their [peers]"
            )
        }
    };
    let written = write_public(&folder.join(NODE_CERTIFICATE), certificate.as_bytes());
    if let Err(error) = written {
        // A key without its certificate is of no use; the old two belong together.
        if args.new_key {
            replace_key(&folder.join(NODE_KEY), &old_key)?;
        }
        return Err(error.into());
    }
    tell(folder, args.json)?;
    drop(writeln!(std::io::stderr(), "{advice}"));
    Ok(())
}

/// Puts an old key aside, under the first name that is free.
fn keep(folder: &Path, key: &Keypair) -> anyhow::Result<PathBuf> {
    let names = (1..=OLD_KEYS_MAX).map(|number| folder.join(format!("{NODE_KEY}.old-{number}")));
    let free = names.into_iter().find(|path| path.symlink_metadata().is_err());
    let Some(path) = free else {
        bail!("nothing changed: there are {OLD_KEYS_MAX} old keys in {}", folder.display());
    };
    write_key(&path, key).context("nothing changed: the old key cannot be kept")?;
    Ok(path)
}
