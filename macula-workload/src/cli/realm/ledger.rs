//! What a realm has issued and what it has taken back: two text files beside the realm's key, with
//! a line for each certificate.

use std::path::Path;

use anyhow::{Context as _, ensure};
use macula_core::identity::file::{read_public, write_public};
use macula_core::identity::{Facts, NodeId};

/// The file of all that the realm has issued.
pub(in crate::cli) const ISSUED: &str = "issued.txt";

/// The file of all that the realm has taken back, from which each revocation list is made.
pub(in crate::cli) const REVOKED: &str = "revoked.txt";

/// How many lines are read.
const ENTRIES_MAX: usize = 1_000_000;

/// A certificate of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Entry {
    pub(in crate::cli) serial: Vec<u8>,
    /// When it was taken back, or until when it holds; since the Unix epoch.
    pub(in crate::cli) at_s: u64,
    pub(in crate::cli) node: NodeId,
}

/// The entries of a file; none if it is not there.
pub(in crate::cli) fn read(folder: &Path, name: &str) -> anyhow::Result<Vec<Entry>> {
    let path = folder.join(name);
    if path.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let text = read_public(&path)?;
    let entry = |(index, line): (usize, &str)| {
        parse(line).with_context(|| {
            let at = index + 1;
            format!("nothing changed: {}:{at}: not a serial, seconds and a node", path.display())
        })
    };
    text.lines().enumerate().map(entry).collect()
}

/// Writes the entries of a file.
pub(in crate::cli) fn write(folder: &Path, name: &str, entries: &[Entry]) -> anyhow::Result<()> {
    ensure!(entries.len() <= ENTRIES_MAX, "nothing changed: {name} has {ENTRIES_MAX} lines");
    Ok(write_public(&folder.join(name), lines(entries).as_bytes())?)
}

/// Notes a certificate that is about to be handed out.
pub(in crate::cli) fn issue(folder: &Path, certificate: &Facts) -> anyhow::Result<()> {
    let mut entries = read(folder, ISSUED)?;
    let Facts { serial, node_id, validity, .. } = certificate;
    let at_s = validity.not_after.as_secs();
    entries.push(Entry { serial: serial.clone(), at_s, node: *node_id });
    write(folder, ISSUED, &entries)
}

/// Bytes as hexadecimal digits.
pub(in crate::cli) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn lines(entries: &[Entry]) -> String {
    let line = |entry: &Entry| format!("{} {} {}\n", hex(&entry.serial), entry.at_s, entry.node);
    entries.iter().map(line).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let serial = data_encoding::HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
    let at_s = words.next()?.parse().ok()?;
    let node = words.next()?.parse().ok()?;
    let whole = words.next().is_none() && !serial.is_empty();
    whole.then_some(Entry { serial, at_s, node })
}

#[cfg(test)]
mod tests {
    use super::{Entry, lines, parse};
    use macula_core::identity::Keypair;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let node = Keypair::from_seed([7; 32]).node_id();
        let entry = Entry { serial: vec![0, 0xab, 0x1f], at_s: 7, node };
        let line = lines(std::slice::from_ref(&entry));
        assert_eq!(line, format!("00ab1f 7 {node}\n"));
        assert_eq!(parse(line.trim_end()), Some(entry));
        for bad in ["", "00", " 7 N", "0 7 N", "xx 7 N", "00 x N", "00 7 ada", "00 7 N more"] {
            assert!(parse(&bad.replace('N', &node.to_string())).is_none(), "{bad}");
        }
    }
}
