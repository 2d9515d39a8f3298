//! `macula identity revoke`: a realm takes a certificate back.
//!
//! What is revoked is listed in `revoked.txt`, from which each `revoked.pem` is made anew.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use macula_core::identity::file::{read_public, write_public};
use macula_core::identity::{Revocation, crl_to_pem};
use macula_workload::identity::REVOKED;

use super::{hex, realm};
use crate::cli::print;

/// The file of all that the realm has revoked: a line for each, with serial, seconds and node.
const LIST: &str = "revoked.txt";

/// How many days a list holds. A realm that revokes nothing makes no new one.
const LIST_DAYS: u32 = 3_650;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RevokeArgs {
    /// The folder that holds the realm's key.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The certificate to take back: the node.pem of a node.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A certificate that was taken back.
struct Entry {
    serial: Vec<u8>,
    at_s: u64,
    node: String,
}

pub(super) fn run(args: &RevokeArgs) -> anyhow::Result<()> {
    let authority = realm::authority(&args.dir)?;
    let (_, facts) = realm::certificate_in(&args.certificate)?;
    let issuer = authority.certificate().facts()?.subject;
    ensure!(
        facts.issuer == issuer,
        "nothing changed: {} was issued by {}, and this realm is {issuer}",
        args.certificate.display(),
        facts.issuer
    );
    let mut entries = read(&args.dir)?;
    let known = entries.iter().any(|entry| entry.serial == facts.serial);
    if !known {
        let (at_s, node) = (realm::now().as_secs(), facts.node_id.to_string());
        entries.push(Entry { serial: facts.serial.clone(), at_s, node });
    }
    let revoked: Vec<Revocation> = entries
        .iter()
        .map(|entry| Revocation {
            serial: entry.serial.clone(),
            at: Duration::from_secs(entry.at_s),
        })
        .collect();
    // The number of a list has to grow; the time does.
    let number = u64::try_from(realm::now().as_millis()).unwrap_or(u64::MAX);
    let list = authority.revocation_list(&revoked, number, realm::days(LIST_DAYS))?;
    // The list from which the other is made comes first: after a failure the next run completes it.
    write_public(&args.dir.join(LIST), lines(&entries).as_bytes())?;
    let path = args.dir.join(REVOKED);
    write_public(&path, crl_to_pem(&list).as_bytes())?;
    tell(args, &facts.node_id.to_string(), &hex(&facts.serial), &entries, &path)
}

fn tell(
    args: &RevokeArgs,
    node: &str,
    serial: &str,
    entries: &[Entry],
    path: &Path,
) -> anyhow::Result<()> {
    let revoked = entries.len();
    if args.json {
        let told = serde_json::json!({
            "node": node, "serial": serial, "revoked": revoked, "file": path,
        });
        print(&told.to_string())?;
    } else {
        let file = path.display();
        print(&format!("node {node}\nserial {serial}\nrevoked {revoked}\nfile {file}"))?;
    }
    let advice = "copy the file into the folders of the other nodes, and send them SIGHUP";
    drop(writeln!(std::io::stderr(), "{advice}"));
    Ok(())
}

/// What has been revoked so far.
fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let path = folder.join(LIST);
    if !path.exists() {
        ensure!(
            !folder.join(REVOKED).exists(),
            "nothing changed: {REVOKED} is there and {LIST} is not, and what was revoked would be \
             forgotten"
        );
        return Ok(Vec::new());
    }
    let text = read_public(&path)?;
    let entry = |(index, line): (usize, &str)| {
        parse(line).with_context(|| format!("{}:{}: not an entry", path.display(), index + 1))
    };
    text.lines().enumerate().map(entry).collect()
}

fn lines(entries: &[Entry]) -> String {
    let line = |entry: &Entry| format!("{} {} {}\n", hex(&entry.serial), entry.at_s, entry.node);
    entries.iter().map(line).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let serial = bytes(words.next()?)?;
    let at_s = words.next()?.parse().ok()?;
    let node = words.next()?.to_owned();
    words.next().is_none().then_some(Entry { serial, at_s, node })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0)?;
    let byte = |pair: &[u8]| pair.iter().fold(0, |byte: u8, digit| (byte << 4) | digit);
    Some(digits.chunks(2).map(byte).collect())
}

#[cfg(test)]
mod tests {
    use super::{Entry, lines, parse};

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = Entry { serial: vec![0, 0xab, 0x1f], at_s: 7, node: "ada".to_owned() };
        let line = lines(&[entry]);
        assert_eq!(line, "00ab1f 7 ada\n");
        let read = parse(line.trim_end()).unwrap();
        assert_eq!((read.serial, read.at_s), (vec![0, 0xab, 0x1f], 7));
        for bad in ["", "00", "0 7 ada", "xx 7 ada", "00 x ada", "00 7 ada more"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
