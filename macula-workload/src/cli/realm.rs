//! The files of a node and of a realm, as the commands make and mend them.

pub(super) mod ledger;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::file::{read_key, read_public};
use macula_core::identity::{Authority, Certificate, Facts, Keypair, Validity};
use macula_workload::identity::{NODE_CERTIFICATE, REALM_CERTIFICATES, REALM_KEY};

/// The configuration that `macula init` writes.
pub(super) const CONFIGURATION: &str = "macula.toml";

/// A span of some days from now on.
pub(super) fn days(days: u32) -> Validity {
    let lifetime = Duration::from_secs(u64::from(days) * 24 * 3_600);
    Validity::from_now(now(), lifetime)
}

/// The time, since the Unix epoch.
pub(super) fn now() -> Duration {
    TokioClock.since_epoch()
}

/// A time as people and programs read it.
pub(super) fn date(since_epoch: Duration) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The authority whose key is in a folder.
pub(super) fn authority(folder: &Path) -> anyhow::Result<Authority> {
    let path = folder.join(REALM_KEY);
    if path.symlink_metadata().is_err() {
        bail!(
            "nothing changed: there is no {}; the realm's key is needed to issue and revoke: say \
             which folder has it",
            path.display()
        );
    }
    let key = read_key(&path)?;
    let certificate = read_public(&folder.join(REALM_CERTIFICATES))?;
    Authority::from_pem(&certificate, &key.to_pem())
        .with_context(|| format!("the realm in {}", folder.display()))
}

/// A second copy of the authority's key.
pub(super) fn key_of(authority: &Authority) -> anyhow::Result<Keypair> {
    Ok(Keypair::from_pem(&authority.key_pem())?)
}

/// The certificate of the node in a folder, and what it says.
pub(super) fn certificate(folder: &Path) -> anyhow::Result<(Certificate, Facts)> {
    certificate_in(&folder.join(NODE_CERTIFICATE))
}

/// The first certificate of a file, and what it says.
pub(super) fn certificate_in(path: &Path) -> anyhow::Result<(Certificate, Facts)> {
    let first = certificates_in(path)?.into_iter().next();
    let first = first.with_context(|| format!("{}: no certificate in it", path.display()))?;
    let facts = first.facts().with_context(|| path.display().to_string())?;
    Ok((first, facts))
}

/// All certificates of a file.
pub(super) fn certificates_in(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let text = read_public(path)?;
    Certificate::read_pem_bundle(&text).with_context(|| path.display().to_string())
}

/// Those of some files that are there.
pub(super) fn present(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let paths = names.iter().map(|name| folder.join(name));
    paths.filter(|path| path.symlink_metadata().is_ok()).collect()
}
